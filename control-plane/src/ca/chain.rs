//! What signs: the root's certificate, the issuer and its key, together and immutable.

use std::fmt;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use rcgen::{CertificateParams, Issuer, KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
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
}

impl ValidCertificate {
    /// Reads what a certificate says of itself.
    ///
    /// # Errors
    /// When it is not an X.509 certificate.
    pub fn try_from_der(certificate: CertificateDer<'static>) -> Result<Self, CaError> {
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| CaError::CorruptCertificate)?;
        let held = (
            Serial::from_bytes(parsed.raw_serial()),
            parsed.validity().not_before.to_datetime(),
            parsed.validity().not_after.to_datetime(),
            Sha256::digest(parsed.public_key().raw).into(),
        );
        let (serial, not_before, not_after, spki_sha256) = held;
        Ok(Self { certificate, serial, not_before, not_after, spki_sha256 })
    }
}

/// The root's certificate and the issuer that signs below it. The root's key is not here: it stays sealed until an
/// issuer is renewed.
pub struct SigningChain {
    pub root: ValidCertificate,
    pub issuer: ValidCertificate,
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
        issuer_key: KeyPair,
        generation: u64,
    ) -> Result<Self, CaError> {
        let (root, issuer) = (ValidCertificate::try_from_der(root)?, ValidCertificate::try_from_der(issuer)?);
        if <[u8; 32]>::from(Sha256::digest(issuer_key.subject_public_key_info())) != issuer.spki_sha256 {
            return Err(CaError::KeyMismatch);
        }
        let signer = Issuer::from_ca_cert_der(&issuer.certificate, issuer_key)?;
        Ok(Self { root, issuer, generation, signer })
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
