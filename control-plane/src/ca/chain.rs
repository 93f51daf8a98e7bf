//! What signs: the root's certificate, the issuer and its key, together and immutable.

use std::fmt;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use rcgen::{CertificateParams, Issuer, KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::error::CaError;

/// Serial number of a certificate: 40 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Serial(String);

impl Serial {
    /// From the content octets of the DER integer.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(format!("{:0>40}", HEXLOWER.encode(bytes).trim_start_matches("00")))
    }

    /// From the digits of [`Self::as_str`].
    #[must_use]
    pub fn try_from_digits(digits: &str) -> Option<Self> {
        let is_serial = digits.len() == 40 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_serial.then(|| Self(digits.to_owned()))
    }

    /// The content octets of the DER integer, without leading zeros.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = HEXLOWER_PERMISSIVE.decode(self.0.as_bytes()).unwrap_or_default();
        bytes.into_iter().skip_while(|byte| *byte == 0).collect()
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A certificate and from when to when it holds.
#[derive(Debug, Clone)]
pub struct ValidCertificate {
    pub certificate: CertificateDer<'static>,
    pub serial: Serial,
    pub not_before: OffsetDateTime,
    /// The last second in which it is valid.
    pub not_after: OffsetDateTime,
    /// SHA-256 of its `SubjectPublicKeyInfo`.
    pub spki_sha256: [u8; 32],
    names: Names,
}

/// Who a certificate is of, and who signed it: DER of the names, and the ids of the keys where they stand there.
#[derive(Debug, Clone)]
struct Names {
    subject: Vec<u8>,
    subject_key: Option<Vec<u8>>,
    issuer: Vec<u8>,
    issuer_key: Option<Vec<u8>>,
}

impl ValidCertificate {
    /// Reads what a certificate says of itself.
    ///
    /// # Errors
    /// When it is not an X.509 certificate.
    pub fn try_from_der(certificate: CertificateDer<'static>) -> Result<Self, CaError> {
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| CaError::CorruptCertificate)?;
        let (serial, names) = (Serial::from_bytes(parsed.raw_serial()), Names::of(&parsed));
        let (not_before, not_after) = (parsed.validity().not_before, parsed.validity().not_after);
        let (not_before, not_after) = (not_before.to_datetime(), not_after.to_datetime());
        let spki_sha256 = Sha256::digest(parsed.public_key().raw).into();
        Ok(Self { certificate, serial, not_before, not_after, spki_sha256, names })
    }

    /// Its `SubjectPublicKeyInfo`, DER.
    ///
    /// # Errors
    /// When it is not an X.509 certificate.
    pub fn public_key(&self) -> Result<Vec<u8>, CaError> {
        let (_, parsed) =
            X509Certificate::from_der(&self.certificate).map_err(|_| CaError::CorruptCertificate)?;
        Ok(parsed.public_key().raw.to_vec())
    }

    /// The id that those below it know its key by, where it says one.
    #[must_use]
    pub fn subject_key(&self) -> Option<&[u8]> {
        self.names.subject_key.as_deref()
    }

    /// Who it is of, DER.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        &self.names.subject
    }

    /// Whether this is the one who signed it, by what the certificates say.
    #[must_use]
    pub fn is_below(&self, root: &Self) -> bool {
        let (own, above) = (&self.names, &root.names);
        let is_key =
            own.issuer_key.is_none() || above.subject_key.is_none() || own.issuer_key == above.subject_key;
        own.issuer == above.subject && is_key
    }
}

impl Names {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let (mut subject_key, mut issuer_key) = (None, None);
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => subject_key = Some(id.0.to_vec()),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    issuer_key = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                _ => {}
            }
        }
        let (subject, issuer) =
            (certificate.subject().as_raw().to_vec(), certificate.issuer().as_raw().to_vec());
        Self { subject, subject_key, issuer, issuer_key }
    }
}

/// The root's certificate and the issuer that signs below it. The root's key is not here: it stays sealed until an
/// issuer is renewed.
pub struct SigningChain {
    pub root: ValidCertificate,
    pub issuer: ValidCertificate,
    /// Certificates between the issuer and the root, the lowest one first.
    pub between: Vec<CertificateDer<'static>>,
    /// Counts issuers; a higher one is newer.
    pub generation: u64,
    signer: Issuer<'static, KeyPair>,
}

impl SigningChain {
    /// Joins certificates and the issuer's key.
    ///
    /// # Errors
    /// When a certificate is unreadable or the key is not the issuer's.
    pub fn try_new(
        root: CertificateDer<'static>,
        issuer: CertificateDer<'static>,
        between: Vec<CertificateDer<'static>>,
        issuer_key: KeyPair,
        generation: u64,
    ) -> Result<Self, CaError> {
        let (root, issuer) = (ValidCertificate::try_from_der(root)?, ValidCertificate::try_from_der(issuer)?);
        if <[u8; 32]>::from(Sha256::digest(issuer_key.subject_public_key_info())) != issuer.spki_sha256 {
            return Err(CaError::KeyMismatch);
        }
        let signer = Issuer::from_ca_cert_der(&issuer.certificate, issuer_key)?;
        Ok(Self { root, issuer, between, generation, signer })
    }

    /// What stands above a leaf: its issuer, and on to the last one below the root.
    #[must_use]
    pub fn above_leaves(&self) -> Vec<CertificateDer<'static>> {
        [&self.issuer.certificate].into_iter().chain(&self.between).cloned().collect()
    }

    /// Signs a leaf.
    ///
    /// # Errors
    /// When the parameters cannot be encoded.
    pub fn sign(
        &self,
        leaf: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<ValidCertificate, CaError> {
        ValidCertificate::try_from_der(leaf.signed_by(key, &self.signer)?.der().clone())
    }
}

impl fmt::Debug for SigningChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningChain")
            .field("generation", &self.generation)
            .field("root", &self.root.serial)
            .field("issuer", &self.issuer.serial)
            .finish_non_exhaustive()
    }
}
