//! The handle by which admin endpoints, telemetry and supervision ask the control thread.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::resource::ConfigOrigin;
use super::world::World;
use crate::bootstrap::Bootstrap;
use crate::engine::Engine;
use crate::runtime::Runtime;
use crate::stats::{CounterId, SeriesReading};
use weft_api::log_event::EventCounts;

/// The proxy's state as Envoy's `/ready` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for the first configuration.
    PreInitializing,
    /// Some of it is there.
    Initializing,
    Live,
    Draining,
}

impl Phase {
    /// The name in Envoy's `/ready` and `/server_info`.
    #[must_use]
    pub fn envoy_name(self) -> &'static str {
        match self {
            Self::PreInitializing => "PRE_INITIALIZING",
            Self::Initializing => "INITIALIZING",
            Self::Live => "LIVE",
            Self::Draining => "DRAINING",
        }
    }
}

/// What [`ControlHandle::inspect`] shows of the control thread.
#[derive(Debug)]
pub struct ControlState<'a> {
    pub world: &'a World,
    /// What was started from.
    pub bootstrap: &'a Bootstrap,
    /// What every worker serves by.
    pub runtime: &'a Runtime,
    /// When the proxy started.
    pub started: SystemTime,
    pub workers: usize,
    pub config_path: Option<&'a Path>,
    pub(super) engine: &'a Engine,
}

impl ControlState<'_> {
    /// Where a listener is really bound.
    #[must_use]
    pub fn bound(&self, listener: &str) -> Option<SocketAddr> {
        self.engine.address(listener)
    }

    /// Whether a cluster came by a stream or a watched file.
    #[must_use]
    pub fn is_dynamic(&self, cluster: &str) -> bool {
        let active = self.world.clusters.get(cluster).and_then(|entry| entry.active.as_ref());
        active.is_some_and(|accepted| accepted.origin == ConfigOrigin::Dynamic)
    }
}

type InspectFn = Box<dyn FnOnce(&ControlState<'_>) + Send>;
type ReadStatsFn = Box<dyn FnOnce(&[SeriesReading<'_>]) + Send>;

pub(super) enum ControlQuery {
    Inspect(InspectFn),
    Stats(ReadStatsFn),
    Count(CounterId, u64),
    DrainListeners,
    DrainInbound(oneshot::Sender<()>),
}

impl fmt::Debug for ControlQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inspect(_) => "Inspect",
            Self::Stats(_) => "Stats",
            Self::Count(..) => "Count",
            Self::DrainListeners => "DrainListeners",
            Self::DrainInbound(_) => "DrainInbound",
        })
    }
}

type SetFilter = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;
type ShowFilter = Arc<dyn Fn() -> String + Send + Sync>;

/// Changes and shows the log's filter, and knows how often each event was logged.
#[derive(Clone)]
pub struct LogControl {
    /// What happened, from level info upwards, whatever the filter lets through.
    pub events: EventCounts,
    /// Sets the filter; answers why it cannot be.
    pub set: SetFilter,
    /// The filter in use.
    pub show: ShowFilter,
}

impl LogControl {
    /// A log that cannot be changed.
    #[must_use]
    pub fn fixed() -> Self {
        let set = Arc::new(|_: &str| Err("the log is not under control here".to_owned()));
        Self { events: EventCounts::default(), set, show: Arc::new(String::new) }
    }
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogControl")
    }
}

/// Asks the control thread.
#[derive(Debug, Clone)]
pub struct ControlHandle {
    queries: mpsc::Sender<ControlQuery>,
    phase: watch::Receiver<Phase>,
    healthy: Arc<AtomicBool>,
    log: LogControl,
    stop: CancellationToken,
}

impl ControlHandle {
    pub(super) fn new(
        queries: mpsc::Sender<ControlQuery>,
        phase: watch::Receiver<Phase>,
        log: LogControl,
        stop: CancellationToken,
    ) -> Self {
        Self { queries, phase, healthy: Arc::new(AtomicBool::new(true)), log, stop }
    }

    /// Where the proxy is in its life; draining too while `/healthcheck/fail` holds.
    #[must_use]
    pub fn phase(&self) -> Phase {
        let phase = *self.phase.borrow();
        let failed = !self.healthy.load(Ordering::Relaxed);
        if self.stop.is_cancelled() || (phase == Phase::Live && failed) { Phase::Draining } else { phase }
    }

    /// Follows [`Self::phase`], whatever `/healthcheck/fail` says.
    #[must_use]
    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    /// Looks at the state; `None` when the control thread has ended.
    pub async fn inspect<T: Send + 'static>(
        &self,
        look: impl FnOnce(&ControlState<'_>) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let look: InspectFn = Box::new(move |state| drop(reply.send(look(state))));
        self.queries.send(ControlQuery::Inspect(look)).await.ok()?;
        answer.await.ok()
    }

    /// Reads all statistics; `None` when the control thread has ended.
    pub async fn stats<T: Send + 'static>(
        &self,
        read: impl FnOnce(&[SeriesReading<'_>]) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let read: ReadStatsFn = Box::new(move |readings| drop(reply.send(read(readings))));
        self.queries.send(ControlQuery::Stats(read)).await.ok()?;
        answer.await.ok()
    }

    /// Counts what happened beside the workers.
    pub(crate) async fn count(&self, counter: CounterId, count: u64) {
        // Where the control thread has ended, nobody reads it.
        let _ = self.queries.send(ControlQuery::Count(counter, count)).await;
    }

    pub(crate) fn drain_listeners(&self) {
        if self.queries.try_send(ControlQuery::DrainListeners).is_err() {
            tracing::warn!(
                event = "drain_refused",
                "the control thread is busy; the listeners are not drained"
            );
        }
    }

    /// Says goodbye and drains what others reach, while the application's own calls go on. Returns when nothing is left.
    pub(crate) async fn drain_inbound(&self) {
        let (reply, drained) = oneshot::channel();
        if self.queries.send(ControlQuery::DrainInbound(reply)).await.is_ok() {
            // Without an answer the proxy has ended, and nothing is left either.
            let _ = drained.await;
        }
    }

    pub(crate) fn quit(&self) {
        self.stop.cancel();
    }

    pub(crate) fn set_health(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
    }

    pub(crate) fn set_log_filter(&self, filter: &str) -> Result<(), String> {
        (self.log.set)(filter)
    }

    pub(crate) fn log_filter(&self) -> String {
        (self.log.show)()
    }
}
