//! What can go wrong, and what to do about it.

use std::path::PathBuf;

use crate::record::{Key, LeaseId, Revision};

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the file.
    #[error(
        "{} is in use by another process: one control plane owns an embedded store; stop the other one, \
         give this one a file of its own, or use etcd to run several", path.display()
    )]
    InUse {
        /// The file that was to be opened.
        path: PathBuf,
    },
    /// A newer version wrote the file.
    #[error(
        "{} has store format {found}, and this version knows formats up to {known}: start the newer version \
         that wrote it, or put back a copy of the file made before the upgrade; nothing was changed",
        path.display()
    )]
    NewerFormat {
        /// The file that was to be opened.
        path: PathBuf,
        /// The format that the file says.
        found: u64,
        /// The newest format that this version reads.
        known: u64,
    },
    /// The file is damaged, or is no store at all.
    #[error(
        "{} is damaged or not a store ({reason}): move it aside, then put back the latest copy of it, or start \
         without one to begin an empty mesh; proxies keep their last configuration meanwhile", path.display()
    )]
    Corrupt {
        /// The file that was to be opened.
        path: PathBuf,
        /// What is not as it should be, in the engine's words.
        reason: String,
    },
    /// The file or its directory cannot be used.
    #[error("cannot open {}: {reason}: check that the directory exists, is writable and has space", path.display())]
    Io {
        /// The file or directory that was to be opened.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A state was being put there, and that did not come to its end.
    #[error(
        "{place} holds a part of a state: a restore or a copy into it is under way, or was cut short; if it was, remove \
         all keys below the prefix (`etcdctl del --prefix PREFIX`) and do it again"
    )]
    Unfinished {
        /// etcd's endpoints, and the prefix of the store.
        place: String,
    },
    /// The configuration cannot work.
    #[error("etcd configuration: {reason}")]
    Config {
        /// What is wrong and how to mend it.
        reason: String,
    },
    /// etcd did not answer.
    #[error(
        "etcd at {endpoints} is not usable: {reason}: check that it runs, the addresses, TLS files and the user"
    )]
    Unreachable {
        /// The endpoints that were tried.
        endpoints: String,
        /// Why they are not usable, in the client's words.
        reason: String,
    },
}

/// Why something could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The revision is older than what is kept: list again, then watch from there.
    #[error("history before revision {oldest} is compacted: list again and watch from there")]
    Compacted {
        /// The oldest revision that can still be listed.
        oldest: Revision,
    },
    /// The revision has not happened: the store is older than what the caller saw of it.
    #[error("revision {asked} is ahead of the store: was it restored from a backup? list again")]
    Ahead {
        /// The revision that was asked for.
        asked: Revision,
    },
    /// The store does not answer at the moment.
    #[error("store unavailable: {reason}")]
    Unavailable {
        /// The failure of the last attempt.
        reason: String,
    },
}

/// Why a transaction was not committed, or is not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// A guard did not hold; nothing was written.
    #[error("{key} {}, expected {}: read it again and decide anew", state(*actual), expectation(*expected))]
    Conflict {
        /// The first key whose guard did not hold.
        key: Key,
        /// What the guard asked for; `None` is absent.
        expected: Option<Revision>,
        /// What was there; `None` is absent.
        actual: Option<Revision>,
    },
    /// The transaction is above a limit of the engine; nothing was written.
    #[error("{what} of {actual} is above the store's limit of {limit}: split it")]
    TooLarge {
        /// Which limit: "value size", "operations", "transaction size".
        what: &'static str,
        /// What the transaction has.
        actual: usize,
        /// What the engine takes, see [`TxnLimits`](crate::TxnLimits).
        limit: usize,
    },
    /// The transaction makes no sense; nothing was written.
    #[error("invalid transaction: {reason}")]
    Invalid {
        /// Which rule of a transaction it breaks.
        reason: String,
    },
    /// A put names a lease that has ended; nothing was written.
    #[error("lease {lease} has ended: grant a new one")]
    LeaseGone {
        /// The lease that has ended.
        lease: LeaseId,
    },
    /// The store does not take writes at the moment; nothing was written.
    #[error("store unavailable, nothing was written: {reason}")]
    Unavailable {
        /// The failure of the attempt.
        reason: String,
    },
    /// The store went away before it answered. The transaction was committed as a whole or not at all:
    /// read to find out, or repeat it with the same guards.
    #[error("store did not confirm the write, which may or may not be there: {reason}: read, then decide")]
    Uncertain {
        /// How the connection to the store failed.
        reason: String,
    },
}

/// Why a lease could not be granted or renewed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// The lease has ended, and the keys under it are gone.
    #[error("lease {lease} has ended: grant a new one")]
    Gone {
        /// The lease that has ended.
        lease: LeaseId,
    },
    /// The store does not answer at the moment.
    #[error("store unavailable: {reason}")]
    Unavailable {
        /// The failure of the attempt.
        reason: String,
    },
}

fn state(actual: Option<Revision>) -> String {
    actual.map_or_else(|| "does not exist".into(), |at| format!("is at revision {at}"))
}

fn expectation(expected: Option<Revision>) -> String {
    expected.map_or_else(|| "it to be absent".into(), |at| format!("revision {at}"))
}
