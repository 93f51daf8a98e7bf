//! What has flown over each edge since this control plane started, for Prometheus.
//!
//! Counters of edges, not of proxies: callers that come and go add to them, and one that restarts or moves to another
//! replica is not counted twice. Each replica counts the proxies that are connected to it, so that a sum over replicas is
//! the mesh.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use weft_api::rest::{EdgeProtocol, EdgeState};
use weft_api::{Destination, EdgeStatistic, HISTOGRAM_BOUNDS, ServiceId};

use super::{EdgeTarget, Edges, Sample, flow};

/// An edge that no caller has reported for this long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// By calling service. Bounded by the targets that the policies know, and by time.
#[derive(Debug, Default)]
pub(super) struct Totals(HashMap<ServiceId, ServiceTotals>);

#[derive(Debug, Default)]
pub(super) struct ServiceTotals(HashMap<EdgeTarget, Total>);

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

    fn all(&self) -> impl Iterator<Item = (&ServiceId, &EdgeTarget, &Sample)> {
        self.0.iter().flat_map(|(source, of_service)| {
            of_service.0.iter().map(move |(target, total)| (source, target, &total.flown))
        })
    }

    /// What policies that are only tried would have refused any of.
    pub(super) fn tried(&self) -> impl Iterator<Item = (&ServiceId, &EdgeTarget, &Sample)> {
        self.all().filter(|(_, _, flown)| flown.shadow_denied > 0.0)
    }

    fn edges(&self) -> Vec<(EdgeLabels, Sample)> {
        let edges = self.all().filter(|(_, target, _)| target.is_whole());
        sorted(edges.map(|(source, target, flown)| (EdgeLabels::of(source, target), flown.clone())))
    }

    fn rules(&self) -> Vec<(RuleLabels, Sample)> {
        let rules = self.all().filter(|(_, target, _)| target.is_of_rule());
        sorted(rules.map(|(source, target, flown)| (RuleLabels::of(source, target), flown.clone())))
    }

    fn versions(&self) -> Vec<(VersionLabels, Sample)> {
        let labelled = |(_, target, flown): (_, &EdgeTarget, &Sample)| {
            Some((VersionLabels::of(target, target.version()?), flown.clone()))
        };
        sorted(self.all().filter_map(labelled))
    }
}

fn sorted<L: Ord>(figures: impl Iterator<Item = (L, Sample)>) -> Vec<(L, Sample)> {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(|(one, _), (two, _)| one.cmp(two));
    figures
}

