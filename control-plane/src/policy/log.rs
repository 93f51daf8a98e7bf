//! The policies, as a log of changesets with one head.
//!
//! ```text
//! policies/head              sequence and id of the newest changeset: the one record that moves
//! policies/history/NNN       a changeset: author, parent, what it puts and deletes
//! policies/checkpoints/NNN   all documents after changeset NNN, so that loading reads a bounded tail
//! policies/blobs/…           large bodies in chunks, written before anything refers to them
//! ```
//!
//! A commit writes its body first, then moves the head in one small transaction guarded by the head that it was
//! validated against. So a set of any size is atomic, and of two applies that were validated against the same head one
//! is refused: its author validates again. Documents are opaque bytes under opaque keys here.

mod blob;
mod changeset;
mod error;
mod reading;
mod record;
mod upkeep;

use std::sync::Arc;

use bytes::Bytes;
use weft_store::{CommitError, Revision, Store, Txn};

pub use changeset::{DocumentChange, Documents};
pub use error::LogError;
pub use reading::{Advance, UnreadChangeset};
pub use record::{Authorship, ChangesetInfo};
pub use upkeep::{LogRetention, Upkeep};

use crate::clock::Clock;
use record::{HEAD, HeadRecord, history_key, write_body};

// An unanswered head move is repeated with the same guard until an answer comes.
const MOVE_ATTEMPTS: usize = 4;

/// All documents after one changeset.
#[derive(Clone, Debug, Default)]
pub struct LogSnapshot {
    head: Option<LogHead>,
    documents: Documents,
}

/// Which changeset is the newest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// Counts changesets from 1.
    pub sequence: u64,
    /// Id of the changeset.
    pub id: Arc<str>,
    revision: Revision,
}

/// What is to be committed.
#[derive(Clone, Debug)]
pub struct Changeset {
    pub by: Authorship,
    /// What changes, at most once a key.
    pub changes: Vec<DocumentChange>,
}

/// The log in a store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PolicyLog {
    store: Arc<dyn Store>,
    clock: Clock,
}

impl LogSnapshot {
    /// The newest changeset in it; none before the first.
    #[must_use]
    pub fn head(&self) -> Option<&LogHead> {
        self.head.as_ref()
    }

    /// Its sequence; 0 before the first.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.sequence)
    }

    #[must_use]
    pub fn documents(&self) -> &Documents {
        &self.documents
    }
}

impl PolicyLog {
    /// The log in a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Commits changes that were validated against `base`, and gives what is then stored. No changes are no changeset.
    ///
    /// # Errors
    /// [`LogError::Moved`] when the head is not `base` any more; nothing is stored then.
    pub async fn commit(&self, base: &LogSnapshot, changeset: Changeset) -> Result<LogSnapshot, LogError> {
        if changeset.changes.is_empty() {
            return Ok(base.clone());
        }
        let now = self.clock.unix_millis();
        let size =
            || changeset.changes.iter().filter_map(|change| change.document.as_ref()).map(Bytes::len).sum();
        let body = changeset::encode(&changeset.changes).ok_or_else(|| LogError::TooLarge(size()))?;
        let body = write_body(self.store.as_ref(), body, now).await?;
        let info = ChangesetInfo {
            sequence: base.sequence() + 1,
            id: format!("c-{:016x}", rand::random::<u64>()),
            parent: base.head.as_ref().map(|head| head.id.to_string()),
            by: changeset.by,
            at_millis: now,
            changes: changeset.changes.len(),
        };
        let txn = match &base.head {
            Some(head) => Txn::new().expect_at(HEAD, head.revision),
            None => Txn::new().expect_absent(HEAD),
        };
        let txn = txn.put(HEAD, HeadRecord::new(info.sequence, &info.id).encode());
        let txn = body.put(txn, history_key(info.sequence), &info);
        let revision = self.move_head(base, &info.id, txn).await?;
        let mut documents = base.documents.clone();
        changeset::apply(&mut documents, &changeset.changes);
        let head = LogHead { sequence: info.sequence, id: info.id.into(), revision };
        Ok(LogSnapshot { head: Some(head), documents })
    }

    async fn move_head(&self, base: &LogSnapshot, id: &str, txn: Txn) -> Result<Revision, LogError> {
        let mut attempt = 1;
        loop {
            match self.store.commit(txn.clone()).await {
                Ok(revision) => return Ok(revision),
                Err(CommitError::Uncertain { .. }) if attempt < MOVE_ATTEMPTS => attempt += 1,
                Err(error @ CommitError::Conflict { .. }) => {
                    // An earlier attempt of ours may be what moved it.
                    let Some((head, revision)) = self.head().await? else { return Err(error.into()) };
                    if head.id == id {
                        return Ok(revision);
                    }
                    let (expected, now) = (base.sequence(), head.sequence);
                    return Err(if base.head.as_ref().is_some_and(|base| *base.id == *head.id) {
                        error.into()
                    } else {
                        LogError::Moved { expected, now }
                    });
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn head(&self) -> Result<Option<(HeadRecord, Revision)>, LogError> {
        let Some(entry) = self.store.get(HEAD).await? else { return Ok(None) };
        Ok(Some((HeadRecord::decode(&entry)?, entry.mod_revision)))
    }
}

impl LogError {
    fn corrupt(record: &str, reason: String) -> Self {
        Self::Corrupt { record: record.to_owned(), reason }
    }
}
