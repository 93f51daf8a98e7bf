//! The server's side of one discovery stream, as a state machine.
//!
//! ```text
//!   on_request ──► TypeState (one a type): subscription, what the client holds, what is in flight
//!   on_update  ──►   │  dirty names
//!                    ▼
//!   poll ◄── decide: skip, send, remove, or wait for a reference ──► Event
//! ```
//!
//! It does no I/O and reads no clock. Contents are computed when a response leaves, from the view and the
//! subscription of that moment (U16). At most one response is outstanding for each type (S5), which is also what
//! merges a storm of changes. A view update with [`Changes::Keys`] costs those names and no more.
//!
//! Order: clusters and endpoints (and secrets) go out together, since Envoy acknowledges a cluster only when it is warm;
//! listeners and routes wait until the clusters that they name are accepted (W5), and a cluster stays until
//! nothing that the client has accepted names it (W6, W7, W9).
//!
//! Not here: who may see what (the view says that), sockets, timers, encoding.

mod ack;
mod complete_set;
mod decide;
mod gate;
mod request;
mod respond;
mod status;
mod subscription;
#[cfg(test)]
mod tests;
mod type_state;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_api::resource::{ResourceKind, Version};

use crate::interest::Interest;
use crate::source::{ApiType, ControlPlaneCluster, GrpcSource};
use crate::view::{Changes, View};
use crate::wire;
use gate::Gate;
pub use request::RequestError;
pub use status::{Rejected, StreamStatus, StreamTypeStatus};
use type_state::TypeState;

/// How long a listener or route waits for a cluster's ACK, and a type of a delta stream for any ACK (W8).
pub const ACK_TIMEOUT: Duration = Duration::from_secs(20);

/// Responses are split to stay below this (M1); clients stop reading at 4 MiB.
pub const MAX_RESPONSE: usize = 2 << 20;

/// Names of one type on one stream. A name of more than 128 bytes counts as several.
pub const MAX_NAMES: usize = 10_000;

/// Which of the two protocols a stream speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Variant {
    /// State of the world: requests carry the whole subscription.
    Sotw,
    /// Incremental: requests carry changes of the subscription.
    Delta,
}

/// Which types a stream serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// All types on one stream (ADS); only here can types be ordered.
    Aggregated,
    /// One type.
    Only(ResourceKind),
}

/// What an empty first request of a listener, cluster or virtual host subscription means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EmptyFirst {
    /// Everything (Envoy; U1).
    Wildcard,
    /// Nothing (gRPC; U2).
    Nothing,
}

/// A message from the client.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// On a state-of-the-world stream.
    Sotw(wire::DiscoveryRequest),
    /// On a delta stream.
    Delta(wire::DeltaDiscoveryRequest),
}

/// A message to the client.
#[derive(Clone, PartialEq, Debug)]
pub enum Response {
    /// On a state-of-the-world stream.
    Sotw(wire::DiscoveryResponse),
    /// On a delta stream.
    Delta(wire::DeltaDiscoveryResponse),
}

/// What happened on the stream, for status and metrics. Never carries a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A response left.
    Sent {
        /// Its type.
        kind: ResourceKind,
        /// Resources in it.
        resources: usize,
        /// Names removed by it.
        removed: usize,
        /// Its size in bytes, an upper bound within a few bytes a resource.
        bytes: usize,
    },
    /// The client accepted these; a removed name has no version.
    Acked {
        /// The type.
        kind: ResourceKind,
        /// Names, and the versions the client now runs.
        resources: Vec<(Arc<str>, Option<Version>)>,
    },
    /// The client has these since an earlier stream (R1), named one by one or by the version of the whole set.
    Resumed {
        /// The type.
        kind: ResourceKind,
        /// Their names.
        names: Vec<Arc<str>>,
    },
    /// The client refused a response (S11).
    Nacked {
        /// The type.
        kind: ResourceKind,
        /// What was new in the response.
        resources: Vec<(Arc<str>, Version)>,
        /// The client's words.
        message: Arc<str>,
        /// whether the resource stands alone and is quarantined, or the parts are still to be tried.
        blame: Blame,
    },
    /// The client refuses this resource, or this set, for certain: it is not sent again until it changes (S9).
    Quarantined {
        /// The type.
        kind: ResourceKind,
        /// What it refuses: to be remembered beyond the stream.
        rejected: Rejected,
    },
    /// A listener or route no longer waits for this cluster (W8).
    GateTimedOut {
        /// The cluster that was not accepted in time.
        cluster: Arc<str>,
    },
    /// A type of a delta stream no longer waits for an ACK before it sends more (W8).
    AckOverdue {
        /// The type.
        kind: ResourceKind,
    },
    /// The client has answered for everything at this revision.
    Synced {
        /// The view's revision.
        revision: u64,
        /// How many resources it refuses.
        rejected: usize,
    },
    /// A request for a type that Weft does not serve; the stream stays open (S3).
    UnknownType {
        /// Its type URL.
        type_url: String,
    },
}

