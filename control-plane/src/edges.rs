//! A live picture of every edge of the mesh, from the statistics that the callers' sidecars push.
//!
//! Both proxies speak Envoy's metrics service and send cumulative counters; [`Edges`] keeps a short window of
//! samples for each (workload, target) and derives rates and percentiles when asked. Nothing is stored. What is kept is
//! bounded by what exists in the mesh, and for each workload.
//!
//! ```text
//! StreamMetrics (one a proxy) -> sample::read -> Edges { workload -> target -> Window } -> GET /v1/edges
//!                                                      { service -> target -> Track }   -> GET /v1/edges/series
//!                                                      { service -> target -> Total }   -> GET /metrics
//! ```

mod flow;
mod flows;
mod history;
mod latencies;
mod picture;
mod point;
mod ring;
mod sample;
mod series;
mod target;
mod totals;
mod window;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use weft_api::{ServiceId, WorkloadId};

use crate::clock::Clock;
pub use flow::EdgeFlow;
pub use flows::Flows;
pub use history::Selection;
use history::{Retained, TimeRange, TrafficHistory};
pub use picture::{EdgesBy, shown};
pub use point::Point;
pub use ring::{COARSE, FINE, Grain};
pub use sample::{Sample, read};
pub use series::{Steps, shown as shown_series};
pub use target::EdgeTarget;
use totals::Totals;
use window::{SILENT, WINDOW, Window};

/// Destinations that are kept of one caller, and rules and ports of its own as many. Only those that exist and were used count.
const MOST_EDGES: usize = 1000;

/// A moment, for stretches of time and for people.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub at: Instant,
    /// Milliseconds since 1970.
    pub millis: u64,
}

/// What of a report was not kept, or was kept in place of something else.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Omitted {
    /// Destinations for which there was no room.
    pub edges: usize,
    /// Destinations of which there is no history.
    pub histories: usize,
    /// Times that older points were given up.
    pub given_up: usize,
}

/// What one proxy reports.
#[derive(Debug)]
struct ProxyReport {
    source: ServiceId,
    reported_at: Instant,
    windows: HashMap<EdgeTarget, Window>,
}

/// The windows of all proxies. Cheap to clone.
///
/// A lock rather than a task: reports and questions are short, and nothing is awaited or sent under it.
#[derive(Clone, Debug, Default)]
pub struct Edges {
    callers: Arc<Mutex<ProxyReports>>,
}

#[derive(Debug, Default)]
struct ProxyReports {
    by_workload: HashMap<WorkloadId, ProxyReport>,
    totals: Totals,
    history: TrafficHistory,
    swept_at: Option<Instant>,
}

impl Moment {
    #[must_use]
    pub fn now(clock: &Clock) -> Self {
        Self { at: Instant::now(), millis: clock.unix_millis() }
    }

    /// From an earlier instant until now.
    fn since(self, earlier: Option<Instant>) -> TimeRange {
        let span = self.at.saturating_duration_since(earlier.unwrap_or(self.at));
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        TimeRange { from: self.millis.saturating_sub(millis), to: self.millis }
    }
}

impl Edges {
    /// Takes one proxy's report: a sample for each of its destinations. Says what it had no room for.
    pub fn record(
        &self,
        now: Moment,
        workload: &WorkloadId,
        source: &ServiceId,
        samples: impl IntoIterator<Item = (EdgeTarget, Sample)>,
    ) -> Omitted {
        let mut callers = self.lock();
        let excess = callers.record(now, workload, source, samples);
        // Not at each report: looking at all of them for each of them would be quadratic.
        if callers.swept_at.is_none_or(|at| now.at.saturating_duration_since(at) >= WINDOW) {
            callers.sweep(now);
        }
        excess
    }

