//! `/stats` as Envoy prints it.

use std::fmt::Write as _;

use super::histogram::Histogram;
use super::registry::{SeriesReading, StatValue};

const QUANTILES: [(&str, f64); 10] = [
    ("P0", 0.0),
    ("P25", 0.25),
    ("P50", 0.5),
    ("P75", 0.75),
    ("P90", 0.9),
    ("P95", 0.95),
    ("P99", 0.99),
    ("P99.5", 0.995),
    ("P99.9", 0.999),
    ("P100", 1.0),
];

/// One line a series: `name: value`, counters and gauges first, then histograms, each sorted by name. `keep` chooses
/// by name.
pub fn render_text(readings: &[SeriesReading<'_>], keep: impl Fn(&str) -> bool) -> String {
    let (mut plain, mut histograms) = (String::new(), String::new());
    for reading in readings.iter().filter(|reading| keep(&reading.name)) {
        let name = &reading.name;
        // Writing to a String cannot fail.
        let _ = match reading.value {
            StatValue::Counter(n) => writeln!(plain, "{name}: {n}"),
            StatValue::Gauge(n) => writeln!(plain, "{name}: {n}"),
            StatValue::Histogram(None) => writeln!(histograms, "{name}: No recorded values"),
            StatValue::Histogram(Some(histogram)) => writeln!(histograms, "{name}: {}", summary(histogram)),
        };
    }
    plain + &histograms
}

/// `P0(nan,1) P25(nan,1.025) …`: Envoy prints the last interval and the whole life; the interval is not kept here.
fn summary(histogram: &Histogram) -> String {
    let mut out = String::new();
    for (label, quantile) in QUANTILES {
        let gap = if out.is_empty() { "" } else { " " };
        let _ = write!(out, "{gap}{label}(nan,{})", number(histogram.quantile(quantile)));
    }
    out
}

/// A number as short as it can be without loss.
pub(super) fn number(value: f64) -> String {
    if value.is_nan() { "nan".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::{Shard, StatsRegistry, StatsScope, StatsSnapshot};
    use super::*;
    use std::time::Duration;

    #[test]
    fn prints_counters_then_histograms_as_envoy_does() {
        let mut registry = StatsRegistry::new();
        let scope = StatsScope::cluster("web");
        let time = registry.histogram(&scope, "upstream_rq_time");
        registry.histogram(&scope, "upstream_cx_length_ms");
        let total = registry.counter(&scope, "upstream_rq_total");
        let shard = Shard::default();
        shard.add(total, 3);
        shard.record(time, Duration::from_millis(1));
        let totals = StatsSnapshot::sum([&shard.collect()]);
        let text = render_text(&registry.readings(&totals), |_| true);
        assert_eq!(
            text,
            "cluster.web.upstream_rq_total: 3\n\
             cluster.web.upstream_cx_length_ms: No recorded values\n\
             cluster.web.upstream_rq_time: P0(nan,1) P25(nan,1.025) P50(nan,1.05) P75(nan,1.075) P90(nan,1.09) \
             P95(nan,1.095) P99(nan,1.099) P99.5(nan,1.0995) P99.9(nan,1.0999) P100(nan,1.1)\n"
        );
        assert_eq!(
            render_text(&registry.readings(&totals), |name| name.ends_with("rq_total")).lines().count(),
            1
        );
    }
}
