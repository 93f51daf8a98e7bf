//! Whether certificates that were made elsewhere can be the mesh's authority. What does not fit is refused by its field.
//!
//! Both data planes must believe what is signed below them, so what one of them cannot judge is refused as well: weft-proxy refuses
//! every constraint on URIs, and stock Envoy every one on addresses. Whether all that is left of a chain is believed is not argued
//! but tried (`proof`).

mod extensions;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use time::{Duration, OffsetDateTime};
use weft_api::TrustDomain;
use x509_parser::der_parser::oid;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_SHA256WITHRSA,
    OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::chain::ValidCertificate;
use super::records::{AuthorityRecord, CaRecords};
use super::unfit::Unfit;
use super::{AuthoritySettings, CaError};

/// The most certificates of a chain, with its root.
const LONGEST_CHAIN: usize = 5;
/// The most that a chain may weigh as PEM, in bytes.
pub const MAX_CHAIN_BYTES: usize = 64 * 1024;
/// Bytes of a serial number, by RFC 5280.
const LONGEST_SERIAL: usize = 20;
const AGAIN: &str = "have it signed again without that";

/// What the lowest certificate of a chain is there to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Below {
    /// Leaves: it is the issuer.
    Leaves,
    /// Issuers of the mesh.
    Issuers,
}

/// What a chain is measured by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fitness<'a> {
    pub(super) trust_domain: &'a TrustDomain,
    pub(super) below: Below,
    pub(super) now: OffsetDateTime,
    /// How long it must last.
    pub(super) least_life: Duration,
}

/// A chain that fits, the lowest certificate first and the root last.
#[derive(Debug, Clone)]
pub(super) struct FitChain(Vec<ValidCertificate>);

impl<'a> Fitness<'a> {
    pub(super) fn of(settings: &'a AuthoritySettings, below: Below, now: OffsetDateTime) -> Self {
        // A leaf signed now lasts as long as it should, and there is time for another chain.
        let two_leaves: Duration = settings.leaf_life * 2;
        let least_life = two_leaves.max(settings.least_left());
        Self { trust_domain: &settings.trust_domain, below, now, least_life }
    }

    /// Reads a chain and checks each field of it.
    pub(super) fn check(&self, pem: &str, what: &str) -> Result<FitChain, Unfit> {
        let ders = read_chain(pem, what)?;
        let mut parsed = Vec::with_capacity(ders.len());
        for (index, der) in ders.iter().enumerate() {
            let unreadable = || {
                let which = format!("{what}, certificate {}", index + 1);
                Unfit::new(which, "Certificate", "is not X.509", "bring certificates as the CA gave them")
            };
            let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| unreadable())?;
            if !rest.is_empty() {
                return Err(unreadable());
            }
            let which = format!("{what}, certificate {} ({})", index + 1, certificate.subject());
            parsed.push((which, certificate));
        }
        check_order(&parsed)?;
        for (index, (which, certificate)) in parsed.iter().enumerate() {
            let signer = parsed.get(index + 1).map_or(certificate, |(_, above)| above);
            self.check_one(which, index, certificate, signer)?;
        }
        check_ends(&parsed, self.below)?;
        let valid = ders.into_iter().map(ValidCertificate::try_from_der).collect::<Result<Vec<_>, _>>();
        let unreadable = |_| Unfit::new(what, "Certificate", "is not X.509", AGAIN);
        Ok(FitChain(valid.map_err(unreadable)?))
    }

    fn check_one(
        &self,
        which: &str,
        index: usize,
        certificate: &X509Certificate<'_>,
        signer: &X509Certificate<'_>,
    ) -> Result<(), Unfit> {
        if certificate.subject().as_raw().len() <= 2 {
            return Err(Unfit::new(which, "subject", "is empty", "give the CA a name"));
        }
        let serial = certificate.raw_serial();
        let length = serial.iter().skip_while(|byte| **byte == 0).count();
        if length == 0 || length > LONGEST_SERIAL || serial.first().is_some_and(|byte| byte & 0x80 != 0) {
            let reason = format!("has to be positive and of {LONGEST_SERIAL} bytes at most");
            return Err(Unfit::new(which, "serialNumber", reason, "have it signed again with another one"));
        }
        check_key(which, certificate)?;
        check_signature(which, certificate, signer)?;
        self.check_life(which, certificate)?;
        extensions::check(self, which, index, certificate)
    }

    fn check_life(&self, which: &str, certificate: &X509Certificate<'_>) -> Result<(), Unfit> {
        let validity = certificate.validity();
        let (start, end) = (validity.not_before.to_datetime(), validity.not_after.to_datetime());
        if start > self.now {
            let reason = format!("it begins at {start}, and it is {}", self.now);
            return Err(Unfit::new(which, "notBefore", reason, "wait, or set this machine's clock"));
        }
        if end - self.now < self.least_life {
            let reason = format!(
                "it ends at {end}; it has to last {} s from now, twice as long as a leaf and 10 minutes at least",
                self.least_life.whole_seconds()
            );
            return Err(Unfit::new(which, "notAfter", reason, "have it signed for longer"));
        }
        Ok(())
    }
}

