//! The state machine that the memory and embedded engines share: entries, guards, leases attached.
//!
//! Pure and cheap to clone (persistent maps), so a writer can work on a copy and keep the old one
//! until the change is durable. It knows no clock: that is [`deadlines`](crate::deadlines).

use imbl::{OrdMap, OrdSet};

use crate::error::CommitError;
use crate::record::{Batch, Entry, Event, Key, LeaseId, Revision};
use crate::txn::{Op, Txn};

/// All entries at one revision; a clone shares everything.
pub(crate) type Entries = OrdMap<Key, Entry>;

/// All keys and their leases after the newest revision.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreState {
    pub(crate) revision: Revision,
    pub(crate) entries: Entries,
    leased: OrdSet<(LeaseId, Key)>,
}

impl StoreState {
    /// A state as it was read from a file.
    pub(crate) fn restored(revision: Revision, entries: Entries) -> Self {
        let leased = entries
            .values()
            .filter_map(|entry| entry.lease.map(|lease| (lease, entry.key.clone())))
            .collect();
        Self { revision, entries, leased }
    }

    /// Applies a transaction, or changes nothing. `None` if there was nothing to change.
    pub(crate) fn apply(
        &mut self,
        txn: &Txn,
        alive: impl Fn(LeaseId) -> bool,
    ) -> Result<Option<Batch>, CommitError> {
        for guard in &txn.guards {
            let actual = self.entries.get(&guard.key).map(|entry| entry.mod_revision);
            if actual != guard.expected {
                return Err(CommitError::Conflict {
                    key: guard.key.clone(),
                    expected: guard.expected,
                    actual,
                });
            }
        }
        for op in &txn.ops {
            if let Op::Put { lease: Some(lease), .. } = op
                && !alive(*lease)
            {
                return Err(CommitError::LeaseGone { lease: *lease });
            }
        }
        let revision = self.revision.next();
        let events = txn.ops.iter().filter_map(|op| self.perform(op, revision)).collect();
        Ok(self.close(revision, events))
    }

    /// Removes everything under a lease.
    pub(crate) fn expire(&mut self, lease: LeaseId) -> Option<Batch> {
        let first = (lease, Key::from(""));
        let keys: Vec<Key> = self
            .leased
            .range(first..)
            .take_while(|(id, _)| *id == lease)
            .map(|(_, key)| key.clone())
            .collect();
        self.remove_all(keys)
    }

    /// Removes everything under any lease.
    pub(crate) fn expire_all(&mut self) -> Option<Batch> {
        let keys = self.leased.iter().map(|(_, key)| key.clone()).collect();
        self.remove_all(keys)
    }

    fn remove_all(&mut self, keys: Vec<Key>) -> Option<Batch> {
        let revision = self.revision.next();
        let events = keys.into_iter().filter_map(|key| self.perform(&Op::Delete { key }, revision)).collect();
        self.close(revision, events)
    }

    fn perform(&mut self, op: &Op, revision: Revision) -> Option<Event> {
        let before = self.entries.get(op.key());
        if let Some(lease) = before.and_then(|entry| entry.lease) {
            self.leased.remove(&(lease, op.key().clone()));
        }
        match op {
            Op::Put { key, value, lease } => {
                if let Some(lease) = lease {
                    self.leased.insert((*lease, key.clone()));
                }
                let entry =
                    Entry { key: key.clone(), value: value.clone(), mod_revision: revision, lease: *lease };
                self.entries.insert(key.clone(), entry.clone());
                Some(Event::Put(entry))
            }
            Op::Delete { key } => self.entries.remove(key).map(|entry| Event::Delete(entry.key)),
        }
    }

    fn close(&mut self, revision: Revision, events: Vec<Event>) -> Option<Batch> {
        if events.is_empty() {
            return None;
        }
        self.revision = revision;
        Some(Batch { revision, events })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_without_lease_detaches_the_key() {
        let mut state = StoreState::default();
        let lease = LeaseId(7);
        state.apply(&Txn::new().put_leased("a", "1", lease).put_leased("b", "1", lease), |_| true).unwrap();
        state.apply(&Txn::new().put("a", "2"), |_| true).unwrap();
        let batch = state.expire(lease).unwrap();
        assert_eq!(batch.events, [Event::Delete("b".into())]);
        assert!(state.entries.contains_key("a"));
        assert!(state.expire(lease).is_none());
    }

    #[test]
    fn a_refused_transaction_leaves_no_trace() {
        let mut state = StoreState::default();
        state.apply(&Txn::new().put("a", "1"), |_| true).unwrap();
        let before = state.entries.clone();
        assert!(state.apply(&Txn::new().put("b", "1").expect_absent("a"), |_| true).is_err());
        assert!(state.apply(&Txn::new().put("b", "1").put_leased("c", "1", LeaseId(1)), |_| false).is_err());
        assert_eq!((state.entries, state.revision), (before, Revision(1)));
    }

    #[test]
    fn leases_with_neighbouring_numbers_do_not_mix() {
        let mut state = StoreState::default();
        let txn = Txn::new().put_leased("a", "", LeaseId(1)).put_leased("b", "", LeaseId(2));
        state.apply(&txn, |_| true).unwrap();
        assert_eq!(state.expire(LeaseId(1)).unwrap().events, [Event::Delete("a".into())]);
        assert_eq!(state.expire(LeaseId(2)).unwrap().events, [Event::Delete("b".into())]);
    }
}
