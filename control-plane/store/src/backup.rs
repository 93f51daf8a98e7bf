//! A store's state as one stream of bytes: what a backup is, whichever engine it was taken from.
//!
//! ```text
//!   "weft-bak"  format                  8 bytes, u32
//!   revision    taken at  name          u64, i64 in Unix seconds, text
//!   1  revision  key  value             an entry: u64, text, bytes; in the order of the keys
//!   2  count  SHA-256                   the end: how many entries, and the digest of every byte before it
//! ```
//!
//! Integers are little-endian; texts and bytes have their length before them as u32. One that ends early has no end
//! mark, and one that was changed has another digest: either is refused as a whole, before anything is done with it.
//!
//! What it leaves out: entries under a lease. A lease is the word of a process that comes back to renew it, and who
//! takes a backup out of a drawer has no such process: what it held would stand for ever. What it does not do: seal or
//! compress. A value is as secret in a backup as it is in its store.

use std::io::{ErrorKind, Read};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::record::{Entry, Key, Revision, Snapshot};

const MAGIC: &[u8; 8] = b"weft-bak";
/// The layout that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;
const ENTRY: u8 = 1;
const END: u8 = 2;

/// What a piece of the stream aims at, in bytes.
const PIECE: usize = 64 << 10;
/// No engine takes longer keys than fit here, or larger values: [`Limits`](crate::Limits).
const LONGEST_KEY: usize = 64 << 10;
const LARGEST_VALUE: usize = 64 << 20;

/// What a store holds at one revision, as it is put into a stream and read from one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Whose state it is, as its owner calls it.
    pub name: String,
    /// When it was taken, in Unix seconds.
    pub taken_at: i64,
    /// The state: all of one revision, and nothing under a lease.
    pub snapshot: Snapshot,
}

/// Why a stream is not a backup that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// It does not begin as a backup does.
    #[error("it is not a backup of Weft")]
    Foreign,
    /// A newer version wrote it.
    #[error(
        "it has backup format {found}, and this version knows formats up to {known}: use the version that wrote it"
    )]
    NewerFormat {
        /// The format that it says.
        found: u32,
        /// The newest that this version reads.
        known: u32,
    },
    /// It ends before its end mark.
    #[error(
        "it ends before its end mark, so a part of it is missing: use a copy that is whole, or another backup"
    )]
    Incomplete,
    /// It is not what was written.
    #[error("it is not as it was written ({reason}): use a copy that is, or another backup")]
    Damaged {
        /// What is not as it should be, and where.
        reason: String,
    },
    /// The system does not give it.
    #[error("it cannot be read: {reason}")]
    Io {
        /// What the system said.
        reason: String,
    },
}

impl Backup {
    /// What of a snapshot is there to stay. `taken_at` is in Unix seconds.
    pub fn new(name: impl Into<String>, taken_at: i64, mut snapshot: Snapshot) -> Self {
        snapshot.entries.retain(|entry| entry.lease.is_none());
        Self { name: name.into(), taken_at, snapshot }
    }

    /// The stream, in pieces of about 64 KiB, and larger ones where a value is.
    pub fn encode(self) -> BackupStream {
        let mut head = [MAGIC.as_slice(), &FORMAT.to_le_bytes()].concat();
        head.extend_from_slice(&self.snapshot.revision.0.to_le_bytes());
        head.extend_from_slice(&self.taken_at.to_le_bytes());
        put(&mut head, self.name.as_bytes());
        let entries = self.snapshot.entries.into_iter();
        BackupStream { head, entries, count: 0, digest: Sha256::new(), ended: false }
    }

    /// Reads a stream to its end. Gives it whole and as it was written, or not at all.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub fn decode(source: impl Read) -> Result<Self, BackupError> {
        let mut source = BackupReader { inner: source, digest: Sha256::new() };
        if source.array::<8>()? != *MAGIC {
            return Err(BackupError::Foreign);
        }
        match u32::from_le_bytes(source.array()?) {
            FORMAT => {}
            0 => return Err(damaged("format 0 never existed")),
            found => return Err(BackupError::NewerFormat { found, known: FORMAT }),
        }
        let revision = Revision(u64::from_le_bytes(source.array()?));
        let taken_at = i64::from_le_bytes(source.array()?);
        let name = source.text()?;
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            match source.array::<1>()? {
                [ENTRY] => {
                    let entry = source.entry()?;
                    let is_ordered = entries.last().is_none_or(|last| last.key < entry.key);
                    if !is_ordered || entry.key.is_empty() || entry.mod_revision > revision {
                        return Err(damaged(format!("the record of {:?} makes no sense", entry.key)));
                    }
                    entries.push(entry);
                }
                [END] => break,
                [other] => return Err(damaged(format!("there is no record of kind {other}"))),
            }
        }
        source.end(entries.len())?;
        Ok(Self { name, taken_at, snapshot: Snapshot { revision, entries } })
    }
}

