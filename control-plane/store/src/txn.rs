//! Transactions: puts and deletes that happen together, if what was expected still holds.

use std::collections::HashSet;

use bytes::Bytes;

use crate::error::CommitError;
use crate::record::{Key, LeaseId, Revision};

/// Room for what an engine adds to each operation: field tags, lengths, lease.
const OP_OVERHEAD: usize = 64;

/// Puts and deletes that are committed together or not at all.
///
/// At most one operation a key. Nothing is written unless every guard holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// What keys must look like for it to go through; it goes through where there are none.
    pub guards: Vec<Guard>,
    /// What is done then.
    pub ops: Vec<Op>,
}

/// What a key must look like for a transaction to go through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The key that is looked at.
    pub key: Key,
    /// The revision that last wrote it; `None` if it must not exist.
    pub expected: Option<Revision>,
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Give a key a value, in place of the one that it had.
    Put {
        /// The key that is written.
        key: Key,
        /// The value that it has from then on; may be empty.
        value: Bytes,
        /// The entry goes away with this lease. Without one, the put also detaches the key from the
        /// lease that it had.
        lease: Option<LeaseId>,
    },
    /// Remove a key; no error if it does not exist.
    Delete {
        /// The key that is removed.
        key: Key,
    },
}

/// What an engine takes in one transaction. Callers split; the store only refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnLimits {
    /// Bytes of one value.
    pub max_value: usize,
    /// Operations of one transaction; guards have the same limit of their own.
    pub max_ops: usize,
    /// Bytes of one transaction, as [`Txn::bytes`] counts them.
    pub max_txn_bytes: usize,
}

impl Txn {
    /// A transaction that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Go through only if the key does not exist.
    #[must_use]
    pub fn expect_absent(self, key: impl Into<Key>) -> Self {
        self.guard(Guard { key: key.into(), expected: None })
    }

    /// Go through only if the key was last written at this revision.
    #[must_use]
    pub fn expect_at(self, key: impl Into<Key>, revision: Revision) -> Self {
        self.guard(Guard { key: key.into(), expected: Some(revision) })
    }

    /// Go through only if the guard holds.
    #[must_use]
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guards.push(guard);
        self
    }

    /// Give a key a value, in place of the one that it had, and detach it from a lease that it had.
    #[must_use]
    pub fn put(mut self, key: impl Into<Key>, value: impl Into<Bytes>) -> Self {
        self.ops.push(Op::Put { key: key.into(), value: value.into(), lease: None });
        self
    }

    /// Write a value that goes away with a lease.
    #[must_use]
    pub fn put_leased(mut self, key: impl Into<Key>, value: impl Into<Bytes>, lease: LeaseId) -> Self {
        self.ops.push(Op::Put { key: key.into(), value: value.into(), lease: Some(lease) });
        self
    }

    /// Remove a key; no error if it does not exist.
    #[must_use]
    pub fn delete(mut self, key: impl Into<Key>) -> Self {
        self.ops.push(Op::Delete { key: key.into() });
        self
    }

    /// The size that counts against [`TxnLimits::max_txn_bytes`].
    pub fn bytes(&self) -> usize {
        let guards: usize = self.guards.iter().map(|guard| 2 * (guard.key.len() + OP_OVERHEAD)).sum();
        guards + self.ops.iter().map(Op::bytes).sum::<usize>()
    }

    /// Refuses what no engine could take, before anything is sent.
    pub(crate) fn check(&self, limits: &TxnLimits) -> Result<(), CommitError> {
        at_most("operations", self.ops.len(), limits.max_ops)?;
        at_most("guards", self.guards.len(), limits.max_ops)?;
        let mut seen = HashSet::with_capacity(self.ops.len());
        for op in &self.ops {
            if op.key().is_empty() {
                return Err(CommitError::Invalid { reason: "a key is empty".into() });
            }
            if !seen.insert(op.key()) {
                let reason = format!("{} has two operations: a key takes one", op.key());
                return Err(CommitError::Invalid { reason });
            }
            if let Op::Put { value, .. } = op {
                at_most("value size", value.len(), limits.max_value)?;
            }
        }
        at_most("transaction size", self.bytes(), limits.max_txn_bytes)
    }
}

impl Op {
    /// The key it changes.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    /// The operation's part of [`Txn::bytes`].
    pub fn bytes(&self) -> usize {
        OP_OVERHEAD
            + match self {
                Self::Put { key, value, .. } => key.len() + value.len(),
                Self::Delete { key } => key.len(),
            }
    }
}

impl Default for TxnLimits {
    /// What memory and the embedded engine take: large, but not the whole memory of the machine.
    fn default() -> Self {
        Self { max_value: 64 << 20, max_ops: 65_536, max_txn_bytes: 128 << 20 }
    }
}

fn at_most(what: &'static str, actual: usize, limit: usize) -> Result<(), CommitError> {
    if actual > limit { Err(CommitError::TooLarge { what, actual, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: TxnLimits = TxnLimits { max_value: 4, max_ops: 2, max_txn_bytes: 1024 };

    #[test]
    fn refuses_two_operations_on_one_key() {
        let txn = Txn::new().put("a", "1").delete("a");
        assert!(matches!(txn.check(&SMALL), Err(CommitError::Invalid { .. })));
    }

    #[test]
    fn refuses_an_empty_key() {
        assert!(matches!(Txn::new().put("", "1").check(&SMALL), Err(CommitError::Invalid { .. })));
    }

    #[test]
    fn names_the_limit_that_a_transaction_breaks() {
        let what = |txn: Txn| match txn.check(&SMALL) {
            Err(CommitError::TooLarge { what, .. }) => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(what(Txn::new().put("a", "12345")), "value size");
        assert_eq!(what(Txn::new().put("a", "1").put("b", "1").put("c", "1")), "operations");
        assert_eq!(what(Txn::new().put("k".repeat(1024), "1")), "transaction size");
        assert_eq!(what(Txn::new().expect_absent("a").expect_absent("b").expect_absent("c")), "guards");
        assert_eq!(Txn::new().put("a", "1234").put("b", "").check(&SMALL), Ok(()));
    }
}
