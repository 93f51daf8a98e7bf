//! The mesh as it is now, and the resources compiled from it. One owner: the reconciler.
//!
//! ```text
//! policies, workloads ──affected──▶ units ──compile──▶ resources ──▶ layers
//!
//!     shared   the bundle                                              all see it
//!     catalog  clusters and endpoints of all services                  callers that are told of all
//!     hosts    virtual hosts of all services, by callers' namespace    callers that are told of all
//!     scope    route configuration; else what its callers are told of  callers of one scope
//!     own      listeners, their routes, secrets                        one sidecar
//! ```
//!
//! A change costs what it affects: only the units that it touches are compiled, and layers are persistent maps, so that a
//! changed copy shares all the rest. A change only notes which units are stale; [`MeshState::settle`] compiles each of
//! them once, however many changes touched it. Synchronous and without a clock; what was published to whom is not
//! known here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_api::{Name, Resource, ResourceKey, ResourceKind, TrustDomain, WorkloadId};
use weft_policies::compile::{
    Change, Compiled, ControlPlaneAddresses, Model, RouteForm, Scope, Unit, Visibility, WorkloadState,
    Workloads, affected, all_units, compile,
};
use weft_policies::set::{PolicyKey, PolicySet};
use weft_xds::{Changes, Layer, View};

use super::delta::LayerChanges;
use super::scopes::{ScopeState, ScopesByCluster};

mod shaped;
#[cfg(test)]
mod tests;
mod visibility;

pub use shaped::ShapedResource;

/// Policies, workloads, and what is compiled from them. A copy shares the resources.
#[derive(Clone, Debug)]
pub struct MeshState {
    trust_domain: TrustDomain,
    /// The policies of the newest revision that was read.
    set: Arc<PolicySet>,
    /// Workloads as the compiler needs them, joined ones and those that a file describes.
    workloads: Workloads,
    /// Where proxies find the control plane, and its replicas each other.
    control_planes: ControlPlaneAddresses,
    /// What every proxy sees.
    shared: Arc<Layer>,
    /// Clusters and endpoints of all services, from which views are taken.
    catalog: Arc<Layer>,
    /// Virtual hosts, by the namespace of the callers.
    hosts: HashMap<Name, Arc<Layer>>,
    /// What callers are told of, by scope.
    scopes: BTreeMap<Scope, ScopeState>,
    /// Whom a change of a cluster or its endpoints concerns, of those that are not told of everything.
    scopes_by_cluster: ScopesByCluster,
    /// The scope of each workload.
    scope_of: HashMap<WorkloadId, Scope>,
    /// Resources of one sidecar only: its listeners, its secrets.
    own: HashMap<WorkloadId, SidecarLayers>,
    /// The resources that each unit was compiled to, to remove those that it gives no more.
    made: HashMap<Unit, Vec<CompiledKey>>,
    /// Units to be compiled anew before the next publication.
    stale: BTreeSet<Unit>,
    /// What has changed since the last publication, and for whom.
    delta: LayerChanges,
    /// The policies that shaped each resource, whose status its acknowledgement is.
    origins: HashMap<(ResourcePlace, ResourceKey), Vec<PolicyKey>>,
}

type CompiledKey = (Option<RouteForm>, ResourceKey);

/// The layers of one sidecar.
#[derive(Clone, Debug, Default)]
struct SidecarLayers {
    table: Arc<Layer>,
    virtual_hosts: Arc<Layer>,
    in_any_form: Arc<Layer>,
}

/// Where a resource stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum ResourcePlace {
    Shared,
    Catalog,
    Hosts(Name),
    Scope(Scope),
    Own(WorkloadId),
}

/// Whose proxies a delta concerns.
#[derive(Debug, PartialEq, Eq)]
pub enum Concerned {
    All,
    These(BTreeSet<WorkloadId>),
}

