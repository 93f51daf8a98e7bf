//! The state of one stream, and the order in which it is asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use weft_api::resource::ResourceKind;

use super::event::{Rejected, SessionEvent};
use super::gate::Gate;
use super::message::{EmptyFirst, ServedTypes, ServerMessage, Variant};
use super::watched_type::WatchedType;
use crate::interest::Interest;
use crate::source::{ApiType, ControlPlaneCluster, GrpcSource};
use crate::view::{Changes, View};

/// The server's state of one discovery stream.
#[derive(Debug)]
pub struct Session {
    pub(super) variant: Variant,
    /// The types that the stream serves.
    pub(super) served: ServedTypes,
    /// What an empty first request means for this client.
    pub(super) empty_first: EmptyFirst,
    /// What leaves names this source of its children, and not the aggregated stream.
    pub(super) source: Option<GrpcSource>,
    /// What leaves has no access logs that go to an access log service.
    pub(super) without_log_services: bool,
    /// The newest view; none before the first, and nothing is answered until then (S14).
    pub(super) view: Option<View>,
    /// Subscription and resources of each type, by [`ResourceKind::index`].
    pub(super) types: [WatchedType; ResourceKind::COUNT],
    /// The clusters that listeners or routes wait for, by name (W5).
    pub(super) gates: BTreeMap<Arc<str>, Gate>,
    /// Reported, and not yet taken by [`Self::next_event`].
    pub(super) events: VecDeque<SessionEvent>,
    /// Nonces are numbers, from 1, over all types of the stream.
    pub(super) next_nonce: u64,
    /// The revision for which [`SessionEvent::Synced`] was reported last, unless something was sent since.
    pub(super) synced: Option<u64>,
}

impl Session {
    /// A stream on which nothing was said yet. It answers nothing until it has a view (S14).
    #[must_use]
    pub fn new(variant: Variant, served: ServedTypes) -> Self {
        Self {
            variant,
            served,
            empty_first: EmptyFirst::Wildcard,
            source: None,
            without_log_services: false,
            view: None,
            types: ResourceKind::ALL.map(|_| WatchedType::default()),
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

    /// Says that the client knows no access log service, and would refuse what names one.
    #[must_use]
    pub fn without_access_log_services(mut self) -> Self {
        self.without_log_services = true;
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
        Interest::Subscribed(Box::new(self.types.each_ref().map(|state| state.subscription.interest())))
    }

    /// The next response to send at `now`, if there is one. Call until it returns `None`, and again after each
    /// request, update, and [`Self::next_deadline`].
    pub fn poll(&mut self, now: Instant) -> Option<ServerMessage> {
        self.view.as_ref()?;
        self.open_gates(now);
        for kind in ResourceKind::ALL {
            let response = match self.variant {
                Variant::Delta => self.poll_delta(kind, now).map(ServerMessage::Delta),
                Variant::Sotw => self.poll_sotw(kind, now).map(ServerMessage::Sotw),
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
    pub fn next_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// Remembers a refusal from an earlier stream of the same client, so that the same bytes are not tried again
    /// after each reconnect (S9).
    pub fn remember_rejection(&mut self, kind: ResourceKind, rejected: Rejected) {
        self.types[kind.index()].rejected.insert(rejected.name.clone(), rejected);
    }

    pub(super) fn state(&self, kind: ResourceKind) -> &WatchedType {
        &self.types[kind.index()]
    }

    pub(super) fn state_mut(&mut self, kind: ResourceKind) -> &mut WatchedType {
        &mut self.types[kind.index()]
    }

    /// What waited for a reference is looked at again.
    pub(super) fn unblock(&mut self) {
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
            || !self.types.iter().all(WatchedType::is_idle)
        {
            return;
        }
        self.synced = Some(revision);
        let rejected = self.types.iter().map(|state| state.rejected.len()).sum();
        self.events.push_back(SessionEvent::Synced { revision, rejected });
    }
}
