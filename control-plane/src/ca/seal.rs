//! CA keys at rest: sealed with AES-256-GCM, so that whoever reads the store has no key.
//!
//! The file of the seal key has a line of 64 hexadecimal digits for each key, the newest first: it seals, the others open what
//! they have sealed. The file has mode 0600, and each replica has a copy of it. The name of the record and its version are
//! bound as additional data: a sealed key copied to another record, or told to be a newer one, does not open there.
//!
//! Beside it, in `FILE.version`, stands the newest version of the authority's records that this machine has seen
//! (`records/head`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::seen_version::SeenVersion;
use crate::private_file::{self, PrivateFileError};

/// How many keys a file has at most.
const MOST_KEYS: usize = 8;

/// The keys that seal CA keys: one that seals, and those before it.
pub struct SealKey {
    file: Option<PathBuf>,
    /// A lock, since all tasks of a replica share the keys and the file may be read again; taken to copy a pointer.
    keys: RwLock<Arc<[CipherKey]>>,
    seen: SeenVersion,
    /// The version of the records that are sealed now; 0 in a store whose records have none.
    version: AtomicU64,
}

/// What tells one key from another and says nothing of it: the first 64 bits of a hash, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SealKeyId(String);

struct CipherKey {
    id: SealKeyId,
    cipher: RandomizedNonceKey,
}