    /// Sums the windows of all callers of a service.
    #[must_use]
    pub fn flows(&self, now: Instant) -> Flows {
        let mut sums = Flows::default();
        let callers = self.lock();
        for caller in callers.by_workload.values() {
            for (target, window) in &caller.windows {
                let Some(flow) = window.flow(now) else { continue };
                sums.add(&caller.source, target, &flow);
            }
        }
        for (source, target, total) in callers.totals.tried() {
            let (flown, shadow_denied) = (Sample::of_protocol(total.protocol), total.shadow_denied);
            sums.add(source, target, &EdgeFlow { flown, shadow_denied, ..EdgeFlow::default() });
        }
        sums
    }

    /// What a selection has carried, step by step, since a step.
    #[must_use]
    pub fn points(&self, selection: &Selection, since: u64) -> BTreeMap<u64, Point> {
        self.lock().history.select(selection, since)
    }

    fn lock(&self) -> MutexGuard<'_, ProxyReports> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProxyReports {
    fn record(
        &mut self,
        now: Moment,
        workload: &WorkloadId,
        source: &ServiceId,
        samples: impl IntoIterator<Item = (EdgeTarget, Sample)>,
    ) -> Omitted {
        let totals = self.totals.of(source);
        let is_new = !self.by_workload.contains_key(workload);
        let new = || ProxyReport { source: source.clone(), reported_at: now.at, windows: HashMap::new() };
        let caller = self.by_workload.entry(workload.clone()).or_insert_with(new);
        let before = (!is_new).then_some(caller.reported_at);
        caller.reported_at = now.at;
        let (span, mut excess) = (now.since(before), Omitted::default());
        for (target, sample) in samples {
            match caller.take(now.at, before, &target, sample) {
                SampleOutcome::Since { flown, opened } => {
                    totals.add(now.at, &target, &flown);
                    match self.history.add(source, &target, span, &flown, opened) {
                        Retained::Whole => {}
                        Retained::InPlaceOfOlder => excess.given_up += 1,
                        Retained::No => excess.histories += 1,
                    }
                }
                SampleOutcome::Unused => {}
                SampleOutcome::NoRoom => excess.edges += 1,
            }
        }
        excess
    }

    fn sweep(&mut self, now: Moment) {
        self.swept_at = Some(now.at);
        self.totals.sweep(now.at);
        for caller in self.by_workload.values_mut() {
            caller.windows.retain(|target, window| {
                let is_silent = window.is_silent(now.at);
                if is_silent {
                    self.history.closed(&caller.source, target, window.open());
                }
                !is_silent
            });
        }
        self.by_workload.retain(|_, caller| now.at.saturating_duration_since(caller.reported_at) <= SILENT);
        self.history.sweep(now.millis);
    }
}

/// What became of a sample.
enum SampleOutcome {
    /// It is kept; so much has flown since the one before, and so much more is open.
    Since { flown: Box<Sample>, opened: f64 },
    /// A destination that was never used takes no room.
    Unused,
    /// There is no room for another destination.
    NoRoom,
}

impl ProxyReport {
    fn take(
        &mut self,
        now: Instant,
        before: Option<Instant>,
        target: &EdgeTarget,
        sample: Sample,
    ) -> SampleOutcome {
        if let Some(window) = self.windows.get_mut(target) {
            let open = window.open();
            let flown = Box::new(window.push(now, sample));
            return SampleOutcome::Since { flown, opened: window.open() - open };
        }
        if !sample.used() {
            return SampleOutcome::Unused;
        }
        let of_its_kind = self.windows.keys().filter(|known| known.is_as(target));
        if self.windows.len() >= MOST_EDGES && of_its_kind.count() >= MOST_EDGES {
            return SampleOutcome::NoRoom;
        }
        // At its report before, if there was one, it had not used this destination.
        let mut window = Window::begin(before);
        let flown = Box::new(window.push(now, sample));
        let opened = window.open();
        self.windows.insert(target.clone(), window);
        SampleOutcome::Since { flown, opened }
    }
}

#[cfg(test)]
mod tests;
