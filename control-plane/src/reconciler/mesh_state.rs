//! The mesh as it is now, and the resources compiled from it. One owner: the reconciler.
//!
//! ```text
//! policies, workloads ──affected──▶ units ──compile──▶ resources ──▶ layers
//!                                                                    shared: clusters, endpoints, routes, bundle
//!                                                                    own:    one a sidecar
//! ```
//!
//! A change costs what it affects: only the units that it touches are compiled, and layers are persistent maps, so that a
//! changed copy shares all the rest. A change only notes which units are stale; [`MeshState::settle`] compiles each of
//! them once, however many changes touched it. Synchronous and without a clock; what was published to whom is not
//! known here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_api::{Resource, ResourceKey, ResourceKind, TrustDomain, WorkloadId};
use weft_policies::compile::{
    self, Change, Compiled, ControlPlaneAddresses, HostCache, Model, Unit, WorkloadState, Workloads,
    affected, all_units,
};
use weft_policies::set::{PolicyKey, PolicySet};
use weft_xds::{Layer, View};

/// Which resources a change of the mesh changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// In the layer that all proxies share.
    pub shared: Vec<ResourceKey>,
    /// In the layers of single sidecars.
    pub own: BTreeMap<WorkloadId, Vec<ResourceKey>>,
    /// Workloads of which something was compiled anew, whether or not it gave other bytes.
    pub compiled: BTreeSet<WorkloadId>,
}

impl Delta {
    /// True when no resource changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.is_empty() && self.own.is_empty()
    }
}

/// Policies, workloads, and what is compiled from them.
#[derive(Debug)]
pub struct MeshState {
    trust_domain: TrustDomain,
    set: Arc<PolicySet>,
    workloads: Workloads,
    control_planes: ControlPlaneAddresses,
    hosts: HostCache,
    shared: Arc<Layer>,
    own: HashMap<WorkloadId, Arc<Layer>>,
    made: HashMap<Unit, Vec<ResourceKey>>,
    stale: BTreeSet<Unit>,
    delta: Delta,
    origins: HashMap<(Option<WorkloadId>, ResourceKey), Vec<PolicyKey>>,
}

