//! Few connections on many workers: a worker that has more than another gives new ones away.
//!
//! The kernel spreads connections over SO_REUSEPORT sockets by a hash, which leaves workers idle when there are
//! few long connections (h2, gRPC). At accept, and only there, workers look at each other's numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Debug, Default)]
#[repr(align(128))]
struct PaddedCount(AtomicU32);

/// How many connections each worker serves; written at accept and close.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionCounts {
    all: Arc<[PaddedCount]>,
    own: usize,
}

impl ConnectionCounts {
    /// One view for each of `workers`.
    pub(crate) fn for_workers(workers: usize) -> Vec<Self> {
        let all: Arc<[PaddedCount]> = (0..workers).map(|_| PaddedCount::default()).collect();
        (0..workers).map(|own| Self { all: all.clone(), own }).collect()
    }

    /// Counts a connection that this worker keeps.
    pub(crate) fn enter(&self) {
        self.all[self.own].0.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that is given to worker `other`.
    pub(crate) fn enter_for(&self, other: usize) {
        self.all[other].0.fetch_add(1, Ordering::Relaxed);
    }

    /// The count of a connection that was entered; dropping it counts its end.
    pub(crate) fn counted(&self) -> CountedConnection {
        CountedConnection(self.clone())
    }

    /// Counts a connection's end.
    pub(crate) fn leave(&self) {
        self.all[self.own].0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The worker that should serve a new connection instead, when one has clearly fewer: the difference that is
    /// tolerated grows with the load, since an even spread matters only among few.
    pub(crate) fn better(&self) -> Option<usize> {
        let loads = self.all.iter().map(|load| load.0.load(Ordering::Relaxed));
        let (best, least) = loads.enumerate().min_by_key(|(_, load)| *load)?;
        let own = self.all[self.own].0.load(Ordering::Relaxed);
        (best != self.own && own > least + own / 8).then_some(best)
    }
}

/// One connection in the count of its worker.
#[derive(Debug)]
pub(crate) struct CountedConnection(ConnectionCounts);

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_spread_is_left_alone() {
        let loads = ConnectionCounts::for_workers(2);
        assert_eq!(loads[0].better(), None);
        loads[0].enter();
        assert_eq!(loads[0].better(), Some(1));
        loads[1].enter();
        assert_eq!(loads[0].better(), None);
    }

    #[test]
    fn small_differences_do_not_matter_under_load() {
        let loads = ConnectionCounts::for_workers(2);
        (0..100).for_each(|_| loads[0].enter());
        (0..90).for_each(|_| loads[1].enter());
        assert_eq!(loads[0].better(), None);
        (0..20).for_each(|_| loads[0].enter());
        assert_eq!(loads[0].better(), Some(1));
    }
}