/// The stream of a backup. An iterator, so that no copy of the whole is ever made.
#[derive(Debug)]
pub struct BackupStream {
    head: Vec<u8>,
    entries: std::vec::IntoIter<Entry>,
    count: u64,
    digest: Sha256,
    ended: bool,
}

impl Iterator for BackupStream {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut piece = std::mem::take(&mut self.head);
        while piece.len() < PIECE && !self.ended {
            if let Some(entry) = self.entries.next() {
                piece.push(ENTRY);
                piece.extend_from_slice(&entry.mod_revision.0.to_le_bytes());
                put(&mut piece, entry.key.as_bytes());
                put(&mut piece, &entry.value);
                self.count += 1;
            } else {
                piece.push(END);
                piece.extend_from_slice(&self.count.to_le_bytes());
                self.ended = true;
            }
        }
        if piece.is_empty() {
            return None;
        }
        self.digest.update(&piece);
        if self.ended {
            piece.extend_from_slice(&std::mem::take(&mut self.digest).finalize());
        }
        Some(piece.into())
    }
}

fn put(piece: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("a store takes no value of 4 GiB");
    piece.extend_from_slice(&length.to_le_bytes());
    piece.extend_from_slice(bytes);
}

/// What is read, and the digest of all of it so far.
struct BackupReader<R> {
    inner: R,
    digest: Sha256,
}

impl<R: Read> BackupReader<R> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], BackupError> {
        let mut array = [0; N];
        self.inner.read_exact(&mut array).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => BackupError::Incomplete,
            _ => BackupError::Io { reason: error.to_string() },
        })?;
        self.digest.update(array);
        Ok(array)
    }

    fn bytes(&mut self, longest: usize) -> Result<Vec<u8>, BackupError> {
        let length = u32::from_le_bytes(self.array()?);
        if length as usize > longest {
            return Err(damaged(format!("a part of it claims {length} bytes")));
        }
        // Grows with what comes: a length that was made up takes no memory.
        let mut bytes = Vec::new();
        let read = self.inner.by_ref().take(length.into()).read_to_end(&mut bytes);
        let read = read.map_err(|error| BackupError::Io { reason: error.to_string() })?;
        if read < length as usize {
            return Err(BackupError::Incomplete);
        }
        self.digest.update(&bytes);
        Ok(bytes)
    }

    fn text(&mut self) -> Result<String, BackupError> {
        String::from_utf8(self.bytes(LONGEST_KEY)?).map_err(|_| damaged("a part of it is no text"))
    }

    fn entry(&mut self) -> Result<Entry, BackupError> {
        let mod_revision = Revision(u64::from_le_bytes(self.array()?));
        let key = Key::from(self.text()?);
        Ok(Entry { key, value: self.bytes(LARGEST_VALUE)?.into(), mod_revision, lease: None })
    }

    /// What comes after the last entry: the count, the digest, and nothing.
    fn end(mut self, entries: usize) -> Result<(), BackupError> {
        let count = u64::from_le_bytes(self.array()?);
        if count != entries as u64 {
            return Err(damaged(format!("it has {entries} entries, and had {count}")));
        }
        let digest: [u8; 32] = self.digest.clone().finalize().into();
        if self.array::<32>()? != digest {
            return Err(damaged("its checksum does not fit"));
        }
        let mut more = Vec::new();
        match self.inner.take(1).read_to_end(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err(damaged("it goes on after its end mark")),
            Err(error) => Err(BackupError::Io { reason: error.to_string() }),
        }
    }
}

fn damaged(reason: impl Into<String>) -> BackupError {
    BackupError::Damaged { reason: reason.into() }
}
