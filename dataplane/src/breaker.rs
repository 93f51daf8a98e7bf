//! Circuit breakers: how much of a cluster's capacity this process may use at once.
//!
//! One [`Breaker`] belongs to a cluster and a priority and is shared by all workers: a limit on a process is what
//! Envoy's thresholds mean. The counts are relaxed atomics, each on a cache line of its own; nothing is locked and
//! a limit may be overshot by no worker, since a claim is taken first and given back when it was one too many.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a breaker limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerResource {
    Connections,
    /// Requests that wait for a connection.
    Pending,
    Requests,
    Retries,
}

const KINDS: [BreakerResource; 4] = [
    BreakerResource::Connections,
    BreakerResource::Pending,
    BreakerResource::Requests,
    BreakerResource::Retries,
];

/// The limits of one cluster at one priority. The default is Envoy's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Upstream connections, 1024 by default.
    pub max_connections: u32,
    /// Requests that wait for a connection, 1024 by default.
    pub max_pending: u32,
    /// Requests in flight, 1024 by default.
    pub max_requests: u32,
    /// Retries in flight, 3 by default.
    pub max_retries: u32,
    /// In place of `max_retries`.
    pub retry_budget: Option<RetryBudget>,
}

/// `retry_budget`: retries in flight as a part of all requests in flight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// `budget_percent`, 20 by default.
    pub percent: f64,
    /// `min_retry_concurrency`, 3 by default: so many may always be in flight.
    pub min_concurrency: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending: 1024,
            max_requests: 1024,
            max_retries: 3,
            retry_budget: None,
        }
    }
}

impl Thresholds {
    /// The limit on `resource` while so many requests are in flight.
    fn limit(&self, resource: BreakerResource, requests: impl FnOnce() -> u32) -> u32 {
        if let (BreakerResource::Retries, Some(budget)) = (resource, self.retry_budget) {
            return ((f64::from(requests()) * budget.percent / 100.0) as u32).max(budget.min_concurrency);
        }
        match resource {
            BreakerResource::Connections => self.max_connections,
            BreakerResource::Pending => self.max_pending,
            BreakerResource::Requests => self.max_requests,
            BreakerResource::Retries => self.max_retries,
        }
    }
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(AtomicU32);

/// The process-wide use of one cluster's capacity, kept when the cluster's configuration is replaced.
#[derive(Debug, Default)]
pub struct Usage([Padded; 4]);

impl Usage {
    fn slot(&self, resource: BreakerResource) -> &AtomicU32 {
        &self.0[resource as usize].0
    }
}

/// Limits of one cluster and priority, with the use that counts against them.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    thresholds: Thresholds,
    usage: std::sync::Arc<Usage>,
}

impl Breaker {
    /// A breaker with nothing in use.
    pub fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, usage: std::sync::Arc::default() }
    }

    /// New limits over the same use: for a cluster whose configuration changed while requests are in flight.
    #[must_use]
    pub fn with_thresholds(&self, thresholds: Thresholds) -> Self {
        Self { thresholds, usage: self.usage.clone() }
    }

    /// Claims one unit; false when the limit is reached. Each claim is given back by [`Breaker::release`].
    #[must_use]
    pub fn try_claim(&self, resource: BreakerResource) -> bool {
        let slot = self.usage.slot(resource);
        if slot.fetch_add(1, Ordering::Relaxed) < self.limit(resource) {
            return true;
        }
        slot.fetch_sub(1, Ordering::Relaxed);
        false
    }

    /// Claims one unit whatever the limit says: what Envoy does for the first connection to a host.
    pub fn claim(&self, resource: BreakerResource) {
        self.usage.slot(resource).fetch_add(1, Ordering::Relaxed);
    }

    /// Gives back a claim.
    pub fn release(&self, resource: BreakerResource) {
        self.usage.slot(resource).fetch_sub(1, Ordering::Relaxed);
    }

    pub fn in_use(&self, resource: BreakerResource) -> u32 {
        self.usage.slot(resource).load(Ordering::Relaxed)
    }

    /// Units left below the limit.
    pub fn remaining(&self, resource: BreakerResource) -> u32 {
        self.limit(resource).saturating_sub(self.in_use(resource))
    }

    fn limit(&self, resource: BreakerResource) -> u32 {
        self.thresholds.limit(resource, || self.in_use(BreakerResource::Requests))
    }

    /// Whether the next claim would be refused.
    pub fn is_open(&self, resource: BreakerResource) -> bool {
        self.remaining(resource) == 0
    }

    pub fn thresholds(&self) -> &Thresholds {
        &self.thresholds
    }

    /// Every resource with its use and whether it is exhausted, for the gauges of a scrape.
    pub fn readings(&self) -> impl Iterator<Item = (BreakerResource, u32, bool)> + '_ {
        KINDS.into_iter().map(|kind| (kind, self.in_use(kind), self.is_open(kind)))
    }
}

