//! The points of a selection, as the API shows them.

use std::collections::BTreeMap;

use weft_api::rest::{EdgePoint, EdgeSeries, SeriesStep};

use super::point::Point;
use super::ring::{FINE, Grain};

/// Reports come this often: a step is whole once every caller has reported after its end.
const REPORTS: u64 = 5;

/// The steps that are shown, which are all whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Steps {
    pub first: u64,
    /// The one behind the last.
    pub end: u64,
}

impl Steps {
    /// Those of the last `seconds`, at most as many as are kept.
    #[must_use]
    pub fn until(now_millis: u64, grain: Grain, seconds: u64) -> Self {
        let end = (now_millis / 1000).saturating_sub(REPORTS) / grain.step;
        let first = end.saturating_sub(grain.kept.min(seconds.div_ceil(grain.step)));
        Self { first, end }
    }
}

/// One point for each step, from the first that something is known of.
#[must_use]
pub fn shown(points: &BTreeMap<u64, Point>, steps: Steps, grain: Grain) -> EdgeSeries {
    let step = if grain == FINE { SeriesStep::FiveSeconds } else { SeriesStep::OneMinute };
    let first = points.keys().next().map_or(steps.end, |first| steps.first.max(*first));
    let point = |at: u64| shown_point(at, points.get(&at).copied().unwrap_or_default(), grain);
    EdgeSeries { step, points: (first..steps.end).map(point).collect(), unheard: 0 }
}

#[allow(clippy::cast_precision_loss, reason = "counts of requests fit an f64 exactly up to 2^53")]
fn shown_point(step: u64, point: Point, grain: Grain) -> EdgePoint {
    let per_second = |count: u64| count as f64 / grain.step as f64;
    let told = point.told();
    let share = |part: u64| (told > 0).then(|| (part as f64 / told as f64).clamp(0.0, 1.0));
    let bytes = |count: u64| (count > 0).then(|| per_second(count));
    EdgePoint {
        at: step * grain.step,
        rate: per_second(point.events()),
        success: share(told.saturating_sub(point.failed()).saturating_sub(point.denied())),
        failed: share(point.failed()),
        denied: share(point.denied()),
        open: point.open(),
        bytes_sent: bytes(point.sent()),
        bytes_received: bytes(point.received()),
        p50_ms: point.latencies.quantile(0.5),
        p90_ms: point.latencies.quantile(0.9),
        p99_ms: point.latencies.quantile(0.99),
    }
}
