//! Requests: what they subscribe to, what they bring along, what they answer. Always in that order (S7).

use std::sync::Arc;

use weft_api::resource::{ResourceKind, Version};

use super::event::SessionEvent;
use super::limits::MAX_NAMES;
use super::message::{ClientMessage, EmptyFirst, ServedTypes, Variant};
use super::session::Session;
use super::subscription::{self, TooManyNames, WILDCARD};
use super::watched_type::ClientVersion;
use crate::sanitize::{self, MAX_REFUSAL};
use crate::wire;

/// Why a request ends its stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A request on the aggregated stream does not say which type it is about (S3).
    #[error("a request on the aggregated stream has no type_url; set it on every message")]
    NoTypeUrl,
    /// A single-type service was asked for another type.
    #[error("this stream serves {} only and was asked for {asked:?}; use the aggregated stream or that type's service", served.type_url())]
    WrongType {
        /// What the service serves.
        served: ResourceKind,
        /// The type URL of the request, cut to a label.
        asked: String,
    },
    /// Secrets are given by name, to those entitled to that name.
    #[error("secrets can not be asked for by wildcard; ask for them by name")]
    WildcardSecrets,
    /// The subscription exceeds the bound on names of one type on one stream (D8).
    #[error(
        "the stream asks for more than {MAX_NAMES} names of {} (one longer than 128 bytes counts as several); subscribe to fewer, or to all by *",
        .0.type_url()
    )]
    TooManyNames(ResourceKind),
    /// A message of the other protocol.
    #[error("a message of the other protocol variant arrived on this stream")]
    WrongVariant,
}

/// Nonce, and the client's words if it refuses.
struct ResponseAnswer {
    nonce: String,
    refusal: Option<Arc<str>>,
}

impl Session {
    /// Takes a message from the client.
    ///
    /// # Errors
    /// When the stream has to end; the text is for the client.
    pub fn on_request(&mut self, request: ClientMessage) -> Result<(), RequestError> {
        match (self.variant, request) {
            (Variant::Delta, ClientMessage::Delta(request)) => self.on_delta(request),
            (Variant::Sotw, ClientMessage::Sotw(request)) => self.on_sotw(request),
            (Variant::Delta, ClientMessage::Sotw(_)) | (Variant::Sotw, ClientMessage::Delta(_)) => {
                Err(RequestError::WrongVariant)
            }
        }
    }

    fn kind_of(&mut self, type_url: &str) -> Result<Option<ResourceKind>, RequestError> {
        match self.served {
            ServedTypes::Only(served) if type_url.is_empty() || type_url == served.type_url() => {
                Ok(Some(served))
            }
            ServedTypes::Only(served) => {
                Err(RequestError::WrongType { served, asked: sanitize::label(type_url) })
            }
            ServedTypes::Aggregated if type_url.is_empty() => Err(RequestError::NoTypeUrl),
            ServedTypes::Aggregated => {
                let kind = wire::kind_of(type_url);
                if kind.is_none() {
                    self.events.push_back(SessionEvent::UnknownType { type_url: sanitize::label(type_url) });
                }
                Ok(kind)
            }
        }
    }

    /// U1, U2: for which types an empty first request means everything.
    fn empty_means_all(&self, kind: ResourceKind) -> bool {
        match kind {
            ResourceKind::Listener | ResourceKind::Cluster | ResourceKind::VirtualHost => {
                self.empty_first == EmptyFirst::Wildcard
            }
            ResourceKind::Endpoint | ResourceKind::Route | ResourceKind::Secret | ResourceKind::Runtime => {
                false
            }
        }
    }

    fn on_delta(&mut self, request: wire::DeltaDiscoveryRequest) -> Result<(), RequestError> {
        let Some(kind) = self.kind_of(&request.type_url)? else { return Ok(()) };
        let located = request.resource_locators_subscribe.into_iter().map(|locator| locator.name);
        let subscribe: Vec<String> = request.resource_names_subscribe.into_iter().chain(located).collect();
        let located = request.resource_locators_unsubscribe.into_iter().map(|locator| locator.name);
        let unsubscribe: Vec<String> =
            request.resource_names_unsubscribe.into_iter().chain(located).collect();
        if kind == ResourceKind::Secret && subscribe.iter().any(|name| name == WILDCARD) {
            return Err(RequestError::WildcardSecrets);
        }
        let first = !std::mem::replace(&mut self.state_mut(kind).asked, true);
        if first && subscribe.is_empty() && self.empty_means_all(kind) {
            self.state_mut(kind).subscription.begin_legacy_wildcard();
            self.begin_wildcard(kind);
        }
        let full = |TooManyNames| RequestError::TooManyNames(kind);
        for name in &subscribe {
            self.subscribe(kind, name).map_err(full)?;
        }
        for name in &unsubscribe {
            self.unsubscribe(kind, name).map_err(full)?;
        }
        if first {
            self.take_initial_versions(kind, request.initial_resource_versions).map_err(full)?;
        }
        let refusal = refusal(request.error_detail);
        self.on_answer(kind, &ResponseAnswer { nonce: request.response_nonce, refusal });
        Ok(())
    }

    /// How much the names count that this client made the session remember, on all types.
    #[must_use]
    pub fn names(&self) -> usize {
        self.types.iter().map(super::watched_type::WatchedType::weight).sum()
    }

    fn subscribe(&mut self, kind: ResourceKind, name: &str) -> Result<(), TooManyNames> {
        let state = self.state_mut(kind);
        if state.subscription.add(name)? {
            self.begin_wildcard(kind);
            return Ok(());
        }
        if name == WILDCARD || name.is_empty() {
            return Ok(());
        }
        let name: Arc<str> = name.into();
        if let Some(held) = state.held.get_mut(&name) {
            held.mark_unsent();
        }
        state.must_answer_name(&name);
        Ok(())
    }

