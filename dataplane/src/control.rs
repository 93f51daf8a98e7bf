//! The control thread's actor: takes configuration from everywhere, puts it to work in every worker, and answers.
//!
//! ```text
//!   stream --Notice--+                                 +--> Engine (swap, waits for every worker)
//!   files -----------+--> Control { World } -----------+--> stream (ACK or NACK, subscriptions)
//!   DNS, identity ---+         ^                       +--> snapshot on disk
//!   admin, statistics --ControlQuery                   +--> /ready
//! ```
//!
//! It owns all configuration state; others ask by [`ControlHandle`]. An update is acknowledged after every worker serves
//! by it. Without a control plane it goes on with the configuration in use.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weft_api::ResourceKind;
use weft_api::log_event::EventCounts;
use weft_xds::transport::client::{Notice, XdsClient};

use crate::bootstrap::Bootstrap;
use crate::decode::{ClusterPlan, KnownSecrets};
use crate::dns::{LookupResult, Resolver};
use crate::engine::Engine;
use crate::identity::{Identity, IdentityDir};
use crate::runtime::Runtime;
use crate::snapshot::ConfigSnapshot;
use crate::stats::event_readings;

mod bind_retries;
mod deadlines;
mod dependencies;
mod files;
mod gauges;
mod handle;
mod intake;
mod inventory;
mod local;
mod outlier_sweeps;
mod pending_update;
pub mod resource;
mod runtime_builder;
mod settle;
mod snapshot_schedule;
mod startup;
mod subscriptions;
mod table;
#[cfg(test)]
mod tests;
mod virtual_hosts;
mod warm;
pub mod world;

pub use handle::{ControlHandle, ControlState, LogControl, Phase};

use bind_retries::BindRetries;
use files::{FileUpdate, Watchers};
use gauges::Gauges;
use handle::ControlQuery;
use outlier_sweeps::OutlierSweeps;
use pending_update::PendingUpdate;
use resource::{ConfigOrigin, Now, RefusedName};
use runtime_builder::RuntimeBuilder;
use snapshot_schedule::SnapshotSchedule;
use startup::Startup;
use warm::Unusable;
use weft_routing::rejection::Rejection;
use world::World;

/// Queries that wait for the actor; whoever asks waits too.
const QUERIES: usize = 16;
/// Answers of look-ups that wait.
const ANSWERS: usize = 16;

/// What the actor starts with.
#[derive(Debug)]
pub struct Config {
    /// Static resources and sources.
    pub bootstrap: Bootstrap,
    /// The file that it came from.
    pub config_path: Option<PathBuf>,
    /// The identity of a joined workload; it provides the `identity` secret and stands in for `bundle`.
    pub identity: Option<watch::Receiver<Arc<Identity>>>,
    /// Where the last good configuration is kept.
    pub snapshots: Option<IdentityDir>,
    /// Changes the log's filter.
    pub log: LogControl,
    /// Ends everything when it is cancelled.
    pub stop: CancellationToken,
}

/// How long draining takes.
#[derive(Debug, Clone, Copy)]
pub struct DrainTimes {
    /// Listeners stay open this long, for callers that have not heard yet.
    pub minimum: Duration,
    /// What is in flight after this long is cut.
    pub limit: Duration,
}

impl Default for DrainTimes {
    fn default() -> Self {
        Self { minimum: Duration::from_secs(1), limit: Duration::from_secs(28) }
    }
}

/// Why the proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A resource of the bootstrap file is refused.
    #[error("static {kind} {name:?} is refused: {rejection}")]
    Static {
        kind: &'static str,
        name: String,
        /// Which field, and why.
        rejection: Rejection,
    },
}

