//! The traffic of each edge over the last ten minutes by 5 s, and over the last day by 1 minute.
//!
//! ```text
//! what has flown since the report before ──▶ the steps of 5 s that it covers, each its share
//!   under way (20 s: callers report at different times) ──▶ Ring FINE
//!                                                      └──▶ the minute under way ──▶ Ring COARSE
//! ```
//!
//! Bounded three times: edges that are kept, bytes of all points together (the oldest are given up first), and the time that
//! each is kept. What does not flow takes no room.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use weft_api::{Name, ServiceId};

use super::point::Point;
use super::ring::{COARSE, FINE, Grain, Ring};
use super::sample::Sample;
use super::target::EdgeTarget;

/// Edges of which there is a history, at most.
const MOST_TRACKS: usize = 10_000;
/// Bytes that all points may take together.
const MOST_BYTES: usize = 96 << 20;
/// Of these, so many are left when there were too many.
const LEFT: usize = MOST_BYTES / 8 * 7;
/// Steps to which something may still be added.
const UNDER_WAY: u64 = 4;
const MILLIS: u64 = 1000;

/// See the module. Times are milliseconds since 1970.
#[derive(Debug, Default)]
pub struct TrafficHistory {
    by_source: HashMap<ServiceId, HashMap<EdgeTarget, Track>>,
    tracks: usize,
    bytes: usize,
}

/// A stretch of time.
#[derive(Clone, Copy, Debug)]
pub struct TimeRange {
    /// When it begins, in milliseconds since 1970.
    pub from: u64,
    /// When it ends, in milliseconds since 1970.
    pub to: u64,
}

/// What became of something that was to be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retained {
    Whole,
    /// It is, and older points of others are not any more.
    InPlaceOfOlder,
    /// There is no room for another edge.
    No,
}

/// Whose traffic, and how fine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Selection {
    /// The calling service; all together without one.
    pub source: Option<ServiceId>,
    pub destination: ServiceId,
    /// Its port; all together without one.
    pub port: Option<Name>,
    /// Its subset; all together without one.
    pub subset: Option<Name>,
    /// The rule that the requests follow, as an edge tells it; all together without one.
    pub route: Option<String>,
    /// The version whose instances answer, whoever calls; what callers tell without one.
    #[serde(default)]
    pub version: Option<String>,
    /// How fine, and so how far back.
    pub grain: Grain,
}

#[derive(Debug)]
struct Track {
    /// What is open now, of all its callers.
    open: f64,
    under_way: VecDeque<(u64, Point)>,
    /// The first step that is not written down yet.
    unsettled: u64,
    minute: Option<(u64, Point)>,
    fine: Ring,
    coarse: Ring,
}

impl TrafficHistory {
    /// Adds what has flown during a span, and by how much more is open at its end than at the report before.
    pub fn add(
        &mut self,
        source: &ServiceId,
        target: &EdgeTarget,
        span: TimeRange,
        flown: &Sample,
        opened: f64,
    ) -> Retained {
        let point = Point::of(flown);
        let of_source = self.by_source.entry(source.clone()).or_default();
        if !of_source.contains_key(target) {
            if self.tracks >= MOST_TRACKS {
                return Retained::No;
            }
            self.tracks += 1;
            of_source.insert(target.clone(), Track::new());
        }
        let Some(track) = of_source.get_mut(target) else { return Retained::No };
        track.open = (track.open + opened).max(0.0);
        track.spread(span, &point);
        let grown = track.settle(span.to);
        self.bytes = self.bytes.saturating_add_signed(grown);
        if self.bytes > MOST_BYTES { self.give_up_the_oldest() } else { Retained::Whole }
    }

    /// A caller has gone silent: what it had open is not known to be open any more.
    pub fn closed(&mut self, source: &ServiceId, target: &EdgeTarget, open: f64) {
        if let Some(track) = self.by_source.get_mut(source).and_then(|tracks| tracks.get_mut(target)) {
            track.open = (track.open - open).max(0.0);
        }
    }

    /// Drops what is too old, edges of which nothing is left among them.
    pub fn sweep(&mut self, now: u64) {
        let mut grown = 0_isize;
        self.by_source.retain(|_, tracks| {
            tracks.retain(|_, track| {
                grown += track.settle(now);
                !track.is_empty()
            });
            !tracks.is_empty()
        });
        self.bytes = self.bytes.saturating_add_signed(grown);
        self.tracks = self.by_source.values().map(HashMap::len).sum();
    }

