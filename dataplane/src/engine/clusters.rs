//! The clusters of one worker, and the configuration that they are of.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::cluster::ClusterState;
use super::dynamic::DynamicHosts;
use super::local::Local;
use crate::runtime::Runtime;

/// The configuration of the moment with this worker's state of each cluster.
#[derive(Debug)]
pub(crate) struct ClusterSnapshot {
    runtime: Arc<Runtime>,
    clusters: OrdMap<Arc<str>, Rc<ClusterState>>,
    /// Of the clusters whose hosts are those that requests name.
    dynamic: OrdMap<Arc<str>, Rc<DynamicHosts>>,
}

impl ClusterSnapshot {
    pub(crate) fn cluster(&self, name: &str) -> Option<&Rc<ClusterState>> {
        self.clusters.get(name)
    }

    /// The hosts of a cluster that has none of its own.
    pub(crate) fn dynamic_hosts(&self, name: &str) -> Option<&Rc<DynamicHosts>> {
        self.dynamic.get(name)
    }
}

/// Holds the snapshot, which is replaced whole.
#[derive(Debug)]
pub(crate) struct Clusters {
    snapshot: RefCell<Rc<ClusterSnapshot>>,
}

impl Clusters {
    /// Without any, until the first configuration comes.
    pub(super) fn new() -> Rc<Self> {
        let (clusters, dynamic) = (OrdMap::new(), OrdMap::new());
        let snapshot = ClusterSnapshot { runtime: Runtime::empty(), clusters, dynamic };
        Rc::new(Self { snapshot: RefCell::new(Rc::new(snapshot)) })
    }

    /// The configuration for a request that begins now.
    pub(crate) fn snapshot(&self) -> Rc<ClusterSnapshot> {
        self.snapshot.borrow().clone()
    }

    /// Takes over a configuration; answers the one before. Of what is the same in both nothing is touched, and connections
    /// to endpoints that stay are kept.
    pub(super) fn swap(&self, worker: &Local, runtime: &Arc<Runtime>) -> Arc<Runtime> {
        let old = self.snapshot();
        let (mut clusters, mut dynamic) = (old.clusters.clone(), old.dynamic.clone());
        for change in old.runtime.clusters.diff(&runtime.clusters) {
            let name = match change {
                DiffItem::Add(name, config) => {
                    clusters.insert(name.clone(), ClusterState::new(Arc::clone(config), worker.random()));
                    name
                }
                DiffItem::Update { new: (name, config), .. } => {
                    if let Some(state) = clusters.get(name) {
                        state.update(Arc::clone(config));
                    }
                    name
                }
                DiffItem::Remove(name, _) => {
                    if let Some(state) = clusters.remove(name) {
                        state.retire();
                    }
                    name
                }
            };
            // What was found for another configuration, or none, is not asked again.
            let hosts = dynamic.remove(name).inspect(|hosts| hosts.clear());
            if runtime.clusters.get(name).is_some_and(|config| config.dns_cache.is_some()) {
                dynamic.insert(name.clone(), hosts.unwrap_or_default());
            }
        }
        let snapshot = ClusterSnapshot { runtime: runtime.clone(), clusters, dynamic };
        *self.snapshot.borrow_mut() = Rc::new(snapshot);
        old.runtime.clone()
    }

    /// Counts the choices among endpoints that were made in panic since the last call.
    pub(super) fn count_panics(&self, worker: &Local) {
        for state in self.snapshot().clusters.values() {
            let panics = state.take_panics();
            if panics > 0 {
                worker.shard.add(state.view().config.stats.lb_healthy_panic, panics);
            }
        }
    }
}
