//! What a stream looks like from outside.

use std::sync::Arc;

use weft_api::resource::{ResourceKind, Version};

use super::Session;
use super::lane::{Known, Lane};

/// A resource that the client refuses, in quarantine until it changes (S9).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejected {
    /// Its name.
    pub name: Arc<str>,
    /// The version refused.
    pub version: Version,
    /// The client's words.
    pub message: String,
}

/// A stream, for `/v1/proxies`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Revision of the view that the stream serves; none before the first.
    pub revision: Option<u64>,
    /// Whether the client has answered for all of that revision. Resources that it refuses count as answered.
    pub synced: bool,
    /// One for each type that the client asked for.
    pub lanes: Vec<LaneStatus>,
}

/// One type on a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaneStatus {
    /// The type.
    pub kind: ResourceKind,
    /// Whether the client asked for everything.
    pub wildcard: bool,
    /// Names asked for.
    pub subscribed: usize,
    /// Responses sent.
    pub responses: u64,
    /// Resources sent to the client: those that it has, and those without an answer yet.
    pub sent: usize,
    /// Resources of which the client has accepted the newest version sent.
    pub acked: usize,
    /// Names that wait for a cluster's ACK, or to be removed.
    pub waiting: Vec<Arc<str>>,
    /// Resources that the client refuses.
    pub rejected: Vec<Rejected>,
    /// The words of the last NACK, also of one that names nobody in particular yet.
    pub last_nack: Option<String>,
}

impl Session {
    /// The stream as it is now. Costs a walk over what the client holds: for questions, not for each message.
    #[must_use]
    pub fn status(&self) -> Status {
        let lanes = ResourceKind::ALL.into_iter().map(|kind| (kind, self.lane(kind)));
        Status {
            revision: self.view.as_ref().map(|view| view.revision),
            synced: self.view.is_some()
                && self.lanes.iter().any(|lane| lane.asked)
                && self.lanes.iter().all(Lane::is_idle),
            lanes: lanes.filter(|(_, lane)| lane.asked).map(|(kind, lane)| lane_status(kind, lane)).collect(),
        }
    }

    /// What the client accepted of a type: names and versions.
    pub fn accepted(&self, kind: ResourceKind) -> impl Iterator<Item = (&Arc<str>, Version)> {
        self.lane(kind).held.iter().filter_map(|(name, held)| Some((name, held.accepted.as_ref()?.version)))
    }
}

fn lane_status(kind: ResourceKind, lane: &Lane) -> LaneStatus {
    let has = |known| matches!(known, Known::Something | Known::Exactly(_));
    let flies =
        |held: &super::lane::Held| held.flying.as_ref().is_some_and(|flying| flying.resource.is_some());
    let held = lane.held.values();
    LaneStatus {
        kind,
        wildcard: lane.subscription.wildcard,
        subscribed: lane.subscription.names.len(),
        responses: lane.sent,
        sent: held.clone().filter(|held| has(held.known) || flies(held)).count(),
        acked: held.filter(|held| matches!(held.known, Known::Exactly(_)) && held.flying.is_none()).count(),
        waiting: lane.blocked.iter().cloned().collect(),
        rejected: lane
            .rejected
            .values()
            .filter(|rejected| lane.subscription.covers(&rejected.name))
            .cloned()
            .collect(),
        last_nack: lane.last_nack.clone(),
    }
}