impl MeshState {
    #[must_use]
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            set: Arc::default(),
            workloads: Workloads::new(),
            control_planes: ControlPlaneAddresses::new(),
            shared: Arc::default(),
            catalog: Arc::default(),
            hosts: HashMap::new(),
            scopes: BTreeMap::new(),
            scopes_by_cluster: ScopesByCluster::default(),
            scope_of: HashMap::new(),
            own: HashMap::new(),
            made: HashMap::new(),
            stale: BTreeSet::new(),
            delta: LayerChanges::default(),
            origins: HashMap::new(),
        }
    }

    #[must_use]
    pub fn set(&self) -> &Arc<PolicySet> {
        &self.set
    }

    #[must_use]
    pub fn workloads(&self) -> &Workloads {
        &self.workloads
    }

    /// Clusters and endpoints of all services.
    #[must_use]
    pub fn catalog(&self) -> &Arc<Layer> {
        &self.catalog
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

    /// What one workload's proxy may see, where it is told virtual hosts in this form.
    #[must_use]
    pub fn view(&self, revision: u64, workload: &WorkloadId, form: RouteForm) -> View {
        let mut layers = Vec::with_capacity(6);
        if let Some(own) = self.own.get(workload) {
            layers.extend([Arc::clone(own.of(form)), Arc::clone(&own.in_any_form)]);
        }
        if let Some((scope, state)) = self.scope(workload) {
            match form {
                RouteForm::Table => layers.push(Arc::clone(&self.table(scope, state).layer)),
                RouteForm::VirtualHosts => {
                    layers.push(Arc::clone(&state.routes));
                    layers.extend(self.hosts_of(scope, state).cloned());
                }
            }
            let clusters = state.declared.as_ref().map_or(&self.catalog, |declared| &declared.clusters);
            layers.push(Arc::clone(clusters));
        }
        layers.push(Arc::clone(&self.shared));
        View::new(revision, layers)
    }

    /// The policies that a resource of a workload's view comes from.
    #[must_use]
    pub fn origins(&self, workload: &WorkloadId, key: &ResourceKey) -> &[PolicyKey] {
        let scope = self.scope(workload);
        if let Some((scope, state)) = scope
            && key.kind == ResourceKind::Route
            && *key.name == *RouteForm::Table.route_configuration(&scope.namespace)
        {
            return &self.table(scope, state).origins;
        }
        let in_scope = scope.into_iter().flat_map(|(scope, _)| {
            [ResourcePlace::Scope(scope.clone()), ResourcePlace::Hosts(scope.namespace.clone())]
        });
        let mut places = std::iter::once(ResourcePlace::Own(workload.clone()))
            .chain(in_scope)
            .chain([ResourcePlace::Catalog, ResourcePlace::Shared]);
        places.find_map(|place| self.origins.get(&(place, key.clone()))).map_or(&[], Vec::as_slice)
    }

    /// Whose proxies a delta concerns.
    #[must_use]
    pub fn concerned(&self, delta: &LayerChanges) -> Concerned {
        if !delta.shared.is_empty() {
            return Concerned::All;
        }
        let mut workloads: BTreeSet<WorkloadId> = delta.own.keys().chain(&delta.moved).cloned().collect();
        let named = delta.scopes.keys().filter_map(|scope| self.scopes.get(scope));
        workloads.extend(named.flat_map(|state| &state.users).cloned());
        if !delta.catalog.is_empty() || !delta.hosts.is_empty() {
            let sees = |scope: &Scope| {
                scope.sees == Visibility::All
                    && (!delta.catalog.is_empty() || delta.hosts.contains_key(&scope.namespace))
            };
            let seeing = self.scopes.iter().filter(|(scope, _)| sees(scope));
            workloads.extend(seeing.flat_map(|(_, state)| &state.users).cloned());
        }
        Concerned::These(workloads)
    }

    /// What a delta changed for a workload's proxy, where it is told virtual hosts in this form.
    #[must_use]
    pub fn changes(&self, delta: &LayerChanges, workload: &WorkloadId, form: RouteForm) -> Changes {
        delta.of(workload, self.scope_of.get(workload), form)
    }

    /// Takes another set of policies; `changed` are the keys that differ.
    pub fn apply_policies(&mut self, set: Arc<PolicySet>, changed: &[PolicyKey]) {
        let changes: Vec<Change> = changed.iter().cloned().map(Change::Policy).collect();
        let old = std::mem::replace(&mut self.set, set);
        let (before, after) = (Model { set: &old, ..self.model() }, self.model());
        let units = affected(&changes, &before, &after);
        self.stale.extend(units);
        let (before, after) = (old.defaults().0, self.set.defaults().0);
        if (before.view, before.authorization) != (after.view, after.authorization) {
            // Who is told of what may differ for everybody.
            let hosts = all_units(&self.model()).into_iter().filter(|unit| matches!(unit, Unit::Hosts(..)));
            self.stale.extend(hosts);
            for id in self.workloads.keys().cloned().collect::<Vec<_>>() {
                self.rescope(&id, after.view);
            }
        }
    }

    /// Puts a workload in, replaces it, or takes it out.
    pub fn apply_workload(&mut self, id: &WorkloadId, state: Option<WorkloadState>) {
        if self.workloads.get(id) == state.as_ref() {
            return;
        }
        let before = self.workloads.clone();
        match state {
            Some(state) => self.workloads.insert(id.clone(), state),
            None => self.workloads.remove(id),
        };
        let units = affected(
            &[Change::Workload(id.clone())],
            &Model { workloads: &before, ..self.model() },
            &self.model(),
        );
        self.stale.extend(units);
        self.rescope(id, self.set.defaults().0.view);
    }

    /// Takes other addresses of control planes.
    pub fn apply_control_planes(&mut self, addresses: ControlPlaneAddresses) {
        if self.control_planes != addresses {
            self.control_planes = addresses;
            self.stale.extend(self.scopes.keys().cloned().map(Unit::Routes));
            // What is looked up on demand is not led there.
            let is_outside = |unit: &Unit| matches!(unit, Unit::Hosts(id, _) if self.set.backend(id).is_some_and(|one| one.external().is_some()));
            let hosts: Vec<Unit> = all_units(&self.model()).into_iter().filter(is_outside).collect();
            self.stale.extend(hosts);
        }
    }

    /// Has everything compiled anew, for a start.
    pub fn outdate_all(&mut self) {
        self.stale.extend(all_units(&self.model()));
        self.stale.extend(self.made.keys().cloned());
    }

    /// Puts a resource that is not compiled from policies (a secret) into a workload's layer, or everybody's.
    pub fn put(&mut self, workload: Option<&WorkloadId>, resource: Arc<Resource>) {
        let place = workload.map_or(ResourcePlace::Shared, |id| ResourcePlace::Own(id.clone()));
        self.insert(&place, Compiled { resource, origins: Vec::new(), form: None });
    }

    /// Takes a resource that [`Self::put`] brought out of a workload's layer.
    pub fn take_out(&mut self, workload: &WorkloadId, key: &ResourceKey) {
        if self.own.contains_key(workload) {
            self.remove(&ResourcePlace::Own(workload.clone()), None, key);
        }
    }

    /// The units that are to be compiled.
    #[must_use]
    pub fn stale(&self) -> &BTreeSet<Unit> {
        &self.stale
    }

    /// Compiles what is stale, and gives what changed since the last time.
    pub fn settle(&mut self) -> LayerChanges {
        for unit in std::mem::take(&mut self.stale) {
            let compiled = compile(&unit, &self.model());
            self.replace(unit, compiled);
        }
        std::mem::take(&mut self.delta)
    }

    /// Puts what a unit gives now in place of what it gave before.
    fn replace(&mut self, unit: Unit, compiled: Vec<Compiled>) {
        let place = match &unit {
            Unit::Cluster(..) | Unit::Endpoints(..) => ResourcePlace::Catalog,
            Unit::Hosts(_, namespace) => ResourcePlace::Hosts(namespace.clone()),
            Unit::Routes(scope) if !self.scopes.contains_key(scope) => return,
            Unit::Routes(scope) => ResourcePlace::Scope(scope.clone()),
            Unit::Workload(id) => {
                self.delta.compiled.insert(id.clone());
                ResourcePlace::Own(id.clone())
            }
        };
        let made: Vec<CompiledKey> = compiled.iter().map(|one| (one.form, one.resource.key())).collect();
        let before = self.made.remove(&unit).unwrap_or_default();
        let gone: Vec<&CompiledKey> = before.iter().filter(|one| !made.contains(one)).collect();
        for (form, key) in &gone {
            self.remove(&place, *form, key);
        }
        for one in compiled {
            self.insert(&place, one);
        }
        if let Unit::Hosts(service, namespace) = &unit {
            let keys: Vec<ResourceKey> = gone.into_iter().chain(&made).map(|(_, key)| key.clone()).collect();
            self.show(service, namespace, &keys);
        }
        if !made.is_empty() {
            self.made.insert(unit, made);
        } else if let Unit::Workload(id) = &unit
            && !self.workloads.contains_key(id)
        {
            self.forget(id);
        }
    }

    /// Drops what is left in the layer of a workload that is gone: its secrets.
    fn forget(&mut self, workload: &WorkloadId) {
        let Some(own) = self.own.remove(workload) else { return };
        for kind in ResourceKind::ALL {
            for resource in own.in_any_form.of_kind(kind) {
                self.origins.remove(&(ResourcePlace::Own(workload.clone()), resource.key()));
            }
        }
    }

    fn layer(&mut self, place: &ResourcePlace, form: Option<RouteForm>) -> Option<&mut Layer> {
        let layer = match place {
            ResourcePlace::Shared => &mut self.shared,
            ResourcePlace::Catalog => &mut self.catalog,
            ResourcePlace::Hosts(namespace) => self.hosts.entry(namespace.clone()).or_default(),
            ResourcePlace::Scope(scope) => &mut self.scopes.get_mut(scope)?.routes,
            ResourcePlace::Own(workload) => {
                let own = self.own.entry(workload.clone()).or_default();
                match form {
                    None => &mut own.in_any_form,
                    Some(RouteForm::Table) => &mut own.table,
                    Some(RouteForm::VirtualHosts) => &mut own.virtual_hosts,
                }
            }
        };
        Some(Arc::make_mut(layer))
    }

    fn insert(&mut self, place: &ResourcePlace, Compiled { resource, origins, form }: Compiled) {
        let key = resource.key();
        self.origins.insert((place.clone(), key.clone()), origins);
        let Some(layer) = self.layer(place, form) else { return };
        if layer.lookup(key.kind, &key.name).is_some_and(|old| old.version == resource.version) {
            return;
        }
        let before = layer.insert(Arc::clone(&resource));
        self.note(place, key, before.as_ref(), Some(&resource));
    }

    fn remove(&mut self, place: &ResourcePlace, form: Option<RouteForm>, key: &ResourceKey) {
        self.origins.remove(&(place.clone(), key.clone()));
        let before = self.layer(place, form).and_then(|layer| layer.remove(key.kind, &key.name));
        if before.is_some() {
            self.note(place, key.clone(), before.as_ref(), None);
        }
    }

    /// Notes that a resource changed, and what that changes in the scopes that may see it.
    fn note(
        &mut self,
        place: &ResourcePlace,
        key: ResourceKey,
        before: Option<&Arc<Resource>>,
        after: Option<&Arc<Resource>>,
    ) {
        match place {
            ResourcePlace::Shared => self.delta.shared.push(key),
            ResourcePlace::Catalog => {
                for scope in self.scopes_by_cluster.of(&key.name) {
                    let state = self.scopes.get_mut(scope);
                    if let Some(declared) = state.and_then(|state| state.declared.as_mut()) {
                        declared.follow(&key, after);
                        self.delta.scopes.entry(scope.clone()).or_default().push(key.clone());
                    }
                }
                self.delta.catalog.push(key);
            }
            ResourcePlace::Hosts(namespace) => {
                // Callers that are not told of everything are shown it one by one (`show`).
                if let Some(state) = self.scopes.get_mut(&Self::all_of(namespace)) {
                    state.table.take();
                }
                self.delta.hosts.entry(namespace.clone()).or_default().push(key);
            }
            ResourcePlace::Scope(scope) => {
                if let Some(state) = self.scopes.get_mut(scope) {
                    state.table.take();
                }
                self.delta.scopes.entry(scope.clone()).or_default().push(key);
            }
            ResourcePlace::Own(workload) => {
                if let Some(scope) = self.scope_of.get(workload).cloned() {
                    self.follow_references(&scope, before, after);
                }
                self.delta.own.entry(workload.clone()).or_default().push(key);
            }
        }
    }

    fn scope(&self, workload: &WorkloadId) -> Option<(&Scope, &ScopeState)> {
        self.scopes.get_key_value(self.scope_of.get(workload)?)
    }
}

impl SidecarLayers {
    fn of(&self, form: RouteForm) -> &Arc<Layer> {
        match form {
            RouteForm::Table => &self.table,
            RouteForm::VirtualHosts => &self.virtual_hosts,
        }
    }

    fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        [&self.table, &self.virtual_hosts, &self.in_any_form]
            .into_iter()
            .flat_map(|layer| ResourceKind::ALL.into_iter().flat_map(|kind| layer.of_kind(kind)))
    }
}