/// How sure a NACK is about its culprit (S10).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    /// The resource was sent alone: it is bad, and will not be sent again until it changes.
    Certain,
    /// One or more of several. Smaller parts follow, or, where a part would delete the rest, the set is blocked.
    Shared,
}

/// One stream's state.
#[derive(Debug)]
pub struct Session {
    variant: Variant,
    scope: Scope,
    empty_first: EmptyFirst,
    /// What leaves names this source of its children, and not the aggregated stream.
    source: Option<GrpcSource>,
    view: Option<View>,
    types: [TypeState; 6],
    gates: BTreeMap<Arc<str>, Gate>,
    events: VecDeque<Event>,
    next_nonce: u64,
    synced: Option<u64>,
}

impl Session {
    /// A stream on which nothing was said yet. It answers nothing until it has a view (S14).
    #[must_use]
    pub fn new(variant: Variant, scope: Scope) -> Self {
        Self {
            variant,
            scope,
            empty_first: EmptyFirst::Wildcard,
            source: None,
            view: None,
            types: ResourceKind::ALL.map(|_| TypeState::default()),
            gates: BTreeMap::new(),
            events: VecDeque::new(),
            next_nonce: 1,
            synced: None,
        }
    }

    /// Says what an empty first request means for this client.
    #[must_use]
    pub fn with_empty_first(mut self, meaning: EmptyFirst) -> Self {
        self.empty_first = meaning;
        self
    }

    /// Says that the client has no aggregated stream with this control plane: endpoints, routes and secrets come from that
    /// cluster of its own, in the protocol of this stream.
    #[must_use]
    pub fn with_config_source(mut self, cluster: ControlPlaneCluster) -> Self {
        let api_type = match self.variant {
            Variant::Sotw => ApiType::Grpc,
            Variant::Delta => ApiType::DeltaGrpc,
        };
        self.source = Some(GrpcSource::new(api_type, cluster));
        self
    }

    /// Takes a new view. `changes` must name everything that differs from the view before.
    pub fn on_update(&mut self, view: View, changes: Changes) {
        let first = self.view.is_none();
        self.view = Some(view);
        match changes {
            Changes::Keys(keys) if !first => {
                for key in keys {
                    self.types[key.kind.index()].touch(&key.name);
                    if key.kind == ResourceKind::Cluster {
                        self.unblock();
                    }
                }
            }
            Changes::Keys(_) | Changes::All => {
                for state in &mut self.types {
                    state.rescan = true;
                }
                self.unblock();
            }
        }
    }

    /// What the client asked for. A change of anything else needs no [`Self::poll`], only that the newest view is given to
    /// [`Self::on_update`] before the first one after a request: a name that a request adds is looked at then.
    #[must_use]
    pub fn interest(&self) -> Interest {
        if self.view.is_none() {
            return Interest::Everything;
        }
        Interest::Subscribed(self.types.each_ref().map(|state| state.subscription.interest()))
    }

    /// The next response to send at `now`, if there is one. Call until it returns `None`, and again after each
    /// request, update, and [`Self::next_deadline`].
    pub fn poll(&mut self, now: Instant) -> Option<Response> {
        self.view.as_ref()?;
        self.open_gates(now);
        for kind in ResourceKind::ALL {
            let response = match self.variant {
                Variant::Delta => self.poll_delta(kind, now).map(Response::Delta),
                Variant::Sotw => self.poll_sotw(kind, now).map(Response::Sotw),
            };
            if response.is_some() {
                return response;
            }
        }
        self.note_synced();
        None
    }

    /// When to poll again although nothing arrived.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let gates = self.gates.values().filter_map(Gate::deadline);
        let overdue = self.types.iter().filter_map(|state| match self.variant {
            Variant::Delta => state.overdue_at(),
            Variant::Sotw => None,
        });
        gates.chain(overdue).min()
    }

    /// Takes the oldest event not taken yet.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Remembers a refusal from an earlier stream of the same client, so that the same bytes are not tried again
    /// after each reconnect (S9).
    pub fn remember_rejection(&mut self, kind: ResourceKind, rejected: Rejected) {
        self.types[kind.index()].rejected.insert(rejected.name.clone(), rejected);
    }

    fn state(&self, kind: ResourceKind) -> &TypeState {
        &self.types[kind.index()]
    }

    fn state_mut(&mut self, kind: ResourceKind) -> &mut TypeState {
        &mut self.types[kind.index()]
    }

    /// What waited for a reference is looked at again.
    fn unblock(&mut self) {
        for state in &mut self.types {
            state.dirty.append(&mut state.blocked);
            state.dirty.append(&mut state.held_back);
        }
    }

    fn note_synced(&mut self) {
        let Some(view) = &self.view else { return };
        let revision = view.revision;
        if self.synced == Some(revision)
            || !self.types.iter().any(|state| state.asked)
            || !self.types.iter().all(TypeState::is_idle)
        {
            return;
        }
        self.synced = Some(revision);
        let rejected = self.types.iter().map(|state| state.rejected.len()).sum();
        self.events.push_back(Event::Synced { revision, rejected });
    }
}
