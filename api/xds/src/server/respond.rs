//! Responses: filled from what is dirty, split by size (M1), recorded as in flight.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use weft_api::resource::{Resource, ResourceKind, Version};

use super::decide::Decision;
use super::event::SessionEvent;
use super::limits::MAX_RESPONSE;
use super::session::Session;
use super::watched_type::{ClientVersion, InFlightResource, InFlightResponse};
use crate::access_logs::without_services;
use crate::source::GrpcSource;
use crate::wire;

/// What one response will carry. Names are unique, and none is both sent and removed (U17): it is filled from a set.
#[derive(Debug, Default)]
pub(super) struct ResponseContents {
    pub resources: Vec<Arc<Resource>>,
    pub removed: Vec<Arc<str>>,
    pub bytes: usize,
}

impl ResponseContents {
    fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.removed.is_empty()
    }

    fn has_room(&self, cost: usize) -> bool {
        self.is_empty() || self.bytes + cost <= MAX_RESPONSE
    }
}

/// U14: SotW types whose responses carry everything subscribed, and that delete by absence (U11).
pub(super) fn is_full_state(kind: ResourceKind) -> bool {
    match kind {
        ResourceKind::Listener | ResourceKind::Cluster => true,
        ResourceKind::Route
        | ResourceKind::VirtualHost
        | ResourceKind::Endpoint
        | ResourceKind::Secret
        | ResourceKind::Runtime => false,
    }
}

impl Session {
    pub(super) fn poll_delta(
        &mut self,
        kind: ResourceKind,
        now: Instant,
    ) -> Option<wire::DeltaDiscoveryResponse> {
        let state = self.state(kind);
        if !state.asked || !state.has_work() || !state.may_send_delta(now) {
            return None;
        }
        self.rescan(kind);
        let batch = self.next_batch(kind, now, MAX_RESPONSE);
        let state = self.state(kind);
        if batch.is_empty() && !(state.must_answer && state.blocked.is_empty()) {
            return None;
        }
        self.note_overdue(kind);
        let resources = batch.resources.iter().map(|resource| wire::DeltaResource {
            name: resource.name.to_string(),
            aliases: Vec::new(),
            version: resource.version.to_string(),
            resource: Some(self.any(resource)),
        });
        let response = wire::DeltaDiscoveryResponse {
            system_version_info: self.view.as_ref().map_or(0, |view| view.revision).to_string(),
            resources: resources.collect(),
            type_url: kind.type_url().to_owned(),
            removed_resources: batch.removed.iter().map(ToString::to_string).collect(),
            nonce: self.next_nonce.to_string(),
        };
        self.record(kind, batch, now);
        Some(response)
    }

    pub(super) fn poll_sotw(&mut self, kind: ResourceKind, now: Instant) -> Option<wire::DiscoveryResponse> {
        let state = self.state(kind);
        if !state.asked || !state.has_work() || !state.in_flight.is_empty() {
            return None;
        }
        self.rescan(kind);
        let resources =
            if is_full_state(kind) { self.fill_full(kind, now)? } else { self.fill_changed(kind, now)? };
        Some(wire::DiscoveryResponse {
            version_info: version_of(kind, &resources).to_string(),
            resources: resources.iter().map(|resource| self.any(resource)).collect(),
            type_url: kind.type_url().to_owned(),
            nonce: (self.next_nonce - 1).to_string(),
        })
    }

    fn fill_full(&mut self, kind: ResourceKind, now: Instant) -> Option<Vec<Arc<Resource>>> {
        if self.resumes(kind) {
            return None;
        }
        if self.state(kind).base_unknown {
            return self.fill_complete_set(kind, now);
        }
        let mut batch = self.next_batch(kind, now, usize::MAX);
        let state = self.state(kind);
        if batch.is_empty() && !(state.must_answer && state.blocked.is_empty()) {
            return None;
        }
        // What the client runs stays in the set: also what it runs in place of a refused version, what waits,
        // and what is kept until nothing refers to it (W9).
        let kept = state.held.values().filter_map(|held| held.accepted.clone());
        let mut all: BTreeMap<Arc<str>, Arc<Resource>> = kept.map(|kept| (kept.name.clone(), kept)).collect();
        for name in &batch.removed {
            all.remove(name);
        }
        all.extend(batch.resources.iter().map(|sent| (sent.name.clone(), sent.clone())));
        let all: Vec<_> = all.into_values().collect();
        batch.bytes = all.iter().map(|resource| self.cost(resource)).sum();
        self.record(kind, batch, now);
        Some(all)
    }

