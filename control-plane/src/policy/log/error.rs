//! What can go wrong with the log, and what to do about it.

use weft_store::{CommitError, ReadError};

/// Why the log cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Someone else committed since: read, validate against that, and commit again.
    #[error("the policies have changed since they were read (changeset {now}, not {expected}); try again")]
    Moved {
        /// The sequence that the commit was made against.
        expected: u64,
        now: u64,
    },
    /// A body of more than any store takes.
    #[error("a changeset of {0} bytes is too large; apply it in parts")]
    TooLarge(usize),
    /// A changeset that is not kept any more.
    #[error("changeset {0} is not in the history; it was pruned or never made")]
    Unknown(u64),
    /// A record that cannot be read.
    #[error("the policy record {record} cannot be used: {reason}; restore the store from a backup")]
    Corrupt { record: String, reason: String },
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store does not take the write.
    #[error(transparent)]
    Commit(#[from] CommitError),
}
