//! The server's state of one resource type on one stream: its subscription, and each resource's delivery.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use weft_api::resource::{Resource, ResourceKey, Version};

use super::event::Rejected;
use super::limits::{ACK_TIMEOUT, MAX_NAMES};
use super::subscription::{self, Subscription, TooManyNames};

/// Names that may be remembered without a subscription, until they are answered for. Twice as many as one may name: a
/// client with a wildcard brings along what was there before.
const MAX_UNSUBSCRIBED: usize = 2 * MAX_NAMES;

/// More unanswered delta responses than this, and the type waits however long it takes.
const MAX_OUTSTANDING: usize = 4;

/// What the client is known to have under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum ClientVersion {
    /// Nothing was said about it on this stream.
    #[default]
    Unknown,
    /// Something, but it must be sent (again) whatever its version: W1, U6, S10.
    Unconfirmed,
    /// It was told that the name does not exist.
    Absent,
    /// It has exactly this version, so that nothing need be sent while that is the newest.
    Exact(Version),
}

/// What the client has under one name, and what is in flight to it.
#[derive(Debug, Default)]
pub(super) struct ResourceState {
    pub known: ClientVersion,
    /// The last version acknowledged on this stream: what the client runs if it refuses a newer one.
    pub accepted: Option<Arc<Resource>>,
    /// The client brought it along from an earlier stream (R1); what it refers to is not known.
    pub resumed: bool,
    pub in_flight: Option<InFlightResource>,
}

impl ResourceState {
    /// Whether the client has accepted some version, now or on an earlier stream.
    pub fn is_accepted(&self) -> bool {
        self.accepted.is_some() || self.resumed
    }

    /// Whether the client may act on a reference to `child`.
    pub fn may_refer_to(&self, child: &ResourceKey) -> bool {
        let names = |resource: &Arc<Resource>| resource.refs.contains(child);
        self.accepted.as_ref().is_some_and(names)
            || self.in_flight.as_ref().and_then(|in_flight| in_flight.resource.as_ref()).is_some_and(names)
            || (self.resumed && self.accepted.is_none())
    }

    /// Forgets that the client has it, also what is in flight (W1).
    pub fn mark_unsent(&mut self) {
        self.known = ClientVersion::Unconfirmed;
        self.in_flight = None;
    }
}

/// Sent, not answered. A removal has no resource.
#[derive(Debug, Clone)]
pub(super) struct InFlightResource {
    pub nonce: u64,
    pub resource: Option<Arc<Resource>>,
}

/// A response that was sent and not answered yet.
#[derive(Debug)]
pub(super) struct InFlightResponse {
    pub nonce: u64,
    pub sent_at: Instant,
    /// [`Event::AckOverdue`](super::Event::AckOverdue) was reported for it.
    pub overdue: bool,
    /// What was new in it: added, changed, removed.
    pub items: Vec<(Arc<str>, Option<Arc<Resource>>)>,
}

