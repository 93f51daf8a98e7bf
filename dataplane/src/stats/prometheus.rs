//! Statistics in Prometheus's text format and as its protobuf, with the names and labels that Envoy gives them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use envoy_types::pb::io::prometheus::client as wire;
use weft_api::HISTOGRAM_BOUNDS;

use super::registry::{SeriesReading, StatValue};
use super::text::number;

/// The text format: a `# TYPE` line for each family, then its series. `keep` chooses by Envoy's name.
pub fn render_prometheus(readings: &[SeriesReading<'_>], keep: impl Fn(&str) -> bool) -> String {
    let mut out = String::new();
    for (family, members) in grouped(readings, keep) {
        let Some(first) = members.first() else { continue };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# TYPE {family} {}", kind(&first.value));
        for reading in members {
            write_series(&mut out, family, reading);
        }
    }
    out
}

/// The protobuf of Prometheus's client model, as the metrics service carries it: families by Envoy's name where
/// `labelled` is false (Envoy's default), by the Prometheus name with labels where it is true.
pub fn families(
    readings: &[SeriesReading<'_>],
    labelled: bool,
    now_ms: i64,
    keep: impl Fn(&str) -> bool,
) -> Vec<wire::MetricFamily> {
    let family = |name: &str, members: &[&SeriesReading<'_>]| wire::MetricFamily {
        name: Some(name.to_owned()),
        r#type: members.first().map(|first| wire_kind(&first.value) as i32),
        metric: members.iter().map(|reading| metric(reading, labelled, now_ms)).collect(),
        ..wire::MetricFamily::default()
    };
    if labelled {
        return grouped(readings, keep).into_iter().map(|(name, members)| family(name, &members)).collect();
    }
    readings.iter().filter(|r| keep(&r.name)).map(|reading| family(&reading.name, &[reading])).collect()
}

fn grouped<'a>(
    readings: &'a [SeriesReading<'a>],
    keep: impl Fn(&str) -> bool,
) -> BTreeMap<&'a Arc<str>, Vec<&'a SeriesReading<'a>>> {
    let mut families: BTreeMap<&Arc<str>, Vec<&SeriesReading<'_>>> = BTreeMap::new();
    for reading in readings.iter().filter(|reading| keep(&reading.name)) {
        families.entry(&reading.family).or_default().push(reading);
    }
    families
}

