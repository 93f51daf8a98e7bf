//! Reading one report of Envoy's metrics service.

use std::collections::HashMap;

use envoy_types::pb::io::prometheus::client::{MetricFamily, MetricType};
use serde::{Deserialize, Serialize};
use weft_api::rest::EdgeProtocol;
use weft_api::{EdgeStatistic, Measured, StatisticKind, shadow_denied};

use super::latencies::Latencies;

/// Counters and gauges, which stand before the only histogram.
const VALUES: usize = EdgeStatistic::ALL.len() - 1;

/// Figures of one destination on one proxy: cumulative counts, gauges as they are, and the latencies since the report
/// before (Envoy reports histograms so).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What is carried there.
    pub protocol: EdgeProtocol,
    /// `upstream_rq_time` since the sample before.
    pub latencies: Latencies,
    /// The latencies' sum, in milliseconds.
    pub latency_sum: f64,
    /// How many requests or connections that came in policies that are only tried would have refused.
    #[serde(default)]
    pub shadow_denied: f64,
    /// The proxy tells what completed. One of an older release tells what was begun only.
    pub tells_completed: bool,
    /// The proxy tells what is open: of destinations, and not of rules.
    pub tells_open: bool,
    pub(super) values: [f64; VALUES],
}

impl Sample {
    /// Of a destination, before anything was told.
    #[must_use]
    pub fn of_protocol(protocol: EdgeProtocol) -> Self {
        Self { protocol, ..Self::default() }
    }

    /// Of a rule, before anything was told. A proxy that counts rules at all tells what completed.
    #[must_use]
    pub fn of_rule() -> Self {
        Self { tells_completed: true, ..Self::default() }
    }

    /// A figure; nothing for the histogram, which stands beside.
    #[must_use]
    pub fn of(&self, statistic: EdgeStatistic) -> f64 {
        self.values.get(statistic as usize).copied().unwrap_or_default()
    }

    /// The same with a figure. What is no count is none.
    #[must_use]
    pub fn with(mut self, statistic: EdgeStatistic, value: f64) -> Self {
        self.set(statistic, value);
        self
    }

    fn set(&mut self, statistic: EdgeStatistic, value: f64) {
        self.tells_open |= statistic == EdgeStatistic::Open;
        self.tells_completed |= matches!(statistic, EdgeStatistic::Completed | EdgeStatistic::Open);
        if let Some(place) = self.values.get_mut(statistic as usize) {
            *place = if value.is_finite() { value.max(0.0) } else { 0.0 };
        }
    }

    /// True when a counter went back.
    #[must_use]
    pub fn restarted_since(&self, earlier: &Self) -> bool {
        [EdgeStatistic::Begun, EdgeStatistic::Completed, EdgeStatistic::Connections]
            .into_iter()
            .any(|statistic| self.of(statistic) < earlier.of(statistic))
    }

    /// What came after an earlier sample; gauges as they are now, and no latencies.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = Self { latencies: Latencies::default(), latency_sum: 0.0, ..self.clone() };
        for counter in counters() {
            since.values[counter as usize] = (self.of(counter) - earlier.of(counter)).max(0.0);
        }
        since.shadow_denied = (self.shadow_denied - earlier.shadow_denied).max(0.0);
        since
    }

    /// Adds another caller's figures.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.values.iter_mut().zip(&other.values) {
            *mine += theirs;
        }
        self.shadow_denied += other.shadow_denied;
        self.protocol = other.protocol;
        self.tells_completed |= other.tells_completed;
        self.tells_open |= other.tells_open;
        self.add_latencies(other);
    }

    /// Adds another one's latencies only.
    pub fn add_latencies(&mut self, other: &Self) {
        self.latencies.add(&other.latencies);
        self.latency_sum += other.latency_sum;
    }

    /// Requests that completed, or connections; requests begun, where that is all that is told.
    #[must_use]
    pub fn events(&self) -> f64 {
        self.of(match (self.protocol, self.tells_completed) {
            (EdgeProtocol::Tcp, _) => EdgeStatistic::Connections,
            (EdgeProtocol::Http, true) => EdgeStatistic::Completed,
            (EdgeProtocol::Http, false) => EdgeStatistic::Begun,
        })
    }

    /// Requests that are under way, or connections that are open.
    #[must_use]
    pub fn open(&self) -> f64 {
        self.of(match self.protocol {
            EdgeProtocol::Http => EdgeStatistic::Open,
            EdgeProtocol::Tcp => EdgeStatistic::OpenConnections,
        })
    }

    /// True when anything ever went over it, or was meant to.
    #[must_use]
    pub fn used(&self) -> bool {
        let established = self.of(EdgeStatistic::Connections) - self.of(EdgeStatistic::FailedConnections);
        let is_rule_in_use = !self.tells_open && self.tells_completed && self.of(EdgeStatistic::Begun) > 0.0;
        let completed = self.of(EdgeStatistic::Completed) > 0.0;
        self.of(EdgeStatistic::Handshakes) > 0.0 || established > 0.0 || completed || is_rule_in_use
    }

    /// Connections that were established without TLS.
    #[must_use]
    pub fn plaintext_connections(&self) -> f64 {
        if self.of(EdgeStatistic::Handshakes) > 0.0 {
            // A TLS cluster counts a connection before its handshake; the difference is what is under way.
            return 0.0;
        }
        (self.of(EdgeStatistic::Connections) - self.of(EdgeStatistic::FailedConnections)).max(0.0)
    }

    /// Share of what completed that failed: answers of 500 and above, or connections that could not be opened.
    #[must_use]
    pub fn failed(&self) -> Option<f64> {
        match self.protocol {
            EdgeProtocol::Http => self.share(EdgeStatistic::ServerErrors, EdgeStatistic::Completed),
            EdgeProtocol::Tcp => self.share(EdgeStatistic::FailedConnections, EdgeStatistic::Connections),
        }
    }

    /// Share of answers of 403, as a policy's Deny gives.
    #[must_use]
    pub fn denied(&self) -> Option<f64> {
        match self.protocol {
            EdgeProtocol::Http => self.share(EdgeStatistic::Denied, EdgeStatistic::Completed),
            EdgeProtocol::Tcp => None,
        }
    }

    /// Share of what completed that neither failed nor was refused.
    #[must_use]
    pub fn success(&self) -> Option<f64> {
        let others = self.failed()? + self.denied().unwrap_or_default();
        Some((1.0 - others).clamp(0.0, 1.0))
    }

    fn share(&self, part: EdgeStatistic, whole: EdgeStatistic) -> Option<f64> {
        let whole = self.of(whole);
        (whole > 0.0).then(|| (self.of(part) / whole).clamp(0.0, 1.0))
    }
}

