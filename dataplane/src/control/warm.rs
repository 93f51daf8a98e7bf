//! Warming: when a resource has everything that it names, and what has to be asked for until then.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weft_api::ResourceKind;

use super::held::{Leaf, Now, Origin, Refusal, Slot, Wanted, key_of, refused_of};
use super::world::World;
use crate::decode::{ClusterPlan, EndpointSource, EndpointsPlan, ListenerPlan, Reference};
use crate::rejection::Rejection;
use crate::runtime::Runtime;

/// What [`World::promote`] did.
#[derive(Debug, Default)]
pub struct Promoted {
    /// Something new is in use.
    pub changed: bool,
    /// What could not be prepared.
    pub refusals: Vec<Unusable>,
}

/// A resource that was accepted as it stands and cannot be prepared with its secrets.
#[derive(Debug, Clone)]
pub struct Unusable {
    /// Its type.
    pub kind: ResourceKind,
    /// Who configured it.
    pub origin: Origin,
    /// Its name, and why.
    pub refusal: Refusal,
}

impl World {
    /// The endpoints of a cluster, if they are known.
    #[must_use]
    pub fn endpoints_of(&self, plan: &ClusterPlan) -> Option<Arc<EndpointsPlan>> {
        match &plan.source {
            EndpointSource::Static(endpoints) => Some(Arc::clone(endpoints)),
            EndpointSource::Dns(dns) => Some(Arc::clone(&dns.endpoints)),
            EndpointSource::OnDemand(_) => Some(Arc::default()),
            EndpointSource::Eds(reference) => {
                let leaf = self.endpoints.get(&key_of(reference))?;
                Some(leaf.held.as_ref().map(|held| Arc::clone(&held.value)).unwrap_or_default())
            }
        }
    }

