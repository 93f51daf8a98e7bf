//! Which endpoint gets the next request.
//!
//! A [`Picker`] belongs to one worker and one cluster: its counts of active requests are plain cells. It looks at
//! the cluster's [`Outliers`] by one relaxed load for each pick and sorts its endpoints anew only when something
//! changed.
//!
//! ```text
//! Endpoints + Outliers --arrange()--> priorities -> {healthy, degraded, all} -> schedule -> index
//! ```
//!
//! Levels work as in Envoy: a priority carries as much as 140 % of its healthy share, the rest spills to degraded
//! endpoints and to the next priority, and below 50 % healthy all endpoints are used again (panic). Within a priority,
//! localities may come first, by weight; or the request's hash decides, by the same tables as Envoy's. One difference,
//! on purpose: draining endpoints count for nothing, so that a roll-out of many never causes a panic that sends
//! requests to those that are leaving.

mod hashing;
mod levels;
mod options;
mod schedule;

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::outlier::Outliers;
use crate::random::Random;
use crate::runtime::Endpoints;
use levels::HostSets;
pub use options::{BalanceOptions, LbPolicy};

/// One worker's view of one cluster's endpoints.
#[derive(Debug)]
pub struct Picker {
    options: BalanceOptions,
    endpoints: Arc<Endpoints>,
    outliers: Arc<Outliers>,
    generation: u64,
    loads: Vec<Rc<Cell<u32>>>,
    levels: HostSets,
    random: Random,
    panics: u64,
}

impl Picker {
    /// A balancer over `endpoints`; `outliers` has them in the same order. Different seeds keep workers from asking
    /// the same endpoint at the same time.
    pub fn new(
        options: BalanceOptions,
        endpoints: Arc<Endpoints>,
        outliers: Arc<Outliers>,
        seed: u64,
    ) -> Self {
        let mut balancer = Self {
            options,
            loads: endpoints.list.iter().map(|_| Rc::default()).collect(),
            endpoints,
            generation: outliers.generation(),
            outliers,
            levels: HostSets::default(),
            random: Random::new(seed | 1),
            panics: 0,
        };
        balancer.arrange();
        balancer
    }

    /// Takes over a changed cluster. Endpoints that remain keep their active requests.
    pub fn update(&mut self, options: BalanceOptions, endpoints: Arc<Endpoints>, outliers: Arc<Outliers>) {
        let known: HashMap<SocketAddr, Rc<Cell<u32>>> =
            self.endpoints.list.iter().map(|endpoint| endpoint.address).zip(self.loads.drain(..)).collect();
        self.loads =
            endpoints.list.iter().map(|e| known.get(&e.address).cloned().unwrap_or_default()).collect();
        (self.options, self.endpoints, self.outliers) = (options, endpoints, outliers);
        self.arrange();
    }

    /// The index in the endpoint list for the next request; `None` when no endpoint may be used. `hash` is what the
    /// request is hashed to; where the policy hashes and there is none, chance takes its place.
    pub fn pick(&mut self, hash: Option<u64>) -> Option<usize> {
        self.pick_avoiding(hash, PreviousHosts::default())
    }

    /// A pick that avoids the endpoints of earlier tries, as with Envoy's `previous_hosts` predicate: when every
    /// attempt gave one of them, the last one is taken all the same.
    pub fn pick_avoiding(&mut self, hash: Option<u64>, previous: PreviousHosts<'_>) -> Option<usize> {
        if self.generation != self.outliers.generation() {
            self.arrange();
        }
        let policy = self.options.policy;
        let hash = hash.filter(|_| policy.hashes());
        let mut roll = hash.unwrap_or_else(|| self.random.next());
        let mut attempt = 0;
        loop {
            let set = self.levels.choose(roll)?;
            self.panics += u64::from(set.panic && (attempt == 0 || !policy.hashes()));
            let picked = set.pick(policy, &self.loads, &mut self.random, (roll, attempt))?;
            if attempt == previous.attempts || !previous.tried.contains(&picked) {
                return Some(picked);
            }
            attempt += 1;
            if !policy.hashes() {
                roll = self.random.next();
            }
        }
    }

