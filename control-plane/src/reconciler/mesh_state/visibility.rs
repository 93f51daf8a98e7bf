//! Who is told of what: the scopes of callers, the virtual hosts that each sees, and the clusters that those lead to.

use std::sync::Arc;

use weft_api::{Name, Resource, ResourceKey, ResourceKind, ServiceId, WorkloadId};
use weft_policies::compile::{Compiled, Scope, Unit, Viewers, Visibility, route_table};
use weft_policies::kinds::mesh::DefaultView;
use weft_xds::Layer;

use super::super::scopes::{DeclaredView, RouteTable, ScopeState};
use super::{MeshState, ResourcePlace, SidecarLayers};

impl MeshState {
    /// Shows the virtual hosts of a service to the scopes that are told of it, and takes them from the others.
    pub(super) fn show(&mut self, service: &ServiceId, namespace: &Name, keys: &[ResourceKey]) {
        let viewers = self.set.backend(service).map(|backend| Viewers::of(backend, &self.model()));
        let is_told = |scope: &Scope| viewers.as_ref().is_some_and(|viewers| viewers.include(scope));
        let scopes = self.scopes.range(Self::all_of(namespace)..);
        let scopes = scopes.take_while(|(scope, _)| scope.namespace == *namespace);
        let declared = scopes.filter(|(_, state)| state.declared.is_some());
        let sees: Vec<(Scope, bool)> = declared.map(|(scope, _)| (scope.clone(), is_told(scope))).collect();
        for (scope, sees) in sees {
            for key in keys {
                self.show_one(&scope, namespace, key, sees);
            }
        }
    }

    fn show_one(&mut self, scope: &Scope, namespace: &Name, key: &ResourceKey, sees: bool) {
        let all = self.hosts.get(namespace);
        let after = all.filter(|_| sees).and_then(|all| all.lookup(key.kind, &key.name)).cloned();
        let Some(state) = self.scopes.get_mut(scope) else { return };
        let Some(declared) = &mut state.declared else { return };
        let before = declared.hosts.lookup(key.kind, &key.name).cloned();
        if before.as_ref().map(|one| one.version) == after.as_ref().map(|one| one.version) {
            return;
        }
        let hosts = Arc::make_mut(&mut declared.hosts);
        match &after {
            Some(resource) => hosts.insert(Arc::clone(resource)),
            None => hosts.remove(key.kind, &key.name),
        };
        state.table.take();
        self.delta.scopes.entry(scope.clone()).or_default().push(key.clone());
        self.follow_references(scope, before.as_ref(), after.as_ref());
    }

    /// A resource of a scope's callers leads elsewhere: clusters come and go with that.
    pub(super) fn follow_references(
        &mut self,
        scope: &Scope,
        before: Option<&Arc<Resource>>,
        after: Option<&Arc<Resource>>,
    ) {
        let state = self.scopes.get_mut(scope);
        let Some(declared) = state.and_then(|state| state.declared.as_mut()) else { return };
        let (before, after) = (before.map(AsRef::as_ref), after.map(AsRef::as_ref));
        let changes = declared.follow_references(before, after, &self.catalog);
        if !changes.keys.is_empty() {
            self.delta.scopes.entry(scope.clone()).or_default().extend(changes.keys);
        }
        for cluster in changes.ended {
            self.scopes_by_cluster.remove(&cluster, scope);
        }
        for cluster in changes.begun {
            self.scopes_by_cluster.insert(cluster, scope);
        }
    }

    /// Brings a workload into the scope that it is in now, where the mesh's default view is this one.
    pub(super) fn rescope(&mut self, id: &WorkloadId, view: DefaultView) {
        let now = self.workloads.get(id).map(|workload| Scope::of(workload, view));
        let before = self.scope_of.get(id).cloned();
        if now == before {
            return;
        }
        // One that leaves may be back, in another scope, before its streams are told of anything.
        if before.is_some() {
            self.delta.moved.insert(id.clone());
        }
        let own = self.own.get(id);
        let own: Vec<Arc<Resource>> = own.into_iter().flat_map(SidecarLayers::resources).cloned().collect();
        if let Some(before) = before {
            self.scope_of.remove(id);
            for resource in &own {
                self.follow_references(&before, Some(resource), None);
            }
            self.leave(id, &before);
        }
        if let Some(now) = now {
            self.enter(id, &now);
            for resource in &own {
                self.follow_references(&now, None, Some(resource));
            }
            self.scope_of.insert(id.clone(), now);
        }
    }

    fn leave(&mut self, id: &WorkloadId, scope: &Scope) {
        let Some(state) = self.scopes.get_mut(scope) else { return };
        state.users.remove(id);
        if state.users.is_empty() {
            for cluster in state.declared.iter().flat_map(DeclaredView::used) {
                self.scopes_by_cluster.remove(cluster, scope);
            }
            self.scopes.remove(scope);
            self.delta.scopes.remove(scope);
            let place = ResourcePlace::Scope(scope.clone());
            for (_, key) in self.made.remove(&Unit::Routes(scope.clone())).unwrap_or_default() {
                self.origins.remove(&(place.clone(), key));
            }
        }
    }

    fn enter(&mut self, id: &WorkloadId, scope: &Scope) {
        let is_new = !self.scopes.contains_key(scope);
        let state = self.scopes.entry(scope.clone()).or_insert_with(|| ScopeState::new(scope));
        state.users.insert(id.clone());
        if !is_new {
            return;
        }
        self.stale.insert(Unit::Routes(scope.clone()));
        if scope.sees == Visibility::All {
            return;
        }
        let seen = self.set.backends().filter(|backend| scope.sees(*backend, &self.model()));
        let hosts =
            seen.filter_map(|backend| self.made.get(&Unit::Hosts(backend.id(), scope.namespace.clone())));
        let keys: Vec<ResourceKey> = hosts.flatten().map(|(_, key)| key.clone()).collect();
        for key in &keys {
            self.show_one(scope, &scope.namespace, key, true);
        }
    }

    /// The virtual hosts that the callers of a scope are told of.
    pub(super) fn hosts_of<'a>(&'a self, scope: &Scope, state: &'a ScopeState) -> Option<&'a Arc<Layer>> {
        let declared = state.declared.as_ref().map(|declared| &declared.hosts);
        declared.or_else(|| self.hosts.get(&scope.namespace))
    }

    /// One route configuration with all that the callers of a scope are told of.
    pub(super) fn table<'a>(&self, scope: &Scope, state: &'a ScopeState) -> &'a RouteTable {
        state.table.get_or_init(|| {
            if state.routes.count(ResourceKind::Route) == 0 {
                return RouteTable::default();
            }
            let namespace = &scope.namespace;
            let layer = self.hosts_of(scope, state);
            let made = |service: ServiceId| self.made.get(&Unit::Hosts(service, namespace.clone()));
            let keys = self.set.backends().filter_map(|backend| made(backend.id())).flatten();
            let hosts = keys.filter_map(|(_, key)| {
                let host = layer?.lookup(key.kind, &key.name)?;
                let origins = self.origins.get(&(ResourcePlace::Hosts(namespace.clone()), key.clone()));
                Some((host.as_ref(), origins.map_or(&[][..], Vec::as_slice)))
            });
            let Compiled { resource, origins, .. } = route_table(scope, hosts, &self.model());
            RouteTable { layer: Arc::new([resource].into_iter().collect()), origins }
        })
    }

    /// The scope of callers in a namespace that are told of everything: the first of its scopes.
    pub(super) fn all_of(namespace: &Name) -> Scope {
        Scope { namespace: namespace.clone(), sees: Visibility::All }
    }
}
