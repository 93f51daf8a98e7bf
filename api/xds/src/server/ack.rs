//! What an ACK or a NACK changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_api::resource::{Resource, ResourceKey, ResourceKind};

use super::event::{Blame, COMPLETE_SET, Rejected, SessionEvent};
use super::message::Variant;
use super::session::Session;
use super::watched_type::{ClientVersion, InFlightResponse, ResourceState};
use crate::sanitize;

/// So many refusals of one type are kept with all their words; of more, the beginning of the words.
const WORDY: usize = 64;

/// A refusal that names at most this many of its resources is believed to name the bad ones.
pub(super) const MAX_NAMED: usize = 8;

impl Session {
    pub(super) fn on_ack(&mut self, kind: ResourceKind, answered: InFlightResponse) {
        let state = self.state_mut(kind);
        state.has_accepted = true;
        state.base_unknown = false;
        state.rejected.remove(COMPLETE_SET);
        let mut acked = Vec::with_capacity(answered.items.len());
        for (name, resource) in answered.items {
            acked.push((name.clone(), resource.as_ref().map(|resource| resource.version)));
            match resource {
                Some(resource) => self.accept(kind, &name, answered.nonce, &resource),
                None => self.accept_removal(kind, &name, answered.nonce),
            }
        }
        self.events.push_back(SessionEvent::Acked { kind, resources: acked });
    }

    fn accept(&mut self, kind: ResourceKind, name: &Arc<str>, nonce: u64, resource: &Arc<Resource>) {
        if kind == ResourceKind::Cluster {
            self.gates.remove(name);
        }
        let state = self.state_mut(kind);
        let Some(held) = state.held.get_mut(name) else {
            // It was given up while this was on its way, and is covered again: the client took it all the same.
            if state.subscription.covers(name) {
                let (known, accepted) = (ClientVersion::Unconfirmed, Some(resource.clone()));
                state
                    .held
                    .insert(name.clone(), ResourceState { known, accepted, ..ResourceState::default() });
                state.touch(name);
            }
            return;
        };
        if held.in_flight.as_ref().is_some_and(|in_flight| in_flight.nonce == nonce) {
            held.in_flight = None;
            held.known = ClientVersion::Exact(resource.version);
        } else {
            held.known = ClientVersion::Unconfirmed;
        }
        let before = held.accepted.replace(resource.clone());
        self.release(before.map(|before| dropped_refs(&before, resource)).unwrap_or_default());
    }

    fn accept_removal(&mut self, kind: ResourceKind, name: &Arc<str>, nonce: u64) {
        let state = self.state_mut(kind);
        let Some(held) = state.held.get_mut(name) else { return };
        if held.in_flight.as_ref().is_none_or(|in_flight| in_flight.nonce != nonce) {
            return;
        }
        held.in_flight = None;
        held.known = ClientVersion::Absent;
        held.resumed = false;
        let children = held.accepted.take().map(|resource| resource.refs.clone());
        if !state.subscription.names().contains(name) {
            state.held.remove(name);
        }
        self.release(children.unwrap_or_default());
    }

    /// A parent stopped referring to these: what was kept for its sake may go now (U12, W6).
    pub(super) fn release(&mut self, children: Vec<ResourceKey>) {
        for child in children {
            let exists =
                self.view.as_ref().is_some_and(|view| view.lookup(child.kind, &child.name).is_some());
            let state = self.state_mut(child.kind);
            if !exists && state.held.contains_key(&child.name) {
                state.touch(&child.name);
            }
        }
    }

