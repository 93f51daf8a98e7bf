//! The client's state of all types, over any number of streams.

use std::sync::Arc;

use weft_api::resource::ResourceKind;

use super::read;
use super::subscription_state::{Acknowledgement, SubscriptionState};
use super::update::{ResponseId, Update, Verdict};
use crate::server::{ClientMessage, ServerMessage, Variant};
use crate::wire;

/// The client's state over any number of streams.
#[derive(Debug)]
pub struct Session {
    variant: Variant,
    /// Sent with the first message of each stream (S1).
    node: wire::Node,
    /// Subscription and accepted versions of each type, by [`ResourceKind::index`].
    types: [SubscriptionState; ResourceKind::COUNT],
    /// How many streams have been opened; 0 before the first.
    stream: u64,
    /// The node was sent on this stream.
    said_node: bool,
}

impl Session {
    /// A client that wants nothing yet.
    #[must_use]
    pub fn new(variant: Variant, node: wire::Node) -> Self {
        let types = ResourceKind::ALL.map(|_| SubscriptionState::default());
        Self { variant, node, types, stream: 0, said_node: false }
    }

    /// Wants everything of a type.
    pub fn subscribe_all(&mut self, kind: ResourceKind) {
        self.state_mut(kind).want_all();
    }

    /// No longer wants everything of a type, and holds of it what was subscribed by name.
    pub fn unsubscribe_all(&mut self, kind: ResourceKind) {
        self.state_mut(kind).drop_all();
    }

    /// Wants a name; of a name already held it asks for another copy.
    pub fn subscribe(&mut self, kind: ResourceKind, name: &str) {
        self.state_mut(kind).want(name);
    }

    /// No longer wants a name.
    pub fn unsubscribe(&mut self, kind: ResourceKind, name: &str) {
        self.state_mut(kind).drop_name(name);
    }

    /// Whether there is any reason to have a stream.
    #[must_use]
    pub fn wants_anything(&self) -> bool {
        self.types.iter().any(SubscriptionState::is_wanted)
    }

    /// A new stream begins; what was not answered on the old one is forgotten there.
    pub fn on_connect(&mut self) {
        self.stream += 1;
        self.said_node = false;
        for state in &mut self.types {
            state.begin_stream();
        }
    }

    /// The next message to send, if there is one. Subscription changes and an answer share a message (S7).
    pub fn next_request(&mut self) -> Option<ClientMessage> {
        if self.stream == 0 {
            return None;
        }
        let variant = self.variant;
        let said_node = self.said_node;
        let node = || (!said_node).then(|| self.node.clone());
        let request = self.types.iter_mut().zip(ResourceKind::ALL).find_map(|(state, kind)| match variant {
            Variant::Delta => state.next_delta(kind, node).map(ClientMessage::Delta),
            Variant::Sotw => state.next_sotw(kind, node).map(ClientMessage::Sotw),
        });
        self.said_node |= request.is_some();
        request
    }

    /// Takes a message from the server. `None` where nothing is to be applied: an unknown type, or a response
    /// that breaks the protocol and is refused here.
    pub fn on_response(&mut self, response: ServerMessage) -> Option<Update> {
        let (type_url, nonce) = match &response {
            ServerMessage::Sotw(response) => (&response.type_url, response.nonce.clone()),
            ServerMessage::Delta(response) => (&response.type_url, response.nonce.clone()),
        };
        let kind = wire::kind_of(type_url)?;
        let state = &mut self.types[kind.index()];
        let read = match response {
            ServerMessage::Sotw(response) => read::sotw(kind, response, state),
            ServerMessage::Delta(response) => read::delta(kind, response, state),
        };
        let response_id = ResponseId { stream: self.stream, nonce };
        match read {
            Ok(read) => {
                let update = Update { kind, added: read.added, removed: read.removed, response_id };
                state.expect_answer(&update, read.version_info);
                Some(update)
            }
            Err(violation) => {
                state.last_nack = Some(violation.to_string());
                state.answers.push_back(Acknowledgement {
                    nonce: response_id.nonce,
                    refusal: Some(violation.to_string()),
                });
                None
            }
        }
    }

    /// Answers an update. An update of an earlier stream counts as held all the same, and is not answered there.
    pub fn answer(&mut self, kind: ResourceKind, response_id: &ResponseId, verdict: Verdict) {
        let current = self.stream == response_id.stream;
        self.state_mut(kind).answer(response_id, verdict, current);
    }

    /// What is held of a type: names and versions.
    pub fn held(&self, kind: ResourceKind) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.types[kind.index()].held.iter()
    }

    /// The words of the last refusal of a type, until something of it is accepted.
    #[must_use]
    pub fn last_nack(&self, kind: ResourceKind) -> Option<&str> {
        self.types[kind.index()].last_nack.as_deref()
    }

    /// Brings versions along from a snapshot on disk, so that a restart asks for the difference only.
    pub fn restore(&mut self, kind: ResourceKind, held: impl IntoIterator<Item = (Arc<str>, Arc<str>)>) {
        self.state_mut(kind).held.extend(held);
    }

    fn state_mut(&mut self, kind: ResourceKind) -> &mut SubscriptionState {
        &mut self.types[kind.index()]
    }
}
