//! What the store answered, whichever way it was asked.

use weft_store::{CommitError, ReadError};

/// A read or a write that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Reading.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Writing.
    #[error(transparent)]
    Commit(#[from] CommitError),
}