impl FitChain {
    pub(super) fn root(&self) -> &ValidCertificate {
        self.0.last().expect("a chain is not empty")
    }

    pub(super) fn lowest(&self) -> &ValidCertificate {
        self.0.first().expect("a chain is not empty")
    }

    fn highest_below_root(&self) -> &ValidCertificate {
        self.0.iter().nth_back(1).unwrap_or_else(|| self.root())
    }

    /// The certificates below the root.
    pub(super) fn below_root(&self) -> Vec<&CertificateDer<'static>> {
        self.0[..self.0.len() - 1].iter().map(|certificate| &certificate.certificate).collect()
    }

    /// Refuses what cannot be told from an authority that the mesh has: roots and issuers are known by serial number, lists by the
    /// name of their issuer, and chains by names and keys.
    pub(super) fn check_beside(&self, records: &CaRecords, what: &str) -> Result<(), CaError> {
        let root = self.root();
        let roots = records.bundle()?;
        let is_new = roots.iter().all(|known| known.certificate != root.certificate);
        let issuers = records.issuers()?;
        for known in roots.iter().filter(|known| known.certificate != root.certificate) {
            if known.serial == root.serial {
                return Err(twice(what, "serialNumber", "another root of the mesh has the same").into());
            }
            let belongs_to_both = self.highest_below_root().is_below(known)
                || (is_new && issuers.iter().any(|issuer| issuer.is_below(root)));
            if belongs_to_both {
                let reason = "a root of the mesh has the same name and key";
                return Err(twice(what, "subject", reason).into());
            }
        }
        for known in &issuers {
            let (known, lowest) = (&known.certificate, self.lowest());
            if known.serial == lowest.serial {
                return Err(twice(what, "serialNumber", "another issuer of the mesh has the same").into());
            }
            if known.subject() == lowest.subject() {
                let reason = "an issuer of the mesh has the same name, and revocation lists are told by it";
                return Err(twice(what, "subject", reason).into());
            }
        }
        Ok(())
    }

    /// Says that what is signed below this chain was not believed.
    pub(super) fn unbelieved(&self, what: &str, error: &webpki::Error) -> Unfit {
        match error {
            webpki::Error::NameConstraintViolation => Unfit::new(
                what,
                "nameConstraints",
                "they exclude names of workloads or of the control plane (localhost and --xds-name among them)",
                "have them permit the trust domain and the control plane's names, or have it signed without any",
            ),
            other => Unfit::new(
                what,
                "Certificate",
                format!("what is signed below it would not be believed: {other}"),
                "have it signed as the documentation of `weft ca csr` says",
            ),
        }
    }
}

impl AuthorityRecord {
    /// Whether this is the record of a chain's root.
    pub(super) fn is_of(&self, name: &str, chain: &FitChain) -> Result<bool, CaError> {
        Ok(self.der(name)? == chain.root().certificate)
    }
}

fn twice(what: &str, field: &'static str, reason: &str) -> Unfit {
    Unfit::new(what, field, reason, "have it signed with another one")
}

