//! How far the clocks of workloads' machines are off, by the times that their statistics carry.
//!
//! A certificate is valid from some time to another: a machine whose clock is off refuses its peers, and they refuse it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use envoy_types::pb::io::prometheus::client::MetricFamily;
use weft_api::WorkloadId;

/// What a report may take on its way, and a clock be off without harm: certificates begin two minutes before they are issued.
const TOLERATED_MS: i64 = 30_000;
/// What was seen holds so long: reports come each few seconds.
const LIFE: Duration = Duration::from_secs(60);

/// The clocks of the workloads that report to this replica. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ClockOffsets(Arc<Mutex<SeenClocks>>);

#[derive(Debug, Default)]
struct SeenClocks {
    by_workload: HashMap<WorkloadId, (Instant, i64)>,
    swept_at: Option<Instant>,
}

impl ClockOffsets {
    /// Takes the time that a report says it was made at, and the time of day here, in milliseconds since 1970. Gives the
    /// offset where the clock is off.
    pub fn note(&self, now: Instant, workload: &WorkloadId, reported: i64, here: u64) -> Option<i64> {
        let offset = reported.saturating_sub(i64::try_from(here).unwrap_or(i64::MAX));
        let mut seen = self.lock();
        if seen.swept_at.is_none_or(|at| now.saturating_duration_since(at) >= LIFE) {
            seen.by_workload.retain(|_, (at, _)| now.saturating_duration_since(*at) < LIFE);
            seen.swept_at = Some(now);
        }
        if offset.saturating_abs() < TOLERATED_MS {
            seen.by_workload.remove(workload);
            return None;
        }
        seen.by_workload.insert(workload.clone(), (now, offset));
        Some(offset)
    }

    /// How far a workload's clock is off, in milliseconds: positive when it is ahead. Nothing where it is right, or nothing was
    /// reported for a while.
    #[must_use]
    pub fn of(&self, now: Instant, workload: &WorkloadId) -> Option<i64> {
        let seen = self.lock();
        let (at, offset) = seen.by_workload.get(workload)?;
        (now.saturating_duration_since(*at) < LIFE).then_some(*offset)
    }

    // A lock because each stream of statistics has a task of its own; held for a look at the map.
    fn lock(&self) -> MutexGuard<'_, SeenClocks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a report was made, by the clock of the machine that made it.
#[must_use]
pub fn made_at(families: &[MetricFamily]) -> Option<i64> {
    families
        .iter()
        .flat_map(|family| &family.metric)
        .find_map(|metric| metric.timestamp_ms)
        .filter(|at| *at > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_known_until_it_is_right_or_nothing_is_heard() {
        let (offsets, now) = (ClockOffsets::default(), Instant::now());
        let (web, cart) = ("shop/web-1".parse().unwrap(), "shop/cart-1".parse().unwrap());
        assert_eq!(offsets.note(now, &web, 1_000_000, 1_000_500), None, "a report takes time");
        assert_eq!(offsets.note(now, &web, 1_000_000, 2_000_000), Some(-1_000_000));
        assert_eq!(offsets.note(now, &cart, 2_000_000, 1_000_000), Some(1_000_000));
        assert_eq!((offsets.of(now, &web), offsets.of(now, &cart)), (Some(-1_000_000), Some(1_000_000)));
        assert_eq!(offsets.note(now, &cart, 1_000_000, 1_000_000), None);
        assert_eq!((offsets.of(now, &cart), offsets.of(now + LIFE, &web)), (None, None));
        offsets.note(now + LIFE, &cart, 0, 0);
        assert!(offsets.lock().by_workload.is_empty(), "what nobody asks for is kept");
    }
}
