//! A live picture of every edge of the mesh, from the statistics that the callers' sidecars push.
//!
//! Both proxies speak Envoy's metrics service and send cumulative counters; [`Edges`] keeps a short window of
//! samples for each (workload, cluster) and derives rates and percentiles when asked. Nothing is stored.
//!
//! ```text
//! StreamMetrics (one a proxy) -> sample::read -> Edges { (workload, cluster) -> Window } -> GET /v1/edges
//! ```

mod sample;
mod service;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use weft_api::rest::{Edge, EdgeList};
use weft_api::{ServiceId, WorkloadId};

pub use sample::{Sample, read};
pub use service::MetricsReceiver;

/// Rates cover this much time.
const WINDOW: Duration = Duration::from_secs(15);
/// A proxy that has been silent for this long is forgotten.
const SILENT: Duration = Duration::from_secs(45);

/// One destination of one caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    workload: WorkloadId,
    cluster: Arc<str>,
}

#[derive(Debug)]
struct Window {
    source: ServiceId,
    samples: VecDeque<(Instant, Sample)>,
}

/// The windows of all proxies. Cheap to clone.
///
/// A lock rather than a task: reports and questions are short, and nothing is awaited or sent under it.
#[derive(Clone, Debug, Default)]
pub struct Edges {
    windows: Arc<Mutex<Windows>>,
}

#[derive(Debug, Default)]
struct Windows {
    by_edge: HashMap<Key, Window>,
    swept_at: Option<Instant>,
}

impl Edges {
    /// Takes one proxy's report: a sample for each of its clusters.
    pub fn record(
        &self,
        now: Instant,
        workload: &WorkloadId,
        source: &ServiceId,
        samples: impl IntoIterator<Item = (Arc<str>, Sample)>,
    ) {
        let mut windows = self.lock();
        for (cluster, sample) in samples.into_iter().filter(|(cluster, _)| Destination::of(cluster).is_some())
        {
            let key = Key { workload: workload.clone(), cluster };
            let window = windows
                .by_edge
                .entry(key)
                .or_insert_with(|| Window { source: source.clone(), samples: VecDeque::new() });
            window.push(now, sample);
        }
        // Not at each report: looking at all of them for each of them would be quadratic.
        if windows.swept_at.is_none_or(|at| now.saturating_duration_since(at) >= WINDOW) {
            windows.swept_at = Some(now);
            windows.by_edge.retain(|_, window| !window.is_silent(now));
        }
    }

    /// Sums the windows of all callers of a service into its edges.
    #[must_use]
    pub fn list(&self, now: Instant) -> EdgeList {
        let mut sums: BTreeMap<(String, Destination), Flow> = BTreeMap::new();
        for (key, window) in &self.lock().by_edge {
            let (Some(destination), Some(flow)) = (Destination::of(&key.cluster), window.flow(now)) else {
                continue;
            };
            sums.entry((window.source.to_string(), destination)).or_default().add(&flow);
        }
        // A cluster that was never used is no edge.
        let used = sums.into_iter().filter(|(_, flow)| flow.used);
        let items = used.map(|((source, destination), flow)| flow.edge(source, destination));
        EdgeList { items: items.collect() }
    }

    fn lock(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn push(&mut self, now: Instant, sample: Sample) {
        // A counter that went back means that the proxy restarted: what was before says nothing now.
        if self.samples.back().is_some_and(|(_, last)| sample.restarted_since(last)) {
            self.samples.clear();
        }
        self.samples.push_back((now, sample));
        while self.samples.len() > 2 && now.duration_since(self.samples[1].0) >= WINDOW {
            self.samples.pop_front();
        }
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

/// `NAMESPACE/SERVICE/PORT[/SUBSET]`, the form of cluster names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Destination {
    service: String,
    port: String,
    subset: Option<String>,
}

impl Destination {
    fn of(cluster: &str) -> Option<Self> {
        let mut parts = cluster.split('/');
        let (namespace, service, port) = (parts.next()?, parts.next()?, parts.next()?);
        if namespace == "inbound" && parts.clone().next().is_some() {
            return None;
        }
        let subset = parts.next().map(str::to_owned);
        Some(Self { service: format!("{namespace}/{service}"), port: port.to_owned(), subset })
    }
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
            destination: destination.service,
            port: destination.port,
            subset: destination.subset,
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
    fn own_application_is_not_an_edge() {
        assert_eq!(Destination::of("inbound/shop/web/http"), None);
        assert!(Destination::of("inbound/web/http").is_some());
    }
}