fn kind(value: &StatValue<'_>) -> &'static str {
    match value {
        StatValue::Counter(_) => "counter",
        StatValue::Gauge(_) => "gauge",
        StatValue::Histogram(_) => "histogram",
    }
}

fn wire_kind(value: &StatValue<'_>) -> wire::MetricType {
    match value {
        StatValue::Counter(_) => wire::MetricType::Counter,
        StatValue::Gauge(_) => wire::MetricType::Gauge,
        StatValue::Histogram(_) => wire::MetricType::Histogram,
    }
}

fn write_series(out: &mut String, family: &str, reading: &SeriesReading<'_>) {
    let labels = labels(reading);
    let _ = match reading.value {
        StatValue::Counter(n) => writeln!(out, "{family}{{{labels}}} {n}"),
        StatValue::Gauge(n) => writeln!(out, "{family}{{{labels}}} {n}"),
        StatValue::Histogram(None) => return,
        StatValue::Histogram(Some(histogram)) => {
            let comma = if labels.is_empty() { "" } else { "," };
            for bound in HISTOGRAM_BOUNDS {
                let below = histogram.below(bound);
                let _ = writeln!(out, "{family}_bucket{{{labels}{comma}le=\"{}\"}} {below}", number(bound));
            }
            let count = histogram.count();
            let _ = writeln!(out, "{family}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
            let _ = writeln!(out, "{family}_sum{{{labels}}} {}", histogram.sum());
            writeln!(out, "{family}_count{{{labels}}} {count}")
        }
    };
}

fn labels(reading: &SeriesReading<'_>) -> String {
    let mut out = String::new();
    for (name, value) in &reading.labels {
        let comma = if out.is_empty() { "" } else { "," };
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(out, "{comma}{name}=\"{value}\"");
    }
    out
}

fn metric(reading: &SeriesReading<'_>, labelled: bool, now_ms: i64) -> wire::Metric {
    let mut metric = wire::Metric { timestamp_ms: Some(now_ms), ..wire::Metric::default() };
    if labelled {
        metric.label = reading
            .labels
            .iter()
            .map(|(name, value)| wire::LabelPair {
                name: Some((*name).to_owned()),
                value: Some(value.to_string()),
            })
            .collect();
    }
    match reading.value {
        StatValue::Counter(n) => {
            metric.counter = Some(wire::Counter { value: Some(n as f64), ..wire::Counter::default() });
        }
        StatValue::Gauge(n) => metric.gauge = Some(wire::Gauge { value: Some(n as f64) }),
        StatValue::Histogram(histogram) => {
            let bucket = |bound: f64| wire::Bucket {
                cumulative_count: Some(histogram.map_or(0, |h| h.below(bound))),
                upper_bound: Some(bound),
                ..wire::Bucket::default()
            };
            metric.histogram = Some(wire::Histogram {
                sample_count: Some(histogram.map_or(0, super::Histogram::count)),
                sample_sum: Some(histogram.map_or(0.0, super::Histogram::sum)),
                bucket: HISTOGRAM_BOUNDS.into_iter().map(bucket).collect(),
                ..wire::Histogram::default()
            });
        }
    }
    metric
}

#[cfg(test)]
mod tests {
    use super::super::{Shard, StatsRegistry, StatsScope, StatsSnapshot};
    use super::*;
    use std::time::Duration;

    fn sample() -> (StatsRegistry, StatsSnapshot) {
        let mut registry = StatsRegistry::new();
        let shard = Shard::default();
        for name in ["a", "b"] {
            let scope = StatsScope::cluster(name);
            shard.inc(registry.counter(&scope, "upstream_cx_total"));
            shard.response_code(registry.codes(&scope, "upstream_rq"), 200);
        }
        shard.record(
            registry.histogram(&StatsScope::cluster("a"), "upstream_rq_time"),
            Duration::from_micros(700),
        );
        (registry, StatsSnapshot::sum([&shard.collect()]))
    }

    #[test]
    fn one_type_line_stands_before_all_series_of_a_family() {
        let (registry, totals) = sample();
        let text = render_prometheus(&registry.readings(&totals), |_| true);
        assert!(text.contains(
            "# TYPE envoy_cluster_upstream_cx_total counter\n\
             envoy_cluster_upstream_cx_total{envoy_cluster_name=\"a\"} 1\n\
             envoy_cluster_upstream_cx_total{envoy_cluster_name=\"b\"} 1\n"
        ));
        assert!(text.contains(
            "envoy_cluster_upstream_rq_xx{envoy_response_code_class=\"2\",envoy_cluster_name=\"a\"} 1\n"
        ));
        assert!(
            text.contains(
                "envoy_cluster_upstream_rq{envoy_response_code=\"200\",envoy_cluster_name=\"b\"} 1\n"
            )
        );
    }

    #[test]
    fn histogram_buckets_are_cumulative_and_end_in_infinity() {
        let (registry, totals) = sample();
        let text = render_prometheus(&registry.readings(&totals), |name| name.ends_with("rq_time"));
        assert!(text.contains("upstream_rq_time_bucket{envoy_cluster_name=\"a\",le=\"0.5\"} 0\n"));
        assert!(text.contains("upstream_rq_time_bucket{envoy_cluster_name=\"a\",le=\"1\"} 1\n"));
        assert!(text.contains("upstream_rq_time_bucket{envoy_cluster_name=\"a\",le=\"3600000\"} 1\n"));
        assert!(text.contains("upstream_rq_time_bucket{envoy_cluster_name=\"a\",le=\"+Inf\"} 1\n"));
        assert!(text.contains("upstream_rq_time_sum{envoy_cluster_name=\"a\"} 0.7\n"));
        assert_eq!(text.matches("_bucket").count(), 20);
    }

    #[test]
    fn the_metrics_service_gets_one_family_for_each_name() {
        let (registry, totals) = sample();
        let readings = registry.readings(&totals);
        let plain = families(&readings, false, 5, |name| name.starts_with("cluster.a."));
        assert!(plain.iter().any(|family| family.name() == "cluster.a.upstream_rq_2xx"));
        assert!(
            plain.iter().all(|family| family.metric.len() == 1 && family.metric[0].timestamp_ms == Some(5))
        );
        let labelled = families(&readings, true, 5, |_| true);
        let total = labelled.iter().find(|f| f.name() == "envoy_cluster_upstream_cx_total").unwrap();
        assert_eq!(total.metric.len(), 2);
        assert_eq!(total.metric[0].label[0].value(), "a");
    }
}
