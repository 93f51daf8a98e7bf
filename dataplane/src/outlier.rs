//! Outlier detection: an endpoint that fails several times in a row gets no requests for a while.
//!
//! ```text
//! worker --report(host, outcome)--> Outliers (Arc, relaxed atomics) <--sweep()-- control thread, each interval
//! worker --is_ejected(host)-------> Outliers
//! ```
//!
//! The state is process-wide, so that all workers learn from one worker's failures. `generation` grows with each
//! ejection and return: a balancer looks at that one number and rebuilds its lists only when it changed. Failures in a row
//! are detected when they are reported; success rate and failure percentage at a sweep, of what came since the last one.

mod consecutive;
mod counting;
mod rates;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

pub use counting::count_ejection;
pub use rates::RateDetection;

use crate::random;
use consecutive::detect;
use rates::SuccessRate;

/// `outlier_detection` of a cluster. The default is Envoy's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Server errors in a row that eject, 5; 0 never.
    pub consecutive_5xx: u32,
    /// Gateway failures (502, 503, 504) in a row that eject, 5; 0 never.
    pub consecutive_gateway_failure: u32,
    /// Failures on this side (connect, reset) in a row that eject, 5; only when they are told apart.
    pub consecutive_local_origin_failure: u32,
    /// Whether failures on this side are counted apart from the endpoint's answers.
    pub split_local_origin: bool,
    /// Time between two sweeps, 10 s.
    pub interval: Duration,
    /// How long the first ejection lasts, 30 s; the n-th in close succession lasts n times as long.
    pub base_ejection_time: Duration,
    /// The longest ejection, 300 s.
    pub max_ejection_time: Duration,
    /// Most random time added to an ejection, 0.
    pub max_ejection_time_jitter: Duration,
    /// Most endpoints that may be ejected, in percent, 10.
    pub max_ejection_percent: u32,
    /// Whether one endpoint may be ejected whatever the percentage says.
    pub always_eject_one_host: bool,
    /// Percentage of detections that are enforced, by kind: 100, 0 and 100.
    pub enforcing_5xx: u32,
    /// As above, for gateway failures.
    pub enforcing_gateway_failure: u32,
    /// As above, for failures on this side.
    pub enforcing_local_origin_failure: u32,
    /// Success rate and failure percentage.
    pub rates: RateDetection,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway_failure: 5,
            consecutive_local_origin_failure: 5,
            split_local_origin: false,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_time_jitter: Duration::ZERO,
            max_ejection_percent: 10,
            always_eject_one_host: false,
            enforcing_5xx: 100,
            enforcing_gateway_failure: 0,
            enforcing_local_origin_failure: 100,
            rates: RateDetection::default(),
        }
    }
}

/// How an attempt on an endpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// It answered with this status; for gRPC see [`grpc_as_http`].
    Answered(u16),
    /// A connection was made.
    Connected,
    /// No connection could be made.
    ConnectFailed,
    /// It did not answer in time.
    TimedOut,
    /// The stream or connection broke before an answer.
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EjectionType {
    /// `consecutive_5xx`.
    ServerErrors,
    /// `consecutive_gateway_failure`.
    GatewayFailures,
    /// `consecutive_local_origin_failure`.
    LocalOriginFailures,
    /// `success_rate`.
    SuccessRate,
    /// `success_rate` of failures on this side.
    LocalOriginSuccessRate,
    FailurePercentage,
    /// `failure_percentage` of failures on this side.
    LocalOriginFailurePercentage,
}

/// What became of a detection; each has its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EjectionDecision {
    /// The endpoint is ejected.
    Ejected,
    /// The percentage of enforcement spared it.
    NotEnforced,
    /// Too many are ejected already.
    Overflow,
    /// It was ejected before.
    AlreadyEjected,
}