    /// The points of a selection from a step on, each the sum of its edges.
    #[must_use]
    pub fn select(&self, selection: &Selection, since: u64) -> BTreeMap<u64, Point> {
        let mut sums: BTreeMap<u64, Point> = BTreeMap::new();
        let sources = self.by_source.iter().filter(|(source, _)| selection.is_from(source));
        let tracks = sources.flat_map(|(_, tracks)| tracks.iter());
        for (_, track) in tracks.filter(|(target, _)| selection.is_to(target)) {
            for (step, point) in track.points(selection.grain, since) {
                sums.entry(step).or_default().add(&point);
            }
        }
        sums
    }

    /// Bytes that all points take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[cold]
    fn give_up_the_oldest(&mut self) -> Retained {
        while self.bytes > LEFT {
            let tracks = || self.by_source.values().flat_map(HashMap::values);
            let coarse = tracks().filter_map(|track| track.coarse.oldest()).min();
            let fine = tracks().filter_map(|track| track.fine.oldest()).min();
            let cut: &dyn Fn(&mut Track) -> usize = match (coarse, fine) {
                (Some(oldest), _) => &move |track| track.coarse.drop_before(oldest + 1),
                (None, Some(oldest)) => &move |track| track.fine.drop_before(oldest + 1),
                (None, None) => break,
            };
            let freed: usize = self.by_source.values_mut().flat_map(HashMap::values_mut).map(cut).sum();
            self.bytes = self.bytes.saturating_sub(freed);
        }
        Retained::InPlaceOfOlder
    }
}

impl Selection {
    fn is_from(&self, source: &ServiceId) -> bool {
        self.source.as_ref().is_none_or(|wanted| wanted == source)
    }

    fn is_to(&self, target: &EdgeTarget) -> bool {
        let to = &target.destination;
        to.service == self.destination
            && self.port.as_ref().is_none_or(|wanted| *wanted == to.port)
            && (self.subset.is_none() || self.subset == to.subset)
            && self.route == target.route()
            && self.version.as_deref() == target.version()
    }
}

impl Track {
    fn new() -> Self {
        Self {
            open: 0.0,
            under_way: VecDeque::new(),
            unsettled: 0,
            minute: None,
            fine: Ring::new(FINE),
            coarse: Ring::new(COARSE),
        }
    }

    /// Gives each step of the span its share. What is older than anything can be added to goes to the oldest step that
    /// is under way.
    fn spread(&mut self, span: TimeRange, point: &Point) {
        let width = FINE.step * MILLIS;
        let last = span.to / width;
        let floor = self.under_way.front().map_or(self.unsettled, |(step, _)| *step);
        let first =
            (span.from / width).max(last.saturating_sub(UNDER_WAY - 1)).max(floor).min(last.max(floor));
        let begin = span.from.max(first * width).min(span.to);
        let mut given = Point::default();
        for step in first..=last.max(first) {
            let end = ((step + 1) * width).min(span.to);
            let is_last = step >= last;
            let so_far = if is_last { *point } else { point.part(end - begin, span.to - begin) };
            self.at(step).add(&so_far.without(&given));
            given = so_far;
        }
        let open = super::flow::count(self.open);
        self.at(last.max(first)).set_open(open);
    }

    fn at(&mut self, step: u64) -> &mut Point {
        let place = self.under_way.partition_point(|(at, _)| *at < step);
        if self.under_way.get(place).is_none_or(|(at, _)| *at != step) {
            self.under_way.insert(place, (step, Point::default()));
        }
        &mut self.under_way[place].1
    }

    /// Writes down what nothing is added to any more, and drops what is too old. Says how many bytes more that takes.
    fn settle(&mut self, now: u64) -> isize {
        let step = now / MILLIS / FINE.step;
        let (mut grown, mut freed) = (0, 0);
        while self.under_way.front().is_some_and(|(at, _)| at + UNDER_WAY <= step) {
            let Some((at, point)) = self.under_way.pop_front() else { break };
            self.unsettled = at + 1;
            grown += self.fine.push(at, &point);
            let minute = at * FINE.step / COARSE.step;
            match &mut self.minute {
                Some((current, sum)) if *current >= minute => sum.extend(&point),
                other => {
                    if let Some((ended, sum)) = other.replace((minute, point)) {
                        grown += self.coarse.push(ended, &sum);
                    }
                }
            }
        }
        freed += self.fine.forget(step);
        freed += self.coarse.forget(now / MILLIS / COARSE.step);
        grown.cast_signed() - freed.cast_signed()
    }

