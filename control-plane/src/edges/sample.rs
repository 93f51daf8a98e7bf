//! Reading one report of Envoy's metrics service.

use std::collections::HashMap;
use std::sync::Arc;

use envoy_types::pb::io::prometheus::client::{MetricFamily, MetricType};
use weft_api::EdgeStatistic;

/// Figures of one cluster on one proxy: cumulative counts, and the latencies since the report before (Envoy reports
/// histograms so).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// `upstream_rq_total`, or `upstream_rq_completed` where it is all there is.
    pub requests: f64,
    /// Answers of 500 and above: `upstream_rq_5xx`.
    pub errors: f64,
    /// Answers of 403: `upstream_rq_403`.
    pub denied: f64,
    /// `upstream_cx_total`.
    pub connections: f64,
    /// `upstream_cx_connect_fail`.
    pub failed_connections: f64,
    /// `ssl.handshake`.
    pub handshakes: f64,
    /// `upstream_rq_time` since the sample before: (upper bound in milliseconds, count up to it), ascending.
    pub latencies: Vec<(f64, f64)>,
}

impl Sample {
    /// True when a counter went back.
    #[must_use]
    pub fn restarted_since(&self, earlier: &Self) -> bool {
        self.requests < earlier.requests || self.connections < earlier.connections
    }

    /// What came after an earlier sample.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests - earlier.requests,
            errors: (self.errors - earlier.errors).max(0.0),
            denied: (self.denied - earlier.denied).max(0.0),
            connections: self.connections - earlier.connections,
            failed_connections: (self.failed_connections - earlier.failed_connections).max(0.0),
            handshakes: (self.handshakes - earlier.handshakes).max(0.0),
            latencies: Vec::new(),
        }
    }

    /// Adds another caller's figures.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.denied += other.denied;
        self.connections += other.connections;
        self.failed_connections += other.failed_connections;
        self.handshakes += other.handshakes;
        self.latencies = other.add_latencies(std::mem::take(&mut self.latencies));
    }

    /// Adds its latencies to a sum.
    #[must_use]
    pub fn add_latencies(&self, mut sum: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
        if sum.is_empty() {
            sum.clone_from(&self.latencies);
        } else if sum.len() == self.latencies.len() {
            for (mine, theirs) in sum.iter_mut().zip(&self.latencies) {
                mine.1 += theirs.1;
            }
        }
        sum
    }

    /// True when requests were counted, or may be; a TCP cluster counts connections only.
    #[must_use]
    pub fn speaks_http(&self) -> bool {
        self.requests > 0.0 || self.latencies.iter().any(|(_, count)| *count > 0.0)
    }

    /// True when anything ever went over it.
    #[must_use]
    pub fn used(&self) -> bool {
        self.handshakes > 0.0 || self.connections - self.failed_connections > 0.0
    }

    /// Connections that were established without TLS.
    #[must_use]
    pub fn plaintext_connections(&self) -> f64 {
        if self.handshakes > 0.0 {
            // A TLS cluster counts a connection before its handshake; the difference is what is under way.
            return 0.0;
        }
        (self.connections - self.failed_connections).max(0.0)
    }

    /// Share of answers below 500; absent without answers.
    #[must_use]
    pub fn success(&self) -> Option<f64> {
        (self.requests > 0.0).then(|| (1.0 - self.errors / self.requests).clamp(0.0, 1.0))
    }

    /// Share of answers of 403, as a policy's Deny gives; absent without answers.
    #[must_use]
    pub fn denied_share(&self) -> Option<f64> {
        (self.requests > 0.0).then(|| (self.denied / self.requests).clamp(0.0, 1.0))
    }

    /// A quantile of the latency in milliseconds, interpolated within its bucket.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.latencies.last().map(|(_, count)| *count).filter(|total| *total > 0.0)?;
        let rank = q * total;
        let (mut lower, mut below) = (0.0, 0.0);
        for (upper, count) in &self.latencies {
            if *count >= rank {
                if !upper.is_finite() || *count <= below {
                    return Some(lower);
                }
                return Some(lower + (upper - lower) * (rank - below) / (count - below));
            }
            (lower, below) = (*upper, *count);
        }
        Some(lower)
    }
}

/// Buckets of a histogram, at most; both proxies send about twenty.
const MOST_BUCKETS: usize = 64;