    fn fill_changed(&mut self, kind: ResourceKind, now: Instant) -> Option<Vec<Arc<Resource>>> {
        loop {
            let mut batch = self.next_batch(kind, now, MAX_RESPONSE);
            let state = self.state_mut(kind);
            state.must_answer = false;
            if batch.is_empty() {
                return None;
            }
            // No wire signal says that one of these is gone; what comes after them is not put off for that.
            for name in batch.removed.drain(..) {
                state.held.entry(name).or_default().known = ClientVersion::Absent;
            }
            if !batch.resources.is_empty() {
                let resources = batch.resources.clone();
                self.record(kind, batch, now);
                return Some(resources);
            }
        }
    }

    /// R1 for SotW: the client brought the version of exactly what it would be sent, or of that without what it refused
    /// on an earlier stream.
    fn resumes(&mut self, kind: ResourceKind) -> bool {
        let Some(version) = self.state_mut(kind).resume.take() else { return false };
        let Some(view) = &self.view else { return false };
        let mut all: Vec<_> = view.of_kind(kind).cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        if !self.state(kind).subscription.is_wildcard() {
            return false;
        }
        let is_its = |set: &[Arc<Resource>]| version_of(kind, set).to_string() == version;
        if !is_its(&all) {
            all.retain(|resource| !self.state(kind).refuses(resource));
            if !is_its(&all) {
                return false;
            }
        }
        let state = self.state_mut(kind);
        state.dirty.clear();
        state.unanswered.clear();
        state.must_answer = false;
        state.base_unknown = false;
        let names = all.iter().map(|resource| resource.name.clone()).collect();
        for resource in all {
            let held = state.held.entry(resource.name.clone()).or_default();
            held.known = ClientVersion::Exact(resource.version);
            held.accepted = Some(resource);
        }
        self.events.push_back(SessionEvent::Resumed { kind, names });
        true
    }

    /// Looks at the next names until the response is full. Parts of a refused response go first (S10).
    fn next_batch(&mut self, kind: ResourceKind, now: Instant, limit: usize) -> ResponseContents {
        while let Some(mut part) = self.state_mut(kind).retry_parts.pop_front() {
            let batch = self.gather(kind, &mut part, now, limit);
            if !part.is_empty() {
                self.state_mut(kind).retry_parts.push_front(part);
            }
            if !batch.is_empty() {
                return batch;
            }
        }
        let mut dirty = std::mem::take(&mut self.state_mut(kind).dirty);
        let batch = self.gather(kind, &mut dirty, now, limit);
        self.state_mut(kind).dirty.append(&mut dirty);
        batch
    }

    fn gather(
        &mut self,
        kind: ResourceKind,
        names: &mut BTreeSet<Arc<str>>,
        now: Instant,
        limit: usize,
    ) -> ResponseContents {
        let mut batch = ResponseContents::default();
        while let Some(name) = names.pop_first() {
            let cost = match self.decide(kind, &name, now) {
                Decision::Skip => 0,
                Decision::Wait => {
                    self.state_mut(kind).blocked.insert(name);
                    continue;
                }
                Decision::HoldBack => {
                    self.state_mut(kind).held_back.insert(name);
                    continue;
                }
                Decision::Remove => {
                    batch.removed.push(name.clone());
                    name.len() + 8
                }
                Decision::Send(resource) => {
                    let cost = self.cost(&resource);
                    if limit == MAX_RESPONSE && !batch.has_room(cost) {
                        names.insert(name);
                        break;
                    }
                    batch.resources.push(resource);
                    cost
                }
            };
            batch.bytes += cost;
            self.state_mut(kind).unanswered.remove(&name);
        }
        batch
    }

