//! Make before break for additions: a listener or route waits until the clusters that it names were answered for (W5),
//! by reference, and not longer than so long (W8).
//!
//! A refused cluster opens the gate at once. What also names others goes out, since it is good for those, and both kinds
//! of proxies take a reference to a cluster that they do not have. What leads nowhere but to refused clusters is held
//! back as long as the client has a version that leads somewhere.

use std::sync::Arc;
use std::time::Instant;

use weft_api::resource::{Resource, ResourceKind, Version};

use super::event::SessionEvent;
use super::limits::ACK_TIMEOUT;
use super::message::ServedTypes;
use super::session::Session;
use super::watched_type::ResourceState;

/// How long listeners and routes have waited for one cluster.
#[derive(Debug)]
pub(super) struct Gate {
    version: Version,
    since: Instant,
    opened: bool,
}

impl Gate {
    pub fn deadline(&self) -> Option<Instant> {
        (!self.opened).then(|| self.since + ACK_TIMEOUT)
    }
}

/// Whether a listener or route may leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum GateState {
    Open,
    /// A cluster that it names has no answer yet.
    Closed,
    /// It leads only to what the client refuses, and the client runs an older one that does not.
    HeldBack,
}

/// What a client can do with a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ClusterUse {
    /// It has some version of it, gets it when it asks for it, or may have it from before.
    Usable,
    /// It was sent, or is about to be.
    Undecided,
    /// It refuses the one there is, and has no other.
    Refused,
    /// There is none. What names it says so on purpose.
    Absent,
}

impl Session {
    pub(super) fn gate_of(&mut self, resource: &Resource, now: Instant) -> GateState {
        let gated = match resource.kind {
            ResourceKind::Listener | ResourceKind::Route | ResourceKind::VirtualHost => true,
            ResourceKind::Cluster | ResourceKind::Endpoint | ResourceKind::Secret | ResourceKind::Runtime => {
                false
            }
        };
        if !gated || self.served != ServedTypes::Aggregated {
            return GateState::Open;
        }
        let (mut useful, mut undecided, mut refused) = (false, false, false);
        for cluster in clusters(resource) {
            match self.cluster_use(cluster) {
                ClusterUse::Usable | ClusterUse::Absent => useful = true,
                ClusterUse::Refused => refused = true,
                // Each gate has a clock of its own, so all are looked at.
                ClusterUse::Undecided => undecided |= self.is_gate_closed(cluster, now),
            }
        }
        if undecided {
            GateState::Closed
        } else if refused && !useful && self.runs_a_usable_version(resource) {
            GateState::HeldBack
        } else {
            GateState::Open
        }
    }

    fn runs_a_usable_version(&self, resource: &Resource) -> bool {
        let held = self.state(resource.kind).held.get(&resource.name);
        let accepted = held.and_then(|held| held.accepted.as_ref());
        accepted.is_some_and(|older| {
            clusters(older).any(|cluster| self.cluster_use(cluster) == ClusterUse::Usable)
        })
    }

    fn cluster_use(&self, cluster: &Arc<str>) -> ClusterUse {
        let state = self.state(ResourceKind::Cluster);
        if !state.asked || !state.subscription.covers(cluster) {
            return ClusterUse::Usable;
        }
        // A blocked set says nothing about what the client has from before.
        if state.is_set_blocked || state.held.get(cluster).is_some_and(ResourceState::is_accepted) {
            return ClusterUse::Usable;
        }
        let lookup = self.view.as_ref().and_then(|view| view.lookup(ResourceKind::Cluster, cluster));
        match lookup {
            Some(wanted) if state.refuses(wanted) => ClusterUse::Refused,
            Some(_) => ClusterUse::Undecided,
            None => ClusterUse::Absent,
        }
    }

    fn is_gate_closed(&mut self, cluster: &Arc<str>, now: Instant) -> bool {
        let lookup = self.view.as_ref().and_then(|view| view.lookup(ResourceKind::Cluster, cluster));
        let Some(wanted) = lookup else { return false };
        let fresh = || Gate { version: wanted.version, since: now, opened: false };
        let gate = self.gates.entry(cluster.clone()).or_insert_with(fresh);
        if gate.version != wanted.version {
            *gate = fresh();
        }
        !gate.opened
    }

    /// W8: gives up on clusters that were not accepted in time.
    pub(super) fn open_gates(&mut self, now: Instant) {
        let mut opened = false;
        for (cluster, gate) in &mut self.gates {
            if gate.deadline().is_some_and(|deadline| deadline <= now) {
                gate.opened = true;
                opened = true;
                self.events.push_back(SessionEvent::GateTimedOut { cluster: cluster.clone() });
            }
        }
        if opened {
            self.unblock();
        }
    }
}

fn clusters(resource: &Resource) -> impl Iterator<Item = &Arc<str>> {
    resource.refs.iter().filter(|child| child.kind == ResourceKind::Cluster).map(|child| &child.name)
}