fn counters() -> impl Iterator<Item = EdgeStatistic> {
    EdgeStatistic::ALL.into_iter().filter(|statistic| statistic.kind() == StatisticKind::Counter)
}

/// Reads the families of one report into samples by what is measured, of what is to be kept: `keep` says what that is, and
/// with what its sample begins. Other families are passed over. What stands there more than once is summed: a rule is
/// counted in each virtual host that has it.
#[must_use]
pub fn read<K>(
    families: &[MetricFamily],
    keep: impl Fn(Measured<'_>) -> Option<(K, Sample)>,
) -> Vec<(K, Sample)> {
    let mut samples: HashMap<Measured<'_>, Option<(K, Sample)>> = HashMap::new();
    for family in families {
        let name = family.name.as_deref().unwrap_or_default();
        if let Some(port) = shadow_denied(name) {
            let measured = Measured::Cluster(port);
            if let Some((_, sample)) = samples.entry(measured).or_insert_with(|| keep(measured)) {
                let counted = value(family);
                sample.shadow_denied += if counted.is_finite() { counted.max(0.0) } else { 0.0 };
            }
            continue;
        }
        let Some((measured, statistic)) = EdgeStatistic::parse(name) else { continue };
        let Some((_, sample)) = samples.entry(measured).or_insert_with(|| keep(measured)) else { continue };
        match statistic.kind() {
            StatisticKind::Counter | StatisticKind::Gauge => {
                sample.set(statistic, sample.of(statistic) + value(family));
            }
            StatisticKind::Histogram => {
                let (latencies, sum) = latencies(family);
                sample.latencies.add(&latencies);
                sample.latency_sum += sum;
            }
        }
    }
    samples.into_values().flatten().collect()
}

fn value(family: &MetricFamily) -> f64 {
    let values = family.metric.iter().map(|metric| {
        let counter = metric.counter.as_ref().and_then(|counter| counter.value);
        counter.or_else(|| metric.gauge.as_ref().and_then(|gauge| gauge.value)).unwrap_or(0.0)
    });
    values.sum()
}

/// The latencies, and their sum.
fn latencies(family: &MetricFamily) -> (Latencies, f64) {
    let histogram = family.metric.first().and_then(|metric| metric.histogram.as_ref());
    let Some(histogram) = histogram.filter(|_| family.r#type() == MetricType::Histogram) else {
        return (Latencies::default(), 0.0);
    };
    let buckets = histogram.bucket.iter().map(|bucket| {
        (bucket.upper_bound.unwrap_or(f64::INFINITY), bucket.cumulative_count.unwrap_or_default())
    });
    let sum = histogram.sample_sum.filter(|sum| sum.is_finite()).unwrap_or_default();
    (Latencies::read(buckets, histogram.sample_count.unwrap_or_default()), sum.max(0.0))
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::io::prometheus::client::{Counter, Gauge, Metric};
    use weft_api::Destination;

    use super::*;

    fn counter(name: &str, value: f64) -> MetricFamily {
        let counter = Counter { value: Some(value), ..Counter::default() };
        MetricFamily {
            name: Some(name.to_owned()),
            r#type: Some(MetricType::Counter.into()),
            metric: vec![Metric { counter: Some(counter), ..Metric::default() }],
            ..MetricFamily::default()
        }
    }

    fn gauge(name: &str, value: f64) -> MetricFamily {
        MetricFamily {
            r#type: Some(MetricType::Gauge.into()),
            metric: vec![Metric { gauge: Some(Gauge { value: Some(value) }), ..Metric::default() }],
            ..counter(name, 0.0)
        }
    }

    fn of_the_mesh(measured: Measured<'_>) -> Option<(String, Sample)> {
        match measured {
            Measured::Cluster(cluster) => {
                let kept = Destination::parse(cluster).is_some() && !cluster.contains("made-up");
                kept.then(|| (cluster.to_owned(), Sample::default()))
            }
            Measured::Route(prefix) => Some((prefix.to_owned(), Sample::of_rule())),
        }
    }

    #[test]
    fn rule_that_stands_in_two_virtual_hosts_is_one() {
        let families = [
            counter("vhost.outbound/shop/cart.shop_80.route.shop/cart/http/other.upstream_rq_total", 7.0),
            counter("vhost.upstream.route.shop/cart/http/other.upstream_rq_total", 2.0),
            counter("vhost.upstream.route.shop/cart/http/other.upstream_rq_completed", 1.0),
        ];
        let samples = read(&families, of_the_mesh);
        let [(prefix, sample)] = &samples[..] else { panic!("{samples:?}") };
        assert_eq!(prefix, "shop/cart/http/other");
        assert_eq!((sample.of(EdgeStatistic::Begun), sample.events(), sample.used()), (9.0, 1.0, true));
    }

    #[test]
    fn reads_the_clusters_of_the_mesh_and_no_others() {
        let families = [
            counter("cluster.shop/cart/http.upstream_rq_total", 7.0),
            counter("cluster.shop/cart/http.upstream_rq_completed", 5.0),
            gauge("cluster.shop/cart/http.upstream_rq_active", 2.0),
            counter("cluster.shop/cart/http.ssl.handshake", 2.0),
            counter("cluster.shop/cart/http.retry.upstream_rq_completed", 900.0),
            counter("cluster.shop/made-up/http.upstream_rq_total", 9.0),
            counter("cluster.weft_control_plane.upstream_rq_total", 9.0),
            counter("http.inbound.downstream_rq_total", 9.0),
        ];
        let samples = read(&families, of_the_mesh);
        let [(cluster, sample)] = &samples[..] else { panic!("{samples:?}") };
        assert_eq!(cluster, "shop/cart/http");
        let expected = Sample::default()
            .with(EdgeStatistic::Begun, 7.0)
            .with(EdgeStatistic::Completed, 5.0)
            .with(EdgeStatistic::Open, 2.0)
            .with(EdgeStatistic::Handshakes, 2.0);
        assert_eq!(*sample, expected);
        assert!((sample.open() - 2.0).abs() < 1e-9 && (sample.events() - 5.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_no_number_counts_nothing() {
        let families = [
            counter("cluster.shop/cart/http.upstream_rq_completed", f64::NAN),
            counter("cluster.shop/cart/http.upstream_rq_5xx", -3.0),
            counter("cluster.shop/cart/http.upstream_rq_403", f64::INFINITY),
        ];
        let (_, sample) = read(&families, of_the_mesh).remove(0);
        assert_eq!(sample.success(), None);
        assert!(sample.values.iter().all(|value| *value == 0.0), "{sample:?}");
    }

    #[test]
    fn refusals_and_failures_are_no_success() {
        let sample = Sample::default()
            .with(EdgeStatistic::Completed, 100.0)
            .with(EdgeStatistic::ServerErrors, 10.0)
            .with(EdgeStatistic::Denied, 30.0);
        assert_eq!((sample.failed(), sample.denied()), (Some(0.1), Some(0.3)));
        assert!((sample.success().unwrap() - 0.6).abs() < 1e-9);
        let connections = Sample { protocol: EdgeProtocol::Tcp, ..Sample::default() }
            .with(EdgeStatistic::Connections, 4.0)
            .with(EdgeStatistic::FailedConnections, 1.0)
            // Envoy counts connections of a TCP cluster as requests too.
            .with(EdgeStatistic::Begun, 4.0);
        assert_eq!((connections.success(), connections.denied()), (Some(0.75), None));
        assert!((connections.events() - 4.0).abs() < 1e-9);
    }

    #[test]
    fn proxy_that_does_not_tell_what_completed_has_a_rate_and_no_success() {
        let families = [
            counter("cluster.shop/cart/http.upstream_rq_total", 7.0),
            counter("cluster.shop/cart/http.upstream_rq_5xx", 1.0),
        ];
        let (_, sample) = read(&families, of_the_mesh).remove(0);
        assert!((sample.events() - 7.0).abs() < 1e-9);
        assert_eq!((sample.success(), sample.failed(), sample.denied()), (None, None, None));
    }
}