/// Reads the families of one report into samples by cluster, of those clusters that are to be kept. Other families are
/// passed over.
#[must_use]
pub fn read(families: &[MetricFamily], is_kept: impl Fn(&str) -> bool) -> HashMap<Arc<str>, Sample> {
    let mut samples: HashMap<Arc<str>, Sample> = HashMap::new();
    for family in families {
        let Some((cluster, statistic)) = family.name.as_deref().and_then(EdgeStatistic::parse) else {
            continue;
        };
        let sample = match samples.get_mut(cluster) {
            Some(sample) => sample,
            None if !is_kept(cluster) => continue,
            None => samples.entry(cluster.into()).or_default(),
        };
        let value = || counter(family);
        match statistic {
            EdgeStatistic::Requests => sample.requests = value(),
            EdgeStatistic::ServerErrors => sample.errors = value(),
            EdgeStatistic::Denied => sample.denied = value(),
            EdgeStatistic::Connections => sample.connections = value(),
            EdgeStatistic::FailedConnections => sample.failed_connections = value(),
            EdgeStatistic::Handshakes => sample.handshakes = value(),
            EdgeStatistic::Latency => {
                if family.r#type() == MetricType::Histogram {
                    sample.latencies = buckets(family);
                }
            }
        }
    }
    samples
}

fn counter(family: &MetricFamily) -> f64 {
    let values = family.metric.iter().map(|metric| {
        let counter = metric.counter.as_ref().and_then(|counter| counter.value);
        counter.or_else(|| metric.gauge.as_ref().and_then(|gauge| gauge.value)).unwrap_or(0.0)
    });
    values.sum()
}

#[allow(clippy::cast_precision_loss, reason = "counts of requests fit an f64 exactly up to 2^53")]
fn buckets(family: &MetricFamily) -> Vec<(f64, f64)> {
    let Some(histogram) = family.metric.first().and_then(|metric| metric.histogram.as_ref()) else {
        return Vec::new();
    };
    if histogram.bucket.len() > MOST_BUCKETS {
        return Vec::new();
    }
    let bucket = |b: &envoy_types::pb::io::prometheus::client::Bucket| {
        (b.upper_bound.unwrap_or(f64::INFINITY), b.cumulative_count.unwrap_or(0) as f64)
    };
    let mut buckets: Vec<_> = histogram.bucket.iter().map(bucket).collect();
    if buckets.last().is_none_or(|(bound, _)| bound.is_finite()) {
        buckets.push((f64::INFINITY, histogram.sample_count.unwrap_or(0) as f64));
    }
    buckets
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::io::prometheus::client::{Counter, Metric};
    use weft_api::Destination;

    use super::*;

    fn family(name: &str, value: f64) -> MetricFamily {
        let counter = Counter { value: Some(value), ..Counter::default() };
        MetricFamily {
            name: Some(name.to_owned()),
            r#type: Some(MetricType::Counter.into()),
            metric: vec![Metric { counter: Some(counter), ..Metric::default() }],
            ..MetricFamily::default()
        }
    }

    #[test]
    fn reads_the_clusters_of_the_mesh_and_no_others() {
        let families = [
            family("cluster.shop/cart/http.upstream_rq_total", 7.0),
            family("cluster.shop/cart/http.ssl.handshake", 2.0),
            family("cluster.shop/made-up/http.upstream_rq_total", 9.0),
            family("cluster.weft_control_plane.upstream_rq_total", 9.0),
            family("http.inbound.downstream_rq_total", 9.0),
        ];
        let samples =
            read(&families, |cluster| Destination::parse(cluster).is_some() && !cluster.contains("made-up"));
        assert_eq!(samples.len(), 1);
        let sample = &samples["shop/cart/http"];
        assert!((sample.requests - 7.0).abs() < 1e-9 && (sample.handshakes - 2.0).abs() < 1e-9);
    }

    #[test]
    fn quantile_interpolates_within_a_bucket() {
        let sample = Sample {
            latencies: vec![(10.0, 50.0), (20.0, 100.0), (f64::INFINITY, 100.0)],
            ..Sample::default()
        };
        assert!((sample.quantile(0.75).unwrap() - 15.0).abs() < 1e-9);
        assert_eq!(Sample::default().quantile(0.5), None);
    }
}
