//! Requests: what they subscribe to, what they bring along, what they answer. Always in that order (S7).

use std::sync::Arc;
use std::time::Instant;

use weft_api::resource::{ResourceKind, Version};

use super::lane::Known;
use super::subscription::WILDCARD;
use super::{EmptyFirst, Event, Request, Scope, Session, Variant};
use crate::wire;

/// Why a request ends its stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// S3
    #[error("a request on the aggregated stream has no type_url; set it on every message")]
    NoTypeUrl,
    /// A single-type service was asked for another type.
    #[error("this stream serves {} only and was asked for {asked:?}; use the aggregated stream or that type's service", served.type_url())]
    WrongType {
        /// What the service serves.
        served: ResourceKind,
        /// What was asked.
        asked: String,
    },
    /// Secrets are given by name, to those entitled to that name.
    #[error("secrets can not be asked for by wildcard; ask for them by name")]
    WildcardSecrets,
    /// A message of the other protocol.
    #[error("a message of the other protocol variant arrived on this stream")]
    WrongVariant,
}

/// Nonce, and the client's words if it refuses.
struct Answer {
    nonce: String,
    refusal: Option<String>,
}

impl Session {
    /// Takes a message from the client.
    ///
    /// # Errors
    /// When the stream has to end; the text is for the client.
    pub fn on_request(&mut self, now: Instant, request: Request) -> Result<(), RequestError> {
        let _ = now;
        match (self.variant, request) {
            (Variant::Delta, Request::Delta(request)) => self.on_delta(request),
            (Variant::Sotw, Request::Sotw(request)) => self.on_sotw(request),
            (Variant::Delta, Request::Sotw(_)) | (Variant::Sotw, Request::Delta(_)) => {
                Err(RequestError::WrongVariant)
            }
        }
    }

    fn kind_of(&mut self, type_url: &str) -> Result<Option<ResourceKind>, RequestError> {
        match self.scope {
            Scope::Only(served) if type_url.is_empty() || type_url == served.type_url() => Ok(Some(served)),
            Scope::Only(served) => Err(RequestError::WrongType { served, asked: type_url.to_owned() }),
            Scope::Aggregated if type_url.is_empty() => Err(RequestError::NoTypeUrl),
            Scope::Aggregated => {
                let kind = wire::kind_of(type_url);
                if kind.is_none() {
                    self.events.push_back(Event::UnknownType { type_url: type_url.to_owned() });
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
            ResourceKind::Endpoint | ResourceKind::Route | ResourceKind::Secret => false,
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
        let first = !std::mem::replace(&mut self.lane_mut(kind).asked, true);
        if first && subscribe.is_empty() && self.empty_means_all(kind) {
            self.lane_mut(kind).subscription.begin_legacy_wildcard();
            self.begin_wildcard(kind);
        }
        for name in &subscribe {
            self.subscribe(kind, name);
        }
        for name in &unsubscribe {
            self.unsubscribe(kind, name);
        }
        if first {
            self.bring(kind, request.initial_resource_versions);
        }
        let refusal = request.error_detail.map(|detail| detail.message);
        self.on_answer(kind, &Answer { nonce: request.response_nonce, refusal });
        Ok(())
    }

    fn subscribe(&mut self, kind: ResourceKind, name: &str) {
        let lane = self.lane_mut(kind);
        if lane.subscription.add(name) {
            return self.begin_wildcard(kind);
        }
        if name == WILDCARD || name.is_empty() {
            return;
        }
        let name: Arc<str> = name.into();
        if let Some(held) = lane.held.get_mut(&name) {
            held.mark_unsent();
        }
        lane.owe(&name);
    }

    fn begin_wildcard(&mut self, kind: ResourceKind) {
        let lane = self.lane_mut(kind);
        lane.rescan = true;
        lane.must_answer = true;
    }

    fn unsubscribe(&mut self, kind: ResourceKind, name: &str) {
        let lane = self.lane_mut(kind);
        let was_there = lane.subscription.take(name);
        if name == WILDCARD {
            if was_there {
                self.end_wildcard(kind);
            }
        } else if lane.subscription.wildcard {
            // U4: the client dropped it and must be told whether the wildcard still covers it.
            let name: Arc<str> = name.into();
            lane.held.entry(name.clone()).or_default().mark_unsent();
            lane.owe(&name);
        } else if was_there {
            let children = lane.forget(name);
            self.release(children);
        }
    }

    fn end_wildcard(&mut self, kind: ResourceKind) {
        let lane = self.lane_mut(kind);
        lane.must_answer = false;
        let gone: Vec<Arc<str>> = lane
            .held
            .keys()
            .chain(&lane.blocked)
            .filter(|name| !lane.subscription.covers(name))
            .cloned()
            .collect();
        for name in gone {
            let children = self.lane_mut(kind).forget(&name);
            self.release(children);
        }
    }

    /// R1: what the client holds since an earlier stream. Secrets are sent on every stream all the same.
    fn bring(&mut self, kind: ResourceKind, versions: impl IntoIterator<Item = (String, String)>) {
        if kind == ResourceKind::Secret {
            return;
        }
        let lane = self.lane_mut(kind);
        for (name, version) in versions {
            let name: Arc<str> = name.into();
            if !lane.subscription.covers(&name) {
                continue;
            }
            let held = lane.held.entry(name.clone()).or_default();
            held.brought = true;
            held.known = Version::parse(&version).map_or(Known::Something, Known::Exactly);
            lane.dirty.insert(name);
            lane.must_answer = false;
        }
    }

    fn on_sotw(&mut self, request: wire::DiscoveryRequest) -> Result<(), RequestError> {
        let Some(kind) = self.kind_of(&request.type_url)? else { return Ok(()) };
        let mut names = request.resource_names;
        names.extend(request.resource_locators.into_iter().map(|locator| locator.name));
        if kind == ResourceKind::Secret && names.iter().any(|name| name == WILDCARD) {
            return Err(RequestError::WildcardSecrets);
        }
        let empty_means_all = self.empty_means_all(kind);
        let lane = self.lane_mut(kind);
        let first = !std::mem::replace(&mut lane.asked, true);
        let difference = lane.subscription.replace(&names, empty_means_all);
        if difference.wildcard_began {
            self.begin_wildcard(kind);
        }
        if first && !request.version_info.is_empty() {
            self.lane_mut(kind).resume = Some(request.version_info);
        }
        for name in &difference.added {
            let lane = self.lane_mut(kind);
            if let Some(held) = lane.held.get_mut(name) {
                held.mark_unsent();
            }
            lane.owe(name);
        }
        if difference.wildcard_ended {
            self.end_wildcard(kind);
        }
        for name in &difference.dropped {
            if !self.lane(kind).subscription.wildcard {
                let children = self.lane_mut(kind).forget(name);
                self.release(children);
            }
        }
        let refusal = request.error_detail.map(|detail| detail.message);
        self.on_answer(kind, &Answer { nonce: request.response_nonce, refusal });
        Ok(())
    }

    /// S4, S5, S6: a nonce that is not outstanding on this stream answers nothing.
    fn on_answer(&mut self, kind: ResourceKind, answer: &Answer) {
        let Ok(nonce) = answer.nonce.parse::<u64>() else { return };
        let lane = self.lane_mut(kind);
        let Some(position) = lane.in_flight.iter().position(|sent| sent.nonce == nonce) else { return };
        let Some(answered) = lane.in_flight.remove(position) else { return };
        match &answer.refusal {
            None => self.on_ack(kind, answered),
            Some(message) => self.on_nack(kind, answered, message),
        }
        self.unblock();
    }
}