/// The process-wide state of one endpoint.
#[derive(Debug, Default)]
#[repr(align(64))]
struct HostState {
    ejected: AtomicBool,
    server_errors: AtomicU32,
    gateway_failures: AtomicU32,
    local_failures: AtomicU32,
    /// What it was asked and answered, and where failures on this side count apart, how these ended.
    rates: [SuccessRate; 2],
    ejections: AtomicU32,
    until_ms: AtomicU64,
}

#[derive(Debug)]
struct EjectionState {
    started: Instant,
    generation: AtomicU64,
    random: AtomicU64,
}

/// The endpoints of a cluster, in the order of its endpoint list, and which of them are ejected.
#[derive(Clone, Debug)]
pub struct Outliers {
    config: Option<OutlierDetection>,
    addresses: Vec<SocketAddr>,
    hosts: Vec<Arc<HostState>>,
    state: Arc<EjectionState>,
}

impl Default for Outliers {
    fn default() -> Self {
        Self::new(None, std::iter::empty(), Instant::now())
    }
}

impl Outliers {
    /// Fresh state for `addresses`; nothing is ever ejected without a `config`.
    pub fn new(
        config: Option<OutlierDetection>,
        addresses: impl IntoIterator<Item = SocketAddr>,
        now: Instant,
    ) -> Self {
        let addresses: Vec<_> = addresses.into_iter().collect();
        let hosts = addresses.iter().map(|_| Arc::default()).collect();
        let state = EjectionState {
            started: now,
            generation: AtomicU64::new(0),
            random: AtomicU64::new(0x9e37_79b9),
        };
        Self { config, addresses, hosts, state: Arc::new(state) }
    }

    /// The state for a changed configuration or endpoint list: endpoints that remain keep theirs.
    #[must_use]
    pub fn rebuilt(
        &self,
        config: Option<OutlierDetection>,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> Self {
        let known: HashMap<&SocketAddr, &Arc<HostState>> = self.addresses.iter().zip(&self.hosts).collect();
        let addresses: Vec<_> = addresses.into_iter().collect();
        let hosts: Vec<Arc<HostState>> = addresses
            .iter()
            .map(|at| known.get(at).map_or_else(Arc::default, |host| Arc::clone(host)))
            .collect();
        if config.is_none() {
            hosts.iter().for_each(|host| host.ejected.store(false, Relaxed));
        }
        self.state.generation.fetch_add(1, Relaxed);
        Self { config, addresses, hosts, state: self.state.clone() }
    }

    /// Whether the endpoint at `host` in the list gets no requests.
    #[inline]
    pub fn is_ejected(&self, host: usize) -> bool {
        self.hosts.get(host).is_some_and(|host| host.ejected.load(Relaxed))
    }

    /// Grows whenever the answer of [`Outliers::is_ejected`] may have changed.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.state.generation.load(Relaxed)
    }

    /// How many endpoints of the list are ejected.
    pub fn ejected(&self) -> usize {
        self.hosts.iter().filter(|host| host.ejected.load(Relaxed)).count()
    }

    /// Tells how an attempt on the endpoint at `host` ended; answers what was detected by it and what became of
    /// that, for the counters.
    pub fn report(
        &self,
        host: usize,
        outcome: AttemptOutcome,
        now: Instant,
    ) -> Option<(EjectionType, EjectionDecision)> {
        let config = self.config.as_ref()?;
        let state = self.hosts.get(host)?;
        if config.rates.is_enforced(config.split_local_origin) {
            count_rate(config, state, outcome);
        }
        let kind = detect(config, state, outcome)?;
        Some((kind, self.judge(config, state, kind, now)))
    }

