//! A queue of deadlines by key.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use tokio::time::Instant;

/// Keys that wait, each until its deadline or for ever, ordered by deadline.
#[derive(Debug)]
pub(super) struct DeadlineQueue<K> {
    /// `None` waits for ever.
    of: HashMap<K, Option<Instant>>,
    order: BTreeSet<(Instant, K)>,
}

impl<K> Default for DeadlineQueue<K> {
    fn default() -> Self {
        Self { of: HashMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Clone + Eq + Hash + Ord> DeadlineQueue<K> {
    /// Makes `key` wait until then, whatever it waited for before.
    pub(super) fn set(&mut self, key: K, until: Option<Instant>) {
        self.remove(&key);
        self.order.extend(until.map(|until| (until, key.clone())));
        self.of.insert(key, until);
    }

    /// Ends the waiting of `key`; false when it did not wait.
    pub(super) fn remove(&mut self, key: &K) -> bool {
        let Some(until) = self.of.remove(key) else { return false };
        if let Some(until) = until {
            self.order.remove(&(until, key.clone()));
        }
        true
    }

    /// Takes those whose time is over.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<K> {
        let mut expired = Vec::new();
        while self.order.first().is_some_and(|(until, _)| *until <= now)
            && let Some((_, key)) = self.order.pop_first()
        {
            self.of.remove(&key);
            expired.push(key);
        }
        expired
    }

    /// Takes all who wait.
    pub(super) fn take_all(&mut self) -> Vec<K> {
        self.order.clear();
        self.of.drain().map(|(key, _)| key).collect()
    }

    /// Until when `key` waits, `None` for ever; nothing where it does not wait.
    pub(super) fn until(&self, key: &K) -> Option<Option<Instant>> {
        self.of.get(key).copied()
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(until, _)| *until)
    }

    /// Whether `key` waits.
    pub(super) fn contains(&self, key: &K) -> bool {
        self.of.contains_key(key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_deadline_that_moved_counts_once_and_one_for_ever_never() {
        let now = Instant::now();
        let mut deadlines = DeadlineQueue::default();
        deadlines.set("a", Some(now));
        deadlines.set("a", Some(now + Duration::from_secs(2)));
        deadlines.set("b", Some(now + Duration::from_secs(1)));
        deadlines.set("c", None);
        assert_eq!(deadlines.next(), Some(now + Duration::from_secs(1)));
        assert_eq!(deadlines.expired(now), [""; 0]);
        assert_eq!(deadlines.expired(now + Duration::from_secs(2)), ["b", "a"]);
        assert!(deadlines.contains(&"c") && !deadlines.is_empty());
        assert!(deadlines.remove(&"c") && deadlines.is_empty());
    }
}
