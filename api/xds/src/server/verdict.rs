//! What an ACK or a NACK changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_api::resource::{Resource, ResourceKey, ResourceKind};

use super::lane::{InFlight, Known};
use super::{Blame, Event, Rejected, Session, Variant};

/// A refusal that names at most this many of its resources is believed to name the bad ones.
const MAX_NAMED: usize = 8;

impl Session {
    pub(super) fn on_ack(&mut self, kind: ResourceKind, answered: InFlight) {
        self.lane_mut(kind).has_accepted = true;
        let mut acked = Vec::with_capacity(answered.items.len());
        for (name, resource) in answered.items {
            acked.push((name.clone(), resource.as_ref().map(|resource| resource.version)));
            match resource {
                Some(resource) => self.accept(kind, &name, answered.nonce, &resource),
                None => self.accept_removal(kind, &name, answered.nonce),
            }
        }
        self.events.push_back(Event::Acked { kind, resources: acked });
    }

    fn accept(&mut self, kind: ResourceKind, name: &Arc<str>, nonce: u64, resource: &Arc<Resource>) {
        if kind == ResourceKind::Cluster {
            self.gates.remove(name);
        }
        let lane = self.lane_mut(kind);
        let Some(held) = lane.held.get_mut(name) else { return };
        if held.flying.as_ref().is_some_and(|flying| flying.nonce == nonce) {
            held.flying = None;
            held.known = Known::Exactly(resource.version);
        } else {
            held.known = Known::Something;
        }
        let before = held.accepted.replace(resource.clone());
        self.release(before.map(|before| dropped_refs(&before, resource)).unwrap_or_default());
    }

    fn accept_removal(&mut self, kind: ResourceKind, name: &Arc<str>, nonce: u64) {
        let lane = self.lane_mut(kind);
        let Some(held) = lane.held.get_mut(name) else { return };
        if held.flying.as_ref().is_none_or(|flying| flying.nonce != nonce) {
            return;
        }
        held.flying = None;
        held.known = Known::Absent;
        held.brought = false;
        let children = held.accepted.take().map(|resource| resource.refs.clone());
        if !lane.subscription.names.contains(name) {
            lane.held.remove(name);
        }
        self.release(children.unwrap_or_default());
    }

    /// A parent stopped referring to these: what was kept for its sake may go now (U12, W6).
    pub(super) fn release(&mut self, children: Vec<ResourceKey>) {
        for child in children {
            let exists =
                self.view.as_ref().is_some_and(|view| view.lookup(child.kind, &child.name).is_some());
            let lane = self.lane_mut(child.kind);
            if !exists && lane.held.contains_key(&child.name) {
                lane.touch(&child.name);
            }
        }
    }

    pub(super) fn on_nack(&mut self, kind: ResourceKind, answered: InFlight, message: &str) {
        let (added, removed): (Vec<_>, Vec<_>) =
            answered.items.into_iter().partition(|(_, resource)| resource.is_some());
        let suspects: Vec<Arc<Resource>> = added.into_iter().filter_map(|(_, resource)| resource).collect();
        let removed: BTreeSet<Arc<str>> = removed.into_iter().map(|(name, _)| name).collect();
        if suspects.is_empty() {
            // Nothing in a removal can be wrong; said again, it would be refused again.
            for name in &removed {
                self.accept_removal(kind, name, answered.nonce);
            }
        }
        let blame = if suspects.len() == 1 { Blame::Certain } else { Blame::Shared };
        let sotw = self.variant == Variant::Sotw;
        let lane = self.lane_mut(kind);
        // A refused complete list deleted nothing either: as long as none was accepted on this stream, one without
        // the bad resource has to follow, even an empty one (U11).
        lane.must_answer |=
            sotw && !lane.has_accepted && !suspects.is_empty() && super::respond::is_full_state(kind);
        lane.last_nack = Some(message.to_owned());
        for resource in &suspects {
            let Some(held) = lane.held.get_mut(&resource.name) else { continue };
            if held.flying.as_ref().is_none_or(|flying| flying.nonce != answered.nonce) {
                continue;
            }
            match blame {
                Blame::Certain => held.flying = None,
                Blame::Shared => held.mark_unsent(),
            }
        }
        match (blame, &suspects[..]) {
            (Blame::Certain, [resource]) => {
                let rejected = Rejected {
                    name: resource.name.clone(),
                    version: resource.version,
                    message: message.to_owned(),
                };
                lane.rejected.insert(resource.name.clone(), rejected);
                lane.touch(&resource.name);
            }
            _ => {
                for part in divide(&suspects, message).into_iter().rev() {
                    lane.suspects.push_front(part);
                }
            }
        }
        if !suspects.is_empty() && !removed.is_empty() {
            // Whether the client carried them out is unknown: they go again, by themselves.
            for name in &removed {
                lane.held.entry(name.clone()).or_default().mark_unsent();
            }
            lane.suspects.push_front(removed);
        }
        let resources = suspects.iter().map(|resource| (resource.name.clone(), resource.version)).collect();
        self.events.push_back(Event::Nacked { kind, resources, message: message.to_owned(), blame });
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
fn divide(suspects: &[Arc<Resource>], message: &str) -> Vec<BTreeSet<Arc<str>>> {
    let name_of = |resource: &Arc<Resource>| resource.name.clone();
    let (named, others): (Vec<_>, Vec<_>) =
        suspects.iter().partition(|resource| message.contains(&*resource.name));
    if !named.is_empty() && !others.is_empty() && named.len() <= MAX_NAMED {
        let alone = named.into_iter().map(|resource| BTreeSet::from([name_of(resource)]));
        return std::iter::once(others.into_iter().map(name_of).collect()).chain(alone).collect();
    }
    let half = suspects.len().div_ceil(2).max(1);
    suspects.chunks(half).map(|part| part.iter().map(name_of).collect()).collect()
}
