//! Bringing what was taken to the workers, and answering for it.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::time::Instant;
use weft_api::ResourceKind;

use super::held::{Now, Wanted};
use super::warm::Unusable;
use super::{BIND_PATIENCE, BIND_RETRY, Control, Phase, QUIET, QUIET_LIMIT, SAVE_AFTER, StartError};
use crate::bootstrap::ListSource;
use crate::rejection::Rejection;

impl Control {
    /// Brings what was taken to the workers, asks for what is missing, and answers what is settled.
    pub(super) async fn work(&mut self) -> Result<(), StartError> {
        let now = Self::now();
        let promoted = self.world.promote(now);
        self.dirty |= promoted.changed;
        for Unusable { kind, refusal, .. } in &promoted.refusals {
            tracing::warn!(kind = kind.short(), name = &*refusal.0, rejection = %refusal.1, "resource refused");
            self.pending.iter_mut().for_each(|pending| pending.refuse(*kind, refusal));
        }
        // A file that was never in use as a whole has to be corrected; once everything serves, a secret that stops
        // fitting must end nothing.
        if self.is_starting() {
            StartError::of_static(&promoted.refusals)?;
        }
        let wanted = self.world.wanted();
        self.ask_for(&wanted);
        if self.hold_until.is_some_and(|until| until <= now.instant) {
            tracing::warn!("no word from the control plane: serving the last good configuration");
            self.hold_until = None;
        }
        if self.retry_bind_at.is_some_and(|at| at <= now.instant) {
            self.retry_bind_at = None;
            self.dirty = true;
        }
        if self.dirty && self.hold_until.is_none() {
            self.dirty = false;
            self.swap(now).await;
        }
        self.answer_settled(now.instant);
        self.announce_ready(now.instant);
        self.save(now.instant);
        self.sweep_outliers(now.instant);
        Ok(())
    }

    fn ask_for(&mut self, wanted: &Wanted) {
        self.secrets.send_replace(Arc::clone(self.world.usable_secrets()));
        self.resolver.ask(&wanted.questions);
        self.watch_files(wanted);
        self.subscribe(wanted);
    }

    async fn swap(&mut self, now: Now) {
        let runtime = self.world.build();
        let failures = self.engine.swap(Arc::clone(&runtime)).await;
        tracing::debug!(
            revision = runtime.revision,
            listeners = runtime.listeners.len(),
            clusters = runtime.clusters.len(),
            "every worker serves by the new configuration"
        );
        self.runtime = runtime;
        self.unbound_since =
            if failures.is_empty() { None } else { self.unbound_since.or(Some(now.instant)) };
        for failure in failures {
            tracing::error!("{failure}");
            let rejection = Rejection::new("address", failure.to_string());
            let refusal = (Arc::clone(&failure.name), rejection);
            self.world.note_unbound(&failure.name, &refusal.1, now);
            self.pending.iter_mut().for_each(|pending| pending.refuse(ResourceKind::Listener, &refusal));
            self.retry_bind_at = Some(now.instant + BIND_RETRY);
        }
        if self.stream.is_some() && self.snapshots.is_some() {
            self.save_at.get_or_insert(now.instant + SAVE_AFTER);
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
        let held_back = self.hold_until.is_some();
        self.pending.retain(|pending| {
            if held_back || waiting.contains(&pending.kind) || !pending.is_settled(world, now) {
                waiting.insert(pending.kind);
                return true;
            }
            let verdict = pending.verdict();
            tracing::debug!(kind = pending.kind.short(), ?verdict, "answered");
            client.answer_ticket(pending.kind, pending.ticket.clone(), verdict);
            false
        });
    }

    fn announce_ready(&mut self, now: Instant) {
        let heard = |kind, source: &Option<ListSource>| {
            source.is_none()
                || self.heard.contains(&kind)
                || (self.restored.is_some() && self.hold_until.is_none())
        };
        let complete = heard(ResourceKind::Cluster, &self.bootstrap.cluster_source)
            && heard(ResourceKind::Listener, &self.bootstrap.listener_source)
            && self.world.is_warm()
            && self.unbound_since.is_none_or(|since| now.duration_since(since) >= BIND_PATIENCE)
            && !self.dirty;
        self.complete_since =
            if complete && self.is_starting() { self.complete_since.or(Some(now)) } else { None };
        if complete && self.is_starting() && self.quiet_at().is_none_or(|at| at <= now) {
            self.phase.send_replace(Phase::Live);
            self.engine.release_reserved();
            tracing::info!(
                listeners = self.runtime.listeners.len(),
                clusters = self.runtime.clusters.len(),
                "ready"
            );
        } else if *self.phase.borrow() == Phase::PreInitializing && !self.heard.is_empty() {
            self.phase.send_replace(Phase::Initializing);
        }
    }

    fn is_starting(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::PreInitializing | Phase::Initializing)
    }

    /// When the first configuration counts as complete; `None` where nothing comes by a stream.
    pub(super) fn quiet_at(&self) -> Option<Instant> {
        if *self.phase.borrow() == Phase::Live {
            return None;
        }
        Some((self.last_update? + QUIET).min(self.complete_since? + QUIET_LIMIT))
    }

    fn sweep_outliers(&mut self, now: Instant) {
        self.swept.retain(|name, _| self.runtime.clusters.contains_key(name));
        for (name, cluster) in &self.runtime.clusters {
            let Some(config) = cluster.outliers.config() else { continue };
            let last = self.swept.entry(Arc::clone(name)).or_insert(now);
            if now.duration_since(*last) >= config.interval {
                *last = now;
                cluster.outliers.sweep(now.into_std());
            }
        }
    }
}
