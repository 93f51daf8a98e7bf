//! The clusters of one worker, and the configuration that they are of.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::cluster::ClusterState;
use super::dynamic::DynamicHosts;
use super::local::Local;
use crate::runtime::Runtime;

/// The configuration of the moment with this worker's state of each cluster.
#[derive(Debug)]
pub(crate) struct ClusterSnapshot {
    runtime: Arc<Runtime>,
    clusters: HashMap<Arc<str>, Rc<ClusterState>>,
    /// Of the clusters whose hosts are those that requests name.
    dynamic: HashMap<Arc<str>, Rc<DynamicHosts>>,
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
        let (clusters, dynamic) = (HashMap::new(), HashMap::new());
        let snapshot = ClusterSnapshot { runtime: Runtime::empty(), clusters, dynamic };
        Rc::new(Self { snapshot: RefCell::new(Rc::new(snapshot)) })
    }

    /// The configuration for a request that begins now.
    pub(crate) fn snapshot(&self) -> Rc<ClusterSnapshot> {
        self.snapshot.borrow().clone()
    }

    /// Takes over a configuration; answers the one before. Connections to endpoints that stay are kept.
    pub(super) fn swap(&self, worker: &Local, runtime: &Arc<Runtime>) -> Arc<Runtime> {
        let old = self.snapshot();
        let mut clusters = HashMap::with_capacity(runtime.clusters.len());
        let mut dynamic = HashMap::new();
        for (name, config) in &runtime.clusters {
            let known = old.clusters.get(name);
            let changed = known.is_some_and(|known| !known.view().config.is(config));
            let state = match known {
                Some(known) => {
                    known.update(config.clone());
                    known.clone()
                }
                None => ClusterState::new(config.clone(), worker.random()),
            };
            clusters.insert(name.clone(), state);
            if config.dns_cache.is_some() {
                let hosts = old.dynamic.get(name).cloned().unwrap_or_default();
                if changed {
                    hosts.clear();
                }
                dynamic.insert(name.clone(), hosts);
            }
        }
        for (_, state) in old.clusters.iter().filter(|(name, _)| !clusters.contains_key(*name)) {
            state.retire();
        }
        for (_, hosts) in old.dynamic.iter().filter(|(name, _)| !dynamic.contains_key(*name)) {
            hosts.clear();
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
