//! A change of the policies, tried on a copy of the mesh: what it would give to whom.
//!
//! The copy goes the way that the mesh itself would go, so that what is said is what happens: compiled by the same units,
//! seen through the same views. It shares all resources with the mesh, and is made and thrown away for one question.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_api::{Resource, ResourceKey, ResourceKind, WorkloadId};
use weft_policies::compile::{RouteForm, WorkloadState, Workloads};
use weft_policies::set::{ApplyAction, PolicySet};
use weft_xds::{Changes, View};

use super::mesh_state::MeshState;
use super::stream::ServedStream;

/// A change that has not been tried yet.
#[derive(Debug)]
pub struct Rehearsal {
    mesh: MeshState,
    set: Arc<PolicySet>,
    /// Workloads that the registry may see otherwise by then, as it would see them.
    registered: Vec<(WorkloadId, Option<WorkloadState>)>,
    /// Who is connected, here or at another replica.
    connected: BTreeMap<WorkloadId, ConnectedSidecar>,
}

/// How a workload's proxy is connected.
#[derive(Debug)]
pub(super) struct ConnectedSidecar {
    form: RouteForm,
    /// Its streams to this replica; none of those to others are known.
    here: Vec<ServedStream>,
}

/// What a change would do.
#[derive(Debug)]
pub struct Rehearsed {
    /// Resources by type and name, with what becomes of them and the connected workloads that they go to. Several
    /// workloads may each have one of their own of one name.
    pub resources: BTreeMap<(ResourceKind, Arc<str>, ApplyAction), BTreeSet<WorkloadId>>,
    /// The workloads as they would be.
    pub workloads: Workloads,
    /// The streams to this replica of those whom it concerns.
    pub streams: BTreeMap<WorkloadId, Vec<ServedStream>>,
}

impl ConnectedSidecar {
    /// Of a form, with no stream yet.
    pub(super) fn new(form: RouteForm) -> Self {
        Self { form, here: Vec::new() }
    }

    /// One more stream to this replica.
    pub(super) fn add(&mut self, stream: ServedStream) {
        self.here.push(stream);
    }

    fn carry(&self, key: &ResourceKey) -> bool {
        self.here.is_empty() || self.here.iter().any(|stream| stream.takes(key))
    }
}

impl Rehearsal {
    /// Of a copy of the mesh, with the workloads whose registration the change alters and all that are connected.
    pub(super) fn new(
        mesh: MeshState,
        set: Arc<PolicySet>,
        registered: Vec<(WorkloadId, Option<WorkloadState>)>,
        connected: BTreeMap<WorkloadId, ConnectedSidecar>,
    ) -> Self {
        Self { mesh, set, registered, connected }
    }

    /// Compiles what the change affects. It may take a while: this is nothing for a thread that others wait for.
    #[must_use]
    pub fn run(self) -> Rehearsed {
        let Self { mut mesh, set, registered, connected } = self;
        // What waited to be compiled is no part of the change.
        drop(mesh.settle());
        let view = |mesh: &MeshState, id: &WorkloadId, form| mesh.view(0, id, form);
        let views: Vec<View> = connected.iter().map(|(id, one)| view(&mesh, id, one.form)).collect();
        let catalog = View::new(0, vec![Arc::clone(mesh.catalog())]);
        let changed = mesh.set().differences(&set);
        mesh.apply_policies(set, &changed);
        for (id, state) in registered {
            mesh.apply_workload(&id, state);
        }
        let delta = mesh.settle();
        let mut resources: BTreeMap<_, BTreeSet<WorkloadId>> = BTreeMap::new();
        // Clusters and endpoints are there though nobody is connected who takes them.
        let now = View::new(0, vec![Arc::clone(mesh.catalog())]);
        for key in &delta.catalog {
            if let Some(action) = difference(key, &catalog, &now) {
                resources.entry((key.kind, key.name.clone(), action)).or_default();
            }
        }
        for ((id, connections), before) in connected.iter().zip(views) {
            let after = view(&mesh, id, connections.form);
            let keys: BTreeSet<ResourceKey> = match mesh.changes(&delta, id, connections.form) {
                Changes::Keys(keys) => keys.into_iter().collect(),
                Changes::All => keys_of(&before).chain(keys_of(&after)).collect(),
            };
            for key in keys.into_iter().filter(|key| connections.carry(key)) {
                if let Some(action) = difference(&key, &before, &after) {
                    resources.entry((key.kind, key.name, action)).or_default().insert(id.clone());
                }
            }
        }
        let concerned: BTreeSet<&WorkloadId> = resources.values().flatten().collect();
        let streams = connected.into_iter().filter(|(id, _)| concerned.contains(id));
        let streams = streams.map(|(id, connections)| (id, connections.here)).collect();
        Rehearsed { workloads: mesh.workloads().clone(), streams, resources }
    }
}

fn keys_of(view: &View) -> impl Iterator<Item = ResourceKey> {
    ResourceKind::ALL.into_iter().flat_map(|kind| view.of_kind(kind)).map(|resource| Resource::key(resource))
}

fn difference(key: &ResourceKey, before: &View, after: &View) -> Option<ApplyAction> {
    match (before.lookup(key.kind, &key.name), after.lookup(key.kind, &key.name)) {
        (None, None) => None,
        (Some(before), Some(after)) => (before.version != after.version).then_some(ApplyAction::Updated),
        (None, Some(_)) => Some(ApplyAction::Created),
        (Some(_), None) => Some(ApplyAction::Deleted),
    }
}
