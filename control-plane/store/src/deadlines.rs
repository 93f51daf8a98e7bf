//! When leases end, for the engines that keep that time themselves.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::record::LeaseId;

/// The live leases and their deadlines.
#[derive(Debug, Default)]
pub(crate) struct LeaseDeadlines {
    // A lock because renewals come from any task; held for one lookup, never across an await.
    leases: Mutex<HashMap<LeaseId, LeaseDeadline>>,
}

#[derive(Debug)]
struct LeaseDeadline {
    ttl: Duration,
    due: Instant,
}

impl LeaseDeadlines {
    /// A new lease with a name that was not used before.
    pub(crate) fn grant(&self, ttl: Duration) -> LeaseId {
        let mut leases = self.leases();
        loop {
            let lease = LeaseId(rand::random_range(1..i64::MAX));
            if let Entry::Vacant(place) = leases.entry(lease) {
                place.insert(LeaseDeadline { ttl, due: Instant::now() + ttl });
                return lease;
            }
        }
    }

    /// Starts the time anew; false if the lease has ended.
    pub(crate) fn renew(&self, lease: LeaseId) -> bool {
        let mut leases = self.leases();
        let Some(deadline) = leases.get_mut(&lease) else { return false };
        deadline.due = Instant::now() + deadline.ttl;
        true
    }

    /// Whether the lease has not ended.
    pub(crate) fn alive(&self, lease: LeaseId) -> bool {
        self.leases().contains_key(&lease)
    }

    /// Ends a lease; the caller removes its keys.
    pub(crate) fn end(&self, lease: LeaseId) {
        self.leases().remove(&lease);
    }

    /// Waits until the lease is past its deadline, and ends it, or until someone else ended it.
    pub(crate) async fn overdue(&self, lease: LeaseId) {
        while let Some(due) = self.due_or_end(lease) {
            sleep_until(due).await;
        }
    }

    fn due_or_end(&self, lease: LeaseId) -> Option<Instant> {
        let mut leases = self.leases();
        let due = leases.get(&lease)?.due;
        if due <= Instant::now() {
            leases.remove(&lease);
            return None;
        }
        Some(due)
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<LeaseId, LeaseDeadline>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
