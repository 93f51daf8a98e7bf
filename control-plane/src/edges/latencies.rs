//! How long answers took, by buckets that both proxies report.

use serde::{Deserialize, Serialize};
use weft_api::HISTOGRAM_BOUNDS;

/// How many buckets there are.
pub const BUCKETS: usize = HISTOGRAM_BOUNDS.len() + 1;
/// Buckets that are read of a report, at most; both proxies send about twenty.
const MOST_BUCKETS: usize = 64;

/// Answers by how long they took: a count for each bucket, not cumulative.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Latencies(pub [u64; BUCKETS]);

impl Latencies {
    /// Reads a histogram, (upper bound, count up to it) ascending, whose last bound may be infinite. One with other bounds
    /// is read as far as these tell; nothing where there are too many, or the bounds or counts fall.
    #[must_use]
    pub fn read(cumulative: impl IntoIterator<Item = (f64, u64)>, total: u64) -> Self {
        let mut read = Self::default();
        let mut below = (f64::NEG_INFINITY, 0);
        for (place, (bound, count)) in cumulative.into_iter().chain([(f64::INFINITY, total)]).enumerate() {
            let infinite_again = bound == f64::INFINITY && below.0 == f64::INFINITY;
            if infinite_again {
                continue;
            }
            let rises = bound > below.0 && count >= below.1;
            if place > MOST_BUCKETS || !rises {
                return Self::default();
            }
            read.0[HISTOGRAM_BOUNDS.partition_point(|upper| *upper < bound)] += count - below.1;
            below = (bound, count);
        }
        read
    }

    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// How many answers there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// A quantile in milliseconds, interpolated within its bucket; the last bound for what is above it, and nothing
    /// without answers.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts of requests fit an f64 exactly up to 2^53")]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let rank = q * total as f64;
        let (mut lower, mut below) = (0.0, 0.0);
        for (upper, count) in HISTOGRAM_BOUNDS.into_iter().zip(self.0) {
            let count = count as f64;
            if count > 0.0 && below + count >= rank {
                return Some(lower + (upper - lower) * ((rank - below) / count).clamp(0.0, 1.0));
            }
            below += count;
            lower = upper;
        }
        Some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantile_interpolates_within_a_bucket() {
        let read = Latencies::read([(10.0, 50), (25.0, 100)], 100);
        assert!((read.quantile(0.75).unwrap() - 17.5).abs() < 1e-9);
        assert!((read.quantile(0.5).unwrap() - 10.0).abs() < 1e-9);
        assert_eq!(Latencies::default().quantile(0.5), None);
        let slow = Latencies::read([(1.0, 0), (f64::INFINITY, 3)], 3);
        assert_eq!(
            (slow.quantile(0.5), slow.count()),
            (Some(HISTOGRAM_BOUNDS[HISTOGRAM_BOUNDS.len() - 1]), 3)
        );
    }

    #[test]
    fn other_bounds_are_read_as_far_as_these_tell() {
        let read = Latencies::read([(0.7, 2), (3.0, 5)], 6);
        assert_eq!(read.0[..3], [0, 2, 3], "0.7 ms is within 1, and 3 ms within 5");
        assert_eq!((read.0[BUCKETS - 1], read.count()), (1, 6));
    }

    #[test]
    fn what_is_no_histogram_counts_nothing() {
        for wrong in [vec![(2.0, 1), (1.0, 2)], vec![(1.0, 5), (2.0, 3)], vec![(f64::NAN, 1)], vec![(1.0, 9)]]
        {
            assert_eq!(Latencies::read(wrong.clone(), 8), Latencies::default(), "{wrong:?}");
        }
        let many = (1..100).map(|n| (f64::from(n), 1));
        assert_eq!(Latencies::read(many, 1), Latencies::default());
    }
}
