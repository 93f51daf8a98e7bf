//! The one task that changes the mesh: it takes what happened, compiles what that affects, and publishes to whom it
//! concerns. Everyone else sends it commands, or watches what it has published.
//!
//! ```text
//! store ──follow──┐
//! discovery ──────┼─ Command ─▶ Reconciler { Registry, MeshState, streams } ─▶ StreamHandle of each stream concerned
//! health, join ───┤                                                       ├─▶ watch: Published
//! other replicas ─┘                                                       └─▶ assignments of health checks
//! ```
//!
//! A batch of commands is taken, then compiled and published once: a storm costs what it changed, not how often.

mod answers;
mod arrivals;
mod checks;
mod command;
mod delta;
mod following;
mod handle;
mod identities;
pub mod mesh_state;
mod published;
mod publishing;
mod query;
mod rehearsal;
mod scopes;
mod stream;
mod streams;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::health::v3::HealthCheckSpecifier;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use weft_api::names::{IDENTITY_SECRET, RUNTIME_LAYER};
use weft_api::{ResourceKey, ResourceKind, TrustDomain, WorkloadId};
use weft_policies::kinds::Registration;
use weft_policies::set::{PolicyKey, PolicySet};

use crate::identity::secrets::Secrets;
use crate::presence::grants;
use crate::presence::liveness::LivenessTimeouts;
use crate::presence::registry::{PresenceReport, Records, Registry, RemotePresence};
use crate::presence::workloads::{WorkloadRecord, WorkloadStore};

pub use command::ReconcilerCommand;
pub use following::{spawn_policies, spawn_workloads};
pub use handle::ReconcilerHandle;
pub use identities::is_given_its_key;
pub use mesh_state::ShapedResource;
pub use published::{Publication, Published};
pub use query::{MeshSnapshot, MissingBundle, Perspective, ShapedPolicies};
pub use rehearsal::{Rehearsal, Rehearsed};
pub use stream::{Connected, ServedStream, StreamId, StreamProgress};

use arrivals::{Arrivals, spawn_arrivals};
use handle::Message;
use identities::{IdentityOrder, spawn_identities};
use mesh_state::MeshState;
use streams::Streams;

/// Commands that wait: enough for a burst of reconnects, after which senders wait their turn.
const QUEUE: usize = 1024;
/// How often time has its effect on lost streams.
const SWEEP: Duration = Duration::from_secs(1);
/// How many commands are taken before their effect is published: a storm becomes one publication.
const BATCH: usize = 256;
/// How long a stream may wait for the record of its workload, which may still be on its way from the store.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);

/// Ends the connections of a workload, but for those of the instance that is named; all of them without one.
pub type CutConnections = Box<dyn Fn(&WorkloadId, Option<&str>) + Send + Sync>;

/// Starts the task; it ends with the token.
pub fn spawn_reconciler(
    trust_domain: TrustDomain,
    timeouts: LivenessTimeouts,
    secrets: Secrets,
    workloads: WorkloadStore,
    cut_connections: CutConnections,
    shutdown: CancellationToken,
) -> ReconcilerHandle {
    let (messages, receiver) = mpsc::channel(QUEUE);
    let (publish, published) = watch::channel(Published::default());
    let (publish_records, records) = watch::channel(Records::default());
    let presence = Arc::new(Notify::new());
    let reconciler = Reconciler {
        identities: spawn_identities(secrets),
        arrivals: spawn_arrivals(workloads),
        cut_connections,
        publish_records,
        presence: Arc::clone(&presence),
        registry: Registry::new(timeouts),
        mesh: MeshState::new(trust_domain),
        streams: Streams::default(),
        checks: HashMap::new(),
        now: Published::default(),
        moved: false,
        loaded: Loaded::default(),
        publish,
    };
    tokio::spawn(reconciler.run(receiver, shutdown));
    ReconcilerHandle { messages, published, records, presence }
}

