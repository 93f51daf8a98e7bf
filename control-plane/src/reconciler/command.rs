//! What the reconciler is told and asked, and what it publishes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use envoy_types::pb::envoy::service::health::v3::HealthCheckSpecifier;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use weft_api::{Resource, ResourceKey, Version, WorkloadId};
use weft_policies::compile::{ControlPlaneAddresses, WorkloadState};
use weft_policies::set::{PolicyKey, PolicySet};
use weft_xds::View;

use super::stream::{Connected, Open, StreamId};
use crate::identity::instances::Known;
use crate::presence::grants::NotGranted;
use crate::presence::registry::{Overruled, PortHealth, Shard};
use crate::presence::workloads::WorkloadRecord;

/// Something that happened, or a question.
#[derive(Debug)]
pub enum Command {
    /// The log of policies has a new head.
    Policies {
        /// Its revision.
        revision: u64,
        /// All policies now.
        set: Arc<PolicySet>,
        /// Those that differ from before.
        changed: Vec<PolicyKey>,
    },
    /// The record of a workload changed.
    Record {
        /// The workload.
        id: WorkloadId,
        /// Its record now.
        record: Option<Box<WorkloadRecord>>,
    },
    /// All records were read: what is not among them is gone, and the world is complete.
    Records(Vec<WorkloadRecord>),
    /// Where the control planes are reached now.
    ControlPlanes(ControlPlaneAddresses),
    /// A secret for one instance of a workload, or for all.
    Secret {
        /// Whom it is for, and which instance of it; all without one.
        holder: Option<(WorkloadId, String)>,
        /// The secret.
        resource: Arc<Resource>,
    },
    /// A discovery stream opened.
    Opened(Connected),
    /// A sidecar of this workload has its listener for other workloads: the stream's [`super::Progress`] says so.
    Arrived(WorkloadId),
    /// It closed.
    Closed(StreamId),
    /// A sidecar reports about its application.
    Health {
        /// Whose.
        workload: WorkloadId,
        /// By service and port.
        health: PortHealth,
    },
    /// A sidecar's stream of reports ended.
    HealthEnded(WorkloadId),
    /// A sidecar wants to know what to check, now and whenever it changes.
    Check {
        /// Whose.
        workload: WorkloadId,
        /// Where assignments go.
        assign: watch::Sender<HealthCheckSpecifier>,
    },
    /// Another replica says which streams it has; nothing when it is gone.
    Elsewhere {
        /// Which part of which replica.
        shard: String,
        /// Workloads with streams there.
        workloads: Option<Shard>,
    },
    /// All that the other replicas say.
    AllElsewhere(BTreeMap<String, Shard>),
    /// A question for what other replicas are to be told.
    Here(oneshot::Sender<Shard>),
    /// A question for what one workload's proxy should have; no answer while nothing is served.
    View(WorkloadId, oneshot::Sender<View>),
    /// A question for a consistent picture.
    Ask(oneshot::Sender<Picture>),
    /// A question for the open streams alone.
    Streams(oneshot::Sender<Vec<Open>>),
    /// A question for workloads whose streams have been lost for hours.
    Expired(oneshot::Sender<Vec<WorkloadRecord>>),
    /// A question for who does not have this bundle.
    WithoutBundle(Version, oneshot::Sender<Lacking>),
    /// A question for whether another replica has a stream of a workload.
    IsElsewhere(WorkloadId, oneshot::Sender<bool>),
    /// A question for whether commands are taken at all.
    Alive(oneshot::Sender<()>),
    /// A question about the origins of resources.
    Origins {
        /// In whose view.
        workload: WorkloadId,
        /// Which.
        keys: Vec<ResourceKey>,
        /// The policies, for each.
        reply: oneshot::Sender<Vec<Vec<PolicyKey>>>,
    },
}

/// By which publication a revision of the policies went out, and to whom.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Revision of the policies.
    pub policies: u64,
    /// Number of the publication.
    pub number: u64,
    /// Workloads with streams that it gave something else to.
    pub targets: Arc<[WorkloadId]>,
}

/// What is published: how far, and the policies that readers may look at.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// True once policies and workloads were read at known revisions (rule S14).
    pub ready: bool,
    /// Counts publications; the revision of views. It means something in this process only.
    pub revision: u64,
    /// Revision of the policies.
    pub policy_revision: u64,
    /// How the newest revisions of the policies went out, oldest first.
    pub publications: Arc<VecDeque<Publication>>,
    /// The policies.
    pub set: Arc<PolicySet>,
    /// Workloads held back from draining because too many were lost at once.
    pub held_back: usize,
}