impl StartError {
    fn refused(kind: ResourceKind, (name, rejection): RefusedName) -> Self {
        let kind = match kind {
            ResourceKind::Secret => "secret",
            ResourceKind::Cluster => "cluster",
            ResourceKind::Listener => "listener",
            ResourceKind::Endpoint
            | ResourceKind::Route
            | ResourceKind::VirtualHost
            | ResourceKind::Runtime => kind.short(),
        };
        Self::Static { kind, name: name.to_string(), rejection }
    }

    /// An error where one of these came from the bootstrap file.
    fn of_static(unusable: &[Unusable]) -> Result<(), Self> {
        match unusable.iter().find(|one| one.origin == ConfigOrigin::Static) {
            Some(one) => Err(Self::refused(one.kind, one.refusal.clone())),
            None => Ok(()),
        }
    }
}

/// The state of the control thread; [`Control::run`] is its event loop.
#[derive(Debug)]
pub struct Control {
    /// What the proxy was started from: static resources, and where all others come from.
    bootstrap: Bootstrap,
    /// The file that the bootstrap was read from, for `/server_info`; `None` for a joined workload.
    config_path: Option<PathBuf>,
    /// Every resource, warming and in use.
    world: World,
    /// Turns resources into a [`Runtime`], and keeps the parts that did not change.
    builder: RuntimeBuilder,
    engine: Engine,
    /// What every worker serves by.
    runtime: Arc<Runtime>,
    /// When the proxy started, for `server.uptime` and `/server_info`.
    started: SystemTime,
    /// What was logged, counted for `/stats`.
    events: EventCounts,
    /// The certificate of a joined workload, renewed by the rotation task; `None` where a bootstrap file names secrets.
    identity: Option<watch::Receiver<Arc<Identity>>>,
    /// Publishes the secrets in use to connections that the control thread makes itself.
    secrets: watch::Sender<Arc<KnownSecrets>>,
    /// The xDS stream: what to subscribe to goes out, responses come in. `None` without one, and when it has ended.
    stream: Option<(XdsClient, mpsc::Receiver<Notice>)>,
    /// What the stream was asked for by name.
    subscribed: HashSet<(ResourceKind, Arc<str>)>,
    /// The lists that came at least once.
    received_lists: HashSet<ResourceKind>,
    /// Updates that are not answered yet, in their order.
    pending: Vec<PendingUpdate>,
    /// What admin endpoints, telemetry and supervision ask, by a [`ControlHandle`].
    queries: mpsc::Receiver<ControlQuery>,
    /// Resolves the names of DNS clusters; its answers come by `answers`.
    resolver: Resolver,
    answers: mpsc::Receiver<LookupResult>,
    /// Watches files with discovery responses; their content comes by `file_updates`.
    watchers: Watchers,
    file_updates: mpsc::Receiver<FileUpdate>,
    /// Publishes how far the start or the end is, for `/ready`.
    phase: watch::Sender<Phase>,
    /// Statistics that the control thread sets: uptime, membership, versions.
    gauges: Gauges,
    /// The snapshot that this proxy started with.
    restored: Option<ConfigSnapshot>,
    /// What readiness waits for until the first configuration is complete.
    startup: Startup,
    /// When listeners whose address was taken are bound again.
    bind_retries: BindRetries,
    /// When the configuration in use is written to disk, and where.
    snapshot_schedule: SnapshotSchedule,
    /// When the outlier detection of each cluster is swept.
    outlier_sweeps: OutlierSweeps,
    /// The workers have to be given a runtime whatever has changed in the world.
    dirty: bool,
    /// The join protocol's `Leave`, which a drain waits for while the listeners are still open; it is sent once.
    leave_mesh: Shared<BoxFuture<'static, ()>>,
    /// Ends [`Control::run`], which then drains.
    stop: CancellationToken,
}

