//! Complete sets for a state-of-the-world client that came back with a set of its own (U11).
//!
//! Listeners and clusters are deleted by absence, and what the client holds from an earlier stream is not known here. So
//! every set is the whole one until the client has accepted one. If it refuses that, nothing smaller can be sent: what
//! is left out would be deleted, and with it the version that works. The set is blocked, all else that changes in it
//! waits, until what was refused changes or goes.

use std::sync::Arc;
use std::time::Instant;

use weft_api::resource::{Resource, ResourceKind};

use super::ack::{MAX_NAMED, names_it};
use super::event::{Blame, COMPLETE_SET, Rejected, SessionEvent};
use super::gate::GateState;
use super::respond::{ResponseContents, version_of};
use super::session::Session;
use super::watched_type::{InFlightResponse, WatchedType};

impl Session {
    /// The whole set, if all of it may leave. `None` while something in it waits, and while the client refuses it.
    pub(super) fn fill_complete_set(
        &mut self,
        kind: ResourceKind,
        now: Instant,
    ) -> Option<Vec<Arc<Resource>>> {
        let state = self.state_mut(kind);
        if state.dirty.is_empty() && !state.blocked.is_empty() {
            return None;
        }
        let all = self.covered(kind);
        let state = self.state_mut(kind);
        state.dirty.clear();
        state.blocked.clear();
        state.retry_parts.clear();
        if state.refuses_set(kind, &all) {
            self.block_set(kind);
            return None;
        }
        state.is_set_blocked = false;
        for resource in &all {
            if self.gate_of(resource, now) == GateState::Closed {
                self.state_mut(kind).blocked.insert(resource.name.clone());
            }
        }
        let state = self.state_mut(kind);
        if !state.blocked.is_empty() {
            return None;
        }
        let mut unanswered = std::mem::take(&mut state.unanswered);
        for resource in &all {
            unanswered.remove(&resource.name);
        }
        let bytes = all.iter().map(|resource| self.cost(resource)).sum();
        let batch =
            ResponseContents { resources: all.clone(), removed: unanswered.into_iter().collect(), bytes };
        self.record(kind, batch, now);
        Some(all)
    }

    /// Everything that the client is subscribed to and that exists, by name.
    pub(super) fn covered(&self, kind: ResourceKind) -> Vec<Arc<Resource>> {
        let (Some(view), subscription) = (&self.view, &self.state(kind).subscription) else {
            return Vec::new();
        };
        if !subscription.is_wildcard() {
            return subscription.names().iter().filter_map(|name| view.lookup(kind, name).cloned()).collect();
        }
        let mut all: Vec<_> = view.of_kind(kind).cloned().collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// A refused whole set: who is to blame is quarantined, and nothing smaller follows.
    pub(super) fn on_complete_set_nack(
        &mut self,
        kind: ResourceKind,
        answered: InFlightResponse,
        message: &Arc<str>,
    ) {
        let state = self.state_mut(kind);
        for (name, _) in &answered.items {
            if let Some(held) = state.held.get_mut(name)
                && held.in_flight.as_ref().is_some_and(|in_flight| in_flight.nonce == answered.nonce)
            {
                held.in_flight = None;
            }
        }
        state.last_nack = Some(message.clone());
        let set: Vec<Arc<Resource>> =
            answered.items.into_iter().filter_map(|(_, resource)| resource).collect();
        let named: Vec<_> = match &set[..] {
            [alone] => vec![alone],
            several => several.iter().filter(|resource| names_it(message, &resource.name)).collect(),
        };
        let versions = |list: &[&Arc<Resource>]| {
            list.iter().map(|resource| (resource.name.clone(), resource.version)).collect::<Vec<_>>()
        };
        let is_certain = !named.is_empty() && named.len() <= MAX_NAMED;
        let (blame, resources) = if is_certain {
            (Blame::Certain, versions(&named))
        } else {
            (Blame::Shared, versions(&set.iter().collect::<Vec<_>>()))
        };
        let refused =
            if is_certain { resources.clone() } else { vec![(COMPLETE_SET.into(), version_of(kind, &set))] };
        self.events.push_back(SessionEvent::Nacked { kind, resources, message: message.clone(), blame });
        for (name, version) in refused {
            self.quarantine(kind, Rejected { name, version, message: message.clone() });
        }
        // Looked at again at once: the set may have become another one meanwhile.
        self.state_mut(kind).rescan = true;
    }

    /// Nothing of this type is sent until the set is another one. Whatever waits for one of its clusters waits no more:
    /// the client may have it, and will not get it.
    fn block_set(&mut self, kind: ResourceKind) {
        let state = self.state_mut(kind);
        state.is_set_blocked = true;
        state.must_answer = false;
        state.dirty.clear();
        state.unanswered.clear();
        state.retry_parts.clear();
        if kind == ResourceKind::Cluster {
            self.gates.clear();
            self.unblock();
        }
    }
}

impl WatchedType {
    /// Whether the client refused this set, or something in it (S9).
    fn refuses_set(&self, kind: ResourceKind, set: &[Arc<Resource>]) -> bool {
        set.iter().any(|resource| self.refuses(resource))
            || self.rejected.get(COMPLETE_SET).is_some_and(|whole| whole.version == version_of(kind, set))
    }
}
