//! How others tell and ask the reconciler.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use weft_api::{ResourceKey, Version, WorkloadId};
use weft_policies::set::{PolicyKey, PolicySet};
use weft_xds::View;

use super::command::ReconcilerCommand;
use super::published::Published;
use super::query::{MeshSnapshot, MissingBundle, Perspective, ReconcilerQuery, ShapedPolicies};
use super::rehearsal::Rehearsal;
use super::stream::ServedStream;
use crate::identity::instances::InstanceLookup;
use crate::presence::registry::{PresenceReport, Records};
use crate::presence::workloads::WorkloadRecord;

/// What goes through the reconciler's queue: an answer tells of all that was told before the question.
#[derive(Debug)]
pub(super) enum Message {
    Command(ReconcilerCommand),
    Query(ReconcilerQuery),
}

/// Where to send what happened, and to watch what is published. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReconcilerHandle {
    pub(super) messages: mpsc::Sender<Message>,
    pub(super) published: watch::Receiver<Published>,
    pub(super) records: watch::Receiver<Records>,
    pub(super) presence: Arc<Notify>,
}

impl ReconcilerHandle {
    /// Tells what happened; waits while too much is waiting. Without effect once the control plane ends.
    pub async fn tell(&self, command: ReconcilerCommand) {
        drop(self.messages.send(Message::Command(command)).await);
    }

    /// Tells without waiting; gives the command back when too much is waiting.
    pub fn try_tell(&self, command: ReconcilerCommand) -> Option<ReconcilerCommand> {
        match self.messages.try_send(Message::Command(command)).err()?.into_inner() {
            Message::Command(command) => Some(command),
            Message::Query(_) => None,
        }
    }

    #[must_use]
    pub fn published(&self) -> watch::Receiver<Published> {
        self.published.clone()
    }

    /// The records of joined workloads.
    #[must_use]
    pub fn records(&self) -> Records {
        self.records.borrow().clone()
    }

    /// Has other replicas told what is here.
    pub fn tell_presence(&self) {
        self.presence.notify_one();
    }

    /// Workloads with sidecars that do not have this bundle, wherever they are connected, and those that are away.
    pub async fn without_bundle(&self, version: Version) -> MissingBundle {
        self.ask(|reply| ReconcilerQuery::WithoutBundle(version, reply)).await.unwrap_or_default()
    }

    /// Waits until other replicas have to be told something else than before; for one waiter.
    pub async fn presence_changed(&self) {
        self.presence.notified().await;
    }

    /// Whether another replica has a stream of a workload.
    pub async fn is_on_another_replica(&self, id: &WorkloadId) -> bool {
        self.ask(|reply| ReconcilerQuery::IsOnAnotherReplica(id.clone(), reply)).await.unwrap_or_default()
    }

    /// Waits until the reconciler answers; false once the control plane ends.
    pub async fn is_alive(&self) -> bool {
        self.ask(ReconcilerQuery::IsAlive).await.is_some()
    }

    async fn ask<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> ReconcilerQuery) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        drop(self.messages.send(Message::Query(query(reply))).await);
        answer.await.ok()
    }

    /// Workloads and streams of one moment; none once the control plane ends. It copies all workloads: for people's
    /// questions, not for every event.
    pub async fn snapshot(&self) -> Option<MeshSnapshot> {
        self.ask(ReconcilerQuery::MeshSnapshot).await
    }

    /// The open streams; none once the control plane ends.
    pub async fn streams(&self) -> Option<Vec<ServedStream>> {
        self.ask(ReconcilerQuery::Streams).await
    }

    /// Workloads whose streams have been lost for hours.
    pub async fn expired(&self) -> Vec<WorkloadRecord> {
        self.ask(ReconcilerQuery::Expired).await.unwrap_or_default()
    }

    /// What other replicas are to be told; none once the control plane ends.
    pub async fn local_presence(&self) -> Option<PresenceReport> {
        self.ask(ReconcilerQuery::LocalPresence).await
    }

    /// What one workload's proxy should have; none while nothing is served.
    pub async fn view(&self, workload: &WorkloadId) -> Option<View> {
        self.ask(|reply| ReconcilerQuery::View(workload.clone(), reply)).await
    }

    /// What these workloads' proxies should have, and what it was made of; none while nothing is served, or while a change is
    /// on its way: a moment later there is one.
    pub async fn perspective(&self, workloads: Vec<WorkloadId>) -> Option<Perspective> {
        self.ask(|reply| ReconcilerQuery::Perspective(workloads, reply)).await
    }

    /// A copy of the mesh, to try these policies on; none while nothing is served. For people's questions: it copies what
    /// there is of every unit, if not the resources.
    pub async fn rehearsal(&self, set: Arc<PolicySet>) -> Option<Rehearsal> {
        self.ask(|reply| ReconcilerQuery::Rehearsal(set, reply)).await
    }

    /// What is compiled of some policies, who is told of it, and how far those are; none while nothing is served.
    pub async fn shaped(&self, policies: Vec<PolicyKey>) -> Option<ShapedPolicies> {
        self.ask(|reply| ReconcilerQuery::Shaped(policies, reply)).await
    }

    /// The policies that resources of a workload's view come from.
    pub async fn origins(&self, workload: &WorkloadId, keys: Vec<ResourceKey>) -> Vec<Vec<PolicyKey>> {
        self.ask(|reply| ReconcilerQuery::Origins(workload.clone(), keys, reply)).await.unwrap_or_default()
    }
}

impl InstanceLookup for ReconcilerHandle {
    fn record(&self, id: &WorkloadId) -> Option<WorkloadRecord> {
        self.records.borrow().get(id).map(|record| WorkloadRecord::clone(record))
    }

    fn policies(&self) -> Arc<PolicySet> {
        Arc::clone(&self.published.borrow().set)
    }
}
