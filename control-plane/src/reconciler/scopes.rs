//! What callers of one scope are told of, where that is not everything.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use weft_api::{Resource, ResourceKey, ResourceKind, WorkloadId};
use weft_policies::compile::{Scope, Visibility};
use weft_policies::set::PolicyKey;
use weft_xds::Layer;

/// The callers of one scope.
#[derive(Clone, Debug)]
pub(super) struct ScopeState {
    pub users: BTreeSet<WorkloadId>,
    /// The route configuration of those that take virtual hosts by VHDS.
    pub routes: Arc<Layer>,
    /// The route configuration of the others; made when the first of them asks.
    pub table: OnceLock<RouteTable>,
    /// What they are told of; `None` where it is everything.
    pub declared: Option<DeclaredView>,
}

/// One RouteConfiguration with all virtual hosts, and the policies that shaped it.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteTable {
    pub layer: Arc<Layer>,
    pub origins: Vec<PolicyKey>,
}

/// A part of the mesh: some virtual hosts, and the clusters that anything there leads to.
#[derive(Clone, Debug, Default)]
pub(super) struct DeclaredView {
    pub hosts: Arc<Layer>,
    pub clusters: Arc<Layer>,
    /// How many resources of the callers lead to a cluster, whether or not it exists.
    uses: HashMap<Arc<str>, usize>,
}

/// What a resource that leads elsewhere changed in a view.
#[derive(Debug, Default)]
pub(super) struct ReferenceChanges {
    /// Clusters and endpoints that came and went with that.
    pub keys: Vec<ResourceKey>,
    /// Clusters that something leads to now, and nothing did before.
    pub begun: Vec<Arc<str>>,
    /// Clusters that nothing leads to any more.
    pub ended: Vec<Arc<str>>,
}

/// The scopes with a declared view in which something leads to a cluster, by its name: a change of the cluster is looked
/// at for them and for no other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ScopesByCluster(HashMap<Arc<str>, BTreeSet<Scope>>);

impl ScopesByCluster {
    pub fn of(&self, cluster: &str) -> impl Iterator<Item = &Scope> {
        self.0.get(cluster).into_iter().flatten()
    }

    pub fn insert(&mut self, cluster: Arc<str>, scope: &Scope) {
        self.0.entry(cluster).or_default().insert(scope.clone());
    }

    pub fn remove(&mut self, cluster: &str, scope: &Scope) {
        let Some(scopes) = self.0.get_mut(cluster) else { return };
        scopes.remove(scope);
        if scopes.is_empty() {
            self.0.remove(cluster);
        }
    }
}

impl ScopeState {
    pub fn new(scope: &Scope) -> Self {
        let declared = match scope.sees {
            Visibility::All => None,
            Visibility::Declared { .. } => Some(DeclaredView::default()),
        };
        Self { users: BTreeSet::new(), routes: Arc::default(), table: OnceLock::new(), declared }
    }
}

impl DeclaredView {
    /// Puts what a resource leads to now in place of what it led to before.
    pub fn follow_references(
        &mut self,
        before: Option<&Resource>,
        after: Option<&Resource>,
        catalog: &Layer,
    ) -> ReferenceChanges {
        let clusters = |resource: Option<&Resource>| -> Vec<Arc<str>> {
            let refs = resource.into_iter().flat_map(|resource| &resource.refs);
            refs.filter(|key| key.kind == ResourceKind::Cluster).map(|key| key.name.clone()).collect()
        };
        let mut changes = ReferenceChanges::default();
        for name in clusters(after) {
            let uses = self.uses.entry(name.clone()).or_default();
            *uses += 1;
            if *uses == 1 {
                for kind in [ResourceKind::Cluster, ResourceKind::Endpoint] {
                    if let Some(resource) = catalog.lookup(kind, &name) {
                        Arc::make_mut(&mut self.clusters).insert(resource.clone());
                        changes.keys.push(resource.key());
                    }
                }
                changes.begun.push(name);
            }
        }
        for name in clusters(before) {
            let Some(uses) = self.uses.get_mut(&name) else { continue };
            *uses -= 1;
            if *uses == 0 {
                self.uses.remove(&name);
                for kind in [ResourceKind::Cluster, ResourceKind::Endpoint] {
                    let gone = Arc::make_mut(&mut self.clusters).remove(kind, &name);
                    changes.keys.extend(gone.map(|resource| resource.key()));
                }
                changes.ended.push(name);
            }
        }
        changes
    }

    /// Takes a cluster or endpoints, to which something here leads, as they are now in the catalog.
    pub fn follow(&mut self, key: &ResourceKey, now: Option<&Arc<Resource>>) {
        let clusters = Arc::make_mut(&mut self.clusters);
        match now {
            Some(resource) => clusters.insert(resource.clone()),
            None => clusters.remove(key.kind, &key.name),
        };
    }

    /// The clusters that something here leads to, whether or not they exist.
    pub fn used(&self) -> impl Iterator<Item = &Arc<str>> {
        self.uses.keys()
    }
}
