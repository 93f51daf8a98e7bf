//! Certificate signing requests: what is believed of one is its public key, after proof of possession.
//!
//! Names in a request are ignored: who asks is known from the token or the certificate that it came with.

use rcgen::SubjectPublicKeyInfo;
use sha2::{Digest as _, Sha256};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo as ParsedKey;

/// The most that a request may weigh, in bytes. One with a P-256 key has about 200.
pub const MAX_CSR_BYTES: usize = 16 * 1024;

/// A request that was checked: only its key is left.
#[derive(Debug, Clone)]
pub struct CheckedCsr {
    key: SubjectPublicKeyInfo,
    spki_sha256: [u8; 32],
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    #[error("the certificate request has {0} bytes; the most is {MAX_CSR_BYTES}")]
    TooLarge(usize),
    /// Not PKCS #10.
    #[error("the certificate request is not valid DER of PKCS #10")]
    Malformed,
    /// Another kind of key.
    #[error("the certificate request has a key of another kind; use ECDSA on P-256")]
    WrongKey,
    /// The signature does not fit the key.
    #[error("the certificate request is not signed by the key that it names")]
    NoProofOfPossession,
}

impl CheckedCsr {
    /// Checks size, form, kind of key and proof of possession, in that order.
    ///
    /// # Errors
    /// When any of them fails.
    pub fn try_from_der(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > MAX_CSR_BYTES {
            return Err(CsrError::TooLarge(der.len()));
        }
        let (rest, csr) = X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)?;
        if !rest.is_empty() {
            return Err(CsrError::Malformed);
        }
        let spki = &csr.certification_request_info.subject_pki;
        if !is_p256(spki) {
            return Err(CsrError::WrongKey);
        }
        csr.verify_signature().map_err(|_| CsrError::NoProofOfPossession)?;
        let key = SubjectPublicKeyInfo::from_der(spki.raw).map_err(|_| CsrError::WrongKey)?;
        Ok(Self { key, spki_sha256: Sha256::digest(spki.raw).into() })
    }

    /// The public key to certify.
    #[must_use]
    pub fn key(&self) -> &SubjectPublicKeyInfo {
        &self.key
    }

    /// SHA-256 of the `SubjectPublicKeyInfo`: says whether two requests are of one key.
    #[must_use]
    pub fn spki_sha256(&self) -> [u8; 32] {
        self.spki_sha256
    }
}

// Uncompressed points only: rustls and BoringSSL refuse the others.
fn is_p256(spki: &ParsedKey<'_>) -> bool {
    let curve = spki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let point = &spki.subject_public_key.data;
    spki.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
        && curve == Some(OID_EC_P256)
        && point.len() == 65
        && point.first() == Some(&4)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;

    fn csr(key: &KeyPair) -> Vec<u8> {
        let params = CertificateParams::new(vec!["admin.example".to_owned()]).unwrap();
        params.serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn accepts_p256_with_proof_of_possession() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let checked = CheckedCsr::try_from_der(&csr(&key)).unwrap();
        let again = CheckedCsr::try_from_der(&csr(&key)).unwrap();
        assert_eq!(checked.spki_sha256(), again.spki_sha256());
    }

    #[test]
    fn refuses_other_kinds_of_keys() {
        for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            assert_eq!(CheckedCsr::try_from_der(&csr(&key)).unwrap_err(), CsrError::WrongKey);
        }
    }

    #[test]
    fn refuses_request_signed_by_another_key() {
        let mine = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let theirs = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut der = csr(&mine);
        let (own, other) = (mine.public_key_raw().to_vec(), theirs.public_key_raw());
        let at = der.windows(own.len()).position(|window| window == own).unwrap();
        der[at..at + own.len()].copy_from_slice(other);
        assert_eq!(CheckedCsr::try_from_der(&der).unwrap_err(), CsrError::NoProofOfPossession);
    }

    #[test]
    fn refuses_giant_cut_and_padded_requests() {
        let der = csr(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
        let giant = vec![0; MAX_CSR_BYTES + 1];
        assert_eq!(CheckedCsr::try_from_der(&giant).unwrap_err(), CsrError::TooLarge(MAX_CSR_BYTES + 1));
        assert_eq!(CheckedCsr::try_from_der(&der[..der.len() - 1]).unwrap_err(), CsrError::Malformed);
        assert_eq!(CheckedCsr::try_from_der(&[&der[..], &[0]].concat()).unwrap_err(), CsrError::Malformed);
        assert_eq!(CheckedCsr::try_from_der(&[]).unwrap_err(), CsrError::Malformed);
    }

    #[test]
    fn no_cut_or_changed_request_panics() {
        let der = csr(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
        for at in 0..der.len() {
            let mut changed = der.clone();
            changed[at] ^= 0x55;
            let _ = CheckedCsr::try_from_der(&changed);
            let _ = CheckedCsr::try_from_der(&der[..at]);
        }
    }
}
