//! The workload's identity: a key made here, a certificate for it, and the roots to trust.
//!
//! ```text
//!   join / renew (gRPC) --> Identity --> files (0600, renamed into place)
//!                              |
//!                              +--> watch channel --> xDS connection, SDS secret `identity`
//! ```
//!
//! The key never leaves the process but into its own file. A new key is made at each renewal; the old identity
//! serves until the new one is there.

use std::fmt;
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use weft_api::SpiffeId;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

pub mod channel;
pub mod files;
pub mod join;
pub mod key;
pub mod replicas;
pub mod rotation;
pub mod verify;

pub use files::{IdentityDir, Membership};

/// A certificate chain with its key and the roots that peers are verified against. Checked when it is made.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    bundle: Vec<CertificateDer<'static>>,
    spiffe: SpiffeId,
    serial: String,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// Why a certificate, key and bundle do not make an identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A part is missing or is not DER.
    #[error("{0}")]
    Malformed(String),
    /// The leaf must carry exactly one URI name, a SPIFFE id.
    #[error("the certificate names {0}, where exactly one SPIFFE id is required")]
    Names(String),
    /// The key is not the certificate's.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// The chain does not lead to the bundle.
    #[error("the certificate is not valid under the bundle: {0}")]
    Chain(String),
}

impl Identity {
    /// Checks and joins the parts. `key` is PKCS#8 DER.
    ///
    /// # Errors
    /// When a part cannot be read, the key is another's, or the leaf has not exactly one SPIFFE id.
    pub fn try_new(
        chain: Vec<CertificateDer<'static>>,
        key: Vec<u8>,
        bundle: Vec<CertificateDer<'static>>,
    ) -> Result<Self, IdentityError> {
        let leaf =
            chain.first().ok_or_else(|| IdentityError::Malformed("there is no certificate".to_owned()))?;
        if bundle.is_empty() {
            return Err(IdentityError::Malformed("the bundle is empty".to_owned()));
        }
        let (_, parsed) = X509Certificate::from_der(leaf)
            .map_err(|error| IdentityError::Malformed(format!("the certificate cannot be read: {error}")))?;
        let spiffe = spiffe_of(&parsed)?;
        let serial = HEXLOWER.encode(parsed.raw_serial());
        let (not_before, not_after) =
            (time_of(&parsed.validity().not_before), time_of(&parsed.validity().not_after));
        let identity = Self { chain, key, bundle, spiffe, serial, not_before, not_after };
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&identity.private_key())
            .map_err(|error| IdentityError::Malformed(format!("the private key cannot be used: {error}")))?;
        rustls::sign::CertifiedKey::new(identity.chain.clone(), signing)
            .keys_match()
            .map_err(|_| IdentityError::KeyMismatch)?;
        Ok(identity)
    }

    /// Leaf first, then its issuers.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The root certificates that peers of this mesh are verified against.
    #[must_use]
    pub fn bundle(&self) -> &[CertificateDer<'static>] {
        &self.bundle
    }

    /// The same identity, by which others are verified against these roots.
    ///
    /// # Errors
    /// When there is none, or one is no certificate.
    pub fn with_bundle(&self, bundle: Vec<CertificateDer<'static>>) -> Result<Self, IdentityError> {
        if bundle.is_empty() {
            return Err(IdentityError::Malformed("the bundle is empty".to_owned()));
        }
        if bundle.iter().any(|root| verify::spki_sha256(root).is_none()) {
            return Err(IdentityError::Malformed("a root of the bundle cannot be read".to_owned()));
        }
        let mut changed = self.clone();
        changed.bundle = bundle;
        Ok(changed)
    }

    /// The private key, which never leaves this machine.
    #[must_use]
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()))
    }

    /// Whom the certificate speaks for.
    #[must_use]
    pub fn spiffe(&self) -> &SpiffeId {
        &self.spiffe
    }

    /// Serial number in hexadecimal.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// When it was issued, by the rule that validity starts 120 s earlier to bear with slow clocks.
    #[must_use]
    pub fn issued(&self) -> SystemTime {
        const BACKDATED: Duration = Duration::from_secs(120);
        let issued = self.not_before + BACKDATED;
        if issued < self.not_after { issued } else { self.not_before }
    }

    /// The chain as PEM, leaf first.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        pem_of("CERTIFICATE", self.chain.iter().map(AsRef::as_ref))
    }

    /// The key as PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        pem_of("PRIVATE KEY", std::iter::once(self.key.as_slice()))
    }

    /// The bundle as PEM.
    #[must_use]
    pub fn bundle_pem(&self) -> String {
        pem_of("CERTIFICATE", self.bundle.iter().map(AsRef::as_ref))
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.key.fill(0);
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} serial {} (key hidden)", self.spiffe, self.serial)
    }
}