/// Sealed bytes, as stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Which key sealed it; none of one that has no version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<SealKeyId>,
    /// Version of the authority's records that it came with. Records of earlier releases have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
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
        "{0} is not a seal key: it must hold 64 hexadecimal digits a line, one to eight lines, the newest key first; copy it from \
         another replica or a backup"
    )]
    Malformed(PathBuf),
    /// The mesh exists, but this machine does not have its key.
    #[error(
        "the mesh's keys are sealed and {0} is missing; copy it from another replica or a backup, or name it with \
         --seal-key"
    )]
    Missing(PathBuf),
    /// The record is sealed with a key that the file does not have.
    #[error(
        "{record} is sealed with the key {key}, which the seal key's file does not have: add its line again, from another \
         replica or a backup (--seal-key)"
    )]
    NotHeld {
        /// Key of the record in the store.
        record: String,
        key: SealKeyId,
    },
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
        let Some(keys) = read_keys(path)? else { return Ok(None) };
        let seen = SeenVersion::read(path)?;
        Ok(Some(Self {
            file: Some(path.to_owned()),
            keys: RwLock::new(keys.into()),
            seen,
            version: AtomicU64::new(0),
        }))
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

    /// A key from its 256 bits, without a file.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self {
            file: None,
            keys: RwLock::new(vec![CipherKey::new(bytes)].into()),
            seen: SeenVersion::default(),
            version: AtomicU64::new(0),
        }
    }

    /// Reads the file again, in which keys may have come or gone. What cannot be read changes nothing.
    ///
    /// # Errors
    /// When the file is missing, open to others, or is not a key.
    pub fn reread(&self) -> Result<(), SealError> {
        let Some(path) = &self.file else { return Ok(()) };
        let keys = read_keys(path)?.ok_or_else(|| SealError::Missing(path.clone()))?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.into();
        Ok(())
    }

    /// The keys that it has, the one that seals first.
    #[must_use]
    pub fn ids(&self) -> Vec<SealKeyId> {
        self.keys().iter().map(|key| key.id.clone()).collect()
    }

    /// The newest version of the authority's records that this machine has seen.
    pub(super) fn seen(&self) -> &SeenVersion {
        &self.seen
    }

    /// What is sealed from now on is of this version, or of a higher one that was told before: then somebody else has written
    /// since the records were read on which a version is built, and it does not go through.
    pub(super) fn seal_at(&self, version: u64) {
        self.version.fetch_max(version, Ordering::AcqRel);
    }

    /// What is sealed from now on has no version after all, as earlier releases read it.
    pub(super) fn seal_without_version(&self) {
        self.version.store(0, Ordering::Release);
    }

    /// Seals `plain` for one record.
    #[must_use]
    pub fn seal(&self, record: &str, plain: &[u8]) -> Sealed {
        let (keys, version) = (self.keys(), self.version.load(Ordering::Acquire));
        // Releases that know of one key only read records without a version: of several keys it is the oldest.
        let (key, version) = if version == 0 {
            (keys.last().expect("a seal key has a line"), None)
        } else {
            (keys.first().expect("a seal key has a line"), Some(version))
        };
        let mut sealed = plain.to_vec();
        let nonce = key
            .cipher
            .seal_in_place_append_tag(additional_data(record, version), &mut sealed)
            .expect("what the authority keeps is far below the limit of AES-GCM");
        Sealed {
            key: version.map(|_| key.id.clone()),
            version,
            nonce: BASE64.encode(nonce.as_ref()),
            ciphertext: BASE64.encode(sealed),
        }
    }

    /// Opens what was sealed for the same record.
    ///
    /// # Errors
    /// When the key or the record is another one, or a bit was changed.
    pub fn open(&self, record: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SealError> {
        match self.opened(record, sealed) {
            // Another replica may seal with a key that came into the file a moment ago.
            Err(error @ SealError::NotHeld { .. }) => match self.reread() {
                Ok(()) => self.opened(record, sealed).map(|(_, plain)| plain),
                Err(_) => Err(error),
            },
            opened => opened.map(|(_, plain)| plain),
        }
    }

    /// Which key a record needs.
    ///
    /// # Errors
    /// When none opens it.
    pub(super) fn needed(&self, record: &str, sealed: &Sealed) -> Result<SealKeyId, SealError> {
        match &sealed.key {
            Some(key) => Ok(key.clone()),
            None => self.opened(record, sealed).map(|(key, _)| key),
        }
    }

    fn opened(&self, record: &str, sealed: &Sealed) -> Result<(SealKeyId, Zeroizing<Vec<u8>>), SealError> {
        let keys = self.keys();
        let fits = |key: &&CipherKey| sealed.key.as_ref().is_none_or(|id| *id == key.id);
        let mut fitting = keys.iter().filter(fits).peekable();
        if let (None, Some(key)) = (fitting.peek(), &sealed.key) {
            return Err(SealError::NotHeld { record: record.to_owned(), key: key.clone() });
        }
        fitting
            .find_map(|key| Some((key.id.clone(), key.open(record, sealed)?)))
            .ok_or_else(|| SealError::DoesNotOpen { record: record.to_owned() })
    }

    fn keys(&self) -> Arc<[CipherKey]> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl SealKeyId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SealKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl CipherKey {
    fn new(bytes: &[u8; 32]) -> Self {
        let hash = Sha256::new().chain_update(b"weft-seal-key\0").chain_update(bytes).finalize();
        Self {
            id: SealKeyId(HEXLOWER.encode(&hash[..8])),
            cipher: RandomizedNonceKey::new(&AES_256_GCM, bytes).expect("AES-256-GCM takes 32 bytes"),
        }
    }

    fn open(&self, record: &str, sealed: &Sealed) -> Option<Zeroizing<Vec<u8>>> {
        let nonce = BASE64.decode(&sealed.nonce).ok()?;
        let nonce = Nonce::try_assume_unique_for_key(&nonce).ok()?;
        let mut bytes = Zeroizing::new(BASE64.decode(&sealed.ciphertext).ok()?);
        let data = additional_data(record, sealed.version);
        let length = self.cipher.open_in_place(nonce, data, &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

impl Sealed {
    /// Version of the authority's records that it came with.
    pub(super) fn version(&self) -> Option<u64> {
        self.version
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

fn additional_data(record: &str, version: Option<u64>) -> Aad<Vec<u8>> {
    Aad::from(match version {
        None => [b"weft-seal-1\0", record.as_bytes()].concat(),
        Some(version) => [b"weft-seal-2\0", &version.to_be_bytes()[..], record.as_bytes()].concat(),
    })
}

fn read_keys(path: &Path) -> Result<Option<Vec<CipherKey>>, SealError> {
    let Some(text) = private_file::read(path)? else { return Ok(None) };
    let malformed = || SealError::Malformed(path.to_owned());
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let keys = lines.map(|line| Some(CipherKey::new(&*decode_hex(line)?)));
    let keys: Vec<_> = keys.collect::<Option<_>>().ok_or_else(malformed)?;
    if keys.is_empty() || keys.len() > MOST_KEYS { Err(malformed()) } else { Ok(Some(keys)) }
}

fn encode_hex(bytes: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len() + 1));
    HEXLOWER.encode_append(bytes, &mut text);
    text.push('\n');
    text
}

fn decode_hex(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
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

    fn line(byte: u8) -> String {
        format!("{}\n", HEXLOWER.encode(&[byte; 32]))
    }

    #[test]
    fn first_key_of_a_file_seals_and_the_others_open_what_they_have_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        private_file::create(&path, line(1).as_bytes()).unwrap();
        let replica = SealKey::load(&path).unwrap().unwrap();
        replica.seal_at(1);
        let old = replica.seal("mesh/root", b"private");
        private_file::replace(&path, (line(2) + &line(1)).as_bytes()).unwrap();
        let other = SealKey::load(&path).unwrap().unwrap();
        other.seal_at(2);
        assert_eq!(other.open("mesh/root", &old).unwrap().as_slice(), b"private");
        let new = other.seal("mesh/root", b"private");
        assert_ne!(old.key, new.key);
        assert_eq!(
            replica.open("mesh/root", &new).unwrap().as_slice(),
            b"private",
            "it reads its file again"
        );
        private_file::replace(&path, line(2).as_bytes()).unwrap();
        replica.reread().unwrap();
        let error = replica.open("mesh/root", &old).unwrap_err().to_string();
        assert!(error.contains(old.key.unwrap().as_str()) && error.contains("add its line"), "{error}");
        assert_eq!(replica.ids(), [new.key.unwrap()]);
    }

    #[test]
    fn version_is_bound_and_cannot_be_told_otherwise() {
        let key = SealKey::from_bytes(&[1; 32]);
        key.seal_at(3);
        let sealed = key.seal("mesh/root", b"private");
        assert_eq!(sealed.version(), Some(3));
        for version in [None, Some(2), Some(4)] {
            let told = Sealed { version, ..sealed.clone() };
            assert!(
                matches!(key.open("mesh/root", &told), Err(SealError::DoesNotOpen { .. })),
                "{version:?}"
            );
        }
    }

    #[test]
    fn record_of_an_earlier_release_opens_with_any_key_of_the_file() {
        let sealed = SealKey::from_bytes(&[1; 32]).seal("mesh/root", b"private");
        let text = serde_json::to_string(&sealed).unwrap();
        assert!(!text.contains("version") && !text.contains("key"), "as it was: {text}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        private_file::create(&path, (line(2) + &line(1)).as_bytes()).unwrap();
        let key = SealKey::load(&path).unwrap().unwrap();
        assert_eq!(key.open("mesh/root", &sealed).unwrap().as_slice(), b"private");
        assert_eq!(key.needed("mesh/root", &sealed).unwrap(), key.ids()[1]);
    }

    #[test]
    fn file_with_a_line_that_is_no_key_or_with_too_many_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("a", line(1) + "hello\n"), ("b", line(1).repeat(9)), ("c", "\n".to_owned())] {
            let path = dir.path().join(name);
            private_file::create(&path, text.as_bytes()).unwrap();
            assert!(matches!(SealKey::load(&path), Err(SealError::Malformed(_))), "{text}");
        }
    }
}
