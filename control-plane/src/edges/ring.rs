//! The points of one edge at one step of time, newest last, in chunks that go as a whole.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::point::Point;

/// How fine, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Grain {
    /// Seconds a point covers.
    pub step: u64,
    /// Points that are kept.
    pub kept: u64,
    /// Points of a chunk.
    chunk: u64,
}

/// 5 s for 10 minutes.
pub const FINE: Grain = Grain { step: 5, kept: 120, chunk: 12 };
/// 1 minute for 24 hours.
pub const COARSE: Grain = Grain { step: 60, kept: 1440, chunk: 60 };

#[derive(Debug)]
struct Chunk {
    first: u64,
    last: u64,
    bytes: Vec<u8>,
}

/// See the module. Steps are numbered since 1970.
#[derive(Debug)]
pub struct Ring {
    grain: Grain,
    chunks: VecDeque<Chunk>,
}

impl Ring {
    #[must_use]
    pub fn new(grain: Grain) -> Self {
        Self { grain, chunks: VecDeque::new() }
    }

    /// Appends the point of a step that is later than all before; what is empty takes no room. Says by how many bytes it
    /// has grown.
    pub fn push(&mut self, step: u64, point: &Point) -> usize {
        if point.is_empty() {
            return 0;
        }
        let fits = |chunk: &&mut Chunk| chunk.first / self.grain.chunk == step / self.grain.chunk;
        match self.chunks.back_mut().filter(fits) {
            Some(chunk) => {
                let before = chunk.bytes.len();
                point.write(step.saturating_sub(chunk.last), &mut chunk.bytes);
                chunk.last = step;
                chunk.bytes.len() - before
            }
            None => {
                if let Some(full) = self.chunks.back_mut() {
                    full.bytes.shrink_to_fit();
                }
                let mut bytes = Vec::new();
                point.write(0, &mut bytes);
                let grown = bytes.len();
                self.chunks.push_back(Chunk { first: step, last: step, bytes });
                grown
            }
        }
    }

    /// Drops what is older than it is kept at that step; says how many bytes these were.
    pub fn forget(&mut self, now: u64) -> usize {
        self.drop_before((now + 1).saturating_sub(self.grain.kept))
    }

    /// Drops the chunks that end before a step.
    pub fn drop_before(&mut self, step: u64) -> usize {
        let mut freed = 0;
        while self.chunks.front().is_some_and(|chunk| chunk.last < step) {
            freed += self.chunks.pop_front().map_or(0, |chunk| chunk.bytes.len());
        }
        freed
    }

    /// The last step of the oldest chunk.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        self.chunks.front().map(|chunk| chunk.last)
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The points from a step on.
    pub fn since(&self, step: u64) -> impl Iterator<Item = (u64, Point)> + '_ {
        let chunks = self.chunks.iter().filter(move |chunk| chunk.last >= step);
        chunks.flat_map(Chunk::points).filter(move |(at, _)| *at >= step)
    }
}

impl Chunk {
    fn points(&self) -> impl Iterator<Item = (u64, Point)> + '_ {
        let (mut left, mut at) = (&self.bytes[..], self.first);
        std::iter::from_fn(move || {
            let (gap, point) = Point::read(&mut left)?;
            at += gap;
            Some((at, point))
        })
    }
}

#[cfg(test)]
mod tests {
    use weft_api::EdgeStatistic;

    use super::super::sample::Sample;
    use super::*;

    fn point(events: f64) -> Point {
        Point::of(&Sample::default().with(EdgeStatistic::Completed, events))
    }

    #[test]
    fn keeps_what_is_asked_for_and_no_more() {
        let mut ring = Ring::new(FINE);
        let (mut held, begin) = (0, 1_000_000);
        for step in begin..begin + 1000_u64 {
            held += ring.push(step, &point(f64::from(u32::try_from(step - begin).unwrap() + 1)));
            held -= ring.forget(step);
        }
        let kept: Vec<_> = ring.since(0).collect();
        assert!((120..=132).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept.last().map(|(at, point)| (*at, point.events())), Some((begin + 999, 1000)));
        assert!(kept.is_sorted_by_key(|(at, _)| *at));
        assert_eq!(held, ring.chunks.iter().map(|chunk| chunk.bytes.len()).sum::<usize>());
        assert_eq!(ring.since(begin + 990).count(), 10);
    }

    #[test]
    fn time_without_traffic_takes_no_room() {
        let mut ring = Ring::new(COARSE);
        let first = ring.push(10, &point(1.0));
        assert_eq!(ring.push(11, &Point::default()), 0);
        ring.push(500, &point(2.0));
        let kept: Vec<_> = ring.since(0).map(|(at, point)| (at, point.events())).collect();
        assert_eq!(kept, [(10, 1), (500, 2)]);
        assert_eq!(ring.forget(9 + COARSE.kept), 0);
        assert_eq!(ring.forget(10 + COARSE.kept), first);
    }
}