    pub(super) fn on_nack(&mut self, kind: ResourceKind, answered: InFlightResponse, message: &Arc<str>) {
        if self.state(kind).base_unknown {
            return self.on_complete_set_nack(kind, answered, message);
        }
        let (added, removed): (Vec<_>, Vec<_>) =
            answered.items.into_iter().partition(|(_, resource)| resource.is_some());
        let refused: Vec<Arc<Resource>> = added.into_iter().filter_map(|(_, resource)| resource).collect();
        let removed: BTreeSet<Arc<str>> = removed.into_iter().map(|(name, _)| name).collect();
        if refused.is_empty() {
            // Nothing in a removal can be wrong; said again, it would be refused again.
            for name in &removed {
                self.accept_removal(kind, name, answered.nonce);
            }
        }
        let blame = if refused.len() == 1 { Blame::Certain } else { Blame::Shared };
        let sotw = self.variant == Variant::Sotw;
        let state = self.state_mut(kind);
        // A refused complete list deleted nothing either: as long as none was accepted on this stream, one without
        // the bad resource has to follow, even an empty one (U11).
        state.must_answer |=
            sotw && !state.has_accepted && !refused.is_empty() && super::respond::is_full_state(kind);
        state.last_nack = Some(message.clone());
        for resource in &refused {
            let Some(held) = state.held.get_mut(&resource.name) else { continue };
            if held.in_flight.as_ref().is_none_or(|in_flight| in_flight.nonce != answered.nonce) {
                continue;
            }
            match blame {
                Blame::Certain => held.in_flight = None,
                Blame::Shared => held.mark_unsent(),
            }
        }
        match (blame, &refused[..]) {
            (Blame::Certain, [resource]) => {
                state.touch(&resource.name);
                let (name, version) = (resource.name.clone(), resource.version);
                self.quarantine(kind, Rejected { name, version, message: message.clone() });
            }
            _ => {
                for part in divide(&refused, message).into_iter().rev() {
                    state.retry_parts.push_front(part);
                }
            }
        }
        let state = self.state_mut(kind);
        if !refused.is_empty() && !removed.is_empty() {
            // Whether the client carried them out is unknown: they go again, by themselves.
            for name in &removed {
                state.held.entry(name.clone()).or_default().mark_unsent();
            }
            state.retry_parts.push_front(removed);
        }
        let resources = refused.iter().map(|resource| (resource.name.clone(), resource.version)).collect();
        self.events.push_back(SessionEvent::Nacked { kind, resources, message: message.clone(), blame });
    }

    /// S9: these bytes are not sent again. What waited for a refused cluster does not wait for it any more (W5).
    pub(super) fn quarantine(&mut self, kind: ResourceKind, mut rejected: Rejected) {
        if kind == ResourceKind::Cluster {
            self.gates.remove(&rejected.name);
        }
        self.events.push_back(SessionEvent::Quarantined { kind, rejected: rejected.clone() });
        let state = self.state_mut(kind);
        if state.rejected.len() >= WORDY {
            rejected.message = sanitize::text(&rejected.message, sanitize::MAX_LABEL).into();
        }
        state.rejected.insert(rejected.name.clone(), rejected);
    }
}

/// What `before` referred to and `after` does not.
fn dropped_refs(before: &Resource, after: &Resource) -> Vec<ResourceKey> {
    if before.refs == after.refs {
        return Vec::new();
    }
    let kept: BTreeSet<_> = after.refs.iter().collect();
    before.refs.iter().filter(|child| !kept.contains(child)).cloned().collect()
}

/// S10: smaller parts of a refused response. Those that the refusal names go alone and last, else halves.
fn divide(refused: &[Arc<Resource>], message: &str) -> Vec<BTreeSet<Arc<str>>> {
    let name_of = |resource: &Arc<Resource>| resource.name.clone();
    let (named, others): (Vec<_>, Vec<_>) =
        refused.iter().partition(|resource| names_it(message, &resource.name));
    if !named.is_empty() && !others.is_empty() && named.len() <= MAX_NAMED {
        let alone = named.into_iter().map(|resource| BTreeSet::from([name_of(resource)]));
        return std::iter::once(others.into_iter().map(name_of).collect()).chain(alone).collect();
    }
    let half = refused.len().div_ceil(2).max(1);
    refused.chunks(half).map(|part| part.iter().map(name_of).collect()).collect()
}

/// Whether the words speak of this resource: its name stands in them, not as a part of a longer name.
pub(super) fn names_it(message: &str, name: &str) -> bool {
    let belongs = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '/');
    !name.is_empty()
        && message.match_indices(name).any(|(at, _)| {
            let (before, after) = (&message[..at], &message[at + name.len()..]);
            !before.chars().next_back().is_some_and(belongs) && !after.chars().next().is_some_and(belongs)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_a_resource_by_its_whole_name() {
        let words =
            "Error adding/updating cluster(s) shop/cart/http: no such socket, 'inbound/shop/web/tcp': no";
        assert!(names_it(words, "shop/cart/http") && names_it(words, "inbound/shop/web/tcp"));
        assert!(
            !names_it(words, "shop/web/tcp") && !names_it(words, "shop/cart/htt") && !names_it(words, "a")
        );
        assert!(!names_it(words, ""));
    }
}
