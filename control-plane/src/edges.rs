//! A live picture of every edge of the mesh, from the statistics that the callers' sidecars push.
//!
//! Both proxies speak Envoy's metrics service and send cumulative counters; [`Edges`] keeps a short window of
//! samples for each (workload, cluster) and derives rates and percentiles when asked. Nothing is stored. What is kept is
//! bounded by what exists in the mesh, and for each workload.
//!
//! ```text
//! StreamMetrics (one a proxy) -> sample::read -> Edges { workload -> cluster -> Window } -> GET /v1/edges
//!                                                      { service -> cluster -> Total }   -> GET /metrics
//! ```

mod sample;
mod totals;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use weft_api::rest::{Edge, EdgeList};
use weft_api::{Destination, ServiceId, WorkloadId};
use weft_policies::PolicySet;

pub use sample::{Sample, read};
use totals::Totals;

/// Rates cover this much time.
const WINDOW: Duration = Duration::from_secs(15);
/// A proxy that has been silent for this long is forgotten.
const SILENT: Duration = Duration::from_secs(45);

/// Destinations that are kept of one caller. Only those that exist and were used count.
const MOST_EDGES: usize = 1000;
/// Reports that come faster are taken together, so that a window has a bounded number of samples.
const SPACING: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Window {
    samples: VecDeque<(Instant, Sample)>,
}

/// What one proxy reports.
#[derive(Debug)]
struct Caller {
    source: ServiceId,
    reported_at: Instant,
    windows: HashMap<Arc<str>, Window>,
}

/// The windows of all proxies. Cheap to clone.
///
/// A lock rather than a task: reports and questions are short, and nothing is awaited or sent under it.
#[derive(Clone, Debug, Default)]
pub struct Edges {
    callers: Arc<Mutex<Callers>>,
}

#[derive(Debug, Default)]
struct Callers {
    by_workload: HashMap<WorkloadId, Caller>,
    totals: Totals,
    swept_at: Option<Instant>,
}

impl Edges {
    /// Takes one proxy's report: a sample for each of its clusters. Says how many it had no room for.
    pub fn record(
        &self,
        now: Instant,
        workload: &WorkloadId,
        source: &ServiceId,
        samples: impl IntoIterator<Item = (Arc<str>, Sample)>,
    ) -> usize {
        let mut callers = self.lock();
        let callers = &mut *callers;
        let totals = callers.totals.of(source);
        let is_new = !callers.by_workload.contains_key(workload);
        let new = || Caller { source: source.clone(), reported_at: now, windows: HashMap::new() };
        let caller = callers.by_workload.entry(workload.clone()).or_insert_with(new);
        let before = (!is_new).then_some(caller.reported_at);
        caller.reported_at = now;
        let beyond =
            samples.into_iter().filter(|(cluster, sample)| match caller.take(now, before, cluster, sample) {
                SampleOutcome::Since(flown) => {
                    totals.add(now, cluster, &flown);
                    false
                }
                SampleOutcome::Unused => false,
                SampleOutcome::NoRoom => true,
            });
        let beyond = beyond.count();
        // Not at each report: looking at all of them for each of them would be quadratic.
        if callers.swept_at.is_none_or(|at| now.saturating_duration_since(at) >= WINDOW) {
            callers.swept_at = Some(now);
            callers.totals.sweep(now);
            callers.by_workload.retain(|_, caller| {
                caller.windows.retain(|_, window| !window.is_silent(now));
                now.saturating_duration_since(caller.reported_at) <= SILENT
            });
        }
        beyond
    }

    /// Sums the windows of all callers of a service into its edges.
    #[must_use]
    pub fn list(&self, now: Instant) -> EdgeList {
        let mut sums: BTreeMap<(String, Destination), Flow> = BTreeMap::new();
        for caller in self.lock().by_workload.values() {
            for (cluster, window) in &caller.windows {
                let (Some(destination), Some(flow)) = (Destination::parse(cluster), window.flow(now)) else {
                    continue;
                };
                sums.entry((caller.source.to_string(), destination)).or_default().add(&flow);
            }
        }
        // A cluster that was never used is no edge.
        let used = sums.into_iter().filter(|(_, flow)| flow.used);
        let items = used.map(|((source, destination), flow)| flow.edge(source, destination));
        EdgeList { items: items.collect() }
    }

