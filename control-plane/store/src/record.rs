//! What a store holds and what it reports: keys, entries, revisions, batches of events.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

/// A key: text, ordered by its bytes, cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

/// A point in the history of a store. Every commit that changes something takes the next one.
///
/// Revision 0 is before the first commit. With etcd the numbers belong to the whole cluster, so they
/// grow by more than one when others write to it too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// The name of a lease that the store granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// A key with its value, as of the revision that last wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key, unique in the store.
    pub key: Key,
    /// The value, shared with the store where the engine allows it.
    pub value: Bytes,
    /// The revision of the last put: what a guard compares.
    pub mod_revision: Revision,
    /// The lease that keeps the entry, if any.
    pub lease: Option<LeaseId>,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key has a new value.
    Put(Entry),
    /// The key is gone: deleted, or its lease ended.
    Delete(Key),
}

/// Everything that one revision changed below a watched prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The revision after these events.
    pub revision: Revision,
    /// At most one event a key.
    pub events: Vec<Event>,
}

/// Everything below a prefix at one revision, ordered by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision at which all of the entries were read.
    pub revision: Revision,
    /// The entries, ordered by key.
    pub entries: Vec<Entry>,
}

/// Which part of a listing to read: see [`Store::list`](crate::Store::list).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Read at this revision; `None` for the newest. Pages after the first repeat the first's.
    pub at: Option<Revision>,
    /// Only keys after this one.
    pub after: Option<Key>,
    /// At most so many entries; at least 1.
    pub limit: usize,
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The revision that was read.
    pub revision: Revision,
    /// The entries of this page, ordered by key.
    pub entries: Vec<Entry>,
    /// Whether there are more after the last of them.
    pub more: bool,
}

impl Key {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&Key> for Key {
    fn from(key: &Key) -> Self {
        key.clone()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Revision {
    /// The revision after this one: where a watch goes on after a listing.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete(key) => key,
        }
    }

    /// Bytes of key and value.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Put(entry) => entry.key.len() + entry.value.len(),
            Self::Delete(key) => key.len(),
        }
    }
}

impl Default for Page {
    /// The first 256 entries of the newest revision.
    fn default() -> Self {
        Self { at: None, after: None, limit: 256 }
    }
}