/// The certificates of a PEM text, in order. Text around them is nobody's concern; anything else in armour is.
fn read_chain(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    let refused = |reason: String, remedy: &str| Unfit::new(what, "PEM", reason, remedy);
    let order = "bring the lowest certificate first, then each that signed the one before, and the root last";
    if pem.len() > MAX_CHAIN_BYTES {
        return Err(refused(format!("has {} bytes; the most is {MAX_CHAIN_BYTES}", pem.len()), order));
    }
    let mut chain = Vec::new();
    if pem.contains("PRIVATE KEY") {
        return Err(refused("holds a private key".to_owned(), "bring certificates only, and keep the key"));
    }
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes()) {
        let (kind, der) = section.map_err(|error| refused(format!("cannot be read: {error}"), order))?;
        if kind != SectionKind::Certificate {
            return Err(refused(format!("holds something that is no certificate ({kind:?})"), order));
        }
        chain.push(CertificateDer::from(der));
    }
    match chain.len() {
        0 => Err(refused("holds no certificate".to_owned(), order)),
        1..=LONGEST_CHAIN => Ok(chain),
        count => Err(refused(format!("holds {count} certificates; the most is {LONGEST_CHAIN}"), order)),
    }
}

fn check_order(chain: &[(String, X509Certificate<'_>)]) -> Result<(), Unfit> {
    let order = "bring the lowest certificate first, then each that signed the one before, and the root last";
    for pair in chain.windows(2) {
        let [(which, one), (_, next)] = pair else { continue };
        if one.issuer().as_raw() != next.subject().as_raw() {
            let reason = format!("it was signed by {}, and {} follows it", one.issuer(), next.subject());
            return Err(Unfit::new(which, "issuer", reason, order));
        }
    }
    if let Some((which, last)) = chain.last()
        && last.issuer().as_raw() != last.subject().as_raw()
    {
        let reason = format!("it is the last one and no root: {} signed it", last.issuer());
        return Err(Unfit::new(which, "issuer", reason, "add those above it, up to and with the root"));
    }
    Ok(())
}

fn check_key(which: &str, certificate: &X509Certificate<'_>) -> Result<(), Unfit> {
    let key = certificate.public_key();
    let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let point = &key.subject_public_key.data;
    let fits = match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => (2048..=4096).contains(&rsa.key_size()),
        Ok(PublicKey::EC(_)) if key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY => {
            let length = match curve {
                Some(curve) if curve == OID_EC_P256 => 65,
                Some(curve) if curve == OID_NIST_EC_P384 => 97,
                _ => 0,
            };
            point.len() == length && point.first() == Some(&4)
        }
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(Unfit::new(
        which,
        "subjectPublicKeyInfo",
        "its key is of a kind that is not taken",
        "use ECDSA on P-256 or P-384, or RSA of 2048 to 4096 bits",
    ))
}

fn check_signature(
    which: &str,
    certificate: &X509Certificate<'_>,
    signer: &X509Certificate<'_>,
) -> Result<(), Unfit> {
    let taken = [
        OID_SIG_ECDSA_WITH_SHA256,
        OID_SIG_ECDSA_WITH_SHA384,
        OID_PKCS1_SHA256WITHRSA,
        OID_PKCS1_SHA384WITHRSA,
        OID_PKCS1_SHA512WITHRSA,
    ];
    let algorithm = &certificate.signature_algorithm.algorithm;
    if !taken.contains(algorithm) {
        let name = if *algorithm == oid!(1.2.840.113549.1.1.5) { "SHA-1" } else { "an algorithm" };
        return Err(Unfit::new(
            which,
            "signatureAlgorithm",
            format!("it is signed by {name} that is not taken ({algorithm})"),
            "have it signed by ECDSA with SHA-256 or SHA-384, or RSA (PKCS #1) with SHA-256, SHA-384 or SHA-512",
        ));
    }
    certificate.verify_signature(Some(signer.public_key())).map_err(|_| {
        let reason = format!("it is not by the key of {}", signer.subject());
        Unfit::new(which, "signatureValue", reason, "bring the certificate that really signed it")
    })
}

/// A chain ends with the first of its certificates to end: that is the issuer, whose end everybody watches.
fn check_ends(chain: &[(String, X509Certificate<'_>)], below: Below) -> Result<(), Unfit> {
    // The issuers that the mesh makes end in time by themselves.
    if below == Below::Issuers {
        return Ok(());
    }
    for pair in chain.windows(2) {
        let [(_, lower), (which, upper)] = pair else { continue };
        if upper.validity().not_after.timestamp() < lower.validity().not_after.timestamp() {
            let end = upper.validity().not_after;
            let reason = format!("it ends at {end}, before what it signed");
            let remedy = "renew it, or have the certificate below it signed for no longer";
            return Err(Unfit::new(which, "notAfter", reason, remedy));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
