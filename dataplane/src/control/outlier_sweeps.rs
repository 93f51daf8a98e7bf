//! When the outlier detection of each cluster is swept.

use std::sync::Arc;

use tokio::time::Instant;

use super::deadlines::DeadlineQueue;
use crate::outlier::{EjectionDecision, EjectionType};
use crate::runtime::Runtime;
use crate::stats::OutlierStats;

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

    /// Sweeps those whose time has come; `found` is told of each detection.
    pub(super) fn run(
        &mut self,
        runtime: &Runtime,
        now: Instant,
        found: impl Fn(&OutlierStats, EjectionType, EjectionDecision),
    ) {
        for name in self.0.expired(now) {
            let Some(cluster) = runtime.clusters.get(&name) else { continue };
            let Some(config) = cluster.outliers.config() else { continue };
            for (kind, decision) in cluster.outliers.sweep(now.into_std()) {
                found(&cluster.stats.outlier, kind, decision);
            }
            self.0.set(name, Some(now + config.interval));
        }
    }

    /// When the next one is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.0.next()
    }
}
