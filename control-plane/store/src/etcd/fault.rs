//! What etcd's errors mean for the caller: above all, whether a write may have happened.

use std::error::Error as _;

use etcd_client::Error;

use crate::error::{CommitError, ReadError};
use crate::record::{LeaseId, Revision};
use crate::txn::{Op, Txn};

/// An error of etcd, sorted by what it means.
#[derive(Debug, thiserror::Error)]
pub(super) enum EtcdError {
    /// The revision is compacted.
    #[error("compacted")]
    Compacted,
    /// The revision is in the future.
    #[error("ahead")]
    Ahead,
    /// The lease does not exist.
    #[error("the lease has ended")]
    LeaseGone,
    /// The request is above the cluster's limits, which differ from those that were configured.
    #[error("{0}")]
    TooLarge(String),
    /// The authentication token is not known (any more).
    #[error("{0}")]
    Token(String),
    /// The request surely did not take effect, and may be repeated.
    #[error("{0}")]
    NotSent(String),
    /// The cluster refused it; nothing happened.
    #[error("{0}")]
    Refused(String),
    /// It may have taken effect.
    #[error("{0}")]
    Unsure(String),
}

/// What an error of the client library says of a call: whether it was sent, refused, or may have taken effect.
pub(super) fn fault_of(error: &Error) -> EtcdError {
    let text = describe(error);
    // The library gives no type for tonic's codes, but etcd's messages are part of its API.
    let says = |part: &str| text.contains(part);
    if says("required revision has been compacted") {
        EtcdError::Compacted
    } else if says("required revision is a future revision") {
        EtcdError::Ahead
    } else if says("requested lease not found") || says("lease not found") {
        EtcdError::LeaseGone
    } else if says("request is too large") || says("too many operations in txn") || says("larger than max") {
        EtcdError::TooLarge(text)
    } else if says("invalid auth token") {
        EtcdError::Token(text)
    } else if says("tcp connect error") || says("dns error") || says("etcdserver: no leader") {
        EtcdError::NotSent(text)
    } else if says("database space exceeded") {
        EtcdError::Refused(format!("{text}: compact and defragment etcd, then disarm its NOSPACE alarm"))
    } else if refuses(&text) {
        EtcdError::Refused(text)
    } else {
        EtcdError::Unsure(text)
    }
}

/// Answers that come before a request is proposed to the cluster.
fn refuses(text: &str) -> bool {
    [
        "permission denied",
        "user name is empty",
        "authentication failed",
        "authentication is not enabled",
        "too many requests",
        "etcdserver: not capable",
        "etcdserver: corrupt cluster",
        "duplicate key given",
        "key is not provided",
        "invalid uri",
        "certificate",
    ]
    .iter()
    .any(|part| text.contains(part))
}

/// The error with its causes, which say more than it does.
pub(super) fn describe(error: &Error) -> String {
    let (mut text, mut cause) = match error {
        Error::GRpcStatus(status) => (status.message().to_owned(), status.source()),
        other => (other.to_string(), other.source()),
    };
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

impl EtcdError {
    /// As an error of a read at a revision.
    pub(super) fn reading(self, at: Option<Revision>) -> ReadError {
        let at = at.unwrap_or_default();
        match self {
            // etcd does not say what is left here, only that it begins later.
            Self::Compacted => ReadError::Compacted { oldest: at.next() },
            Self::Ahead => ReadError::Ahead { asked: at },
            other => ReadError::Unavailable { reason: other.to_string() },
        }
    }

    /// As an error of a commit.
    pub(super) fn committing(self, txn: &Txn) -> CommitError {
        match self {
            Self::LeaseGone => CommitError::LeaseGone { lease: first_lease(txn) },
            Self::TooLarge(reason) => CommitError::Invalid {
                reason: format!("{reason}: the cluster's limits are below those configured for it"),
            },
            Self::Unsure(reason) => CommitError::Uncertain { reason },
            other => CommitError::Unavailable { reason: other.to_string() },
        }
    }
}

fn first_lease(txn: &Txn) -> LeaseId {
    let lease = txn.ops.iter().find_map(|op| match op {
        Op::Put { lease, .. } => *lease,
        Op::Delete { .. } => None,
    });
    lease.unwrap_or(LeaseId(0))
}