    fn lock(&self) -> MutexGuard<'_, Callers> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a sample.
enum SampleOutcome {
    /// It is kept; so much has flown since the one before.
    Since(Sample),
    /// A destination that was never used takes no room.
    Unused,
    /// There is no room for another destination.
    NoRoom,
}

impl Caller {
    fn take(
        &mut self,
        now: Instant,
        before: Option<Instant>,
        cluster: &Arc<str>,
        sample: &Sample,
    ) -> SampleOutcome {
        if let Some(window) = self.windows.get_mut(cluster) {
            return SampleOutcome::Since(window.push(now, sample.clone()));
        }
        if !sample.used() || Destination::parse(cluster).is_none() {
            return SampleOutcome::Unused;
        }
        if self.windows.len() >= MOST_EDGES {
            return SampleOutcome::NoRoom;
        }
        // At its report before, if there was one, it had not used this destination.
        let mut window = Window { samples: before.map(|at| (at, Sample::default())).into_iter().collect() };
        let flown = window.push(now, sample.clone());
        self.windows.insert(Arc::clone(cluster), window);
        SampleOutcome::Since(flown)
    }
}

impl Window {
    /// Gives what has flown since the sample before. The first one says nothing of that: another replica may have counted
    /// what it holds.
    fn push(&mut self, now: Instant, sample: Sample) -> Sample {
        let flown = match self.samples.back() {
            Some((_, last)) if sample.restarted_since(last) => {
                Sample { latencies: Vec::new(), ..sample.clone() }
            }
            Some((_, last)) => sample.since(last),
            None => Sample::default(),
        };
        // A counter that went back means that the proxy restarted: what was before says nothing now.
        if self.samples.back().is_some_and(|(_, last)| sample.restarted_since(last)) {
            self.samples.clear();
        }
        let is_alone = self.samples.len() < 2;
        match self.samples.back_mut() {
            Some((at, last)) if !is_alone && now.saturating_duration_since(*at) < SPACING => {
                let latencies = sample.add_latencies(std::mem::take(&mut last.latencies));
                *last = Sample { latencies, ..sample };
            }
            _ => self.samples.push_back((now, sample)),
        }
        while self.samples.len() > 2 && now.duration_since(self.samples[1].0) >= WINDOW {
            self.samples.pop_front();
        }
        flown
    }

    fn is_silent(&self, now: Instant) -> bool {
        self.samples.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) > SILENT)
    }

    fn flow(&self, now: Instant) -> Option<Flow> {
        if self.is_silent(now) {
            return None;
        }
        let (first_at, first) = self.samples.front()?;
        let (last_at, last) = self.samples.back()?;
        let seconds = last_at.duration_since(*first_at).as_secs_f64();
        let mut delta = last.since(first);
        delta.latencies =
            self.samples.iter().skip(1).fold(Vec::new(), |sum, (_, one)| one.add_latencies(sum));
        Some(Flow { seconds, delta, plaintext: last.plaintext_connections() > 0.0, used: last.used() })
    }
}

/// Whether a cluster is one of the mesh's, by the policies: anything else that a proxy reports is not kept.
#[must_use]
pub fn exists(cluster: &str, set: &PolicySet) -> bool {
    let Some(Destination { service, port, subset }) = Destination::parse(cluster) else { return false };
    let Some(service) = set.service(&service) else { return false };
    service.spec.ports.iter().any(|known| known.name == port)
        && subset.is_none_or(|subset| service.spec.subsets.iter().any(|known| known.name == subset))
}

/// What flowed over an edge during a window.
#[derive(Debug, Default)]
struct Flow {
    seconds: f64,
    delta: Sample,
    plaintext: bool,
    used: bool,
}

impl Flow {
    fn add(&mut self, other: &Self) {
        self.seconds = self.seconds.max(other.seconds);
        self.delta.add(&other.delta);
        self.plaintext |= other.plaintext;
        self.used |= other.used;
    }

