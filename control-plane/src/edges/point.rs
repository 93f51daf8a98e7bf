//! What flowed over an edge during one step of time, and how it is written: a few bytes, and none where nothing flowed.
//!
//! ```text
//! step since the one before · which fields are not zero · these fields · which buckets are not zero · these counts
//! ```
//!
//! All are variable-length integers, seven bits a byte.

use serde::{Deserialize, Serialize};
use weft_api::EdgeStatistic;
use weft_api::rest::EdgeProtocol;

use super::flow::count;
use super::latencies::{BUCKETS, Latencies};
use super::sample::Sample;

/// How many figures a point has beside its latencies.
const FIGURES: usize = 7;
/// Which of a point's figures; their places in it.
const EVENTS: usize = 0;
const UNTOLD: usize = 1;
const FAILED: usize = 2;
const DENIED: usize = 3;
const OPEN: usize = 4;
const SENT: usize = 5;
const RECEIVED: usize = 6;
/// The bit of the mask that says that latencies follow.
const HAS_LATENCIES: u64 = 1 << FIGURES;
/// What a written point takes at most: step, mask, figures, mask of buckets, their counts.
#[cfg(test)]
pub const MOST_BYTES: usize = 10 + 2 + FIGURES * 10 + 3 + BUCKETS * 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    figures: [u64; FIGURES],
    /// Answers by how long they took.
    pub latencies: Latencies,
}

impl Point {
    /// What a sample says that has flown; what is open then stands apart.
    #[must_use]
    pub fn of(flown: &Sample) -> Self {
        let of = |statistic| count(flown.of(statistic));
        let mut figures = [0; FIGURES];
        figures[EVENTS] = count(flown.events());
        match flown.protocol {
            EdgeProtocol::Http if flown.tells_completed => {
                figures[FAILED] = of(EdgeStatistic::ServerErrors);
                figures[DENIED] = of(EdgeStatistic::Denied);
            }
            EdgeProtocol::Http => figures[UNTOLD] = figures[EVENTS],
            EdgeProtocol::Tcp => {
                figures[FAILED] = of(EdgeStatistic::FailedConnections);
                figures[SENT] = of(EdgeStatistic::BytesSent);
                figures[RECEIVED] = of(EdgeStatistic::BytesReceived);
            }
        }
        Self { figures, latencies: flown.latencies }
    }

    /// Whether there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Requests that completed, or connections begun.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.figures[EVENTS]
    }

    /// Those of them of which is known how they ended.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.figures[EVENTS].saturating_sub(self.figures[UNTOLD])
    }

    /// Those of them that failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.figures[FAILED]
    }

    /// Those of them that were refused.
    #[must_use]
    pub fn denied(&self) -> u64 {
        self.figures[DENIED]
    }

    /// What is open at the step's end.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.figures[OPEN]
    }

    /// Bytes to the server, for TCP.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.figures[SENT]
    }

    /// Bytes from the server, for TCP.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.figures[RECEIVED]
    }

    /// Says what is open.
    pub fn set_open(&mut self, open: u64) {
        self.figures[OPEN] = open;
    }

    /// Adds what another edge has in the same step.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.figures.iter_mut().zip(&other.figures) {
            *mine = mine.saturating_add(*theirs);
        }
        self.latencies.add(&other.latencies);
    }

    /// Adds what the same edge has in a later step: of what is open, the most counts.
    pub fn extend(&mut self, later: &Self) {
        let open = self.open().max(later.open());
        self.add(later);
        self.set_open(open);
    }

    /// So much of all that `numerator / denominator` of it is; what is open is not counted.
    #[must_use]
    pub fn part(&self, numerator: u64, denominator: u64) -> Self {
        let scale = |value: u64| {
            let part = u128::from(value) * u128::from(numerator) / u128::from(denominator.max(1));
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        let mut part =
            Self { figures: self.figures.map(scale), latencies: Latencies(self.latencies.0.map(scale)) };
        part.set_open(0);
        part
    }

    /// Without what an earlier part of it holds.
    #[must_use]
    pub fn without(&self, earlier: &Self) -> Self {
        let mut rest = *self;
        let minus = |mine: &mut u64, theirs: &u64| *mine = mine.saturating_sub(*theirs);
        rest.figures.iter_mut().zip(&earlier.figures).for_each(|(mine, theirs)| minus(mine, theirs));
        rest.latencies.0.iter_mut().zip(&earlier.latencies.0).for_each(|(mine, theirs)| minus(mine, theirs));
        rest
    }

    /// Appends it, `gap` steps after the one before.
    pub fn write(&self, gap: u64, bytes: &mut Vec<u8>) {
        let buckets = mask(&self.latencies.0);
        let has_latencies = if buckets == 0 { 0 } else { HAS_LATENCIES };
        put(gap, bytes);
        put(mask(&self.figures) | has_latencies, bytes);
        self.figures.iter().filter(|value| **value > 0).for_each(|value| put(*value, bytes));
        if buckets > 0 {
            put(buckets, bytes);
            self.latencies.0.iter().filter(|value| **value > 0).for_each(|value| put(*value, bytes));
        }
    }

    /// Reads one off the front: its gap, and it.
    #[must_use]
    pub fn read(bytes: &mut &[u8]) -> Option<(u64, Self)> {
        let gap = take(bytes)?;
        let shown = take(bytes)?;
        let mut point = Self::default();
        fill(&mut point.figures, shown, bytes)?;
        if shown & HAS_LATENCIES != 0 {
            let buckets = take(bytes)?;
            fill::<BUCKETS>(&mut point.latencies.0, buckets, bytes)?;
        }
        Some((gap, point))
    }
}