fn time_of(time: &x509_parser::time::ASN1Time) -> SystemTime {
    SystemTime::from(time.to_datetime())
}

/// The one SPIFFE id of a certificate; any other URI name beside it, or none, is an error.
///
/// # Errors
/// When there is not exactly one URI name or it is no SPIFFE id of a mesh.
pub fn spiffe_of(certificate: &X509Certificate<'_>) -> Result<SpiffeId, IdentityError> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris[..] {
        [uri] => uri.parse().map_err(|_| IdentityError::Names(format!("{uri:?}"))),
        [] => Err(IdentityError::Names("nobody".to_owned())),
        _ => Err(IdentityError::Names(uris.join(" and "))),
    }
}

fn pem_of<'a>(label: &str, blocks: impl Iterator<Item = &'a [u8]>) -> String {
    use base64::Engine as _;
    let mut text = String::new();
    for block in blocks {
        text.push_str(&format!("-----BEGIN {label}-----\n"));
        let encoded = base64::engine::general_purpose::STANDARD.encode(block);
        for line in encoded.as_bytes().chunks(64) {
            text.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
            text.push('\n');
        }
        text.push_str(&format!("-----END {label}-----\n"));
    }
    text
}

#[cfg(test)]
pub(crate) mod testing {
    //! A small certificate authority for the tests of this crate.

    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

    /// A root that signs leaves.
    pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

    impl Authority {
        pub(crate) fn new() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            Self(CertifiedIssuer::self_signed(params, key::new_key().unwrap()).unwrap())
        }

        pub(crate) fn root(&self) -> CertificateDer<'static> {
            self.0.der().clone()
        }

        /// A leaf with these URI names, for the public key of a CSR.
        pub(crate) fn sign(
            &self,
            csr: &[u8],
            uris: &[&str],
            issued: SystemTime,
            life: Duration,
        ) -> CertificateDer<'static> {
            let csr = rcgen::CertificateSigningRequestParams::from_der(&csr.to_vec().into()).unwrap();
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.not_before = (issued - Duration::from_secs(120)).into();
            params.not_after = (issued + life).into();
            params.extended_key_usages =
                vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            params.subject_alt_names =
                uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
            params.signed_by(&csr.public_key, &*self.0).unwrap().der().clone()
        }

        /// A complete identity issued now.
        pub(crate) fn identity(&self, uri: &str, life: Duration) -> Identity {
            let key = key::new_key().unwrap();
            let csr = key::signing_request(&key).unwrap();
            let leaf = self.sign(&csr, &[uri], SystemTime::now(), life);
            Identity::try_new(vec![leaf], key.serialize_der(), vec![self.root()]).unwrap()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Authority;
    use super::*;

    const WEB: &str = "spiffe://mesh.local/ns/shop/svc/web";

    #[test]
    fn refuses_a_leaf_with_two_uri_names() {
        let authority = Authority::new();
        let key = key::new_key().unwrap();
        let csr = key::signing_request(&key).unwrap();
        let uris = [WEB, "spiffe://mesh.local/ns/shop/svc/cart"];
        let leaf = authority.sign(&csr, &uris, SystemTime::now(), Duration::from_secs(60));
        let made = Identity::try_new(vec![leaf], key.serialize_der(), vec![authority.root()]);
        assert!(matches!(made, Err(IdentityError::Names(_))), "{made:?}");
    }

    #[test]
    fn refuses_a_key_that_is_not_the_certificates() {
        let authority = Authority::new();
        let identity = authority.identity(WEB, Duration::from_secs(60));
        let other = key::new_key().unwrap().serialize_der();
        let made = Identity::try_new(identity.chain().to_vec(), other, vec![authority.root()]);
        assert!(matches!(made, Err(IdentityError::KeyMismatch)), "{made:?}");
    }

    #[test]
    fn issue_time_takes_back_the_backdating() {
        let identity = Authority::new().identity(WEB, Duration::from_secs(20));
        let life = identity.not_after().duration_since(identity.issued()).unwrap();
        assert!(life <= Duration::from_secs(21) && life >= Duration::from_secs(19), "{life:?}");
    }

    #[test]
    fn debug_form_hides_the_key() {
        let shown = format!("{:?}", Authority::new().identity(WEB, Duration::from_secs(60)));
        assert!(shown.contains("hidden") && !shown.contains("PRIVATE"));
    }
}
