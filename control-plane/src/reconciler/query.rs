//! What the reconciler is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::oneshot;
use weft_api::{ResourceKey, Version, WorkloadId};
use weft_policies::compile::Workloads;
use weft_policies::set::{PolicyKey, PolicySet};
use weft_xds::View;

use super::mesh_state::ShapedResource;
use super::published::Published;
use super::rehearsal::Rehearsal;
use super::stream::ServedStream;
use crate::presence::grants::NotGranted;
use crate::presence::registry::{OverruledField, PresenceReport, Records};
use crate::presence::workloads::WorkloadRecord;

/// A question, and where its answer goes. One that is dropped has no answer.
#[derive(Debug)]
pub(super) enum ReconcilerQuery {
    /// What other replicas are to be told.
    LocalPresence(oneshot::Sender<PresenceReport>),
    /// What one workload's proxy should have; no answer while nothing is served.
    View(WorkloadId, oneshot::Sender<View>),
    MeshSnapshot(oneshot::Sender<MeshSnapshot>),
    /// The open streams alone.
    Streams(oneshot::Sender<Vec<ServedStream>>),
    /// Workloads whose streams have been lost for hours.
    Expired(oneshot::Sender<Vec<WorkloadRecord>>),
    /// Who does not have this bundle.
    WithoutBundle(Version, oneshot::Sender<MissingBundle>),
    /// A copy of the mesh, to try these policies on; no answer while nothing is served.
    Rehearsal(Arc<PolicySet>, oneshot::Sender<Rehearsal>),
    /// Whether another replica has a stream of a workload.
    IsOnAnotherReplica(WorkloadId, oneshot::Sender<bool>),
    /// Whether commands are taken at all.
    IsAlive(oneshot::Sender<()>),
    /// What is compiled of these policies; no answer while nothing is served.
    Shaped(Vec<PolicyKey>, oneshot::Sender<ShapedPolicies>),
    /// What these workloads' proxies should have; no answer while nothing is served, or what changed is not compiled yet.
    Perspective(Vec<WorkloadId>, oneshot::Sender<Perspective>),
    /// The policies that each of these resources of a workload's view comes from.
    Origins(WorkloadId, Vec<ResourceKey>, oneshot::Sender<Vec<Vec<PolicyKey>>>),
}

/// What is compiled of some policies, who is told of it, and how far those are.
#[derive(Debug)]
pub struct ShapedPolicies {
    /// By policy; those of which nothing is compiled have none.
    pub resources: BTreeMap<PolicyKey, Vec<ShapedResource>>,
    /// The streams that are open here.
    pub streams: Vec<ServedStream>,
    /// Workloads with a proxy that has no stream to any replica.
    pub away: BTreeSet<WorkloadId>,
    pub published: Published,
}

/// Workloads that do not have a bundle.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct MissingBundle {
    /// They are connected, and have another.
    pub behind: Vec<WorkloadId>,
    /// They are not connected.
    pub away: Vec<WorkloadId>,
    /// What those told that tell which roots they trust, but for those that said goodbye.
    pub told: BTreeMap<WorkloadId, BTreeSet<String>>,
    /// They tell nothing and are not connected.
    pub silent: Vec<WorkloadId>,
}

/// What some proxies should have, and what it was made of: all of one moment.
#[derive(Debug)]
pub struct Perspective {
    /// The number of the publication.
    pub publication: u64,
    /// Revision of the policies.
    pub revision: u64,
    pub set: Arc<PolicySet>,
    /// The workloads as the compiler sees them.
    pub workloads: Workloads,
    /// One for each workload that was asked about.
    pub views: Vec<View>,
}

/// Workloads and streams of one moment.
#[derive(Debug)]
pub struct MeshSnapshot {
    pub published: Published,
    /// The workloads as the compiler sees them.
    pub workloads: Workloads,
    pub records: Records,
    pub streams: Vec<ServedStream>,
    /// What joiners declared and a file says otherwise.
    pub overruled: BTreeMap<WorkloadId, Vec<OverruledField>>,
    /// Joiners whose names files hold for others: they are no part of the mesh.
    pub not_granted: BTreeMap<WorkloadId, NotGranted>,
}
