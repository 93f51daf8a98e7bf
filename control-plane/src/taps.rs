//! Requests as they end, for who looks on.
//!
//! ```text
//! weft-proxies: xds::tap_service ───────┐                    ┌─▶ viewer of this replica ──▶ Pairing ──▶ GET /v1/taps
//!                                       ├─ Seen ─▶ Taps ─────┤
//! Envoys: xds::access_log_service ──────┘            │       └─▶ another replica, for a viewer of its own
//!                                                    └─ what is wanted ─▶ streams of weft-proxies, runtimes of Envoys
//! ```
//!
//! A tap is there while somebody holds its [`OpenTap`] and takes what comes: one that takes nothing for [`LEASE`] is ended.
//! Nothing waits for a viewer: what finds no room in his queue is counted and told as a number.

mod filter;
mod pairing;
mod sampling;
mod seen;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use weft_api::rest::Hop;
use weft_api::{ServiceId, WorkloadId};
use weft_policies::PolicySet;

pub use filter::{InvalidTapFilter, TapFilter};
pub use pairing::Pairing;
pub use sampling::TapSampling;
pub use seen::{Seen, read_tapped};

/// A viewer who takes nothing for so long has gone, whatever his connection says; and a sidecar that hears nothing of the
/// control plane for so long ends its taps.
pub const LEASE: Duration = Duration::from_secs(10);
/// Taps at this replica: those of its own viewers, and those that other replicas have here for theirs.
const MOST: usize = 64;
/// Requests that wait for one viewer: some seconds of what he is shown.
const WAITING: usize = 1024;

/// What somebody who looks on is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ViewerNews {
    Seen(Box<Seen>),
    /// Requests that were wanted and too many, as the sidecars of this side count them.
    NotShown {
        hop: Hop,
        requests: f64,
    },
}

/// A tap that is there, as those see it who make sidecars tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedTap {
    pub id: u64,
    pub filter: Arc<TapFilter>,
}

/// All taps of a moment.
pub type WantedTaps = Arc<[WantedTap]>;

/// The taps of this replica. Cheap to clone; clones are the same.
#[derive(Debug, Clone)]
pub struct Taps(Arc<SharedTaps>);

#[derive(Debug)]
struct SharedTaps {
    // A lock because what ended comes by many streams; nothing is awaited under it, and nobody is waited for.
    state: Mutex<TapState>,
    wanted: watch::Sender<WantedTaps>,
}

#[derive(Debug, Default)]
struct TapState {
    next_id: u64,
    viewers: BTreeMap<u64, Viewer>,
    /// Workloads whose weft-proxy has a stream for taps, with how many.
    telling: BTreeMap<WorkloadId, usize>,
    sampling: TapSampling,
}

#[derive(Debug)]
struct Viewer {
    filter: Arc<TapFilter>,
    queue: mpsc::Sender<ViewerNews>,
    /// What found no room in the queue, and is told when there is some.
    missed: [f64; 2],
    renewed: Instant,
}

/// There are as many as there may be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MOST} taps are open at this control plane already; end one, or come back later")]
pub struct TooManyTaps;

impl Default for Taps {
    fn default() -> Self {
        let wanted = watch::channel(WantedTaps::default()).0;
        Self(Arc::new(SharedTaps { state: Mutex::default(), wanted }))
    }
}

impl Taps {
    /// Begins a tap.
    ///
    /// # Errors
    /// When there are too many.
    pub fn open(&self, filter: TapFilter) -> Result<OpenTap, TooManyTaps> {
        let (queue, news) = mpsc::channel(WAITING);
        let mut state = self.lock();
        if state.viewers.len() >= MOST {
            return Err(TooManyTaps);
        }
        let id = state.next_id;
        state.next_id += 1;
        let viewer = Viewer { filter: Arc::new(filter), queue, missed: [0.0; 2], renewed: Instant::now() };
        state.viewers.insert(id, viewer);
        self.publish(&state);
        Ok(OpenTap { taps: self.clone(), id, news })
    }

    /// What is wanted, as it changes.
    #[must_use]
    pub fn wanted(&self) -> watch::Receiver<WantedTaps> {
        self.0.wanted.subscribe()
    }

    /// Ends the taps whose viewers take nothing any more.
    pub fn end_unread(&self, now: Instant) {
        let mut state = self.lock();
        let before = state.viewers.len();
        state.viewers.retain(|_, viewer| now.saturating_duration_since(viewer.renewed) < LEASE);
        if state.viewers.len() != before {
            self.publish(&state);
        }
    }

    /// A request ended; it stands for as many as `weight` says, where its sidecar tells of a part only.
    pub fn tell(&self, seen: &Seen, weight: f64) {
        let mut state = self.lock();
        for viewer in state.viewers.values_mut().filter(|viewer| viewer.filter.takes(seen)) {
            if weight > 1.0 {
                viewer.miss(seen.record.hop, weight - 1.0);
            }
            let shown = viewer.filter.shown(seen);
            if viewer.queue.try_send(ViewerNews::Seen(Box::new(shown))).is_err() {
                viewer.miss(seen.record.hop, 1.0);
            }
            viewer.tell_missed();
        }
    }

