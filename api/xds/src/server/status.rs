//! What a stream looks like from outside.

use std::sync::Arc;

use weft_api::resource::{ResourceKind, Version};

use super::event::{COMPLETE_SET, Rejected};
use super::session::Session;
use super::watched_type::{ClientVersion, WatchedType};

/// A stream, for `/v1/proxies`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StreamStatus {
    /// Revision of the view that the stream serves; none before the first.
    pub revision: Option<u64>,
    /// Whether the client has answered for all of that revision. Resources that it refuses count as answered.
    pub synced: bool,
    /// One for each type that the client asked for.
    pub types: Vec<StreamTypeStatus>,
}

/// One type on a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamTypeStatus {
    /// The resource type that this is about.
    pub kind: ResourceKind,
    /// Whether the client asked for everything.
    pub wildcard: bool,
    /// How many names the client is subscribed to, beside a wildcard.
    pub subscribed: usize,
    /// Responses of this type that left on this stream.
    pub responses: u64,
    /// Resources sent to the client: those that it has, and those without an answer yet.
    pub sent: usize,
    /// Resources of which the client has accepted the newest version sent.
    pub acked: usize,
    /// Names that wait for a cluster's ACK, or to be removed.
    pub waiting: Vec<Arc<str>>,
    /// Names that the client is not given until what it refused changes or goes: those that lead nowhere else (W5), or,
    /// where a smaller set would delete what it has, all of the type that it has not accepted (U11).
    pub held_back: Vec<Arc<str>>,
    /// Resources that the client refuses.
    pub rejected: Vec<Rejected>,
    /// The words of the last NACK, also of one that names nobody in particular yet.
    pub last_nack: Option<Arc<str>>,
}

impl Session {
    /// The stream as it is now. Costs a walk over what the client holds: for questions, not for each message.
    #[must_use]
    pub fn status(&self) -> StreamStatus {
        let types = ResourceKind::ALL.into_iter().map(|kind| (kind, self.state(kind)));
        StreamStatus {
            revision: self.view.as_ref().map(|view| view.revision),
            synced: self.view.is_some()
                && self.types.iter().any(|state| state.asked)
                && self.types.iter().all(WatchedType::is_idle),
            types: types
                .filter(|(_, state)| state.asked)
                .map(|(kind, state)| self.type_status(kind, state))
                .collect(),
        }
    }

    /// What the client accepted of a type: names and versions.
    pub fn accepted(&self, kind: ResourceKind) -> impl Iterator<Item = (&Arc<str>, Version)> {
        self.state(kind).held.iter().filter_map(|(name, held)| Some((name, held.accepted.as_ref()?.version)))
    }

    fn type_status(&self, kind: ResourceKind, state: &WatchedType) -> StreamTypeStatus {
        let has = |known| matches!(known, ClientVersion::Unconfirmed | ClientVersion::Exact(_));
        let in_flight = |held: &super::watched_type::ResourceState| {
            held.in_flight.as_ref().is_some_and(|in_flight| in_flight.resource.is_some())
        };
        let held = state.held.values();
        StreamTypeStatus {
            kind,
            wildcard: state.subscription.is_wildcard(),
            subscribed: state.subscription.names().len(),
            responses: state.sent,
            sent: held.clone().filter(|held| has(held.known) || in_flight(held)).count(),
            acked: held
                .filter(|held| matches!(held.known, ClientVersion::Exact(_)) && held.in_flight.is_none())
                .count(),
            waiting: state.blocked.iter().cloned().collect(),
            held_back: self.held_back(kind, state),
            rejected: state
                .rejected
                .values()
                .filter(|one| self.is_refused(kind, state, one))
                .cloned()
                .collect(),
            last_nack: state.last_nack.clone(),
        }
    }

    fn held_back(&self, kind: ResourceKind, state: &WatchedType) -> Vec<Arc<str>> {
        if state.is_set_blocked {
            self.covered(kind).into_iter().map(|resource| resource.name.clone()).collect()
        } else {
            state.held_back.iter().cloned().collect()
        }
    }

    /// Whether the client is asked to take what it refused: not what has changed since, or went.
    pub(super) fn is_refused(&self, kind: ResourceKind, state: &WatchedType, rejected: &Rejected) -> bool {
        if *rejected.name == *COMPLETE_SET {
            return state.is_set_blocked;
        }
        let current = self.view.as_ref().and_then(|view| view.lookup(kind, &rejected.name));
        state.subscription.covers(&rejected.name)
            && current.is_some_and(|current| current.version == rejected.version)
    }
}