/// What must have been read before anything is served.
#[derive(Debug, Default)]
struct Loaded {
    policies: bool,
    workloads: bool,
    bundle: bool,
}

/// The state of the one task that owns the mesh as it is now.
struct Reconciler {
    /// To the task that has SDS identities made and released.
    identities: mpsc::UnboundedSender<IdentityOrder>,
    /// To the task that writes into the records which sidecars have their inbound listener.
    arrivals: Arrivals,
    /// Called for those who were revoked, replaced or removed.
    cut_connections: CutConnections,
    /// The registry's records, for those who must answer while the store is away.
    publish_records: watch::Sender<Records>,
    /// Notified when what is to be told to other replicas may have changed.
    presence: Arc<Notify>,
    /// Who is there, and how well.
    registry: Registry,
    /// Policies and workloads, compiled.
    mesh: MeshState,
    /// The discovery streams that are open on this replica.
    streams: Streams,
    /// The health discovery streams of each workload, which are told what to check.
    checks: HashMap<WorkloadId, Vec<watch::Sender<HealthCheckSpecifier>>>,
    /// What is published, or will be at the end of this batch of commands.
    now: Published,
    /// The revision of the policies differs from the published one.
    moved: bool,
    /// Nothing is published before all of it was read.
    loaded: Loaded,
    publish: watch::Sender<Published>,
}

