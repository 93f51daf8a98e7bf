//! Swapping accepted resources in at the workers, and the ACKs and NACKs that follow.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::time::Instant;
use weft_api::ResourceKind;
use weft_routing::rejection::Rejection;

use super::resource::Now;
use super::warm::Unusable;
use super::world::SubscriptionChanges;
use super::{Control, Phase, StartError};
use crate::bootstrap::ListSource;

impl Control {
    /// Brings what was taken to the workers, asks for what is missing, and answers what is settled. What did not change
    /// is not looked at.
    pub(super) async fn work(&mut self) -> Result<(), StartError> {
        let now = Self::now();
        let promoted = self.world.promote(&mut self.builder, now);
        for Unusable { kind, refusal, .. } in &promoted.refusals {
            tracing::warn!(
                event = "resource_refused",
                kind = kind.short(), name = &*refusal.0, rejection = %refusal.1,
                "resource refused"
            );
            self.pending.iter_mut().for_each(|pending| pending.refuse(*kind, refusal));
        }
        // A file that was never in use as a whole has to be corrected; once everything serves, a secret that stops
        // fitting must end nothing.
        if self.is_starting() {
            StartError::of_static(&promoted.refusals)?;
        }
        let changes = self.world.take_subscription_changes();
        tracing::trace!(
            examined = promoted.examined,
            begun = changes.begun.len(),
            ended = changes.ended.len(),
            "looked at"
        );
        self.ask_for(changes);
        if self.startup.end_hold(now.instant) {
            tracing::warn!(
                event = "control_plane_away",
                "no word from the control plane: serving the last good configuration"
            );
        }
        self.dirty |= self.bind_retries.take_retry(now.instant);
        if self.has_changes() && !self.startup.holds() {
            self.dirty = false;
            self.swap(now).await;
        }
        self.answer_settled(now.instant);
        self.announce_ready(now.instant);
        self.save(now.instant);
        let gauges = &self.gauges;
        self.outlier_sweeps.run(&self.runtime, now.instant, |stats, kind, decision| {
            gauges.count_ejection(stats, kind, decision);
        });
        Ok(())
    }

    fn has_changes(&self) -> bool {
        self.dirty || self.world.is_stale()
    }

    fn ask_for(&mut self, changes: SubscriptionChanges) {
        let usable = self.world.usable_secrets();
        self.secrets.send_if_modified(|published| {
            let changed = !Arc::ptr_eq(published, usable);
            if changed {
                *published = Arc::clone(usable);
            }
            changed
        });
        for dependency in changes.ended {
            self.cease(&dependency);
        }
        for dependency in changes.begun {
            self.ask(dependency);
        }
    }

    async fn swap(&mut self, now: Now) {
        let built = self.builder.build(&mut self.world);
        let runtime = built.runtime;
        let failures = self.engine.swap(Arc::clone(&runtime)).await;
        tracing::debug!(
            revision = runtime.revision,
            listeners = runtime.listeners.len(),
            clusters = runtime.clusters.len(),
            changed_listeners = built.listeners.len(),
            changed_clusters = built.clusters.len(),
            "every worker serves by the new configuration"
        );
        self.outlier_sweeps.follow(&runtime, &built.clusters, now.instant);
        self.runtime = runtime;
        if failures.is_empty() {
            self.bind_retries.succeeded();
        }
        for failure in failures {
            tracing::error!(event = "listener_not_bound", "{failure}");
            let rejection = Rejection::new("address", failure.to_string());
            let refusal = (Arc::clone(&failure.name), rejection);
            self.world.note_unbound(&failure.name, &refusal.1, now);
            self.pending.iter_mut().for_each(|pending| pending.refuse(ResourceKind::Listener, &refusal));
            self.bind_retries.failed(now.instant);
        }
        if self.stream.is_some() {
            self.snapshot_schedule.changed(now.instant);
        }
    }

    fn answer_settled(&mut self, now: Instant) {
        let Some((client, _)) = &self.stream else {
            self.pending.clear();
            return;
        };
        // Answers of a type go in the order of their updates.
        let mut waiting = HashSet::new();
        let world = &self.world;
        let held_back = self.startup.holds();
        self.pending.retain(|pending| {
            if held_back || waiting.contains(&pending.kind) || !pending.is_settled(world, now) {
                waiting.insert(pending.kind);
                return true;
            }
            let verdict = pending.verdict();
            tracing::debug!(kind = pending.kind.short(), ?verdict, "answered");
            client.answer_response(pending.kind, pending.response_id.clone(), verdict);
            false
        });
    }

    fn announce_ready(&mut self, now: Instant) {
        let is_received = |kind, source: &Option<ListSource>| {
            source.is_none()
                || self.received_lists.contains(&kind)
                || (self.restored.is_some() && !self.startup.holds())
        };
        let complete = is_received(ResourceKind::Cluster, &self.bootstrap.cluster_source)
            && is_received(ResourceKind::Listener, &self.bootstrap.listener_source)
            && self.world.is_warm()
            && self.bind_retries.is_decided(now)
            && !self.has_changes();
        if complete && self.is_starting() {
            self.startup.complete(now);
        } else {
            self.startup.incomplete();
        }
        if complete && self.is_starting() && self.startup.quiet_at().is_none_or(|at| at <= now) {
            self.phase.send_replace(Phase::Live);
            self.startup.incomplete();
            self.engine.release_reserved();
            tracing::info!(
                event = "ready",
                listeners = self.runtime.listeners.len(),
                clusters = self.runtime.clusters.len(),
                "ready"
            );
        } else if *self.phase.borrow() == Phase::PreInitializing && !self.received_lists.is_empty() {
            self.phase.send_replace(Phase::Initializing);
        }
    }

    fn is_starting(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::PreInitializing | Phase::Initializing)
    }
}