/// A claim that is given back when dropped. `B` is how the holder reaches the breaker: a reference, an `Rc` of the
/// worker, or an `Arc`.
#[derive(Debug)]
pub struct Permit<B: Deref<Target = Breaker>> {
    breaker: B,
    resource: BreakerResource,
}

impl<B: Deref<Target = Breaker>> Permit<B> {
    /// Claims one unit of `resource`, or nothing when the limit is reached.
    pub fn try_new(breaker: B, resource: BreakerResource) -> Option<Self> {
        // Made only after the claim: dropping one gives a claim back.
        breaker.try_claim(resource).then(|| Self { breaker, resource })
    }

    /// Claims one unit whatever the limit says.
    pub fn new(breaker: B, resource: BreakerResource) -> Self {
        breaker.claim(resource);
        Self { breaker, resource }
    }
}

impl<B: Deref<Target = Breaker>> Drop for Permit<B> {
    fn drop(&mut self) {
        self.breaker.release(self.resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_the_claim_beyond_the_limit_and_accepts_after_a_release() {
        let breaker = Breaker::new(Thresholds { max_requests: 2, ..Thresholds::default() });
        let first = Permit::try_new(&breaker, BreakerResource::Requests).unwrap();
        let _second = Permit::try_new(&breaker, BreakerResource::Requests).unwrap();
        assert!(Permit::try_new(&breaker, BreakerResource::Requests).is_none());
        assert!(breaker.is_open(BreakerResource::Requests));
        assert!(!breaker.is_open(BreakerResource::Retries));
        drop(first);
        assert!(Permit::try_new(&breaker, BreakerResource::Requests).is_some());
        assert_eq!(breaker.in_use(BreakerResource::Requests), 1);
    }

    #[test]
    fn a_budget_of_retries_grows_with_the_requests() {
        let retry_budget = Some(RetryBudget { percent: 20.0, min_concurrency: 2 });
        let breaker = Breaker::new(Thresholds { max_retries: 0, retry_budget, ..Thresholds::default() });
        assert_eq!(breaker.remaining(BreakerResource::Retries), 2, "with nothing in flight");
        (0..20).for_each(|_| breaker.claim(BreakerResource::Requests));
        assert_eq!(breaker.remaining(BreakerResource::Retries), 4);
        let retries: Vec<_> =
            (0..5).filter_map(|_| Permit::try_new(&breaker, BreakerResource::Retries)).collect();
        assert_eq!(retries.len(), 4);
    }

    #[test]
    fn a_limit_of_zero_refuses_everything() {
        let breaker = Breaker::new(Thresholds { max_retries: 0, ..Thresholds::default() });
        assert!(!breaker.try_claim(BreakerResource::Retries));
        assert_eq!(breaker.in_use(BreakerResource::Retries), 0);
    }

    #[test]
    fn keeps_what_is_in_use_when_the_limits_change() {
        let breaker = Breaker::new(Thresholds::default());
        breaker.claim(BreakerResource::Connections);
        let tighter = breaker.with_thresholds(Thresholds { max_connections: 1, ..Thresholds::default() });
        assert!(!tighter.try_claim(BreakerResource::Connections));
        breaker.release(BreakerResource::Connections);
        assert!(tighter.try_claim(BreakerResource::Connections));
    }

    #[test]
    fn many_threads_never_hold_more_than_the_limit() {
        let breaker = Breaker::new(Thresholds { max_requests: 3, ..Thresholds::default() });
        let (held, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if breaker.try_claim(BreakerResource::Requests) {
                            most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            held.fetch_sub(1, Ordering::SeqCst);
                            breaker.release(BreakerResource::Requests);
                        }
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
        assert_eq!(breaker.in_use(BreakerResource::Requests), 0);
    }

    #[test]
    fn the_defaults_are_envoys() {
        let breaker = Breaker::default();
        let limits: Vec<u32> = KINDS.iter().map(|kind| breaker.thresholds().limit(*kind, || 0)).collect();
        assert_eq!(limits, [1024, 1024, 1024, 3]);
    }
}
