//! Keys and certificate signing requests.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};

/// A key could not be made or used.
#[derive(Debug, thiserror::Error)]
#[error("the key cannot be made: {0}")]
pub struct KeyError(#[from] rcgen::Error);

/// A fresh P-256 key.
///
/// # Errors
/// When the system gives no randomness.
pub fn new_key() -> Result<KeyPair, KeyError> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

/// A signing request, DER. It carries the public key only: the token (or the old certificate) decides the names.
///
/// # Errors
/// When the request cannot be signed.
pub fn signing_request(key: &KeyPair) -> Result<Vec<u8>, KeyError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}
