//! What a change of the mesh changed, by those who see it.

use std::collections::{BTreeMap, BTreeSet};

use weft_api::{Name, ResourceKey, ResourceKind, WorkloadId};
use weft_policies::compile::{RouteForm, Scope, Visibility};
use weft_xds::Changes;

/// Which resources changed, by the layer that they stand in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerChanges {
    /// Seen by all proxies.
    pub shared: Vec<ResourceKey>,
    /// Clusters and endpoints, seen by callers that are told of all services.
    pub catalog: Vec<ResourceKey>,
    /// Virtual hosts by the namespace of the callers, seen by those that are told of all services.
    pub hosts: BTreeMap<Name, Vec<ResourceKey>>,
    /// Seen by the callers of one scope.
    pub scopes: BTreeMap<Scope, Vec<ResourceKey>>,
    /// Seen by one sidecar.
    pub own: BTreeMap<WorkloadId, Vec<ResourceKey>>,
    /// Sidecars that came to another scope: anything may differ for them.
    pub moved: BTreeSet<WorkloadId>,
    /// Workloads of which something was compiled anew, whether or not it gave other bytes.
    pub compiled: BTreeSet<WorkloadId>,
}

impl LayerChanges {
    /// True when no resource changed for anybody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { shared, catalog, hosts, scopes, own, moved, compiled: _ } = self;
        shared.is_empty()
            && catalog.is_empty()
            && hosts.is_empty()
            && scopes.is_empty()
            && own.is_empty()
            && moved.is_empty()
    }

    /// What changed for one sidecar that is told virtual hosts in this form. More than it has is harmless.
    #[must_use]
    pub fn of(&self, workload: &WorkloadId, scope: Option<&Scope>, form: RouteForm) -> Changes {
        if self.moved.contains(workload) {
            return Changes::All;
        }
        let mut keys: Vec<ResourceKey> =
            self.shared.iter().chain(self.own.get(workload).into_iter().flatten()).cloned().collect();
        let Some(scope) = scope else { return Changes::Keys(keys) };
        let in_scope = self.scopes.get(scope).into_iter().flatten();
        let (catalog, hosts) = match scope.sees {
            Visibility::All => {
                (&self.catalog[..], self.hosts.get(&scope.namespace).map_or(&[][..], Vec::as_slice))
            }
            Visibility::Declared { .. } => (&[][..], &[][..]),
        };
        let mut routes_differ = false;
        for key in in_scope.chain(catalog).chain(hosts) {
            match (form, key.kind) {
                (RouteForm::Table, ResourceKind::Route | ResourceKind::VirtualHost) => routes_differ = true,
                (
                    RouteForm::VirtualHosts | RouteForm::Table,
                    ResourceKind::Route
                    | ResourceKind::VirtualHost
                    | ResourceKind::Cluster
                    | ResourceKind::Endpoint
                    | ResourceKind::Listener
                    | ResourceKind::Secret
                    | ResourceKind::Runtime,
                ) => keys.push(key.clone()),
            }
        }
        if routes_differ {
            let table = RouteForm::Table.route_configuration(&scope.namespace);
            keys.push(ResourceKey::new(ResourceKind::Route, table));
        }
        Changes::Keys(keys)
    }
}