    /// The resource as this client needs it.
    fn any(&self, resource: &Resource) -> wire::Any {
        let any = wire::any(resource);
        let value = self.source.as_ref().map_or(any.value, |source| source.applied(resource));
        let value = if self.without_log_services { without_services(resource, value) } else { value };
        wire::Any { value, ..any }
    }

    /// Bytes that a resource takes in a response at most.
    pub(super) fn cost(&self, resource: &Resource) -> usize {
        let grown = |source: &GrpcSource| source.applied(resource).len().saturating_sub(resource.body.len());
        wire::cost(resource) + self.source.as_ref().map_or(0, grown)
    }

    /// Notes what leaves, and that its children have to follow.
    pub(super) fn record(&mut self, kind: ResourceKind, batch: ResponseContents, now: Instant) {
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        self.synced = None;
        self.events.push_back(SessionEvent::Sent {
            kind,
            resources: batch.resources.len(),
            removed: batch.removed.len(),
            bytes: batch.bytes,
        });
        for resource in &batch.resources {
            self.expect_children(resource);
        }
        let added = batch.resources.into_iter().map(|resource| (resource.name.clone(), Some(resource)));
        let items: Vec<_> = added.chain(batch.removed.into_iter().map(|name| (name, None))).collect();
        let state = self.state_mut(kind);
        state.must_answer = false;
        state.sent += 1;
        for (name, resource) in &items {
            if resource.is_some() {
                state.rejected.remove(name);
            }
            state.held.entry(name.clone()).or_default().in_flight =
                Some(InFlightResource { nonce, resource: resource.clone() });
        }
        state.in_flight.push_back(InFlightResponse { nonce, sent_at: now, overdue: false, items });
    }

    /// W1, W2, W3: a parent that is sent makes the client drop its children, or want them for the first time: they
    /// are sent again if it asked for them, also those in flight. Virtual hosts go with their route configuration.
    fn expect_children(&mut self, parent: &Resource) {
        for child in &parent.refs {
            let state = self.state_mut(child.kind);
            if child.kind == ResourceKind::Cluster || !state.asked || !state.subscription.covers(&child.name)
            {
                continue;
            }
            if let Some(held) = state.held.get_mut(&child.name) {
                held.mark_unsent();
            }
            state.must_answer_name(&child.name);
        }
        if parent.kind == ResourceKind::Route {
            let prefix: Arc<str> = format!("{}/", parent.name).into();
            let state = self.state_mut(ResourceKind::VirtualHost);
            for (name, held) in
                state.held.range_mut(prefix.clone()..).take_while(|(name, _)| name.starts_with(&*prefix))
            {
                held.mark_unsent();
                state.dirty.insert(name.clone());
            }
        }
    }

    fn note_overdue(&mut self, kind: ResourceKind) {
        if let Some(newest) = self.types[kind.index()].in_flight.back_mut()
            && !std::mem::replace(&mut newest.overdue, true)
        {
            self.events.push_back(SessionEvent::AckOverdue { kind });
        }
    }

    /// Makes every name dirty that the client asked for or has.
    fn rescan(&mut self, kind: ResourceKind) {
        let state = &mut self.types[kind.index()];
        if !std::mem::take(&mut state.rescan) {
            return;
        }
        if state.subscription.is_wildcard()
            && let Some(view) = &self.view
        {
            state.dirty.extend(view.of_kind(kind).map(|resource| resource.name.clone()));
        }
        state.dirty.extend(state.subscription.names().iter().cloned());
        state.dirty.extend(state.held.keys().cloned());
    }
}

/// S12: the version of a set is a hash of its contents, equal on every replica.
pub(super) fn version_of(kind: ResourceKind, resources: &[Arc<Resource>]) -> Version {
    let mut contents = Vec::with_capacity(resources.len() * 32);
    for resource in resources {
        contents.extend_from_slice(resource.name.as_bytes());
        contents.push(0);
        contents.extend_from_slice(&resource.version.as_u64().to_be_bytes());
    }
    Version::of(kind, "", &contents)
}
