//! A few streams of each workload, the newest ones: one that comes back is never refused for the sake of those that it
//! lost, and one that opens many ends its own.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use weft_api::WorkloadId;

/// Streams of one kind. Cheap to clone; clones are the same.
#[derive(Debug, Clone)]
pub struct StreamLimit {
    most: usize,
    // A lock because streams come and go in their own tasks; held for a look at the map.
    open: Arc<Mutex<HashMap<WorkloadId, VecDeque<CancellationToken>>>>,
}

/// A stream that is open, until it is dropped.
#[derive(Debug)]
pub struct StreamPermit {
    limit: StreamLimit,
    workload: WorkloadId,
    /// Cancelled when newer streams have taken its place.
    pub replaced: CancellationToken,
    /// Whether another one had to go for it.
    pub is_beyond: bool,
}

impl StreamLimit {
    /// At most so many of one workload.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, open: Arc::default() }
    }

    /// Enters a stream; the oldest one of the workload goes for it where there are too many.
    #[must_use]
    pub fn enter(&self, workload: &WorkloadId) -> StreamPermit {
        let replaced = CancellationToken::new();
        let mut open = self.lock();
        let streams = open.entry(workload.clone()).or_default();
        let is_beyond = streams.len() >= self.most;
        if is_beyond && let Some(oldest) = streams.pop_front() {
            oldest.cancel();
        }
        streams.push_back(replaced.clone());
        drop(open);
        StreamPermit { limit: self.clone(), workload: workload.clone(), replaced, is_beyond }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkloadId, VecDeque<CancellationToken>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        // Those that were replaced are out of the list; no other of its tokens is cancelled there.
        self.replaced.cancel();
        let mut open = self.limit.lock();
        if let Some(streams) = open.get_mut(&self.workload) {
            streams.retain(|stream| !stream.is_cancelled());
            if streams.is_empty() {
                open.remove(&self.workload);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_streams_of_a_workload_stay() {
        let limit = StreamLimit::new(2);
        let (web, cart) = ("shop/web-1".parse().unwrap(), "shop/cart-1".parse().unwrap());
        let other = limit.enter(&cart);
        let (first, second) = (limit.enter(&web), limit.enter(&web));
        assert!(!second.is_beyond && !first.replaced.is_cancelled());
        let third = limit.enter(&web);
        assert!(third.is_beyond && first.replaced.is_cancelled());
        drop(first);
        assert!(!second.replaced.is_cancelled() && !third.replaced.is_cancelled());
        drop(second);
        assert!(!limit.enter(&web).is_beyond, "its place is free");
        drop((third, other));
        assert!(limit.lock().is_empty());
    }
}