impl Control {
    /// Takes the static resources; nothing is served yet.
    ///
    /// # Errors
    /// When a static resource is refused: the file must be corrected.
    pub fn try_new(config: Config, engine: Engine) -> Result<(Self, ControlHandle), StartError> {
        let (query_sender, queries) = mpsc::channel(QUERIES);
        let (answer_sender, answers) = mpsc::channel(ANSWERS);
        let (file_sender, file_updates) = mpsc::channel(ANSWERS);
        let (phase, phase_receiver) = watch::channel(Phase::PreInitializing);
        let events = config.log.events.clone();
        let handle = ControlHandle::new(query_sender, phase_receiver, config.log, config.stop.clone());
        let mut world = World::default();
        let gauges = Gauges::register(&mut world.registry);
        let mut control = Self {
            bootstrap: config.bootstrap,
            config_path: config.config_path,
            world,
            builder: RuntimeBuilder::default(),
            engine,
            runtime: Runtime::empty(),
            started: SystemTime::now(),
            events,
            identity: config.identity,
            secrets: watch::channel(Arc::default()).0,
            stream: None,
            subscribed: HashSet::new(),
            received_lists: HashSet::new(),
            pending: Vec::new(),
            queries,
            resolver: Resolver::new(answer_sender),
            answers,
            watchers: Watchers::new(file_sender),
            file_updates,
            phase,
            gauges,
            restored: None,
            startup: Startup::default(),
            bind_retries: BindRetries::default(),
            snapshot_schedule: SnapshotSchedule::to(config.snapshots),
            outlier_sweeps: OutlierSweeps::default(),
            dirty: true,
            leave_mesh: std::future::ready(()).boxed().shared(),
            stop: config.stop,
        };
        control.take_identity();
        control.take_statics()?;
        StartError::of_static(&control.world.promote(&mut control.builder, Self::now()).refusals)?;
        control.take_snapshot();
        Ok((control, handle))
    }

    /// The static clusters, for the streams that go to them.
    #[must_use]
    pub fn static_clusters(&self) -> Vec<Arc<ClusterPlan>> {
        let accepted = self.world.clusters.values().filter_map(|entry| entry.newest());
        accepted
            .filter(|accepted| accepted.origin == ConfigOrigin::Static)
            .map(|accepted| Arc::clone(&accepted.value))
            .collect()
    }

    /// The secrets of the moment, for connections that the control thread makes itself.
    #[must_use]
    pub fn secrets(&self) -> watch::Receiver<Arc<KnownSecrets>> {
        self.secrets.subscribe()
    }