    /// Lets the endpoints return whose time is over, forgets past ejections of the others step by step, and looks for those
    /// that stand out by what came since the last time. To be called each [`OutlierDetection::interval`]. Answers what was
    /// detected.
    pub fn sweep(&self, now: Instant) -> Vec<(EjectionType, EjectionDecision)> {
        self.readmit(now);
        let enforces = |config: &&OutlierDetection| config.rates.is_enforced(config.split_local_origin);
        let Some(config) = self.config.as_ref().filter(enforces) else { return Vec::new() };
        let kinds = [
            (EjectionType::SuccessRate, EjectionType::FailurePercentage),
            (EjectionType::LocalOriginSuccessRate, EjectionType::LocalOriginFailurePercentage),
        ];
        let mut found = Vec::new();
        for (side, (by_rate, by_failures)) in kinds.into_iter().enumerate() {
            let rates = self.hosts.iter().enumerate().map(|(host, state)| (host, state.rates[side].take()));
            let rates: Vec<(usize, f64, u32)> = rates
                .map(|(host, (rate, volume))| (host, rate, volume))
                .filter(|(host, _, _)| !self.is_ejected(*host))
                .collect();
            let outliers = config.rates.below_the_others(&rates).into_iter().map(|host| (host, by_rate));
            let failing = config.rates.failing(&rates).into_iter().map(|host| (host, by_failures));
            for (host, kind) in outliers.chain(failing) {
                found.push((kind, self.judge(config, &self.hosts[host], kind, now)));
            }
        }
        found
    }

    /// Answers how many returned.
    fn readmit(&self, now: Instant) -> usize {
        let now_ms = self.millis(now);
        let mut returned = 0;
        for host in &self.hosts {
            if !host.ejected.load(Relaxed) {
                let _ = host.ejections.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1));
            } else if host.until_ms.load(Relaxed) <= now_ms {
                for count in [&host.server_errors, &host.gateway_failures, &host.local_failures] {
                    count.store(0, Relaxed);
                }
                host.ejected.store(false, Relaxed);
                returned += 1;
            }
        }
        if returned > 0 {
            self.state.generation.fetch_add(1, Relaxed);
        }
        returned
    }

    /// The configuration, `None` when detection is off.
    pub fn config(&self) -> Option<&OutlierDetection> {
        self.config.as_ref()
    }

    fn judge(
        &self,
        config: &OutlierDetection,
        host: &HostState,
        kind: EjectionType,
        now: Instant,
    ) -> EjectionDecision {
        let active = self.ejected();
        let allowed = 100 * (active + 1) <= config.max_ejection_percent as usize * self.hosts.len()
            || (active == 0 && config.always_eject_one_host);
        let enforced = match kind {
            EjectionType::ServerErrors => config.enforcing_5xx,
            EjectionType::GatewayFailures => config.enforcing_gateway_failure,
            EjectionType::LocalOriginFailures => config.enforcing_local_origin_failure,
            EjectionType::SuccessRate => config.rates.enforcing_success_rate,
            EjectionType::LocalOriginSuccessRate => config.rates.enforcing_local_origin_success_rate,
            EjectionType::FailurePercentage => config.rates.enforcing_failure_percentage,
            EjectionType::LocalOriginFailurePercentage => {
                config.rates.enforcing_failure_percentage_local_origin
            }
        };
        if host.ejected.load(Relaxed) {
            return EjectionDecision::AlreadyEjected;
        }
        if self.roll() % 100 >= u64::from(enforced) {
            return EjectionDecision::NotEnforced;
        }
        if !allowed {
            return EjectionDecision::Overflow;
        }
        if host.ejected.swap(true, Relaxed) {
            return EjectionDecision::AlreadyEjected;
        }
        let times = host.ejections.fetch_add(1, Relaxed) + 1;
        let longest = config.max_ejection_time.max(config.base_ejection_time);
        let jitter_ms = config.max_ejection_time_jitter.as_millis() as u64;
        let jitter = Duration::from_millis(if jitter_ms == 0 { 0 } else { self.roll() % (jitter_ms + 1) });
        let length = config.base_ejection_time.saturating_mul(times).min(longest) + jitter;
        host.until_ms.store(self.millis(now + length), Relaxed);
        self.state.generation.fetch_add(1, Relaxed);
        EjectionDecision::Ejected
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.state.started).as_millis()).unwrap_or(u64::MAX)
    }

    fn roll(&self) -> u64 {
        random::mix(self.state.random.fetch_add(random::STEP, Relaxed))
    }
}

