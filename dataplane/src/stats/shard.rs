//! One thread's numbers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::histogram::Histogram;

/// A counter, resolved by the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CounterId(pub(super) u32);

/// A gauge, resolved by the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GaugeId(pub(super) u32);

/// A histogram, resolved by the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HistogramId(pub(super) u32);

/// The counters of response codes of one cluster: one for each class and one for each code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CodesId {
    pub(super) block: u32,
    pub(super) first: u32,
}

/// Codes that have a counter of their own in the block; others are counted on the side, in a map.
pub(super) const FREQUENT: [u16; 32] = [
    100, 101, 103, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409,
    412, 413, 415, 422, 426, 429, 431, 500, 502, 503, 504,
];
/// Counters a block takes: five classes, then the frequent codes.
pub(super) const BLOCK: u32 = 5 + FREQUENT.len() as u32;

/// Plain integers of one thread, indexed by id. Not shared: other threads see a [`ShardSnapshot`].
#[derive(Debug, Default)]
pub struct Shard {
    counters: RefCell<Vec<u64>>,
    gauges: RefCell<Vec<i64>>,
    histograms: RefCell<Vec<Histogram>>,
    rare_codes: RefCell<BTreeMap<(u32, u16), u64>>,
}

impl Shard {
    #[inline]
    pub fn inc(&self, id: CounterId) {
        self.add(id, 1);
    }

    /// Adds `amount`.
    #[inline]
    pub fn add(&self, id: CounterId, amount: u64) {
        *slot(&mut self.counters.borrow_mut(), id.0) += amount;
    }

    /// The counter's value in this shard.
    pub fn counter(&self, id: CounterId) -> u64 {
        self.counters.borrow().get(id.0 as usize).copied().unwrap_or(0)
    }

    /// Raises a gauge by one.
    #[inline]
    pub fn up(&self, id: GaugeId) {
        *slot(&mut self.gauges.borrow_mut(), id.0) += 1;
    }

    /// Lowers a gauge by one.
    #[inline]
    pub fn down(&self, id: GaugeId) {
        *slot(&mut self.gauges.borrow_mut(), id.0) -= 1;
    }

    /// Sets this shard's part of a gauge; parts of all shards are summed.
    pub fn set(&self, id: GaugeId, value: i64) {
        *slot(&mut self.gauges.borrow_mut(), id.0) = value;
    }

    /// The gauge's value in this shard.
    pub fn gauge(&self, id: GaugeId) -> i64 {
        self.gauges.borrow().get(id.0 as usize).copied().unwrap_or(0)
    }

    /// Records a time into a histogram of milliseconds, to the microsecond.
    #[inline]
    pub fn record(&self, id: HistogramId, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        slot(&mut self.histograms.borrow_mut(), id.0).record(micros);
    }

    /// Counts a response of an upstream: its class and its code.
    pub fn response_code(&self, id: CodesId, code: u16) {
        let class = u32::from(code / 100);
        if (1..=5).contains(&class) {
            self.inc(CounterId(id.first + class - 1));
        }
        match FREQUENT.binary_search(&code) {
            Ok(at) => self.inc(CounterId(id.first + 5 + at as u32)),
            Err(_) => *self.rare_codes.borrow_mut().entry((id.block, code)).or_insert(0) += 1,
        }
    }

    /// A copy of all numbers, to be sent to the control thread.
    pub fn collect(&self) -> ShardSnapshot {
        ShardSnapshot {
            counters: self.counters.borrow().clone(),
            gauges: self.gauges.borrow().clone(),
            histograms: self.histograms.borrow().clone(),
            rare_codes: self.rare_codes.borrow().clone(),
        }
    }
}

fn slot<T: Clone + Default>(slots: &mut Vec<T>, id: u32) -> &mut T {
    let at = id as usize;
    if at >= slots.len() {
        grow(slots, at);
    }
    &mut slots[at]
}

#[cold]
fn grow<T: Clone + Default>(slots: &mut Vec<T>, at: usize) {
    slots.resize(at + 1, T::default());
}

/// The numbers of one shard at one moment.
#[derive(Clone, Debug, Default)]
pub struct ShardSnapshot {
    pub(super) counters: Vec<u64>,
    pub(super) gauges: Vec<i64>,
    pub(super) histograms: Vec<Histogram>,
    pub(super) rare_codes: BTreeMap<(u32, u16), u64>,
}

/// The sum of all shards.
#[derive(Clone, Debug, Default)]
pub struct StatsSnapshot(pub(super) ShardSnapshot);

impl StatsSnapshot {
    /// Adds the numbers of one shard.
    pub fn merge(&mut self, shard: &ShardSnapshot) {
        shard.counters.iter().enumerate().for_each(|(id, n)| *slot(&mut self.0.counters, id as u32) += n);
        shard.gauges.iter().enumerate().for_each(|(id, n)| *slot(&mut self.0.gauges, id as u32) += n);
        for (id, histogram) in shard.histograms.iter().enumerate() {
            slot(&mut self.0.histograms, id as u32).merge(histogram);
        }
        for (key, n) in &shard.rare_codes {
            *self.0.rare_codes.entry(*key).or_insert(0) += n;
        }
    }

    /// The sum of `shards`.
    pub fn sum<'a>(shards: impl IntoIterator<Item = &'a ShardSnapshot>) -> Self {
        let mut total = Self::default();
        shards.into_iter().for_each(|shard| total.merge(shard));
        total
    }

    /// Total of a counter.
    pub fn counter(&self, id: CounterId) -> u64 {
        self.0.counters.get(id.0 as usize).copied().unwrap_or(0)
    }

    /// Total of a gauge.
    pub fn gauge(&self, id: GaugeId) -> i64 {
        self.0.gauges.get(id.0 as usize).copied().unwrap_or(0)
    }

    /// Merged histogram, when anything was recorded.
    pub fn histogram(&self, id: HistogramId) -> Option<&Histogram> {
        self.0.histograms.get(id.0 as usize).filter(|histogram| histogram.count() > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frequent_codes_are_sorted_for_the_search() {
        assert!(FREQUENT.is_sorted());
    }

    #[test]
    fn sums_what_several_workers_counted() {
        let (one, two) = (Shard::default(), Shard::default());
        one.inc(CounterId(3));
        two.add(CounterId(3), 4);
        one.up(GaugeId(0));
        two.up(GaugeId(0));
        two.down(GaugeId(0));
        one.record(HistogramId(1), Duration::from_millis(5));
        two.record(HistogramId(1), Duration::from_millis(7));
        let total = StatsSnapshot::sum([&one.collect(), &two.collect()]);
        assert_eq!(total.counter(CounterId(3)), 5);
        assert_eq!(total.gauge(GaugeId(0)), 1);
        assert_eq!(total.histogram(HistogramId(1)).unwrap().sum(), 12.0);
        assert!(total.histogram(HistogramId(0)).is_none());
    }

    #[test]
    fn counts_a_rare_code_beside_the_block() {
        let shard = Shard::default();
        let codes = CodesId { block: 2, first: 10 };
        shard.response_code(codes, 418);
        shard.response_code(codes, 200);
        assert_eq!(shard.counter(CounterId(13)), 1, "418 is a 4xx");
        assert_eq!(shard.counter(CounterId(11)), 1, "200 is a 2xx");
        assert_eq!(shard.collect().rare_codes[&(2, 418)], 1);
    }
}
