//! All resources that the proxy knows, and the runtime that they make.
//!
//! ```text
//!   apply ──> warming ──promote (endpoints, routes, secrets are there)──> active ──build──> Runtime
//! ```
//!
//! A changed listener or cluster warms beside the one in use and takes its place when everything that it names has
//! arrived. What is refused leaves the one in use as it is. No I/O and no clock: the caller passes the time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use weft_api::ResourceKind;

use super::build::Builder;
use super::held::{ChildKey, Held, Incoming, Leaf, Now, Origin, Refusal, Refused, Slot, key_of, refused_of};
use crate::decode::{
    ClusterPlan, Decoded, EndpointsPlan, ListenerPlan, Reference, SecretPlan, Secrets, Source, decode,
};
use crate::dns::Question;
use crate::rejection::Rejection;
use crate::route::RouteConfig;
use crate::runtime::CertifiedIdentity;
use crate::stats::Registry;

/// See the module.
#[derive(Debug, Default)]
pub struct World {
    /// CDS.
    pub clusters: BTreeMap<Arc<str>, Slot<ClusterPlan>>,
    /// LDS.
    pub listeners: BTreeMap<Arc<str>, Slot<ListenerPlan>>,
    /// EDS.
    pub endpoints: HashMap<ChildKey, Leaf<Arc<EndpointsPlan>>>,
    /// RDS.
    pub routes: HashMap<ChildKey, Leaf<Arc<RouteConfig>>>,
    /// SDS.
    pub secrets: HashMap<ChildKey, Leaf<SecretPlan>>,
    /// Ids of statistics.
    pub registry: Registry,
    pub(super) usable: Arc<Secrets>,
    generations: HashMap<ChildKey, u64>,
    pub(super) resolved: HashMap<Question, Vec<SocketAddr>>,
    pub(super) builder: Builder,
}