    /// A sidecar counted requests that it does not tell of.
    pub fn not_shown(&self, tap: u64, hop: Hop, requests: f64) {
        if let Some(viewer) = self.lock().viewers.get_mut(&tap) {
            viewer.miss(hop, requests);
            viewer.tell_missed();
        }
    }

    /// Requests that nobody looked at, of a sidecar that told too many: every tap may have wanted them.
    pub fn not_read(&self, hop: Hop, requests: f64) {
        for viewer in self.lock().viewers.values_mut() {
            viewer.miss(hop, requests);
            viewer.tell_missed();
        }
    }

    /// A weft-proxy has a stream for taps, as long as what is returned lives.
    #[must_use]
    pub fn telling(&self, workload: &WorkloadId) -> TellingSidecar {
        *self.lock().telling.entry(workload.clone()).or_default() += 1;
        TellingSidecar { taps: self.clone(), workload: workload.clone() }
    }

    /// The workloads whose weft-proxy has one.
    #[must_use]
    pub fn told_by(&self) -> BTreeSet<WorkloadId> {
        self.lock().telling.keys().cloned().collect()
    }

    /// Looks at, or changes, how much Envoys tell.
    pub fn with_sampling<T>(&self, work: impl FnOnce(&mut TapSampling) -> T) -> T {
        work(&mut self.lock().sampling)
    }

    fn publish(&self, state: &TapState) {
        let wanted =
            |(id, viewer): (&u64, &Viewer)| WantedTap { id: *id, filter: Arc::clone(&viewer.filter) };
        self.0.wanted.send_replace(state.viewers.iter().map(wanted).collect());
    }

    fn lock(&self) -> MutexGuard<'_, TapState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Viewer {
    fn miss(&mut self, hop: Hop, requests: f64) {
        self.missed[usize::from(hop == Hop::Inbound)] += requests;
    }

    fn tell_missed(&mut self) {
        for (missed, hop) in self.missed.iter_mut().zip([Hop::Outbound, Hop::Inbound]) {
            if *missed > 0.0 && self.queue.try_send(ViewerNews::NotShown { hop, requests: *missed }).is_ok() {
                *missed = 0.0;
            }
        }
    }
}

/// A tap, which ends when this is dropped.
#[derive(Debug)]
pub struct OpenTap {
    taps: Taps,
    id: u64,
    news: mpsc::Receiver<ViewerNews>,
}

impl OpenTap {
    /// What comes next; none when the tap was ended, because nothing was taken for too long.
    pub async fn next(&mut self) -> Option<ViewerNews> {
        self.news.recv().await
    }

    /// Says that somebody still takes what comes.
    pub fn renew(&self) {
        self.lease().renew();
    }

    /// By which somebody else says that.
    #[must_use]
    pub fn lease(&self) -> TapLease {
        TapLease { taps: self.taps.clone(), id: self.id }
    }
}

/// By which a tap is renewed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TapLease {
    taps: Taps,
    id: u64,
}

impl TapLease {
    /// Says that somebody still takes what comes.
    pub fn renew(&self) {
        if let Some(viewer) = self.taps.lock().viewers.get_mut(&self.id) {
            viewer.renewed = Instant::now();
        }
    }
}

impl Drop for OpenTap {
    fn drop(&mut self) {
        let mut state = self.taps.lock();
        if state.viewers.remove(&self.id).is_some() {
            self.taps.publish(&state);
        }
    }
}

/// A weft-proxy that has a stream for taps.
#[derive(Debug)]
pub struct TellingSidecar {
    taps: Taps,
    workload: WorkloadId,
}

impl Drop for TellingSidecar {
    fn drop(&mut self) {
        let telling = &mut self.taps.lock().telling;
        if let Some(count) = telling.get_mut(&self.workload) {
            *count -= 1;
            if *count == 0 {
                telling.remove(&self.workload);
            }
        }
    }
}

/// On which of its sides a sidecar is asked: the calls of its application, the calls to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sides {
    pub outbound: bool,
    pub inbound: bool,
}

impl Sides {
    /// Of a workload that joined for this service.
    #[must_use]
    pub fn of(filter: &TapFilter, workload: &WorkloadId, service: &ServiceId, set: &PolicySet) -> Self {
        let is = |wanted: &Option<ServiceId>| wanted.as_ref().is_none_or(|wanted| wanted == service);
        // It may be a member of other services of its namespace too: by their selectors, or by a file.
        let may_be = |wanted: &ServiceId| {
            let selects = || set.service(wanted).is_some_and(|found| found.spec.selector.is_some());
            wanted.namespace == workload.namespace && (set.workload(workload).is_some() || selects())
        };
        let called = &filter.destination;
        Self { outbound: is(&filter.source), inbound: is(called) || called.as_ref().is_some_and(may_be) }
    }

    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { outbound: self.outbound || other.outbound, inbound: self.inbound || other.inbound }
    }

    #[must_use]
    pub fn any(self) -> bool {
        self.outbound || self.inbound
    }
}

#[cfg(test)]
mod tests;