    /// Versions that a snapshot holds, for the stream's first requests.
    pub fn restored_versions(&self) -> impl Iterator<Item = (ResourceKind, Arc<str>, Arc<str>)> + '_ {
        let is_of_this =
            |snapshot: &&ConfigSnapshot| snapshot.features == self.bootstrap.node.client_features;
        let restored = self.restored.iter().filter(is_of_this);
        restored.flat_map(|snapshot| &snapshot.resources).filter_map(|saved| {
            let kind = ResourceKind::from_type_url(&saved.type_url)?;
            Some((kind, saved.name.as_str().into(), saved.version.as_str().into()))
        })
    }

    /// Runs until the stop token is cancelled, then drains. `leave_mesh` is waited for while the listeners are still
    /// open, and is said once.
    ///
    /// # Errors
    /// When a static resource turns out to be unusable with the secrets that it names, before the proxy was ready.
    pub async fn run(
        mut self,
        stream: Option<(XdsClient, mpsc::Receiver<Notice>)>,
        leave_mesh: impl Future<Output = ()> + Send + 'static,
        times: DrainTimes,
    ) -> Result<(), StartError> {
        self.leave_mesh = leave_mesh.boxed().shared();
        self.stream = stream;
        self.subscribe_lists();
        self.watch_lists();
        if self.restored.is_some() {
            self.startup.hold(Instant::now());
        }
        loop {
            self.work().await?;
            if !self.step().await {
                break;
            }
        }
        self.end(times).await;
        Ok(())
    }

    fn now() -> Now {
        Now { instant: Instant::now(), wall: SystemTime::now() }
    }

    /// Waits for one event and takes it; false when it is time to end.
    async fn step(&mut self) -> bool {
        let deadline = self.next_deadline();
        let notice = async {
            match &mut self.stream {
                Some((_, notices)) => notices.recv().await,
                None => std::future::pending().await,
            }
        };
        let rotated = async {
            let rotated = match &mut self.identity {
                Some(identity) => identity.changed().await.is_ok(),
                None => false,
            };
            if !rotated {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => return false,
            notice = notice => match notice {
                Some(notice) => self.take_notice(notice),
                None => self.stream = None,
            },
            () = rotated => {
                self.take_identity();
                if let Some((client, _)) = &self.stream {
                    client.reconnect();
                }
            }
            Some(answer) = self.answers.recv() => self.world.resolve(answer.question, answer.addresses),
            Some(update) = self.file_updates.recv() => self.take_file(&update),
            Some(query) = self.queries.recv() => self.answer(query).await,
            () = tokio::time::sleep_until(deadline) => {}
        }
        true
    }

    fn next_deadline(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        [
            self.world.next_deadline(),
            self.pending.iter().map(PendingUpdate::deadline).min(),
            self.startup.next_deadline(),
            self.bind_retries.next_deadline(),
            // While something warms there is nothing to save yet.
            self.snapshot_schedule.next_deadline().filter(|_| self.world.is_warm()),
            self.outlier_sweeps.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(far)
    }

    async fn answer(&self, query: ControlQuery) {
        match query {
            ControlQuery::Inspect(look) => look(&ControlState {
                world: &self.world,
                bootstrap: &self.bootstrap,
                runtime: &self.runtime,
                started: self.started,
                workers: self.engine.workers(),
                config_path: self.config_path.as_deref(),
                engine: &self.engine,
            }),
            ControlQuery::Stats(read) => {
                let mut totals = self.engine.stats().await;
                let age = SystemTime::now().duration_since(self.started).unwrap_or_default();
                totals.merge(&self.gauges.read(&self.runtime, &self.world, age, self.engine.workers()));
                let mut readings = self.world.registry.readings(&totals);
                readings.extend(event_readings(&self.events));
                readings.sort_by(|a, b| a.name.cmp(&b.name));
                read(&readings);
            }
            ControlQuery::Count(counter, count) => self.gauges.count(counter, count),
            ControlQuery::DrainListeners => {
                let limit = DrainTimes::default().limit;
                tokio::spawn(self.engine.drain(Duration::ZERO, limit));
            }
            ControlQuery::DrainInbound(reply) => {
                let (times, leave_mesh) = (DrainTimes::default(), self.leave_mesh.clone());
                let draining = self.engine.drain_inbound(times.minimum, times.limit);
                tokio::spawn(async move {
                    leave_mesh.await;
                    draining.await;
                    // Whoever asked may have stopped waiting.
                    let _ = reply.send(());
                });
            }
        }
    }

    /// Drains: no longer ready, peers are told, what is in flight finishes.
    async fn end(mut self, times: DrainTimes) {
        self.phase.send_replace(Phase::Draining);
        tracing::info!(event = "draining", limit = ?times.limit, "draining");
        let (_, mut queries) = mpsc::channel(1);
        std::mem::swap(&mut queries, &mut self.queries);
        self.save_now();
        let draining = async {
            self.leave_mesh.clone().await;
            self.engine.drain(times.minimum, times.limit).await;
        };
        let capped = tokio::time::timeout(times.limit + Duration::from_secs(1), draining);
        tokio::pin!(capped);
        loop {
            tokio::select! {
                drained = &mut capped => {
                    if drained.is_err() {
                        tracing::warn!(
                            event = "connections_cut",
                            "the drain limit is over; what is in flight is cut"
                        );
                    }
                    break;
                }
                Some(query) = queries.recv() => self.answer(query).await,
            }
        }
        tracing::info!(event = "drained", "drained");
    }
}
