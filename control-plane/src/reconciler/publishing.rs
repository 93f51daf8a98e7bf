//! What every stream is given: the mesh as it was compiled last.

use std::sync::Arc;
use std::time::Instant;

use super::Reconciler;
use super::delta::LayerChanges;
use super::published::Publication;
use super::stream::ServedStream;
use crate::presence::grants;

/// How many policy revisions are remembered with their publication, for those who wait for one.
const REMEMBERED: usize = 128;

impl Reconciler {
    fn ready(&self) -> bool {
        self.loaded.policies && self.loaded.workloads && self.loaded.bundle
    }

    /// Compiles what is stale, and gives every stream concerned its new view. Nothing is compiled against a half-read
    /// world (rule S14).
    pub(super) fn publish(&mut self) {
        if !self.ready() {
            return;
        }
        let first = !self.now.ready;
        if first {
            self.registry.start_clocks(Instant::now());
            self.mesh.outdate_all();
        }
        let delta = self.compile();
        let moved = std::mem::take(&mut self.moved);
        if first || moved || !delta.is_empty() {
            self.now.revision += 1;
        }
        self.now.ready = true;
        let (registry, set) = (&self.registry, self.mesh.set());
        let is_current = |open: &ServedStream| {
            registry.record(&open.workload).is_some_and(|record| {
                *record.instance == *open.instance && grants::check(&record.id, &record.service, set).is_ok()
            })
        };
        self.streams.serve_waiting(self.now.revision, &self.mesh, is_current);
        let targets = self.streams.publish(self.now.revision, &self.mesh, &delta);
        if moved {
            let publications = Arc::make_mut(&mut self.now.publications);
            let (policies, number) = (self.now.policy_revision, self.now.revision);
            publications.push_back(Publication { policies, number, targets: targets.into_iter().collect() });
            if publications.len() > REMEMBERED {
                publications.pop_front();
            }
        }
        for id in &delta.compiled {
            self.assign_checks(id);
        }
        let now = &self.now;
        self.publish.send_if_modified(|published| {
            let differs = !published.ready
                || (published.revision, published.held_back) != (now.revision, now.held_back);
            if differs {
                published.clone_from(now);
            }
            differs
        });
    }

    fn compile(&mut self) -> LayerChanges {
        let units = self.mesh.stale().len();
        if units == 0 {
            return self.mesh.settle();
        }
        let _entered = tracing::info_span!("compile", units).entered();
        self.mesh.settle()
    }
}