    fn is_empty(&self) -> bool {
        // The minute under way is not waited for: an edge that stands still for a day has nothing to show.
        self.fine.is_empty() && self.coarse.is_empty() && self.under_way.is_empty()
    }

    fn points(&self, grain: Grain, since: u64) -> BTreeMap<u64, Point> {
        let mut points: BTreeMap<u64, Point> = BTreeMap::new();
        if grain == FINE {
            points.extend(self.fine.since(since));
            points.extend(self.under_way.iter().copied().filter(|(step, _)| *step >= since));
            return points;
        }
        points.extend(self.coarse.since(since));
        let under_way = self.under_way.iter().map(|(step, point)| (step * FINE.step / COARSE.step, *point));
        for (minute, point) in self.minute.into_iter().chain(under_way) {
            if minute >= since {
                points.entry(minute).or_default().extend(&point);
            }
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use weft_api::EdgeStatistic::{Begun, Completed, Denied, Open};

    use super::*;

    const START: u64 = 1_700_000_000_000;

    fn source() -> ServiceId {
        "shop/web".parse().unwrap()
    }

    fn selection(grain: Grain) -> Selection {
        let destination = "shop/cart".parse().unwrap();
        Selection { source: None, destination, port: None, subset: None, route: None, version: None, grain }
    }

    fn flown(requests: f64) -> Sample {
        let mut flown = Sample::default().with(Completed, requests).with(Begun, requests).with(Open, 1.0);
        flown.latencies.0[3] = super::super::flow::count(requests);
        flown
    }

    fn span(from_seconds: f64, to_seconds: f64) -> TimeRange {
        let at = |seconds: f64| START + super::super::flow::count(seconds * 1000.0);
        TimeRange { from: at(from_seconds), to: at(to_seconds) }
    }

    #[test]
    fn steady_traffic_is_steady_whenever_its_callers_report() {
        let mut history = TrafficHistory::default();
        let target = EdgeTarget::named("shop/cart/http");
        // Two callers, each 50 requests in each of its 5 s, one 2.3 s after the other.
        for turn in 0..24 {
            for shift in [0.0, 2.3] {
                let from = f64::from(turn) * 5.0 + shift;
                history.add(&source(), &target, span(from, from + 5.0), &flown(50.0), 0.0);
            }
        }
        let points = history.select(&selection(FINE), 0);
        let whole: Vec<u64> = points.values().map(Point::events).collect();
        let inner = &whole[1..whole.len() - 2];
        assert!(inner.len() > 18 && inner.iter().all(|events| (98..=102).contains(events)), "{whole:?}");
        assert_eq!(whole.iter().sum::<u64>(), 2 * 24 * 50, "none is lost, none is counted twice");
        let minutes = history.select(&selection(COARSE), 0);
        assert_eq!(minutes.values().map(Point::events).sum::<u64>(), 2 * 24 * 50);
        assert_eq!(minutes.values().map(|point| point.latencies.count()).sum::<u64>(), 2 * 24 * 50);
        assert!(minutes.values().any(|point| (1180..=1220).contains(&point.events())), "{minutes:?}");
    }

    #[test]
    fn what_is_open_is_what_all_callers_have_open() {
        let mut history = TrafficHistory::default();
        let target = EdgeTarget::named("shop/cart/http");
        let mut add = |from: f64, opened: f64| {
            history.add(&source(), &target, span(from, from + 5.0), &Sample::default(), opened);
        };
        add(0.0, 3.0);
        add(0.0, 4.0);
        add(5.0, 0.0);
        add(10.0, -3.0);
        history.closed(&source(), &target, 4.0);
        history.add(&source(), &target, span(15.0, 20.0), &Sample::default(), 0.0);
        let open: Vec<u64> = history.select(&selection(FINE), 0).values().map(Point::open).collect();
        assert_eq!(open.iter().copied().filter(|open| *open > 0).collect::<Vec<_>>(), [7, 7, 4]);
        let minutes = history.select(&selection(COARSE), 0);
        assert_eq!(minutes.values().map(Point::open).max(), Some(7), "of a minute, the most that was open");
    }

    #[test]
    fn selection_sums_what_it_does_not_tell_apart() {
        let mut history = TrafficHistory::default();
        for (from, to, requests) in [
            ("shop/web", "shop/cart/http", 1.0),
            ("shop/web", "shop/cart/http/v1", 2.0),
            ("shop/load", "shop/cart/grpc", 4.0),
            ("shop/web", "shop/other/http", 100.0),
        ] {
            let source = from.parse().unwrap();
            history.add(
                &source,
                &EdgeTarget::named(to),
                span(0.0, 0.1),
                &flown(requests).with(Denied, 1.0),
                0.0,
            );
        }
        let sum = |selection: &Selection| {
            let points = history.select(selection, 0);
            points.values().map(|point| (point.events(), point.denied())).collect::<Vec<_>>()
        };
        let all = selection(FINE);
        assert_eq!(sum(&all), [(7, 3)]);
        assert_eq!(sum(&Selection { source: Some(source()), ..all.clone() }), [(3, 2)]);
        assert_eq!(sum(&Selection { port: Some("grpc".parse().unwrap()), ..all.clone() }), [(4, 1)]);
        assert_eq!(sum(&Selection { subset: Some("v1".parse().unwrap()), ..all }), [(2, 1)]);
    }

    #[test]
    fn clock_that_goes_back_loses_nothing() {
        let mut history = TrafficHistory::default();
        let target = EdgeTarget::named("shop/cart/http");
        for from in [600.0, 605.0, 0.0, 5.0, 610.0] {
            history.add(&source(), &target, span(from, from + 5.0), &flown(50.0), 0.0);
        }
        let points = history.select(&selection(FINE), 0);
        assert_eq!(points.values().map(Point::events).sum::<u64>(), 250);
        assert!(points.keys().all(|step| *step >= (START / 1000 + 600) / 5), "{points:?}");
    }

    /// A day of an edge that is busy, with the figures that docs/observe.md gives.
    #[test]
    fn busy_day_takes_the_memory_that_the_docs_say() {
        let mut history = TrafficHistory::default();
        let target = EdgeTarget::named("shop/cart/http");
        let mut busy = Sample::default().with(Completed, 150.0).with(Denied, 2.0);
        for (bucket, answers) in [(1, 20), (2, 100), (3, 25), (4, 5)] {
            busy.latencies.0[bucket] = answers;
        }
        for turn in 0..25 * 720 {
            let from = f64::from(turn) * 5.0;
            history.add(&source(), &target, span(from, from + 5.0), &busy, 0.0);
        }
        assert!((20_000..30_000).contains(&history.bytes()), "{} bytes", history.bytes());
        let points = history.select(&selection(COARSE), 0).len();
        assert!((1440..=1502).contains(&points), "{points}");
        assert!(size_of::<Track>() < 512, "{}", size_of::<Track>());
    }

    #[test]
    fn history_is_bounded_and_gives_up_the_oldest() {
        let mut history = TrafficHistory::default();
        // Every figure is as long as it can be: no proxy counts so, and a liar may.
        let mut most = Sample::default().with(Completed, 1e300).with(Denied, 1e300);
        most.latencies.0.fill(u64::MAX / 2);
        let named = |n: usize| EdgeTarget::named(&format!("shop/s{n}/http"));
        let mut given_up = 0;
        for turn in 0..720_u32 {
            let from = f64::from(turn) * 60.0;
            for n in 0..1500 {
                let kept = history.add(&source(), &named(n), span(from, from + 0.1), &most, 0.0);
                given_up += usize::from(kept == Retained::InPlaceOfOlder);
                assert!(history.bytes() <= MOST_BYTES, "{}", history.bytes());
            }
        }
        assert!(given_up > 0);
        let kept =
            history.select(&Selection { destination: "shop/s7".parse().unwrap(), ..selection(COARSE) }, 0);
        let newest = (START / 1000 + 719 * 60) / 60;
        assert!(kept.contains_key(&newest) && !kept.contains_key(&(START / 60_000)), "the oldest go first");
        history.sweep(START + 2 * 24 * 3600 * 1000);
        history.sweep(START + 2 * 24 * 3600 * 1000);
        assert_eq!((history.bytes(), history.tracks), (0, 0), "a day later nothing is left");
    }

    #[test]
    fn edges_beyond_the_bound_have_no_history() {
        let mut history = TrafficHistory::default();
        for n in 0..MOST_TRACKS {
            let target = EdgeTarget::named(&format!("shop/s{n}/http"));
            assert_eq!(history.add(&source(), &target, span(0.0, 1.0), &flown(1.0), 0.0), Retained::Whole);
        }
        let another = EdgeTarget::named("shop/another/http");
        assert_eq!(history.add(&source(), &another, span(0.0, 1.0), &flown(1.0), 0.0), Retained::No);
    }
}
