//! When the outlier detection of each cluster is swept.

use std::sync::Arc;

use tokio::time::Instant;

use super::deadlines::DeadlineQueue;
use crate::runtime::Runtime;

/// The next sweep of each cluster that has outlier detection.
#[derive(Debug, Default)]
pub(super) struct OutlierSweeps(DeadlineQueue<Arc<str>>);

impl OutlierSweeps {
    /// Takes notice of clusters that are new, changed, or gone.
    pub(super) fn follow(&mut self, runtime: &Runtime, changed: &[Arc<str>], now: Instant) {
        for name in changed {
            let cluster = runtime.clusters.get(name);
            match cluster.and_then(|cluster| cluster.outliers.config()) {
                Some(_) if self.0.contains(name) => {}
                Some(config) => self.0.set(Arc::clone(name), Some(now + config.interval)),
                None => drop(self.0.remove(name)),
            }
        }
    }

    /// OutlierSweeps those whose time has come.
    pub(super) fn run(&mut self, runtime: &Runtime, now: Instant) {
        for name in self.0.expired(now) {
            let Some(cluster) = runtime.clusters.get(&name) else { continue };
            let Some(config) = cluster.outliers.config() else { continue };
            cluster.outliers.sweep(now.into_std());
            self.0.set(name, Some(now + config.interval));
        }
    }

    /// When the next one is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.0.next()
    }
}
