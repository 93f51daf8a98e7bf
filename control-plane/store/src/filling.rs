//! Putting a whole state into an empty store, so that all of it counts or none.
//!
//! ```text
//!   file   drafted under another name, synced, then linked: before that there is no store
//!   etcd   "filling" ──> entries, many at a time ──> "filling" is deleted: with it, nobody opens the store
//! ```
//!
//! Every write is guarded by the mark and by the absence of what it writes: whoever else writes there is never
//! overwritten, and ends the filling.

use std::path::Path;

use crate::embedded;
use crate::error::{CommitError, OpenError, ReadError};
use crate::record::{Entry, Page, Revision, Snapshot};
use crate::store::Store;
use crate::txn::{Txn, TxnLimits};

/// The key that stands in a store while it is filled. No key of a caller's.
pub(crate) const MARK: &str = "filling";

/// Operations of one transaction beside the mark's guard; etcd takes 128 guards.
const AT_ONCE: usize = 100;

/// Why a state was not put into a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FillError {
    /// Something is there; nothing was written.
    #[error("there is a store already: a state goes into an empty place only, and nothing was written")]
    NotEmpty,
    /// An earlier attempt did not come to its end.
    #[error("what an earlier attempt left is there still: remove it and try again; nothing was written")]
    Unfinished,
    /// An entry that the destination cannot hold; nothing was written.
    #[error("{key} has {actual} bytes, and this store takes {limit}: nothing was written")]
    TooLarge {
        /// The key of the entry.
        key: String,
        /// The size of its value.
        actual: usize,
        /// The most that the store takes.
        limit: usize,
    },
    /// The file cannot be made; there is no store then.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It failed half-way, and what is there is no store: nobody opens it.
    #[error("{0}; what was written so far counts for nothing: remove it and try again")]
    Commit(#[from] CommitError),
}

/// Makes the file of an embedded store with this state in it, revisions included. Its directory must exist.
///
/// # Errors
/// When there is such a file, or it cannot be made.
pub async fn fill_file(path: impl AsRef<Path>, state: Snapshot) -> Result<(), FillError> {
    let path = path.as_ref().to_owned();
    let failed = |reason| OpenError::Io { path: path.clone(), reason };
    let filling = tokio::task::spawn_blocking({
        let path = path.clone();
        move || embedded::fill(&path, state)
    });
    let is_new = filling.await.map_err(|error| failed(error.to_string()))??;
    if is_new { Ok(()) } else { Err(FillError::NotEmpty) }
}

/// Puts this state into an empty store that is shared. The entries get the store's own revisions; gives the last.
///
/// # Errors
/// When the store is not empty, or does not take all of it: then it opens for nobody.
pub async fn fill(store: &dyn Store, state: &Snapshot) -> Result<Revision, FillError> {
    let there = store.list("", Page { limit: 1, ..Page::default() }).await?;
    if store.get(MARK).await?.is_some() {
        return Err(FillError::Unfinished);
    }
    if !there.entries.is_empty() {
        return Err(FillError::NotEmpty);
    }
    let limits = store.limits();
    for entry in &state.entries {
        check(entry, &limits)?;
    }
    let mark = store.commit(Txn::new().expect_absent(MARK).put(MARK, "")).await?;
    let mut txn = Txn::new().expect_at(MARK, mark);
    for entry in &state.entries {
        let more = single(entry).bytes();
        if txn.ops.len() >= AT_ONCE.min(limits.max_ops - 1) || txn.bytes() + more > limits.max_txn_bytes {
            store.commit(std::mem::replace(&mut txn, Txn::new().expect_at(MARK, mark))).await?;
        }
        txn = txn.expect_absent(&entry.key).put(&entry.key, entry.value.clone());
    }
    store.commit(txn).await?;
    Ok(store.commit(Txn::new().expect_at(MARK, mark).delete(MARK)).await?)
}

fn single(entry: &Entry) -> Txn {
    Txn::new().expect_absent(MARK).expect_absent(&entry.key).put(&entry.key, entry.value.clone())
}

fn check(entry: &Entry, limits: &TxnLimits) -> Result<(), FillError> {
    let frame = single(entry).bytes() - entry.value.len();
    let limit = limits.max_value.min(limits.max_txn_bytes.saturating_sub(frame));
    if entry.value.len() <= limit {
        return Ok(());
    }
    Err(FillError::TooLarge { key: entry.key.to_string(), actual: entry.value.len(), limit })
}
