//! What has flown over each edge since this control plane started, for Prometheus.
//!
//! Counters of edges, not of proxies: callers that come and go add to them, and one that restarts or moves to another
//! replica is not counted twice. Each replica counts the proxies that are connected to it, so that a sum over replicas is
//! the mesh.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use weft_api::{Destination, ServiceId};

use super::{Edges, Sample};

/// An edge that no caller has reported for this long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// By calling service. Bounded by the clusters that the policies know, and by time.
#[derive(Debug, Default)]
pub(super) struct Totals(HashMap<ServiceId, ServiceTotals>);

/// By cluster.
#[derive(Debug, Default)]
pub(super) struct ServiceTotals(HashMap<Arc<str>, Total>);

#[derive(Clone, Debug)]
struct Total {
    reported_at: Instant,
    flown: Sample,
}

impl Totals {
    pub(super) fn of(&mut self, source: &ServiceId) -> &mut ServiceTotals {
        self.0.entry(source.clone()).or_default()
    }

    pub(super) fn sweep(&mut self, now: Instant) {
        self.0.retain(|_, of_service| {
            of_service.0.retain(|_, total| now.saturating_duration_since(total.reported_at) <= FORGOTTEN);
            !of_service.0.is_empty()
        });
    }

    fn edges(&self) -> Vec<(EdgeLabels, Sample)> {
        let mut edges: Vec<_> = self
            .0
            .iter()
            .flat_map(|(source, of_service)| {
                of_service.0.iter().filter_map(|(cluster, total)| {
                    Some((EdgeLabels::of(source, Destination::parse(cluster)?), total.flown.clone()))
                })
            })
            .collect();
        edges.sort_by(|(one, _), (two, _)| one.cmp(two));
        edges
    }
}

impl ServiceTotals {
    pub(super) fn add(&mut self, now: Instant, cluster: &Arc<str>, flown: &Sample) {
        if let Some(total) = self.0.get_mut(cluster) {
            total.reported_at = now;
            total.flown.add(flown);
        } else {
            self.0.insert(Arc::clone(cluster), Total { reported_at: now, flown: flown.clone() });
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct EdgeLabels {
    source: String,
    destination: String,
    port: String,
    /// Empty, which for Prometheus is absent, when the calls name none.
    subset: String,
}

impl EdgeLabels {
    fn of(source: &ServiceId, to: Destination) -> Self {
        Self {
            source: source.to_string(),
            destination: to.service.to_string(),
            port: to.port.into(),
            subset: to.subset.map(String::from).unwrap_or_default(),
        }
    }
}

/// One counter of an edge: name, what it counts, and where it stands in a sample.
type EdgeCounter = (&'static str, &'static str, fn(&Sample) -> f64);

const FIGURES: [EdgeCounter; 4] = [
    ("edge_requests", "Requests from one service to another, by the caller's sidecars", |flown| {
        flown.requests
    }),
    ("edge_errors", "Answers of 500 and above", |flown| flown.errors),
    ("edge_denied", "Answers of 403, as a Deny gives", |flown| flown.denied),
    ("edge_connections", "Connections from one service to another", |flown| flown.connections),
];

impl Collector for Edges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let edges = self.lock().totals.edges();
        for (name, help, figure) in FIGURES {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, flown) in &edges {
                ConstCounter::new(figure(flown)).encode(metric.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    fn shown(edges: &Edges) -> String {
        let mut registry = Registry::with_prefix("weft");
        registry.register_collector(Box::new(edges.clone()));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn callers_add_up_and_neither_a_restart_nor_a_move_counts_twice() {
        let (edges, start) = (Edges::default(), Instant::now());
        let source: ServiceId = "shop/web".parse().unwrap();
        let report = |workload: &str, at: u64, requests: f64| {
            let sample = Sample { requests, denied: requests, connections: 1.0, ..Sample::default() };
            let samples = [("shop/cart/http/v1".into(), sample)];
            edges.record(start + Duration::from_secs(at), &workload.parse().unwrap(), &source, samples);
        };
        // What it did before is another replica's, or of a time before this one's.
        report("shop/web-1", 0, 1000.0);
        report("shop/web-2", 0, 50.0);
        report("shop/web-1", 5, 1007.0);
        report("shop/web-2", 5, 53.0);
        // It restarts, and has done two since.
        report("shop/web-2", 10, 2.0);
        let text = shown(&edges);
        let line = "weft_edge_requests_total{source=\"shop/web\",destination=\"shop/cart\",port=\"http\",subset=\"v1\"} 12";
        assert!(text.contains(line), "{text}");
        assert!(
            text.contains("weft_edge_denied_total{") && text.contains("weft_edge_errors_total{"),
            "{text}"
        );
        assert_eq!(shown(&Edges::default()).matches("weft_edge_requests_total{").count(), 0);
    }

    #[test]
    fn edge_that_nobody_reports_is_forgotten() {
        let now = Instant::now();
        let mut totals = Totals::default();
        let source: ServiceId = "shop/web".parse().unwrap();
        totals.of(&source).add(now, &"shop/cart/http".into(), &Sample::default());
        totals.sweep(now + FORGOTTEN);
        assert_eq!(totals.edges().len(), 1);
        totals.sweep(now + FORGOTTEN + Duration::from_secs(1));
        assert!(totals.edges().is_empty() && totals.0.is_empty());
    }
}