/// Workloads that do not have a bundle.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// They are connected, and have another.
    pub behind: Vec<WorkloadId>,
    /// They are not connected.
    pub away: Vec<WorkloadId>,
}

/// Workloads and streams of one moment.
#[derive(Debug)]
pub struct Picture {
    /// What is published.
    pub published: Published,
    /// The workloads as the compiler sees them.
    pub workloads: BTreeMap<WorkloadId, WorkloadState>,
    /// Their records.
    pub records: BTreeMap<WorkloadId, WorkloadRecord>,
    /// The open streams.
    pub streams: Vec<Open>,
    /// What joiners declared and a file says otherwise.
    pub overruled: BTreeMap<WorkloadId, Vec<Overruled>>,
    /// Joiners whose names files hold for others: they are no part of the mesh.
    pub not_granted: BTreeMap<WorkloadId, NotGranted>,
}

/// Records as they were last seen, for those who must answer while the store is away. A lock because they ask from
/// handlers; nothing is awaited under it.
pub(super) type Records = Arc<RwLock<HashMap<WorkloadId, WorkloadRecord>>>;

/// Where to send what happened, and to watch what is published. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reconciling {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) published: watch::Receiver<Published>,
    pub(super) records: Records,
    pub(super) presence: Arc<Notify>,
}

impl Reconciling {
    /// Tells what happened; waits while too much is waiting. Without effect once the control plane ends.
    pub async fn tell(&self, command: Command) {
        drop(self.commands.send(command).await);
    }

    /// Tells without waiting; gives the command back when too much is waiting.
    pub fn try_tell(&self, command: Command) -> Option<Command> {
        self.commands.try_send(command).err().map(mpsc::error::TrySendError::into_inner)
    }

    /// What is published.
    #[must_use]
    pub fn published(&self) -> watch::Receiver<Published> {
        self.published.clone()
    }

    /// Has other replicas told what is here.
    pub fn tell_presence(&self) {
        self.presence.notify_one();
    }

    /// Workloads with sidecars that do not have this bundle, wherever they are connected, and those that are away.
    pub async fn without_bundle(&self, version: Version) -> Lacking {
        self.ask(|reply| Command::WithoutBundle(version, reply)).await.unwrap_or_default()
    }

    /// Waits until other replicas have to be told something else than before; for one waiter.
    pub async fn presence_changed(&self) {
        self.presence.notified().await;
    }

    /// Whether another replica has a stream of a workload.
    pub async fn is_elsewhere(&self, id: &WorkloadId) -> bool {
        self.ask(|reply| Command::IsElsewhere(id.clone(), reply)).await.unwrap_or_default()
    }

    /// Waits until the reconciler answers; false once the control plane ends.
    pub async fn is_alive(&self) -> bool {
        self.ask(Command::Alive).await.is_some()
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.tell(question(reply)).await;
        answer.await.ok()
    }

    /// Workloads and streams of one moment; none once the control plane ends. It copies all workloads: for people's
    /// questions, not for every event.
    pub async fn picture(&self) -> Option<Picture> {
        self.ask(Command::Ask).await
    }

    /// The open streams; none once the control plane ends.
    pub async fn streams(&self) -> Option<Vec<Open>> {
        self.ask(Command::Streams).await
    }

    /// Workloads whose streams have been lost for hours.
    pub async fn expired(&self) -> Vec<WorkloadRecord> {
        self.ask(Command::Expired).await.unwrap_or_default()
    }

    /// What other replicas are to be told; none once the control plane ends.
    pub async fn here(&self) -> Option<Shard> {
        self.ask(Command::Here).await
    }

    /// What one workload's proxy should have; none while nothing is served.
    pub async fn view(&self, workload: &WorkloadId) -> Option<View> {
        self.ask(|reply| Command::View(workload.clone(), reply)).await
    }

    /// The policies that resources of a workload's view come from.
    pub async fn origins(&self, workload: &WorkloadId, keys: Vec<ResourceKey>) -> Vec<Vec<PolicyKey>> {
        let question = |reply| Command::Origins { workload: workload.clone(), keys, reply };
        self.ask(question).await.unwrap_or_default()
    }
}

impl Known for Reconciling {
    fn record(&self, id: &WorkloadId) -> Option<WorkloadRecord> {
        self.records.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn policies(&self) -> Arc<PolicySet> {
        Arc::clone(&self.published.borrow().set)
    }
}