impl World {
    /// Takes new and changed resources and forgets removed ones. The refused ones are answered by name; all
    /// others are applied. `Origin::Static` resources cannot be replaced by others.
    pub fn apply(
        &mut self,
        kind: ResourceKind,
        source: &Source,
        origin: Origin,
        added: Vec<Incoming>,
        now: Now,
    ) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let mut seen = HashSet::new();
        for incoming in added {
            let name = Arc::clone(&incoming.name);
            if !seen.insert(Arc::clone(&name)) {
                refusals
                    .push((name, Rejection::new("name", "is twice in the response; the first one counts")));
                continue;
            }
            if let Err(rejection) = self.take(kind, source, origin, incoming, now) {
                tracing::warn!(kind = kind.short(), name = &*name, %rejection, "resource refused");
                refusals.push((name, rejection));
            }
        }
        refusals
    }

    fn take(
        &mut self,
        kind: ResourceKind,
        source: &Source,
        origin: Origin,
        incoming: Incoming,
        now: Now,
    ) -> Result<(), Rejection> {
        if self.is_current(kind, source, &incoming) {
            return Ok(());
        }
        if origin == Origin::Dynamic && self.is_static(kind, &incoming.name) {
            return Err(Rejection::new("name", "belongs to a static resource, which cannot be replaced"));
        }
        let Incoming { name, version, body } = incoming;
        let decoded = decode(kind, &body, &mut self.registry);
        let key = (source.clone(), Arc::clone(&name));
        match decoded {
            Ok((decoded, notes)) => {
                let ignored = notes.fields().to_vec();
                let held = |()| Held { value: (), version, body, ignored, updated: now.wall, origin };
                self.keep(decoded, key, held(()), now);
                Ok(())
            }
            Err(rejection) => {
                let refused = Refused { version, body, rejection: rejection.clone(), at: now.wall };
                self.note_refusal(kind, key, refused);
                Err(rejection)
            }
        }
    }

    /// The same bytes again change nothing.
    fn is_current(&self, kind: ResourceKind, source: &Source, incoming: &Incoming) -> bool {
        fn slot<T>(slot: Option<&Slot<T>>, body: &Bytes) -> bool {
            let newest = slot.and_then(|slot| match &slot.warming {
                Some((warming, _)) => Some(&warming.body),
                None => slot.active.as_ref().map(|active| &active.body),
            });
            newest == Some(body)
        }
        fn leaf<T>(leaf: Option<&Leaf<T>>, body: &Bytes) -> bool {
            leaf.and_then(|leaf| leaf.held.as_ref()).is_some_and(|held| held.body == *body)
        }
        let key = (source.clone(), Arc::clone(&incoming.name));
        match kind {
            ResourceKind::Cluster => slot(self.clusters.get(&incoming.name), &incoming.body),
            ResourceKind::Listener => slot(self.listeners.get(&incoming.name), &incoming.body),
            ResourceKind::Endpoint => leaf(self.endpoints.get(&key), &incoming.body),
            ResourceKind::Route => leaf(self.routes.get(&key), &incoming.body),
            ResourceKind::Secret => leaf(self.secrets.get(&key), &incoming.body),
            ResourceKind::VirtualHost => false,
        }
    }

    pub(super) fn is_static(&self, kind: ResourceKind, name: &str) -> bool {
        fn slot<T>(slot: Option<&Slot<T>>) -> bool {
            slot.and_then(|slot| slot.active.as_ref().or(slot.warming.as_ref().map(|(held, _)| held)))
                .is_some_and(|held| held.origin == Origin::Static)
        }
        match kind {
            ResourceKind::Cluster => slot(self.clusters.get(name)),
            ResourceKind::Listener => slot(self.listeners.get(name)),
            ResourceKind::Endpoint
            | ResourceKind::Route
            | ResourceKind::Secret
            | ResourceKind::VirtualHost => false,
        }
    }

    fn keep(&mut self, decoded: Decoded, key: ChildKey, held: Held<()>, now: Now) {
        fn with<T>(held: Held<()>, value: T) -> Held<T> {
            let Held { value: (), version, body, ignored, updated, origin } = held;
            Held { value, version, body, ignored, updated, origin }
        }
        match decoded {
            Decoded::Cluster(plan) => {
                let slot = self.clusters.entry(key.1).or_default();
                slot.refused = None;
                slot.warming = Some((with(held, plan), now.instant));
            }
            Decoded::Listener(plan) => {
                let slot = self.listeners.entry(key.1).or_default();
                slot.refused = None;
                slot.warming = Some((with(held, plan), now.instant));
            }
            Decoded::Endpoints(plan) => {
                *self.endpoints.entry(key).or_default() =
                    Leaf { held: Some(with(held, plan)), refused: None };
            }
            Decoded::Route(config) => {
                *self.routes.entry(key).or_default() = Leaf { held: Some(with(held, config)), refused: None };
            }
            Decoded::Secret(plan) => {
                self.put_secret(key, with(held, plan));
            }
        }
    }

    fn note_refusal(&mut self, kind: ResourceKind, key: ChildKey, refused: Refused) {
        let refused = Some(refused);
        match kind {
            // A refused version also ends the warming of the one before it, which its source no longer has.
            ResourceKind::Cluster => {
                let slot = self.clusters.entry(key.1).or_default();
                (slot.refused, slot.warming) = (refused, None);
            }
            ResourceKind::Listener => {
                let slot = self.listeners.entry(key.1).or_default();
                (slot.refused, slot.warming) = (refused, None);
            }
            ResourceKind::Endpoint => self.endpoints.entry(key).or_default().refused = refused,
            ResourceKind::Route => self.routes.entry(key).or_default().refused = refused,
            ResourceKind::Secret => self.secrets.entry(key).or_default().refused = refused,
            ResourceKind::VirtualHost => {}
        }
    }

    /// Forgets resources. Secrets stay: one that is in use must not be taken away.
    pub fn remove(&mut self, kind: ResourceKind, source: &Source, names: &[Arc<str>]) {
        for name in names {
            let key = (source.clone(), Arc::clone(name));
            match kind {
                ResourceKind::Cluster if !self.is_static(kind, name) => drop(self.clusters.remove(name)),
                ResourceKind::Listener if !self.is_static(kind, name) => drop(self.listeners.remove(name)),
                // What does not exist is known to be empty, so that nobody need wait for it. Routes in use stay
                // until their listener goes, as in Envoy.
                ResourceKind::Endpoint => self.endpoints.entry(key).or_default().held = None,
                ResourceKind::Route => drop(self.routes.entry(key).or_default()),
                ResourceKind::Cluster
                | ResourceKind::Listener
                | ResourceKind::Secret
                | ResourceKind::VirtualHost => {}
            }
        }
    }

    /// Gives the workload's own certificate, which never comes from outside.
    pub fn set_own_secret(&mut self, name: &str, plan: SecretPlan, now: Now) {
        let held = Held {
            value: plan,
            version: "local".into(),
            body: Bytes::new(),
            ignored: Vec::new(),
            updated: now.wall,
            origin: Origin::Static,
        };
        self.put_secret((Source::Ads, name.into()), held);
    }

    /// A stand-in for a secret that the control plane has not sent yet.
    pub fn set_fallback_secret(&mut self, name: &str, plan: SecretPlan, now: Now) {
        let key: ChildKey = (Source::Ads, name.into());
        let sent = self.secrets.get(&key).and_then(|leaf| leaf.held.as_ref());
        if sent.is_none_or(|held| held.body.is_empty()) {
            self.set_own_secret(name, plan, now);
        }
    }

    fn put_secret(&mut self, key: ChildKey, held: Held<SecretPlan>) {
        *self.generations.entry(key.clone()).or_default() += 1;
        self.secrets.insert(key, Leaf { held: Some(held), refused: None });
        let ready = |(key, leaf): (&ChildKey, &Leaf<SecretPlan>)| {
            Some((key.clone(), leaf.held.as_ref()?.value.clone()))
        };
        self.usable = Arc::new(self.secrets.iter().filter_map(ready).collect());
    }

    /// The secrets of the moment.
    #[must_use]
    pub fn usable_secrets(&self) -> &Arc<Secrets> {
        &self.usable
    }

    /// Takes the addresses of a name.
    pub fn resolve(&mut self, question: Question, addresses: Vec<SocketAddr>) {
        self.resolved.insert(question, addresses);
    }

    /// The addresses of a name; `None` before the first answer.
    #[must_use]
    pub fn resolved(&self, question: &Question) -> Option<&[SocketAddr]> {
        self.resolved.get(question).map(Vec::as_slice)
    }

    /// Notes why a listener could not be bound; it stays configured, and binding is tried again.
    pub fn note_unbound(&mut self, name: &str, rejection: &Rejection, now: Now) {
        if let Some(slot) = self.listeners.get_mut(name)
            && let Some(active) = &slot.active
        {
            slot.refused = Some(refused_of(active, rejection, now));
        }
    }

    /// Grows with each change of a secret; 0 while it is missing.
    pub(super) fn secret_generation(&self, reference: &Reference) -> u64 {
        self.generations.get(&key_of(reference)).copied().unwrap_or(0)
    }

    /// The certificate that the workload serves with, if it has one.
    #[must_use]
    pub fn own_certificate(&self) -> Option<&CertifiedIdentity> {
        match self.usable.get(&(Source::Ads, weft_api::names::IDENTITY_SECRET.into()))? {
            SecretPlan::Identity(identity) => Some(identity),
            SecretPlan::Trust(_) => None,
        }
    }
}
