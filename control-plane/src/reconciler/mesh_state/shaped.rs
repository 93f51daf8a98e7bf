//! What policies shaped, and who is told of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_api::{ResourceKey, ResourceKind, WorkloadId};
use weft_policies::compile::RouteForm;
use weft_policies::set::PolicyKey;

use super::{MeshState, ResourcePlace};

/// A resource that a policy shaped.
#[derive(Clone, Debug)]
pub struct ShapedResource {
    pub key: ResourceKey,
    /// The route configuration that has it for those who are told all virtual hosts in one.
    pub table: Option<ResourceKey>,
    /// Whose proxies may ask for it.
    pub told: Arc<[WorkloadId]>,
}

impl ShapedResource {
    /// How a proxy that is told virtual hosts in this form knows it.
    #[must_use]
    pub fn key_in(&self, form: RouteForm) -> &ResourceKey {
        match (form, &self.table) {
            (RouteForm::Table, Some(table)) => table,
            (RouteForm::Table, None) | (RouteForm::VirtualHosts, _) => &self.key,
        }
    }
}

impl MeshState {
    /// The resources that each of these policies shaped. One look at every resource, however many policies are asked for.
    #[must_use]
    pub fn shaped_by(&self, wanted: &BTreeSet<PolicyKey>) -> BTreeMap<PolicyKey, Vec<ShapedResource>> {
        let mut told = Told { mesh: self, by_layer: HashMap::new() };
        let mut shaped: BTreeMap<PolicyKey, Vec<ShapedResource>> = BTreeMap::new();
        for ((place, key), origins) in &self.origins {
            let wanted: Vec<&PolicyKey> = origins.iter().filter(|origin| wanted.contains(origin)).collect();
            if wanted.is_empty() {
                continue;
            }
            let resource =
                ShapedResource { key: key.clone(), table: table(place, key), told: told.of(place, key) };
            for policy in wanted {
                shaped.entry(policy.clone()).or_default().push(resource.clone());
            }
        }
        shaped
    }
}

fn table(place: &ResourcePlace, key: &ResourceKey) -> Option<ResourceKey> {
    let namespace = match place {
        ResourcePlace::Hosts(namespace) => namespace,
        ResourcePlace::Scope(scope) => &scope.namespace,
        ResourcePlace::Shared | ResourcePlace::Catalog | ResourcePlace::Own(_) => return None,
    };
    matches!(key.kind, ResourceKind::Route | ResourceKind::VirtualHost)
        .then(|| ResourceKey::new(ResourceKind::Route, RouteForm::Table.route_configuration(namespace)))
}

/// Who is told of what stands in a layer, worked out once for each layer.
struct Told<'a> {
    mesh: &'a MeshState,
    by_layer: HashMap<ResourcePlace, Arc<[WorkloadId]>>,
}

impl Told<'_> {
    fn of(&mut self, place: &ResourcePlace, key: &ResourceKey) -> Arc<[WorkloadId]> {
        let mesh = self.mesh;
        let layer = self.by_layer.entry(place.clone()).or_insert_with(|| told_of_layer(mesh, place));
        let declared: Vec<WorkloadId> = match place {
            ResourcePlace::Catalog => {
                let scopes = mesh.scopes_by_cluster.of(&key.name).filter_map(|scope| mesh.scopes.get(scope));
                scopes.flat_map(|state| &state.users).cloned().collect()
            }
            ResourcePlace::Hosts(namespace) => {
                let states = mesh.scopes.iter().filter(|(scope, _)| scope.namespace == *namespace);
                let sees = states.filter(|(_, state)| {
                    state
                        .declared
                        .as_ref()
                        .is_some_and(|seen| seen.hosts.lookup(key.kind, &key.name).is_some())
                });
                sees.flat_map(|(_, state)| &state.users).cloned().collect()
            }
            ResourcePlace::Shared | ResourcePlace::Scope(_) | ResourcePlace::Own(_) => Vec::new(),
        };
        if declared.is_empty() { Arc::clone(layer) } else { layer.iter().cloned().chain(declared).collect() }
    }
}

/// Those who are told of everything in a layer.
fn told_of_layer(mesh: &MeshState, place: &ResourcePlace) -> Arc<[WorkloadId]> {
    let of_everything = || mesh.scopes.iter().filter(|(_, state)| state.declared.is_none());
    match place {
        ResourcePlace::Shared => mesh.workloads.keys().cloned().collect(),
        ResourcePlace::Catalog => of_everything().flat_map(|(_, state)| &state.users).cloned().collect(),
        ResourcePlace::Hosts(namespace) => {
            let of_namespace = of_everything().filter(|(scope, _)| scope.namespace == *namespace);
            of_namespace.flat_map(|(_, state)| &state.users).cloned().collect()
        }
        ResourcePlace::Scope(scope) => {
            mesh.scopes.get(scope).into_iter().flat_map(|state| &state.users).cloned().collect()
        }
        ResourcePlace::Own(workload) => Arc::new([workload.clone()]),
    }
}