    fn missing_of_cluster<'a>(
        &'a self,
        plan: &'a ClusterPlan,
    ) -> impl Iterator<Item = Option<Duration>> + 'a {
        let endpoints = match &plan.source {
            EndpointSource::Eds(reference) => {
                let leaf = self.endpoints.get(&key_of(reference));
                // A refused assignment is no word yet on what the endpoints are.
                let known = leaf.is_some_and(|leaf| leaf.held.is_some() || leaf.refused.is_none());
                (!known).then_some(reference.patience)
            }
            EndpointSource::Dns(dns) if dns.questions().any(|q| !self.resolved.contains_key(&q)) => {
                Some(Some(Duration::from_secs(15)))
            }
            EndpointSource::Dns(_) | EndpointSource::Static(_) | EndpointSource::OnDemand(_) => None,
        };
        endpoints.into_iter().chain(self.missing_secrets(plan.secrets()))
    }

    fn missing_of_listener<'a>(
        &'a self,
        plan: &'a ListenerPlan,
    ) -> impl Iterator<Item = Option<Duration>> + 'a {
        let known = |leaf: &Leaf<_>| leaf.held.is_some() || leaf.refused.is_none();
        let routes = plan
            .routes
            .iter()
            .filter(move |reference| !self.routes.get(&key_of(reference)).is_some_and(known));
        routes.map(|reference| reference.patience).chain(self.missing_secrets(plan.secrets()))
    }

    fn missing_secrets<'a>(
        &'a self,
        references: impl Iterator<Item = &'a Reference> + 'a,
    ) -> impl Iterator<Item = Option<Duration>> + 'a {
        references
            .filter(|reference| !self.usable.contains_key(&key_of(reference)))
            .map(|reference| reference.patience)
    }

    /// Puts what is warm, or has waited long enough, into use. What cannot be prepared with its secrets is refused,
    /// and the version before it stays.
    pub fn promote(&mut self, now: Now) -> Promoted {
        let mut builder = std::mem::take(&mut self.builder);
        let mut promoted = Promoted::default();
        let mut ready = Vec::new();
        for (name, slot) in &self.clusters {
            let Some((held, since)) = &slot.warming else { continue };
            if !waits(self.missing_of_cluster(&held.value), *since, now.instant) {
                let checked = builder.check_cluster(&held.value, self);
                ready.push((ResourceKind::Cluster, held.origin, Arc::clone(name), checked));
            }
        }
        for (name, slot) in &self.listeners {
            let Some((held, since)) = &slot.warming else { continue };
            if !waits(self.missing_of_listener(&held.value), *since, now.instant) {
                let checked = builder.check_listener(&held.value, self);
                ready.push((ResourceKind::Listener, held.origin, Arc::clone(name), checked));
            }
        }
        self.builder = builder;
        for (kind, origin, name, checked) in ready {
            match kind {
                ResourceKind::Cluster => {
                    let slot = self.clusters.entry(Arc::clone(&name)).or_default();
                    settle(slot, checked.as_ref().err(), now);
                }
                _ => {
                    let slot = self.listeners.entry(Arc::clone(&name)).or_default();
                    settle(slot, checked.as_ref().err(), now);
                }
            }
            match checked {
                Ok(()) => promoted.changed = true,
                Err(rejection) => {
                    promoted.refusals.push(Unusable { kind, origin, refusal: (name, rejection) });
                }
            }
        }
        promoted
    }

    /// When the next warming resource loses its patience.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let clusters = self.clusters.values().filter_map(|slot| slot.warming.as_ref());
        let clusters =
            clusters.filter_map(|(held, since)| limit(self.missing_of_cluster(&held.value), *since));
        let listeners = self.listeners.values().filter_map(|slot| slot.warming.as_ref());
        let listeners =
            listeners.filter_map(|(held, since)| limit(self.missing_of_listener(&held.value), *since));
        clusters.chain(listeners).min()
    }

    /// Whether nothing is on its way any more.
    #[must_use]
    pub fn is_warm(&self) -> bool {
        self.clusters.values().all(|slot| slot.warming.is_none())
            && self.listeners.values().all(|slot| slot.warming.is_none())
    }

    /// Whether this version of a resource is no longer on its way: in use, refused, or replaced.
    #[must_use]
    pub fn is_settled(&self, kind: ResourceKind, name: &str, version: &str) -> bool {
        fn settled<T>(slot: Option<&Slot<T>>, version: &str) -> bool {
            let warming = slot.and_then(|slot| slot.warming.as_ref());
            warming.is_none_or(|(held, _)| *held.version != *version)
        }
        match kind {
            ResourceKind::Cluster => settled(self.clusters.get(name), version),
            ResourceKind::Listener => settled(self.listeners.get(name), version),
            ResourceKind::Endpoint
            | ResourceKind::Route
            | ResourceKind::Secret
            | ResourceKind::VirtualHost => true,
        }
    }

    /// What everything in use or on its way refers to; children that nobody refers to any more are dropped.
    pub fn wanted(&mut self) -> Wanted {
        let mut wanted = Wanted::default();
        for slot in self.clusters.values() {
            let plans = slot.active.iter().chain(slot.warming.as_ref().map(|(held, _)| held));
            for plan in plans.map(|held| &held.value) {
                match &plan.source {
                    EndpointSource::Eds(reference) => drop(wanted.endpoints.insert(key_of(reference))),
                    EndpointSource::Dns(dns) => wanted.questions.extend(dns.questions()),
                    EndpointSource::Static(_) | EndpointSource::OnDemand(_) => {}
                }
                wanted.secrets.extend(plan.secrets().map(key_of));
            }
        }
        for slot in self.listeners.values() {
            let plans = slot.active.iter().chain(slot.warming.as_ref().map(|(held, _)| held));
            for plan in plans.map(|held| &held.value) {
                wanted.routes.extend(plan.routes.iter().map(key_of));
                wanted.secrets.extend(plan.secrets().map(key_of));
            }
        }
        self.endpoints.retain(|key, _| wanted.endpoints.contains(key));
        self.routes.retain(|key, _| wanted.routes.contains(key));
        self.resolved.retain(|question, _| wanted.questions.contains(question));
        wanted
    }

    /// The runtime of everything in use. Objects that did not change are the same as in the runtime before.
    pub fn build(&mut self) -> Arc<Runtime> {
        let mut builder = std::mem::take(&mut self.builder);
        let runtime = builder.build(self);
        self.builder = builder;
        runtime
    }
}

/// Whether something is missing that is still worth waiting for.
fn waits(mut missing: impl Iterator<Item = Option<Duration>>, since: Instant, now: Instant) -> bool {
    missing.any(|patience| patience.is_none_or(|patience| now < since + patience))
}

/// When the waiting is over; `None` for never.
fn limit(mut missing: impl Iterator<Item = Option<Duration>>, since: Instant) -> Option<Instant> {
    missing.try_fold(since, |most, patience| Some(most.max(since + patience?)))
}

fn settle<T>(slot: &mut Slot<T>, refusal: Option<&Rejection>, now: Now) {
    let Some((held, _)) = slot.warming.take() else { return };
    match refusal {
        None => slot.active = Some(held),
        Some(rejection) => slot.refused = Some(refused_of(&held, rejection, now)),
    }
}