fn mask(values: &[u64]) -> u64 {
    values.iter().enumerate().fold(0, |mask, (place, value)| mask | (u64::from(*value > 0) << place))
}

fn fill<const N: usize>(values: &mut [u64; N], mask: u64, bytes: &mut &[u8]) -> Option<()> {
    for (place, value) in values.iter_mut().enumerate() {
        if mask & (1 << place) != 0 {
            *value = take(bytes)?;
        }
    }
    Some(())
}

#[allow(clippy::cast_possible_truncation, reason = "the lowest eight bits are meant")]
fn put(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(figures: [u64; FIGURES], latencies: &[(usize, u64)]) -> Point {
        let mut point = Point { figures, ..Point::default() };
        latencies.iter().for_each(|(bucket, count)| point.latencies.0[*bucket] = *count);
        point
    }

    #[test]
    fn what_is_written_is_read_again() {
        let most = point([u64::MAX; FIGURES], &(0..BUCKETS).map(|n| (n, u64::MAX)).collect::<Vec<_>>());
        let some = point([300, 0, 7, 0, 2, 0, 0], &[(0, 200), (19, 100)]);
        let mut bytes = Vec::new();
        for (gap, one) in [(1, some), (1, Point::default()), (u64::MAX, most)] {
            one.write(gap, &mut bytes);
        }
        let mut left = &bytes[..];
        assert_eq!(Point::read(&mut left), Some((1, some)));
        assert_eq!(Point::read(&mut left), Some((1, Point::default())));
        assert_eq!(Point::read(&mut left), Some((u64::MAX, most)));
        assert_eq!(Point::read(&mut left), None);
    }

    #[test]
    fn point_has_a_bounded_length() {
        let most = point([u64::MAX; FIGURES], &(0..BUCKETS).map(|n| (n, u64::MAX)).collect::<Vec<_>>());
        let mut bytes = Vec::new();
        most.write(u64::MAX, &mut bytes);
        assert_eq!(bytes.len(), MOST_BYTES);
    }

    #[test]
    fn parts_make_the_whole() {
        let whole = point([10, 0, 3, 1, 0, 0, 0], &[(2, 7), (3, 3)]);
        let first = whole.part(1, 3);
        let mut sum = first;
        sum.add(&whole.without(&first));
        assert_eq!((sum, first.events(), first.latencies.0[2]), (whole, 3, 2));
    }
}
