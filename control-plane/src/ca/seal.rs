//! CA keys at rest: sealed with AES-256-GCM, so that whoever reads the store has no key.
//!
//! The key that seals is a file of 64 hexadecimal digits with mode 0600, shared by the replicas. The name of the
//! record is bound as additional data: a sealed key copied to another record does not open there.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::private_file::{self, PrivateFileError};

/// The key that seals CA keys.
pub struct SealKey(RandomizedNonceKey);

/// Sealed bytes, as stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// 96 random bits, base64.
    nonce: String,
    /// Ciphertext and tag, base64.
    ciphertext: String,
}

/// A seal key that cannot be used, or does not fit.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file is not a key.
    #[error(
        "{0} is not a seal key: it must hold 64 hexadecimal digits; copy it from another replica or a backup"
    )]
    Malformed(PathBuf),
    /// The mesh exists, but this machine does not have its key.
    #[error(
        "the mesh's keys are sealed and {0} is missing; copy it from another replica or a backup, or name it with \
         --seal-key"
    )]
    Missing(PathBuf),
    /// The key does not open the record, or the record was changed.
    #[error(
        "the seal key does not open {record}; use the seal key that this mesh was created with (--seal-key)"
    )]
    DoesNotOpen {
        /// Key of the record in the store.
        record: String,
    },
}

impl SealKey {
    /// Reads the key file; `None` when there is none.
    ///
    /// # Errors
    /// When the file is open to others or is not a key.
    pub fn load(path: &Path) -> Result<Option<Self>, SealError> {
        let Some(text) = private_file::read(path)? else { return Ok(None) };
        let bytes = decode_hex(&text).ok_or_else(|| SealError::Malformed(path.to_owned()))?;
        Ok(Some(Self::from_bytes(&bytes)))
    }

    /// Reads the key file, or makes one first.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn load_or_create(path: &Path) -> Result<Self, SealError> {
        if let Some(key) = Self::load(path)? {
            return Ok(key);
        }
        let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
        private_file::create(path, encode_hex(&bytes).as_bytes())?;
        Self::load(path)?.ok_or_else(|| SealError::Missing(path.to_owned()))
    }

    /// A key from its 256 bits.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(RandomizedNonceKey::new(&AES_256_GCM, bytes).expect("AES-256-GCM takes 32 bytes"))
    }

    /// Seals `plain` for one record.
    #[must_use]
    pub fn seal(&self, record: &str, plain: &[u8]) -> Sealed {
        let mut sealed = plain.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(additional_data(record), &mut sealed)
            .expect("a CA key is far below the limit of AES-GCM");
        Sealed { nonce: BASE64.encode(nonce.as_ref()), ciphertext: BASE64.encode(sealed) }
    }

    /// Opens what was sealed for the same record.
    ///
    /// # Errors
    /// When the key or the record is another one, or a bit was changed.
    pub fn open(&self, record: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let refused = || SealError::DoesNotOpen { record: record.to_owned() };
        let nonce = BASE64.decode(&sealed.nonce).map_err(|_| refused())?;
        let nonce = Nonce::try_assume_unique_for_key(&nonce).map_err(|_| refused())?;
        let mut bytes = Zeroizing::new(BASE64.decode(&sealed.ciphertext).map_err(|_| refused())?);
        let length =
            self.0.open_in_place(nonce, additional_data(record), &mut bytes).map_err(|_| refused())?.len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey")
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed")
    }
}

fn additional_data(record: &str) -> Aad<Vec<u8>> {
    Aad::from([b"weft-seal-1\0", record.as_bytes()].concat())
}

fn encode_hex(bytes: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len() + 1));
    HEXLOWER.encode_append(bytes, &mut text);
    text.push('\n');
    text
}

fn decode_hex(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let text = text.trim_ascii();
    let mut bytes = Zeroizing::new([0; 32]);
    if text.len() != 2 * bytes.len() {
        return None;
    }
    HEXLOWER_PERMISSIVE.decode_mut(text, bytes.as_mut_slice()).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_bytes_open_for_the_same_record_only() {
        let key = SealKey::from_bytes(&[1; 32]);
        let sealed = key.seal("mesh/root", b"private");
        assert_eq!(key.open("mesh/root", &sealed).unwrap().as_slice(), b"private");
        assert!(matches!(key.open("mesh/issuer", &sealed), Err(SealError::DoesNotOpen { .. })));
    }

    #[test]
    fn another_key_does_not_open() {
        let sealed = SealKey::from_bytes(&[1; 32]).seal("mesh/root", b"private");
        let error = SealKey::from_bytes(&[2; 32]).open("mesh/root", &sealed).unwrap_err().to_string();
        assert!(error.contains("--seal-key"), "{error}");
    }

    #[test]
    fn sealing_twice_gives_different_bytes_without_the_plaintext() {
        let key = SealKey::from_bytes(&[1; 32]);
        let (first, second) = (key.seal("mesh/root", b"private"), key.seal("mesh/root", b"private"));
        assert_ne!(first.nonce, second.nonce);
        assert_ne!(first.ciphertext, second.ciphertext);
        assert!(!BASE64.decode(first.ciphertext).unwrap().windows(7).any(|w| w == b"private"));
    }

    #[test]
    fn one_changed_bit_is_noticed() {
        let key = SealKey::from_bytes(&[1; 32]);
        let mut sealed = key.seal("mesh/root", b"private");
        let mut bytes = BASE64.decode(&sealed.ciphertext).unwrap();
        bytes[0] ^= 1;
        sealed.ciphertext = BASE64.encode(bytes);
        assert!(key.open("mesh/root", &sealed).is_err());
    }

    #[test]
    fn key_file_is_made_once_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        assert!(SealKey::load(&path).unwrap().is_none());
        let sealed = SealKey::load_or_create(&path).unwrap().seal("r", b"x");
        assert_eq!(SealKey::load_or_create(&path).unwrap().open("r", &sealed).unwrap().as_slice(), b"x");
    }

    #[test]
    fn file_that_is_no_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        private_file::create(&path, b"hello").unwrap();
        assert!(matches!(SealKey::load(&path), Err(SealError::Malformed(_))));
    }
}