/// The subscription to one type, and the delivery of its resources.
#[derive(Debug, Default)]
pub(super) struct WatchedType {
    /// A request of this type was seen.
    pub asked: bool,
    pub subscription: Subscription,
    /// What the client has or is being sent, by name.
    pub held: BTreeMap<Arc<str>, ResourceState>,
    /// Names to look at when a response may leave.
    pub dirty: BTreeSet<Arc<str>>,
    /// All names are to be looked at.
    pub rescan: bool,
    /// Names that must be answered even if they do not exist (U4, U8).
    pub unanswered: BTreeSet<Arc<str>>,
    /// How much those names count that are held though nobody subscribed to them: brought along, or given up beside a
    /// wildcard. They go when they are answered for.
    pub unsubscribed_weight: usize,
    /// Names that wait for a reference.
    pub blocked: BTreeSet<Arc<str>>,
    /// Names of which the client keeps the version that it has, until what it refused changes (W5).
    pub held_back: BTreeSet<Arc<str>>,
    /// Parts of a refused response, to be sent one after the other (S10).
    pub retry_parts: VecDeque<BTreeSet<Arc<str>>>,
    /// Quarantine, by name and hash (S9).
    pub rejected: BTreeMap<Arc<str>, Rejected>,
    pub in_flight: VecDeque<InFlightResponse>,
    /// An answer is due even if it is empty (U13).
    pub must_answer: bool,
    /// The client accepted a response on this stream.
    pub has_accepted: bool,
    /// SotW: the version of the whole that the client brought along (R1).
    pub resume: Option<String>,
    /// SotW, listeners and clusters: the client has a set from an earlier stream and has accepted none on this one, so
    /// whatever a set leaves out may be deleted by it (U11).
    pub base_unknown: bool,
    /// SotW, listeners and clusters: the client refused the whole set, and no other may be sent until what it refused
    /// changes or goes (U11).
    pub is_set_blocked: bool,
    pub last_nack: Option<Arc<str>>,
    pub sent: u64,
}

impl WatchedType {
    /// Notes that a name may have changed, if the client cares.
    pub fn touch(&mut self, name: &Arc<str>) {
        if self.asked && self.subscription.covers(name) {
            self.dirty.insert(name.clone());
        }
    }

    /// Makes a name be answered in any case.
    pub fn must_answer_name(&mut self, name: &Arc<str>) {
        self.unanswered.insert(name.clone());
        self.dirty.insert(name.clone());
    }

    /// Drops all that is known of a name but that it was refused (S9); returns what it referred to.
    pub fn forget(&mut self, name: &str) -> Vec<ResourceKey> {
        self.dirty.remove(name);
        self.unanswered.remove(name);
        self.blocked.remove(name);
        self.held_back.remove(name);
        for part in &mut self.retry_parts {
            part.remove(name);
        }
        let accepted = self.held.remove(name).and_then(|held| held.accepted);
        accepted.map(|resource| resource.refs.clone()).unwrap_or_default()
    }

    /// Makes room for a name that is not subscribed to and is remembered until it is answered for.
    pub fn add_unsubscribed(&mut self, name: &str) -> Result<(), TooManyNames> {
        self.unsubscribed_weight += subscription::weight(name);
        if self.unsubscribed_weight > MAX_UNSUBSCRIBED { Err(TooManyNames) } else { Ok(()) }
    }

    /// How much the names count that the client made this state remember.
    pub fn weight(&self) -> usize {
        self.subscription.weight() + self.unsubscribed_weight
    }

    /// S9: whether the client refuses these very bytes.
    pub fn refuses(&self, resource: &Resource) -> bool {
        self.rejected.get(&resource.name).is_some_and(|rejected| rejected.version == resource.version)
    }

    /// Whether the client may act on a reference from this type to `child`.
    pub fn may_refer_to(&self, child: &ResourceKey) -> bool {
        (self.asked && self.base_unknown) || self.held.values().any(|held| held.may_refer_to(child))
    }

    pub fn has_work(&self) -> bool {
        self.rescan || self.must_answer || !self.dirty.is_empty() || !self.retry_parts.is_empty()
    }

    pub fn is_idle(&self) -> bool {
        !self.asked || (self.in_flight.is_empty() && self.blocked.is_empty() && !self.has_work())
    }

    /// Delta: when more may be sent although the newest response has no answer.
    pub fn overdue_at(&self) -> Option<Instant> {
        let newest = self.in_flight.back()?;
        (self.has_work() && self.in_flight.len() < MAX_OUTSTANDING).then(|| newest.sent_at + ACK_TIMEOUT)
    }

    /// Whether a delta response may leave: none is outstanding, or its answer is overdue (W8).
    pub fn may_send_delta(&self, now: Instant) -> bool {
        self.in_flight.is_empty() || self.overdue_at().is_some_and(|at| at <= now)
    }
}