impl Reconciler {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>, shutdown: CancellationToken) {
        let mut sweeps = tokio::time::interval(SWEEP);
        sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                taken = messages.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        return;
                    }
                    for message in batch.drain(..) {
                        match message {
                            Message::Command(command) => self.take(command),
                            Message::Query(query) => self.answer(query),
                        }
                    }
                }
                _ = sweeps.tick() => self.sweep(Instant::now()),
            }
            self.publish();
        }
    }

    fn take(&mut self, command: ReconcilerCommand) {
        match command {
            ReconcilerCommand::Policies { revision, set, changed } => {
                self.take_policies(revision, set, &changed);
            }
            ReconcilerCommand::Record { id, record } => {
                self.record_changed(&id, record.map(|record| *record));
                self.refresh(&id);
            }
            ReconcilerCommand::Records(records) => self.take_records(records),
            ReconcilerCommand::ControlPlanes(addresses) => self.mesh.apply_control_planes(addresses),
            ReconcilerCommand::Secret { holder: None, resource } => {
                self.loaded.bundle = true;
                self.mesh.put(None, resource);
            }
            ReconcilerCommand::Secret { holder: Some((id, instance)), resource } => {
                // One for an instance that was deleted or replaced meanwhile is nobody's any more.
                if self.is_current(&id, &instance) {
                    self.mesh.put(Some(&id), resource);
                }
            }
            ReconcilerCommand::Runtime { workload, resource: Some(resource) } => {
                self.mesh.put(workload.as_ref(), resource);
            }
            ReconcilerCommand::Runtime { workload: Some(workload), resource: None } => {
                self.mesh.take_out(&workload, &ResourceKey::new(ResourceKind::Runtime, RUNTIME_LAYER));
            }
            ReconcilerCommand::Runtime { workload: None, resource: None } => {}
            ReconcilerCommand::Opened(connected) => self.open(connected),
            ReconcilerCommand::Arrived(workload) => self.note_arrival(&workload),
            ReconcilerCommand::Closed(id) => self.close(id),
            ReconcilerCommand::Health { workload, health } => {
                let before = self.registry.here(&workload);
                let is_known = self.mesh.workloads().contains_key(&workload);
                self.registry.reported(&workload, health, is_known);
                self.health_changed(&workload, &before);
            }
            ReconcilerCommand::HealthEnded(workload) => {
                let before = self.registry.here(&workload);
                self.registry.report_ended(Instant::now(), &workload);
                self.health_changed(&workload, &before);
            }
            ReconcilerCommand::Check { workload, assign } => {
                assign.send_replace(self.checks_of(&workload));
                self.checks.entry(workload).or_default().push(assign);
            }
            ReconcilerCommand::RemotePresence { partition, workloads } => {
                self.take_report(&partition, workloads);
            }
            ReconcilerCommand::AllRemotePresence(partitions) => self.take_all_reports(partitions),
        }
    }

    fn take_policies(&mut self, revision: u64, set: Arc<PolicySet>, changed: &[PolicyKey]) {
        self.loaded.policies = true;
        self.moved = true;
        self.now.policy_revision = revision;
        self.now.set = Arc::clone(&set);
        self.mesh.apply_policies(set, changed);
        for key in changed {
            match key.kind.registration() {
                Registration::Nobody => {}
                Registration::Itself => {
                    self.regrant(&WorkloadId::new(key.namespace.clone(), key.name.clone()));
                }
                // Whether a service is checked decides whether its reports count; what it selects, which names are granted.
                Registration::Members => {
                    let service = weft_api::ServiceId::new(key.namespace.clone(), key.name.clone());
                    for id in self.registry.reporters(&service) {
                        self.refresh(&id);
                    }
                    for id in self.registry.described_in(&key.namespace, self.mesh.set()) {
                        self.regrant(&id);
                    }
                }
            }
        }
    }

    fn take_records(&mut self, records: Vec<WorkloadRecord>) {
        self.loaded.workloads = true;
        let kept: BTreeSet<WorkloadId> = records.iter().map(|record| record.id.clone()).collect();
        let gone: Vec<_> =
            self.registry.joined().map(|r| r.id.clone()).filter(|id| !kept.contains(id)).collect();
        for id in gone {
            self.record_changed(&id, None);
        }
        for record in records {
            let id = record.id.clone();
            self.record_changed(&id, Some(record));
        }
        let mut ids = self.registry.ids(self.mesh.set());
        ids.extend(self.mesh.workloads().keys().cloned());
        for id in ids {
            self.refresh(&id);
        }
    }

    fn record_changed(&mut self, id: &WorkloadId, record: Option<WorkloadRecord>) {
        let before = self.registry.record(id).map(|record| record.instance.clone());
        let now = record.as_ref().map(|record| record.instance.clone());
        self.registry.record_changed(Instant::now(), id, record);
        // Before anybody is cut: who comes back at once is asked by what is known now.
        self.publish_records.send_replace(self.registry.records().clone());
        if before != now {
            // The key of one instance is never given to another.
            drop(self.identities.send(IdentityOrder::Release(id.clone())));
            self.mesh.take_out(id, &ResourceKey::new(ResourceKind::Secret, IDENTITY_SECRET));
            self.cut(id, now.as_deref());
        }
        self.note_arrival(id);
        self.hold_identity(id);
    }

    /// Has it written down that a sidecar listens, where that is awaited and a stream here shows it. Peers are told once it
    /// is in the store, so that every replica tells the same, and a restart takes nobody away.
    fn note_arrival(&self, id: &WorkloadId) {
        if let Some(record) = self.registry.record(id).filter(|record| record.awaited)
            && self.streams.listens(id, &record.instance)
        {
            self.arrivals.note(id, &record.instance);
        }
    }

    /// A proxy that cannot make its own key is given one: asked for when its instance has a stream.
    fn hold_identity(&self, id: &WorkloadId) {
        let Some(record) = self.registry.record(id).filter(|record| is_given_its_key(record)) else { return };
        if self.streams.has(id, &record.instance) {
            drop(self.identities.send(IdentityOrder::Hold(Box::new(record.clone()))));
        }
    }

    /// Whether an instance is the one on record, and no file gives its name to others.
    fn is_current(&self, id: &WorkloadId, instance: &str) -> bool {
        self.registry.record(id).is_some_and(|record| {
            record.instance == instance && grants::check(id, &record.service, self.mesh.set()).is_ok()
        })
    }

    /// Looks again at a workload whose file, or what selects it, changed: a joiner that is not granted its name any more
    /// is cut.
    fn regrant(&mut self, id: &WorkloadId) {
        if let Some(instance) = self.registry.record(id).map(|record| record.instance.clone())
            && !self.is_current(id, &instance)
        {
            self.cut(id, None);
        }
        self.refresh(id);
    }

    /// Brings the compiler's picture of one workload up to date.
    fn refresh(&mut self, id: &WorkloadId) {
        let state = self.registry.state(id, self.mesh.set());
        self.mesh.apply_workload(id, state);
    }

    fn health_changed(&mut self, id: &WorkloadId, before: &RemotePresence) {
        if self.registry.here(id) != *before {
            self.presence.notify_one();
            self.refresh(id);
        }
    }

    fn take_report(&mut self, partition: &str, workloads: Option<PresenceReport>) {
        for id in self.registry.take_report(Instant::now(), partition, workloads) {
            self.refresh(&id);
        }
    }

    fn take_all_reports(&mut self, mut partitions: BTreeMap<String, PresenceReport>) {
        for known in self.registry.partitions() {
            partitions.entry(known).or_default();
        }
        for (partition, workloads) in partitions {
            self.take_report(&partition, Some(workloads));
        }
    }

    fn sweep(&mut self, now: Instant) {
        if !self.now.ready {
            return;
        }
        for open in self.streams.give_up(now, RECORD_TIMEOUT) {
            self.registry.disconnected(now, &open.workload);
            let workload = open.workload.clone();
            open.close(tonic::Status::permission_denied(format!(
                "workload {workload} is not part of the mesh: join again to come back"
            )));
        }
        self.checks.retain(|_, assigned| {
            assigned.retain(|assign| !assign.is_closed());
            !assigned.is_empty()
        });
        for record in self.registry.awaited() {
            self.note_arrival(&record.id);
        }
        let (sweep, silent) = self.registry.sweep(now);
        if sweep.held_back > 0 && self.now.held_back == 0 {
            tracing::warn!(
                event = "drain_held_back",
                workloads = sweep.held_back,
                "more than a third of the mesh lost its streams at once; nothing is drained until they are fewer"
            );
        }
        self.now.held_back = sweep.held_back;
        for (id, life) in sweep.changed {
            tracing::info!(event = "proxy_disconnected", workload = %id, ?life, "stream is lost");
            self.refresh(&id);
        }
        for id in silent {
            self.refresh(&id);
        }
    }

    fn open(&mut self, connected: Connected) {
        let workload = connected.workload.clone();
        if self.streams.of(&workload).next().is_none() {
            self.presence.notify_one();
        }
        self.registry.connected(&workload);
        self.streams.insert(connected);
        self.hold_identity(&workload);
        // It may have come back to life.
        self.refresh(&workload);
    }

    fn close(&mut self, id: StreamId) {
        let Some(open) = self.streams.remove(id) else { return };
        self.registry.disconnected(Instant::now(), &open.workload);
        if self.streams.of(&open.workload).next().is_none() {
            self.presence.notify_one();
            drop(self.identities.send(IdentityOrder::LetLapse(open.workload)));
        }
    }

    /// Ends everything that a workload has open, but for what this instance has: its discovery streams with a sentence,
    /// then its connections.
    fn cut(&mut self, workload: &WorkloadId, keep: Option<&str>) {
        for id in self.streams.of_others(workload, keep) {
            if let Some(open) = self.streams.remove(id) {
                tracing::info!(
                    event = "proxy_cut",
                    %workload, instance = %open.instance,
                    "its stream is cut: it is not part of the mesh any more"
                );
                self.registry.disconnected(Instant::now(), workload);
                open.close(tonic::Status::permission_denied(match keep {
                    Some(_) => {
                        format!("another instance has joined as {workload}: give this one another --name")
                    }
                    None => format!("workload {workload} was removed from the mesh: join again to come back"),
                }));
            }
        }
        (self.cut_connections)(workload, keep);
    }
}