    /// Counts a request on the endpoint at `index` as active until the guard is dropped.
    pub fn begin(&self, index: usize) -> ActiveRequest {
        let load = self.loads.get(index).cloned().unwrap_or_default();
        load.set(load.get() + 1);
        ActiveRequest(load)
    }

    /// Picks that were made in panic since the last call, for `lb_healthy_panic`.
    pub fn take_panics(&mut self) -> u64 {
        std::mem::take(&mut self.panics)
    }

    fn arrange(&mut self) {
        self.generation = self.outliers.generation();
        self.levels =
            HostSets::arrange(&self.endpoints, &self.outliers, self.options, &self.loads, &mut self.random);
    }
}

/// The endpoints that a pick should avoid; by default none.
#[derive(Debug, Clone, Copy, Default)]
pub struct PreviousHosts<'a> {
    /// Indices in the endpoint list.
    pub tried: &'a [usize],
    /// `host_selection_retry_max_attempts`: how many more picks are made to avoid them.
    pub attempts: u32,
}

/// A request that counts as active on its endpoint until this is dropped.
#[derive(Debug)]
pub struct ActiveRequest(Rc<Cell<u32>>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outlier::{AttemptOutcome, OutlierDetection};
    use crate::runtime::{Endpoint, Health};
    use std::time::Instant;

    fn endpoint(port: u16, weight: u32, health: Health, priority: u32) -> Endpoint {
        Endpoint { weight, health, priority, ..Endpoint::at(SocketAddr::from(([127, 0, 0, 1], port))) }
    }

    fn active(balancer: &Picker, at: usize) -> u32 {
        balancer.loads[at].get()
    }

    fn balancer(policy: LbPolicy, list: Vec<Endpoint>) -> Picker {
        let outliers = Outliers::new(None, list.iter().map(|e| e.address), Instant::now());
        let endpoints = Arc::new(Endpoints { list, overprovisioning: 140 });
        Picker::new(BalanceOptions { policy, ..BalanceOptions::default() }, endpoints, Arc::new(outliers), 7)
    }

    fn healthy(weights: &[u32]) -> Vec<Endpoint> {
        weights.iter().zip(1..).map(|(weight, port)| endpoint(port, *weight, Health::Healthy, 0)).collect()
    }

    fn tally(balancer: &mut Picker, picks: usize) -> Vec<usize> {
        let mut counts = vec![0; balancer.endpoints.list.len()];
        for _ in 0..picks {
            if let Some(at) = balancer.pick(None) {
                counts[at] += 1;
            }
        }
        counts
    }

    #[test]
    fn round_robin_visits_each_once_before_any_twice() {
        assert_eq!(tally(&mut balancer(LbPolicy::RoundRobin, healthy(&[1, 1, 1, 1])), 12), [3, 3, 3, 3]);
    }

    #[test]
    fn round_robin_honours_weights_exactly_over_a_round() {
        let counts = tally(&mut balancer(LbPolicy::RoundRobin, healthy(&[1, 2, 7])), 1000);
        for (count, wanted) in counts.iter().zip([100, 200, 700]) {
            assert!(count.abs_diff(wanted) <= 1, "{counts:?}");
        }
    }

    #[test]
    fn weighted_round_robin_spreads_the_heavy_one_out() {
        let mut balancer = balancer(LbPolicy::RoundRobin, healthy(&[1, 1, 2]));
        let picks: Vec<_> = (0..40).filter_map(|_| balancer.pick(None)).collect();
        assert!(!picks.windows(3).any(|three| three == [2, 2, 2]), "{picks:?}");
    }

    #[test]
    fn least_request_avoids_a_busy_endpoint() {
        let mut balancer = balancer(LbPolicy::LEAST_REQUEST, healthy(&[1, 1]));
        let _busy: Vec<_> = (0..5).map(|_| balancer.begin(0)).collect();
        let counts = tally(&mut balancer, 400);
        assert_eq!(counts, [0, 400], "two choices of two endpoints see both");
        drop(_busy);
        assert_eq!(active(&balancer, 0), 0);
    }

    #[test]
    fn weighted_least_request_follows_weights_when_idle_and_load_when_busy() {
        let mut idle = balancer(LbPolicy::LEAST_REQUEST, healthy(&[1, 3]));
        let counts = tally(&mut idle, 400);
        assert!(counts[1].abs_diff(300) < 10, "{counts:?}");
        let mut busy = balancer(LbPolicy::LEAST_REQUEST, healthy(&[1, 3]));
        let _active: Vec<_> = (0..29).map(|_| busy.begin(1)).collect();
        let counts = tally(&mut busy, 400);
        assert!(counts[0] > 300, "{counts:?}");
    }

    #[test]
    fn random_reaches_every_endpoint() {
        let counts = tally(&mut balancer(LbPolicy::Random, healthy(&[1, 1, 1])), 3000);
        assert!(counts.iter().all(|count| count.abs_diff(1000) < 150), "{counts:?}");
    }

    #[test]
    fn an_unhealthy_endpoint_gets_nothing() {
        let mut list = healthy(&[1, 1, 1]);
        list[1].health = Health::Unhealthy;
        assert_eq!(tally(&mut balancer(LbPolicy::RoundRobin, list), 10)[1], 0);
    }

    #[test]
    fn below_half_healthy_all_are_used_again() {
        let mut list = healthy(&[1, 1, 1]);
        list[1].health = Health::Unhealthy;
        list[2].health = Health::Unhealthy;
        let mut balancer = balancer(LbPolicy::RoundRobin, list);
        assert_eq!(tally(&mut balancer, 9), [3, 3, 3]);
        assert_eq!(balancer.take_panics(), 9);
    }

    #[test]
    fn draining_endpoints_cause_no_panic_and_get_nothing() {
        let mut list = healthy(&[1, 1, 1]);
        list[1].health = Health::Draining;
        list[2].health = Health::Draining;
        let mut balancer = balancer(LbPolicy::RoundRobin, list);
        assert_eq!(tally(&mut balancer, 9), [9, 0, 0]);
    }

    #[test]
    fn degraded_endpoints_take_what_the_healthy_cannot() {
        let mut list = healthy(&[1; 10]);
        list.iter_mut().skip(5).for_each(|e| e.health = Health::Degraded);
        let counts = tally(&mut balancer(LbPolicy::RoundRobin, list), 10_000);
        let degraded: usize = counts[5..].iter().sum();
        assert!(degraded.abs_diff(3000) < 300, "half healthy carry 70 %: {counts:?}");
    }

    #[test]
    fn the_next_priority_takes_over_what_the_first_cannot_carry() {
        let mut list = healthy(&[1, 1]);
        list[0].health = Health::Unhealthy;
        list.push(endpoint(9, 1, Health::Healthy, 1));
        let counts = tally(&mut balancer(LbPolicy::RoundRobin, list), 1000);
        assert!(counts[1].abs_diff(700) < 60 && counts[2].abs_diff(300) < 60 && counts[0] == 0, "{counts:?}");
    }

    #[test]
    fn a_lower_priority_rests_while_the_first_is_whole() {
        let mut list = healthy(&[1]);
        list.push(endpoint(9, 1, Health::Healthy, 1));
        assert_eq!(tally(&mut balancer(LbPolicy::RoundRobin, list), 10), [10, 0]);
    }

    #[test]
    fn an_ejected_endpoint_is_left_out_at_the_next_pick() {
        let list = healthy(&[1; 10]);
        let now = Instant::now();
        let outliers =
            Arc::new(Outliers::new(Some(OutlierDetection::default()), list.iter().map(|e| e.address), now));
        let endpoints = Arc::new(Endpoints { list, overprovisioning: 0 });
        let mut balancer = Picker::new(BalanceOptions::default(), endpoints, outliers.clone(), 1);
        assert_eq!(tally(&mut balancer, 10)[4], 1);
        for _ in 0..5 {
            outliers.report(4, AttemptOutcome::Answered(503), now);
        }
        assert_eq!(tally(&mut balancer, 90)[4], 0);
    }

    #[test]
    fn active_requests_follow_their_endpoint_through_an_update() {
        let mut balancer = balancer(LbPolicy::LEAST_REQUEST, healthy(&[1, 1]));
        let held = balancer.begin(1);
        let list = vec![endpoint(9, 1, Health::Healthy, 0), endpoint(2, 1, Health::Healthy, 0)];
        let outliers = Outliers::new(None, list.iter().map(|e| e.address), Instant::now());
        balancer.update(
            BalanceOptions::default(),
            Arc::new(Endpoints { list, overprovisioning: 0 }),
            Arc::new(outliers),
        );
        assert_eq!((active(&balancer, 0), active(&balancer, 1)), (0, 1));
        drop(held);
        assert_eq!(active(&balancer, 1), 0);
    }

    #[test]
    fn a_retry_goes_elsewhere_while_there_is_an_elsewhere() {
        let mut pair = balancer(LbPolicy::RoundRobin, healthy(&[1, 1]));
        assert!(
            (0..20).all(|_| pair.pick_avoiding(None, PreviousHosts { tried: &[0], attempts: 5 }) == Some(1))
        );
        let mut alone = balancer(LbPolicy::RoundRobin, healthy(&[1]));
        assert_eq!(alone.pick_avoiding(None, PreviousHosts { tried: &[0], attempts: 5 }), Some(0));
    }

    #[test]
    fn no_endpoint_is_no_pick() {
        assert_eq!(balancer(LbPolicy::RoundRobin, Vec::new()).pick(None), None);
    }

    #[test]
    fn a_hash_stays_with_its_endpoint_and_moves_when_it_is_ejected() {
        for policy in [LbPolicy::RingHash { min: 1024, max: 8 << 20 }, LbPolicy::Maglev { size: 65537 }] {
            let mut hashed = balancer(policy, healthy(&[1; 5]));
            let first = hashed.pick(Some(7)).unwrap();
            assert!((0..20).all(|_| hashed.pick(Some(7)) == Some(first)));
            let elsewhere = hashed.pick_avoiding(Some(7), PreviousHosts { tried: &[first], attempts: 20 });
            assert!(elsewhere.is_some_and(|at| at != first));
            let mut list = healthy(&[1; 5]);
            list[first].health = Health::Unhealthy;
            assert!(balancer(policy, list).pick(Some(7)).is_some_and(|at| at != first));
        }
    }

    #[test]
    fn where_all_priorities_are_in_panic_each_takes_its_part_of_all_endpoints() {
        let mut list = healthy(&[1; 3]);
        list.push(endpoint(9, 1, Health::Healthy, 1));
        list.iter_mut().for_each(|e| e.health = Health::Unhealthy);
        let counts = tally(&mut balancer(LbPolicy::RoundRobin, list), 4000);
        assert!(counts.iter().all(|count| count.abs_diff(1000) < 150), "{counts:?}");
    }

    #[test]
    fn localities_share_by_weight_and_health() {
        let mut list = healthy(&[1; 8]);
        for (at, endpoint) in list.iter_mut().enumerate() {
            let far = at >= 4;
            endpoint.locality_weight = if far { 1 } else { 3 };
            let zone = if far { "far" } else { "near" };
            endpoint.locality =
                Arc::new(crate::runtime::Locality { zone: zone.into(), ..Default::default() });
        }
        let options = BalanceOptions { locality_weighted: true, ..BalanceOptions::default() };
        let picks = |list: Vec<Endpoint>| {
            let outliers = Outliers::new(None, list.iter().map(|e| e.address), Instant::now());
            let endpoints = Arc::new(Endpoints { list, overprovisioning: 140 });
            tally(&mut Picker::new(options, endpoints, Arc::new(outliers), 7), 4000)
        };
        let near = |counts: &[usize]| counts[..4].iter().sum::<usize>();
        let counts = picks(list.clone());
        assert!(near(&counts).abs_diff(3000) < 10, "{counts:?}");
        // Half of the near ones carry 70 % of their weight: 2.1 to 1.
        list[0].health = Health::Unhealthy;
        list[1].health = Health::Unhealthy;
        let counts = picks(list);
        assert!(near(&counts).abs_diff(2710) < 15, "{counts:?}");
    }
}