impl ServiceTotals {
    pub(super) fn add(&mut self, now: Instant, target: &EdgeTarget, flown: &Sample) {
        if let Some(total) = self.0.get_mut(target) {
            total.reported_at = now;
            total.flown.add(flown);
        } else {
            self.0.insert(target.clone(), Total { reported_at: now, flown: flown.clone() });
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct EdgeLabels {
    source: String,
    destination: String,
    port: String,
    /// Empty, which for Prometheus is absent, when the calls name none.
    subset: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct RuleLabels {
    source: String,
    destination: String,
    port: String,
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct VersionLabels {
    destination: String,
    port: String,
    version: String,
}

impl VersionLabels {
    fn of(target: &EdgeTarget, version: &str) -> Self {
        let Destination { service, port, subset: _ } = &target.destination;
        Self { destination: service.to_string(), port: port.to_string(), version: version.to_owned() }
    }
}

impl EdgeLabels {
    fn of(source: &ServiceId, target: &EdgeTarget) -> Self {
        let to = &target.destination;
        Self {
            source: source.to_string(),
            destination: to.service.to_string(),
            port: to.port.to_string(),
            subset: to.subset.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

impl RuleLabels {
    fn of(source: &ServiceId, target: &EdgeTarget) -> Self {
        let EdgeLabels { source, destination, port, subset: _ } = EdgeLabels::of(source, target);
        Self { source, destination, port, route: target.route().unwrap_or_default() }
    }
}

/// One counter of an edge: name, what it counts, and where it stands in a sample.
type EdgeCounter = (&'static str, &'static str, EdgeStatistic);

const OF_EDGES: [EdgeCounter; 7] = [
    ("edge_requests", "Requests that completed, by the caller's sidecars", EdgeStatistic::Completed),
    ("edge_errors", "Answers of 500 and above", EdgeStatistic::ServerErrors),
    ("edge_denied", "Answers of 403, as a Deny gives", EdgeStatistic::Denied),
    ("edge_retries", "Tries after the first", EdgeStatistic::Retries),
    ("edge_connections", "Connections from one service to another", EdgeStatistic::Connections),
    ("edge_sent_bytes", "Bytes to the called service; of TCP", EdgeStatistic::BytesSent),
    ("edge_received_bytes", "Bytes from the called service; of TCP", EdgeStatistic::BytesReceived),
];

const OF_RULES: [EdgeCounter; 4] = [
    ("route_requests", "Requests that completed, by the rule that they followed", EdgeStatistic::Completed),
    ("route_errors", "Answers of 500 and above, by rule", EdgeStatistic::ServerErrors),
    ("route_denied", "Answers of 403, as a Deny gives, by rule", EdgeStatistic::Denied),
    ("route_retries", "Tries after the first, by rule", EdgeStatistic::Retries),
];

const OF_VERSIONS: [EdgeCounter; 2] = [
    (
        "version_requests",
        "Requests that instances of a version answered, whoever called",
        EdgeStatistic::Completed,
    ),
    ("version_errors", "Their answers of 500 and above", EdgeStatistic::ServerErrors),
];

impl Collector for Edges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (edges, rules, versions, bytes) = {
            let callers = self.lock();
            let totals = &callers.totals;
            (totals.edges(), totals.rules(), totals.versions(), callers.history.bytes())
        };
        counters(&mut encoder, &OF_EDGES, &edges)?;
        counters(&mut encoder, &OF_RULES, &rules)?;
        counters(&mut encoder, &OF_VERSIONS, &versions)?;
        shadow_denied(&mut encoder, &versions)?;
        latencies(&mut encoder, "edge_latency_seconds", "Time to the answer", &edges)?;
        latencies(&mut encoder, "route_latency_seconds", "Time to the answer, by rule", &rules)?;
        latencies(&mut encoder, "version_latency_seconds", "Time to the answer, by version", &versions)?;
        self.encode_now(&mut encoder)?;
        gauge(&mut encoder, "edge_history_bytes", "Bytes that the histories of edges take", bytes as u64)
    }
}

impl Edges {
    /// What is true now.
    fn encode_now(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let now: Vec<(EdgeLabels, u64, EdgeState)> = self
            .flows(Instant::now())
            .wholes
            .into_iter()
            .filter(|(_, flow)| flow.used)
            .map(|((source, target), flow)| {
                (EdgeLabels::of(&source, &target), flow::count(flow.flown.open()), flow.state())
            })
            .collect();
        let help = "Requests under way, or connections open";
        let mut open = encoder.encode_descriptor("edge_open", help, None, MetricType::Gauge)?;
        for (labels, count, _) in &now {
            ConstGauge::new(signed(*count)).encode(open.encode_family(labels)?)?;
        }
        let help = "1 where requests wait and none is answered";
        let mut silent = encoder.encode_descriptor("edge_silent", help, None, MetricType::Gauge)?;
        for (labels, _, state) in &now {
            let is_silent = i64::from(*state == EdgeState::Silent);
            ConstGauge::new(is_silent).encode(silent.encode_family(labels)?)?;
        }
        Ok(())
    }
}

fn counters<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    counters: &[EdgeCounter],
    figures: &[(L, Sample)],
) -> fmt::Result {
    for (name, help, statistic) in counters {
        let counts_bytes = matches!(statistic, EdgeStatistic::BytesSent | EdgeStatistic::BytesReceived);
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, flown) in figures {
            // Of HTTP, not every proxy counts bytes.
            if counts_bytes && flown.protocol == EdgeProtocol::Http {
                continue;
            }
            ConstCounter::new(flown.of(*statistic)).encode(metric.encode_family(labels)?)?;
        }
    }
    Ok(())
}

fn shadow_denied(encoder: &mut DescriptorEncoder<'_>, versions: &[(VersionLabels, Sample)]) -> fmt::Result {
    let help = "Requests or connections that passed and that a policy with mode Shadow would refuse";
    let mut metric = encoder.encode_descriptor("version_shadow_denied", help, None, MetricType::Counter)?;
    for (labels, flown) in versions {
        ConstCounter::new(flown.shadow_denied).encode(metric.encode_family(labels)?)?;
    }
    Ok(())
}

fn latencies<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    figures: &[(L, Sample)],
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (labels, flown) in figures.iter().filter(|(_, flown)| flown.latencies.count() > 0) {
        let bounds = HISTOGRAM_BOUNDS.map(|milliseconds| milliseconds / 1000.0).into_iter().chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(flown.latencies.0).collect();
        let sum = flown.latency_sum / 1000.0;
        let mut metric = metric.encode_family(labels)?;
        metric.encode_histogram::<NoLabelSet>(sum, flown.latencies.count(), &buckets, None)?;
    }
    Ok(())
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(signed(value)).encode(metric)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::super::Moment;
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
            let mut sample = Sample::default()
                .with(EdgeStatistic::Completed, requests)
                .with(EdgeStatistic::Denied, requests)
                .with(EdgeStatistic::Open, 3.0)
                .with(EdgeStatistic::Connections, 1.0);
            (sample.latencies.0[1], sample.latency_sum) = (4, 2.0);
            let rule = Sample::of_rule().with(EdgeStatistic::Completed, requests.min(7.0));
            let following = EdgeTarget::following("shop/cart/http", "other");
            let samples = [(EdgeTarget::named("shop/cart/http/v1"), sample), (following, rule)];
            let now = Moment { at: start + Duration::from_secs(at), millis: 1000 * at };
            edges.record(now, &workload.parse().unwrap(), &source, samples);
        };
        // What it did before is another replica's, or of a time before this one's.
        report("shop/web-1", 0, 1000.0);
        report("shop/web-2", 0, 50.0);
        report("shop/web-1", 5, 1007.0);
        report("shop/web-2", 5, 53.0);
        // It restarts, and has done two since.
        report("shop/web-2", 10, 2.0);
        let text = shown(&edges);
        let labels = "source=\"shop/web\",destination=\"shop/cart\",port=\"http\"";
        for line in [
            format!("weft_route_requests_total{{{labels},route=\"other rules\"}} 2"),
            format!("weft_edge_latency_seconds_bucket{{le=\"0.001\",{labels},subset=\"v1\"}} 12"),
            format!("weft_edge_latency_seconds_count{{{labels},subset=\"v1\"}} 12"),
            format!("weft_edge_latency_seconds_sum{{{labels},subset=\"v1\"}} 0.006"),
            format!("weft_edge_open{{{labels},subset=\"v1\"}} 6"),
            format!("weft_edge_silent{{{labels},subset=\"v1\"}} 0"),
        ] {
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("sent_bytes_total{"), "of HTTP there are no bytes");
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
        totals.of(&source).add(now, &EdgeTarget::named("shop/cart/http"), &Sample::default());
        totals.sweep(now + FORGOTTEN);
        assert_eq!(totals.edges().len(), 1);
        totals.sweep(now + FORGOTTEN + Duration::from_secs(1));
        assert!(totals.edges().is_empty() && totals.0.is_empty());
    }
}
