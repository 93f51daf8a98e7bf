//! A histogram with two significant decimal digits, as Envoy's, in bounded memory.
//!
//! A value is kept in thousandths of its unit: a time in milliseconds is counted with microseconds. One row of 90
//! bins covers a decade and is allocated when the decade is first met, so a histogram of request times costs some
//! two kilobytes.

const ROWS: usize = 13;
const BINS: usize = 90;
const SCALE: f64 = 1000.0;

/// Counts of values by magnitude.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    zeros: u64,
    rows: [Option<Box<[u64; BINS]>>; ROWS],
    count: u64,
    sum: u64,
}

impl Histogram {
    /// Counts one value given in thousandths of the unit.
    pub fn record(&mut self, thousandths: u64) {
        self.count += 1;
        self.sum = self.sum.saturating_add(thousandths);
        if thousandths == 0 {
            self.zeros += 1;
            return;
        }
        let row = (thousandths.ilog10() as usize).min(ROWS - 1);
        let bin = if row == 0 {
            (thousandths * 10 - 10) as usize
        } else {
            (thousandths / 10_u64.pow(row as u32 - 1) - 10) as usize
        };
        self.rows[row].get_or_insert_with(|| Box::new([0; BINS]))[bin.min(BINS - 1)] += 1;
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sum of the values, in the unit.
    pub fn sum(&self) -> f64 {
        self.sum as f64 / SCALE
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        self.zeros += other.zeros;
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        for (mine, theirs) in self.rows.iter_mut().zip(&other.rows) {
            let Some(theirs) = theirs else { continue };
            let mine = mine.get_or_insert_with(|| Box::new([0; BINS]));
            mine.iter_mut().zip(theirs.iter()).for_each(|(a, b)| *a += b);
        }
    }

    /// What was counted since `earlier`, a former state of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut rows = self.rows.clone();
        for (mine, theirs) in rows.iter_mut().zip(&earlier.rows) {
            if let (Some(mine), Some(theirs)) = (mine, theirs) {
                mine.iter_mut().zip(theirs.iter()).for_each(|(a, b)| *a = a.saturating_sub(*b));
            }
        }
        Self {
            zeros: self.zeros.saturating_sub(earlier.zeros),
            rows,
            count: self.count.saturating_sub(earlier.count),
            sum: self.sum.saturating_sub(earlier.sum),
        }
    }

    /// The value below which the fraction `quantile` (0 to 1) of the values lies, interpolated inside its bin; NaN
    /// when nothing was counted.
    pub fn quantile(&self, quantile: f64) -> f64 {
        if self.count == 0 {
            return f64::NAN;
        }
        let rank = quantile.clamp(0.0, 1.0) * self.count as f64;
        let (mut below, mut last) = (0.0, 0.0);
        for (low, width, count) in self.bins() {
            let count = count as f64;
            if rank <= below + count {
                return low + width * ((rank - below) / count).max(0.0);
            }
            below += count;
            last = low + width;
        }
        last
    }

    /// How many values are below `bound`, in the unit.
    pub fn below(&self, bound: f64) -> u64 {
        let share = |(low, width, count): (f64, f64, u64)| -> f64 {
            if width == 0.0 {
                return if low < bound { count as f64 } else { 0.0 };
            }
            ((bound - low) / width).clamp(0.0, 1.0) * count as f64
        };
        self.bins().map(share).sum::<f64>().round() as u64
    }

    /// Bins that are not empty, ascending: lower edge, width, count.
    pub fn bins(&self) -> impl Iterator<Item = (f64, f64, u64)> + '_ {
        let zeros = (self.zeros > 0).then_some((0.0, 0.0, self.zeros));
        let rows = self.rows.iter().enumerate().filter_map(|(row, bins)| Some((row, bins.as_ref()?)));
        zeros.into_iter().chain(rows.flat_map(|(row, bins)| {
            let width = 10_f64.powi(row as i32 - 1) / SCALE;
            bins.iter()
                .enumerate()
                .filter(|(_, count)| **count > 0)
                .map(move |(bin, count)| ((bin + 10) as f64 * width, width, *count))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        values.iter().for_each(|value| histogram.record(*value));
        histogram
    }

    #[test]
    fn finds_the_median_and_the_tail_within_two_digits() {
        let values: Vec<u64> = (1..=1000).map(|milli| milli * 1000).collect();
        let histogram = filled(&values);
        assert!((histogram.quantile(0.5) - 500.0).abs() <= 10.0);
        assert!((histogram.quantile(0.99) - 990.0).abs() <= 10.0);
        assert_eq!(histogram.sum(), 500_500.0);
    }

    #[test]
    fn counts_below_a_bound_exactly_when_it_is_an_edge() {
        let histogram = filled(&[0, 400, 499, 500, 9_999, 10_000, 60_000_000]);
        assert_eq!(histogram.below(0.5), 3);
        assert_eq!(histogram.below(10.0), 5);
        assert_eq!(histogram.below(f64::MAX), 7);
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        assert!(Histogram::default().quantile(0.5).is_nan());
    }

    #[test]
    fn an_interval_holds_only_what_came_after() {
        let mut histogram = filled(&[1_000, 2_000]);
        let earlier = histogram.clone();
        histogram.record(70_000);
        let interval = histogram.since(&earlier);
        assert_eq!((interval.count(), interval.sum()), (1, 70.0));
        assert!((70.0..71.0).contains(&interval.quantile(0.5)));
    }

    proptest! {
        #[test]
        fn every_value_lands_in_a_bin_that_holds_it(value in 1_u64..10_u64.pow(13)) {
            let histogram = filled(&[value]);
            let (low, width, count) = histogram.bins().next().unwrap();
            let unit = value as f64 / SCALE;
            prop_assert_eq!(count, 1);
            prop_assert!(low <= unit * 1.000_000_1 && unit < (low + width) * 1.000_000_1);
        }

        #[test]
        fn merging_equals_recording_together(a in prop::collection::vec(0_u64..10_u64.pow(15), 0..50), b in prop::collection::vec(0_u64..10_u64.pow(9), 0..50)) {
            let mut merged = filled(&a);
            merged.merge(&filled(&b));
            let together = filled(&[a, b].concat());
            prop_assert_eq!(merged.bins().collect::<Vec<_>>(), together.bins().collect::<Vec<_>>());
            prop_assert_eq!(merged.count(), together.count());
        }
    }
}