/// Counts the outcome for the rates of the interval.
fn count_rate(config: &OutlierDetection, host: &HostState, outcome: AttemptOutcome) {
    let [answers, local] = &host.rates;
    match outcome {
        AttemptOutcome::Answered(status) => {
            answers.count(status < 500);
            if config.split_local_origin {
                local.count(true);
            }
        }
        AttemptOutcome::Connected if config.split_local_origin => local.count(true),
        AttemptOutcome::Connected => {}
        AttemptOutcome::ConnectFailed | AttemptOutcome::TimedOut | AttemptOutcome::Reset => {
            if config.split_local_origin { local } else { answers }.count(false);
        }
    }
}

/// The HTTP status that Envoy counts for a gRPC status.
pub fn grpc_as_http(status: u32) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(hosts: u16, config: OutlierDetection) -> (Outliers, Instant) {
        let now = Instant::now();
        let addresses = (0..hosts).map(|port| SocketAddr::from(([10, 0, 0, 1], port + 1)));
        (Outliers::new(Some(config), addresses, now), now)
    }

    fn repeat(
        outliers: &Outliers,
        host: usize,
        times: usize,
        outcome: AttemptOutcome,
        now: Instant,
    ) -> Option<(EjectionType, EjectionDecision)> {
        let mut last = None;
        for _ in 0..times {
            last = outliers.report(host, outcome, now);
        }
        last
    }

    fn fail(
        outliers: &Outliers,
        host: usize,
        times: usize,
        now: Instant,
    ) -> Option<(EjectionType, EjectionDecision)> {
        repeat(outliers, host, times, AttemptOutcome::Answered(500), now)
    }

    #[test]
    fn ejects_after_five_server_errors_in_a_row() {
        let (outliers, now) = cluster(10, OutlierDetection::default());
        assert_eq!(fail(&outliers, 3, 4, now), None);
        let before = outliers.generation();
        assert_eq!(fail(&outliers, 3, 1, now), Some((EjectionType::ServerErrors, EjectionDecision::Ejected)));
        assert!(outliers.is_ejected(3) && !outliers.is_ejected(2));
        assert_ne!(outliers.generation(), before);
    }

    #[test]
    fn a_success_in_between_starts_the_count_anew() {
        let (outliers, now) = cluster(10, OutlierDetection::default());
        fail(&outliers, 0, 4, now);
        outliers.report(0, AttemptOutcome::Answered(200), now);
        assert_eq!(fail(&outliers, 0, 4, now), None);
    }

    #[test]
    fn ejects_no_more_than_a_tenth_of_the_endpoints() {
        let (outliers, now) = cluster(19, OutlierDetection::default());
        assert_eq!(fail(&outliers, 0, 5, now), Some((EjectionType::ServerErrors, EjectionDecision::Ejected)));
        assert_eq!(
            fail(&outliers, 1, 5, now),
            Some((EjectionType::ServerErrors, EjectionDecision::Overflow))
        );
        assert_eq!(outliers.ejected(), 1);
    }

    #[test]
    fn a_small_cluster_loses_an_endpoint_only_when_told_to() {
        let (outliers, now) = cluster(3, OutlierDetection::default());
        assert_eq!(
            fail(&outliers, 0, 5, now),
            Some((EjectionType::ServerErrors, EjectionDecision::Overflow))
        );
        let (outliers, now) =
            cluster(3, OutlierDetection { always_eject_one_host: true, ..OutlierDetection::default() });
        assert_eq!(fail(&outliers, 0, 5, now), Some((EjectionType::ServerErrors, EjectionDecision::Ejected)));
        assert_eq!(
            fail(&outliers, 1, 5, now),
            Some((EjectionType::ServerErrors, EjectionDecision::Overflow))
        );
    }

    #[test]
    fn an_ejection_grows_with_each_repetition_and_ends_at_a_sweep() {
        let (outliers, now) = cluster(10, OutlierDetection::default());
        let at = |secs| now + Duration::from_secs(secs);
        fail(&outliers, 0, 5, now);
        assert_eq!(outliers.readmit(at(29)), 0);
        assert_eq!(outliers.readmit(at(30)), 1);
        assert!(!outliers.is_ejected(0));
        fail(&outliers, 0, 5, at(31));
        assert_eq!(outliers.readmit(at(31 + 59)), 0, "the second ejection lasts twice as long");
        assert_eq!(outliers.readmit(at(31 + 60)), 1);
    }

    #[test]
    fn good_behaviour_is_remembered_too() {
        let (outliers, now) = cluster(10, OutlierDetection::default());
        fail(&outliers, 0, 5, now);
        let back = now + Duration::from_secs(30);
        outliers.sweep(back);
        outliers.sweep(back + Duration::from_secs(10));
        fail(&outliers, 0, 5, back + Duration::from_secs(11));
        assert_eq!(outliers.readmit(back + Duration::from_secs(41)), 1, "the multiplier went down again");
    }

    #[test]
    fn gateway_failures_are_detected_and_by_default_not_enforced() {
        let config = OutlierDetection { consecutive_5xx: 0, ..OutlierDetection::default() };
        let (outliers, now) = cluster(10, config.clone());
        let last = repeat(&outliers, 0, 5, AttemptOutcome::Answered(503), now);
        assert_eq!(last, Some((EjectionType::GatewayFailures, EjectionDecision::NotEnforced)));
        let (outliers, now) = cluster(10, OutlierDetection { enforcing_gateway_failure: 100, ..config });
        let last = repeat(&outliers, 0, 5, AttemptOutcome::TimedOut, now);
        assert_eq!(last, Some((EjectionType::GatewayFailures, EjectionDecision::Ejected)));
    }

    #[test]
    fn failures_of_this_side_count_apart_when_split() {
        let config = OutlierDetection { split_local_origin: true, ..OutlierDetection::default() };
        let (outliers, now) = cluster(10, config);
        for _ in 0..4 {
            outliers.report(0, AttemptOutcome::ConnectFailed, now);
        }
        outliers.report(0, AttemptOutcome::Answered(500), now);
        let fifth = outliers.report(0, AttemptOutcome::Reset, now);
        assert_eq!(fifth, Some((EjectionType::LocalOriginFailures, EjectionDecision::Ejected)));
    }

    #[test]
    fn an_endpoint_that_succeeds_less_than_the_others_is_ejected_at_a_sweep() {
        let (outliers, now) =
            cluster(10, OutlierDetection { consecutive_5xx: 0, ..OutlierDetection::default() });
        for host in 0..10 {
            for number in 0..100 {
                let status = if host == 3 && number % 4 == 0 { 500 } else { 200 };
                outliers.report(host, AttemptOutcome::Answered(status), now);
            }
        }
        assert_eq!(outliers.sweep(now), [(EjectionType::SuccessRate, EjectionDecision::Ejected)]);
        assert!(outliers.is_ejected(3));
        assert_eq!(outliers.sweep(now), [], "each interval is judged by itself");
    }

    #[test]
    fn an_endpoint_that_stays_keeps_its_ejection_when_the_list_changes() {
        let (outliers, now) = cluster(10, OutlierDetection::default());
        fail(&outliers, 4, 5, now);
        let kept = outliers.addresses[4];
        let other = SocketAddr::from(([10, 0, 0, 9], 9));
        let changed = outliers.rebuilt(outliers.config.clone(), [other, kept]);
        assert!(!changed.is_ejected(0) && changed.is_ejected(1));
        assert!(!outliers.rebuilt(None, [kept]).is_ejected(0), "nothing stays ejected without detection");
    }
}
