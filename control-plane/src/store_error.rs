//! What the store answered, whichever way it was asked.

use weft_store::{CommitError, ReadError};

/// A read or a write that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}