impl MeshState {
    /// An empty mesh.
    #[must_use]
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            set: Arc::default(),
            workloads: Workloads::new(),
            control_planes: ControlPlaneAddresses::new(),
            hosts: HostCache::default(),
            shared: Arc::new(Layer::new()),
            own: HashMap::new(),
            made: HashMap::new(),
            stale: BTreeSet::new(),
            delta: Delta::default(),
            origins: HashMap::new(),
        }
    }

    /// The policies.
    #[must_use]
    pub fn set(&self) -> &Arc<PolicySet> {
        &self.set
    }

    /// The workloads.
    #[must_use]
    pub fn workloads(&self) -> &Workloads {
        &self.workloads
    }

    /// What the compiler reads.
    #[must_use]
    pub fn model(&self) -> Model<'_> {
        Model {
            trust_domain: &self.trust_domain,
            set: &self.set,
            workloads: &self.workloads,
            control_planes: &self.control_planes,
        }
    }

    /// What one workload's proxy may see.
    #[must_use]
    pub fn view(&self, revision: u64, workload: &WorkloadId) -> View {
        let own = self.own.get(workload).cloned();
        View::new(revision, own.into_iter().chain([self.shared.clone()]).collect())
    }

    /// The policies that a resource of a workload's view comes from.
    #[must_use]
    pub fn origins(&self, workload: &WorkloadId, key: &ResourceKey) -> &[PolicyKey] {
        let own = self.origins.get(&(Some(workload.clone()), key.clone()));
        own.or_else(|| self.origins.get(&(None, key.clone()))).map_or(&[], Vec::as_slice)
    }

    /// Takes another set of policies; `changed` are the keys that differ.
    pub fn apply_policies(&mut self, set: Arc<PolicySet>, changed: &[PolicyKey]) {
        let changes: Vec<Change> = changed.iter().cloned().map(Change::Policy).collect();
        let old = std::mem::replace(&mut self.set, set);
        let mut hosts = std::mem::take(&mut self.hosts);
        let (before, after) = (Model { set: &old, ..self.model() }, self.model());
        let units = affected(&changes, &before, &after);
        hosts.forget(&changes, &before, &after);
        self.hosts = hosts;
        self.stale.extend(units);
    }

    /// Puts a workload in, replaces it, or takes it out.
    pub fn apply_workload(&mut self, id: &WorkloadId, state: Option<WorkloadState>) {
        if self.workloads.get(id) == state.as_ref() {
            return;
        }
        let new: Workloads = state.clone().map(|state| (id.clone(), state)).into_iter().collect();
        let old: Workloads = match state {
            Some(state) => self.workloads.insert(id.clone(), state),
            None => self.workloads.remove(id),
        }
        .map(|state| (id.clone(), state))
        .into_iter()
        .collect();
        // Of the workloads, a change of one concerns that one only; virtual hosts are made from policies alone.
        let (before, after) =
            (Model { workloads: &old, ..self.model() }, Model { workloads: &new, ..self.model() });
        let units = affected(&[Change::Workload(id.clone())], &before, &after);
        self.stale.extend(units);
    }

    /// Takes other addresses of control planes.
    pub fn apply_control_planes(&mut self, addresses: ControlPlaneAddresses) {
        if self.control_planes != addresses {
            self.control_planes = addresses;
            let units = all_units(&self.model());
            self.stale.extend(units.into_iter().filter(|unit| matches!(unit, Unit::Routes(_))));
        }
    }

    /// Has everything compiled anew, for a start.
    pub fn outdate_all(&mut self) {
        self.stale.extend(all_units(&self.model()));
        self.stale.extend(self.made.keys().cloned());
        self.hosts = HostCache::default();
    }

    /// Puts a resource that is not compiled from policies (a secret) into a workload's layer, or everybody's.
    pub fn put(&mut self, workload: Option<&WorkloadId>, resource: Arc<Resource>) {
        self.insert(workload, resource, Vec::new());
    }

    /// Takes a resource that [`Self::put`] brought out of a workload's layer.
    pub fn take_out(&mut self, workload: &WorkloadId, key: &ResourceKey) {
        if self.own.contains_key(workload) {
            self.remove(Some(workload), key);
        }
    }

    /// Whether something is to be compiled.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    /// Compiles what is stale, and gives what changed since the last time.
    pub fn settle(&mut self) -> Delta {
        let mut hosts = std::mem::take(&mut self.hosts);
        for unit in std::mem::take(&mut self.stale) {
            let compiled = compile::compile_with(&unit, &self.model(), &mut hosts);
            self.replace(unit, compiled);
        }
        self.hosts = hosts;
        std::mem::take(&mut self.delta)
    }

    /// Puts what a unit gives now in place of what it gave before.
    fn replace(&mut self, unit: Unit, compiled: Vec<Compiled>) {
        let workload = match &unit {
            Unit::Workload(id) => Some(id.clone()),
            Unit::ServicePort(..) | Unit::Routes(_) => None,
        };
        self.delta.compiled.extend(workload.clone());
        let keys: Vec<ResourceKey> = compiled.iter().map(|one| one.resource.key()).collect();
        let before = self.made.remove(&unit).unwrap_or_default();
        for key in before.into_iter().filter(|key| !keys.contains(key)) {
            self.remove(workload.as_ref(), &key);
        }
        for Compiled { resource, origins } in compiled {
            self.insert(workload.as_ref(), resource, origins);
        }
        if !keys.is_empty() {
            self.made.insert(unit, keys);
        } else if let Some(workload) = workload.filter(|id| !self.workloads.contains_key(id)) {
            self.forget(&workload);
        }
    }

    /// Drops what is left in the layer of a workload that is gone: its secrets.
    fn forget(&mut self, workload: &WorkloadId) {
        let Some(layer) = self.own.remove(workload) else { return };
        for kind in ResourceKind::ALL {
            for resource in layer.of_kind(kind) {
                self.origins.remove(&(Some(workload.clone()), resource.key()));
            }
        }
    }

    fn layer(&mut self, workload: Option<&WorkloadId>) -> &mut Layer {
        let layer = match workload {
            Some(workload) => self.own.entry(workload.clone()).or_default(),
            None => &mut self.shared,
        };
        Arc::make_mut(layer)
    }

    fn insert(&mut self, workload: Option<&WorkloadId>, resource: Arc<Resource>, origins: Vec<PolicyKey>) {
        let key = resource.key();
        self.origins.insert((workload.cloned(), key.clone()), origins);
        let layer = self.layer(workload);
        if layer.lookup(key.kind, &key.name).is_some_and(|old| old.version == resource.version) {
            return;
        }
        layer.insert(resource);
        self.delta.note(workload, key);
    }

    fn remove(&mut self, workload: Option<&WorkloadId>, key: &ResourceKey) {
        self.origins.remove(&(workload.cloned(), key.clone()));
        if self.layer(workload).remove(key.kind, &key.name).is_some() {
            self.delta.note(workload, key.clone());
        }
    }
}

impl Delta {
    fn note(&mut self, workload: Option<&WorkloadId>, key: ResourceKey) {
        match workload {
            Some(workload) => self.own.entry(workload.clone()).or_default().push(key),
            None => self.shared.push(key),
        }
    }
}