    fn begin_wildcard(&mut self, kind: ResourceKind) {
        let state = self.state_mut(kind);
        state.rescan = true;
        state.must_answer = true;
    }

    fn unsubscribe(&mut self, kind: ResourceKind, name: &str) -> Result<(), TooManyNames> {
        let state = self.state_mut(kind);
        let was_there = state.subscription.take(name);
        if name == WILDCARD {
            if was_there {
                self.end_wildcard(kind);
            }
        } else if state.subscription.is_wildcard() {
            // U4: the client dropped it and must be told whether the wildcard still covers it.
            if !state.held.contains_key(name) {
                state.add_unsubscribed(name)?;
            }
            let name: Arc<str> = name.into();
            state.held.entry(name.clone()).or_default().mark_unsent();
            state.must_answer_name(&name);
        } else if was_there {
            let children = state.forget(name);
            self.release(children);
        }
        Ok(())
    }

    fn end_wildcard(&mut self, kind: ResourceKind) {
        let state = self.state_mut(kind);
        state.must_answer = false;
        let gone: Vec<Arc<str>> = state
            .held
            .keys()
            .chain(&state.blocked)
            .chain(&state.held_back)
            .filter(|name| !state.subscription.covers(name))
            .cloned()
            .collect();
        for name in gone {
            let children = self.state_mut(kind).forget(&name);
            self.release(children);
        }
    }

    /// R1: what the client holds since an earlier stream. Secrets are sent on every stream all the same.
    fn take_initial_versions(
        &mut self,
        kind: ResourceKind,
        versions: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), TooManyNames> {
        if kind == ResourceKind::Secret {
            return Ok(());
        }
        let state = self.state_mut(kind);
        let mut resumed = Vec::new();
        for (name, version) in versions {
            let name: Arc<str> = name.into();
            if !state.subscription.covers(&name) {
                continue;
            }
            if !state.subscription.names().contains(&name) {
                state.add_unsubscribed(&name)?;
            }
            resumed.push(name.clone());
            let held = state.held.entry(name.clone()).or_default();
            held.resumed = true;
            held.known = Version::parse(&version).map_or(ClientVersion::Unconfirmed, ClientVersion::Exact);
            state.dirty.insert(name);
            state.must_answer = false;
        }
        if !resumed.is_empty() {
            self.events.push_back(SessionEvent::Resumed { kind, names: resumed });
        }
        Ok(())
    }

    fn on_sotw(&mut self, request: wire::DiscoveryRequest) -> Result<(), RequestError> {
        let Some(kind) = self.kind_of(&request.type_url)? else { return Ok(()) };
        let mut names = request.resource_names;
        names.extend(request.resource_locators.into_iter().map(|locator| locator.name));
        if kind == ResourceKind::Secret && names.iter().any(|name| name == WILDCARD) {
            return Err(RequestError::WildcardSecrets);
        }
        let empty_means_all = self.empty_means_all(kind);
        let state = self.state_mut(kind);
        let first = !std::mem::replace(&mut state.asked, true);
        let replaced = state.subscription.replace(&names, empty_means_all);
        let difference = replaced.map_err(|TooManyNames| RequestError::TooManyNames(kind))?;
        if difference.wildcard_began {
            self.begin_wildcard(kind);
        }
        if first && !request.version_info.is_empty() {
            let state = self.state_mut(kind);
            state.resume = Some(request.version_info);
            state.base_unknown = super::respond::is_full_state(kind);
        }
        let state = self.state_mut(kind);
        if state.is_set_blocked && difference != subscription::Difference::default() {
            // Another set, perhaps one without what was refused.
            state.rescan = true;
        }
        for name in &difference.added {
            let state = self.state_mut(kind);
            if let Some(held) = state.held.get_mut(name) {
                held.mark_unsent();
            }
            state.must_answer_name(name);
        }
        if difference.wildcard_ended {
            self.end_wildcard(kind);
        }
        for name in &difference.dropped {
            let state = self.state_mut(kind);
            if !state.subscription.is_wildcard() {
                let children = state.forget(name);
                self.release(children);
            } else if difference.wildcard_began
                && let Some(held) = state.held.get_mut(name)
            {
                // One who gives up a name and asks for everything at once may have dropped what it had, or run it on:
                // it is said again, and what was accepted of it is not forgotten.
                held.mark_unsent();
            }
        }
        let refusal = refusal(request.error_detail);
        self.on_answer(kind, &ResponseAnswer { nonce: request.response_nonce, refusal });
        Ok(())
    }

    /// S4, S5, S6: a nonce that is not outstanding on this stream answers nothing.
    fn on_answer(&mut self, kind: ResourceKind, answer: &ResponseAnswer) {
        let Ok(nonce) = answer.nonce.parse::<u64>() else { return };
        let state = self.state_mut(kind);
        let Some(position) = state.in_flight.iter().position(|sent| sent.nonce == nonce) else { return };
        let Some(answered) = state.in_flight.remove(position) else { return };
        match &answer.refusal {
            None => self.on_ack(kind, answered),
            Some(message) => self.on_nack(kind, answered, message),
        }
        let state = self.state_mut(kind);
        if state.unanswered.is_empty() && state.in_flight.is_empty() {
            state.unsubscribed_weight = 0;
        }
        self.unblock();
    }
}

/// The words of a NACK, cut before anything keeps or logs them.
fn refusal(detail: Option<wire::Status>) -> Option<Arc<str>> {
    detail.map(|detail| sanitize::text(&detail.message, MAX_REFUSAL).into())
}