    fn edge(self, source: String, destination: Destination) -> Edge {
        let requests = self.delta.requests;
        let events = if self.delta.speaks_http() { requests } else { self.delta.connections };
        let per_second = |count: f64| if self.seconds > 0.0 { count / self.seconds } else { 0.0 };
        Edge {
            source,
            destination: destination.service.to_string(),
            port: destination.port.into(),
            subset: destination.subset.map(String::from),
            rate: per_second(events),
            success: self.delta.success(),
            denied: self.delta.denied_share(),
            p50_ms: self.delta.quantile(0.5),
            p99_ms: self.delta.quantile(0.99),
            mtls: self.used && !self.plaintext,
            window_seconds: self.seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> WorkloadId {
        text.parse().unwrap()
    }

    fn sample(requests: f64, errors: f64) -> Sample {
        Sample {
            requests,
            errors,
            connections: 1.0,
            handshakes: 1.0,
            latencies: vec![(1.0, requests / 2.0), (10.0, requests)],
            ..Sample::default()
        }
    }

    #[test]
    fn two_callers_of_one_service_make_one_edge() {
        let (edges, start) = (Edges::default(), Instant::now());
        let source: ServiceId = "shop/web".parse().unwrap();
        for (at, requests) in [(0, 0.0), (10, 100.0)] {
            for workload in ["shop/web-1", "shop/web-2"] {
                let samples = [("shop/cart/http".into(), sample(requests, requests / 10.0))];
                edges.record(start + Duration::from_secs(at), &id(workload), &source, samples);
            }
        }
        let list = edges.list(start + Duration::from_secs(10));
        assert_eq!(list.items.len(), 1);
        let edge = &list.items[0];
        assert_eq!(
            (edge.source.as_str(), edge.destination.as_str(), edge.port.as_str()),
            ("shop/web", "shop/cart", "http")
        );
        assert!((edge.rate - 20.0).abs() < 1e-9, "{edge:?}");
        assert!((edge.success.unwrap() - 0.9).abs() < 1e-9);
        assert!(edge.mtls);
        assert!(edge.p50_ms.unwrap() <= 1.0 && edge.p99_ms.unwrap() > 9.0, "{edge:?}");
    }

    #[test]
    fn restart_of_a_proxy_does_not_count_backwards() {
        let (edges, start) = (Edges::default(), Instant::now());
        let source: ServiceId = "shop/web".parse().unwrap();
        for (at, requests) in [(0, 1000.0), (5, 10.0), (10, 20.0)] {
            let samples = [("shop/cart/http/v1".into(), sample(requests, 0.0))];
            edges.record(start + Duration::from_secs(at), &id("shop/web-1"), &source, samples);
        }
        let edge = edges.list(start + Duration::from_secs(10)).items.remove(0);
        assert!((edge.rate - 2.0).abs() < 1e-9, "{edge:?}");
        assert_eq!(edge.subset.as_deref(), Some("v1"));
    }

    #[test]
    fn one_plaintext_connection_shows() {
        let (edges, start) = (Edges::default(), Instant::now());
        let plain = Sample { handshakes: 0.0, ..sample(1.0, 0.0) };
        edges.record(
            start,
            &id("shop/web-1"),
            &"shop/web".parse().unwrap(),
            [("shop/cart/http".into(), plain)],
        );
        assert!(!edges.list(start).items[0].mtls);
    }

    #[test]
    fn destinations_of_a_caller_are_bounded_and_unused_ones_take_no_room() {
        let (edges, now) = (Edges::default(), Instant::now());
        let web: ServiceId = "shop/web".parse().unwrap();
        let made_up = |used: f64| {
            (0..2 * MOST_EDGES).map(move |n| (format!("shop/s{n}/http").into(), sample(used, 0.0)))
        };
        let unused = made_up(1.0).map(|(cluster, _)| (cluster, Sample::default()));
        assert_eq!(edges.record(now, &id("shop/web-1"), &web, unused), 0);
        assert_eq!(edges.lock().by_workload[&id("shop/web-1")].windows.len(), 0);
        assert_eq!(edges.record(now, &id("shop/web-1"), &web, made_up(1.0)), MOST_EDGES);
        assert_eq!(edges.record(now, &id("shop/web-1"), &web, made_up(2.0)), MOST_EDGES);
        assert_eq!(edges.list(now).items.len(), MOST_EDGES);
        assert_eq!(
            edges.record(now, &id("shop/web-2"), &web, made_up(1.0).take(9)),
            0,
            "others have their own"
        );
    }

    #[test]
    fn reports_that_come_too_fast_are_taken_together() {
        let (edges, start) = (Edges::default(), Instant::now());
        let source: ServiceId = "shop/web".parse().unwrap();
        for n in 0..3000_u32 {
            let one = Sample { latencies: vec![(1.0, 1.0)], ..sample(f64::from(n) + 1.0, 0.0) };
            let at = start + Duration::from_millis(10) * n;
            edges.record(at, &id("shop/web-1"), &source, [("shop/cart/http".into(), one)]);
        }
        let callers = edges.lock();
        let window = callers.by_workload.values().flat_map(|caller| caller.windows.values()).next().unwrap();
        assert!((15..=18).contains(&window.samples.len()), "{}", window.samples.len());
        let flow = window.flow(start + Duration::from_secs(30)).unwrap();
        let rate = flow.delta.requests / flow.seconds;
        assert!((90.0..120.0).contains(&rate), "{rate}");
        let counted = flow.delta.latencies[0].1;
        assert!((flow.delta.requests - counted).abs() <= 101.0, "{counted} of {}", flow.delta.requests);
    }

    #[test]
    fn destination_that_is_used_for_the_first_time_counts_from_the_report_before() {
        let (edges, start) = (Edges::default(), Instant::now());
        let source: ServiceId = "shop/web".parse().unwrap();
        edges.record(start, &id("shop/web-1"), &source, [("shop/cart/http".into(), Sample::default())]);
        let at = start + Duration::from_secs(5);
        edges.record(at, &id("shop/web-1"), &source, [("shop/cart/http".into(), sample(50.0, 0.0))]);
        assert!((edges.list(at).items[0].rate - 10.0).abs() < 1e-9);
    }

    #[test]
    fn only_what_the_policies_know_exists() {
        let text = "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\n\
                    spec: {ports: [{name: http, port: 80, protocol: HTTP}], subsets: [{name: v1, matchLabels: {version: v1}}]}\n";
        let set = PolicySet::default().apply(&weft_policies::parse("test", text).unwrap()).unwrap().set;
        for known in ["shop/cart/http", "shop/cart/http/v1"] {
            assert!(exists(known, &set), "{known}");
        }
        for unknown in [
            "shop/cart/grpc",
            "shop/cart",
            "shop/cart/http/v2",
            "shop/web/http",
            "inbound/shop/cart/http",
            "//",
            "",
        ] {
            assert!(!exists(unknown, &set), "{unknown}");
        }
    }

    #[test]
    fn own_application_is_not_an_edge() {
        assert_eq!(Destination::parse("inbound/shop/web/http"), None);
        assert!(Destination::parse("inbound/web/http").is_some());
    }
}
