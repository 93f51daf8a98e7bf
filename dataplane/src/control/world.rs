//! All resources that the proxy knows.
//!
//! ```text
//!   apply ──> warming ──promote (endpoints, routes, secrets are there)──> active ──RuntimeBuilder──> Runtime
//! ```
//!
//! A changed listener or cluster warms beside the one in use and takes its place when everything that it names has
//! arrived; so does a route configuration whose virtual hosts are resources of their own. What is refused leaves the one
//! in use as it is. Each change notes what it affects (`due`, `stale`, `dependencies`), so that the work that follows
//! need look at nothing else. No I/O and no clock: the caller passes the time.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use weft_api::ResourceKind;
use weft_routing::rejection::Rejection;

use super::deadlines::DeadlineQueue;
use super::dependencies::{Dependencies, Dependency, Dependent};
use super::resource::{Accepted, ChildKey, ConfigOrigin, Now, ReceivedResource, Refused, RefusedName};
use super::table::{Absent, ChildTable, Table, WarmingTable};
use super::virtual_hosts::VirtualHosts;
use crate::decode::{
    ClusterPlan, ConfigSource, DecodedResource, EndpointsPlan, KnownSecrets, ListenerPlan, ResourceReference,
    SecretPlan, decode,
};
use crate::dns::Lookup;
use crate::route::RouteConfig;
use crate::runtime::CertifiedIdentity;
use crate::stats::StatsRegistry;

/// All resources that the control thread knows, by type: warming, in use, and refused last.
#[derive(Debug)]
pub struct World {
    /// CDS.
    pub clusters: WarmingTable<ClusterPlan>,
    /// LDS.
    pub listeners: WarmingTable<ListenerPlan>,
    /// EDS.
    pub endpoints: ChildTable<Arc<EndpointsPlan>>,
    /// RDS.
    pub routes: ChildTable<Arc<RouteConfig>>,
    /// VHDS.
    pub virtual_hosts: VirtualHosts,
    /// SDS.
    pub secrets: ChildTable<SecretPlan>,
    /// RTDS, which is not asked for: holds what was refused.
    runtimes: ChildTable<()>,
    pub registry: StatsRegistry,
    /// The secrets in use, shared with connections that the control thread makes itself.
    pub(super) usable: Arc<KnownSecrets>,
    /// How often each secret has changed, so that a TLS context is built anew when one of its secrets did.
    generations: HashMap<ChildKey, u64>,
    /// The newest addresses of each DNS name that a cluster in use or on its way names.
    pub(super) resolved: HashMap<Lookup, Vec<SocketAddr>>,
    /// Which cluster or listener names which child resource, and what is subscribed to because of that.
    pub(super) dependencies: Dependencies,
    /// Warming resources that have to be looked at: they are new, or something that they name has come.
    pub(super) due: BTreeSet<Dependent>,
    /// All other warming resources: when they go on without what they lack.
    pub(super) warming_deadlines: DeadlineQueue<Dependent>,
    /// What the next build of the runtime has to make anew.
    pub(super) stale: StaleParts,
}

/// What the runtime has to be built anew of.
#[derive(Debug, Default)]
pub(super) struct StaleParts {
    pub(super) dependents: BTreeSet<Dependent>,
    pub(super) routes: HashSet<ChildKey>,
}

/// What has to be subscribed to since the last time, and what to be unsubscribed from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SubscriptionChanges {
    pub(super) begun: Vec<Dependency>,
    pub(super) ended: Vec<Dependency>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            clusters: WarmingTable::default(),
            listeners: WarmingTable::default(),
            endpoints: ChildTable::new(Absent::Empties),
            routes: ChildTable::new(Absent::KeepsServing),
            virtual_hosts: VirtualHosts::default(),
            secrets: ChildTable::new(Absent::IsNoWord),
            runtimes: ChildTable::new(Absent::Goes),
            registry: StatsRegistry::default(),
            usable: Arc::default(),
            generations: HashMap::new(),
            resolved: HashMap::new(),
            dependencies: Dependencies::default(),
            due: BTreeSet::new(),
            warming_deadlines: DeadlineQueue::default(),
            stale: StaleParts::default(),
        }
    }
}

impl World {
    /// The table of a type.
    pub(super) fn table(&self, kind: ResourceKind) -> &dyn Table {
        match kind {
            ResourceKind::Cluster => &self.clusters,
            ResourceKind::Listener => &self.listeners,
            ResourceKind::Endpoint => &self.endpoints,
            ResourceKind::Route => &self.routes,
            ResourceKind::Secret => &self.secrets,
            ResourceKind::VirtualHost => self.virtual_hosts.table(),
            ResourceKind::Runtime => &self.runtimes,
        }
    }

    fn table_mut(&mut self, kind: ResourceKind) -> &mut dyn Table {
        match kind {
            ResourceKind::Cluster => &mut self.clusters,
            ResourceKind::Listener => &mut self.listeners,
            ResourceKind::Endpoint => &mut self.endpoints,
            ResourceKind::Route => &mut self.routes,
            ResourceKind::Secret => &mut self.secrets,
            ResourceKind::VirtualHost => self.virtual_hosts.table_mut(),
            ResourceKind::Runtime => &mut self.runtimes,
        }
    }

    /// Notes whom a change of this resource affects.
    fn changed(&mut self, kind: ResourceKind, key: ChildKey) {
        match kind {
            ResourceKind::Cluster => self.dependent_changed(Dependent::Cluster(key.1)),
            ResourceKind::Listener => self.dependent_changed(Dependent::Listener(key.1)),
            ResourceKind::Endpoint => self.dependency_changed(Dependency::Endpoints(key)),
            ResourceKind::Secret => self.dependency_changed(Dependency::Secret(key)),
            ResourceKind::Route => self.route_came(key),
            // Who names the routes has nothing to do with it.
            ResourceKind::VirtualHost => {
                self.stale.routes.extend(self.virtual_hosts.routes_of(&key.1).cloned());
            }
            // None is ever accepted.
            ResourceKind::Runtime => {}
        }
    }

    /// A route configuration came, changed or went, or has what it waited for.
    pub(super) fn route_came(&mut self, key: ChildKey) {
        self.stale.routes.insert(key.clone());
        self.dependency_changed(Dependency::Route(key));
    }

    /// It is known now which virtual hosts there are.
    pub(super) fn virtual_hosts_answered(&mut self) {
        for key in self.virtual_hosts.answered() {
            self.route_came(key);
        }
    }

    /// What a cluster or listener names may have changed, and whether it warms.
    pub(super) fn dependent_changed(&mut self, dependent: Dependent) {
        let (dependencies, warms) = match &dependent {
            Dependent::Cluster(name) => {
                (self.clusters.dependencies(name), self.clusters.warming(name).is_some())
            }
            Dependent::Listener(name) => {
                (self.listeners.dependencies(name), self.listeners.warming(name).is_some())
            }
        };
        if let Dependent::Cluster(name) = &dependent {
            self.wake(&Dependency::Cluster(Arc::clone(name)));
        }
        self.dependencies.link(&dependent, dependencies);
        self.warming_deadlines.remove(&dependent);
        self.stale.dependents.insert(dependent.clone());
        if warms {
            self.due.insert(dependent);
        } else {
            self.due.remove(&dependent);
        }
    }

    /// Something that listeners name, and are not built of, came, changed or went.
    fn wake(&mut self, dependency: &Dependency) {
        for dependent in self.dependencies.dependents(dependency) {
            if self.warming_deadlines.remove(dependent) {
                self.due.insert(dependent.clone());
            }
        }
    }

    /// Something that is named came, changed or went.
    fn dependency_changed(&mut self, dependency: Dependency) {
        for dependent in self.dependencies.dependents(&dependency) {
            self.stale.dependents.insert(dependent.clone());
            if self.warming_deadlines.remove(dependent) {
                self.due.insert(dependent.clone());
            }
        }
        if !self.dependencies.is_named(&dependency) {
            self.dependencies.note(dependency);
        }
    }

    /// Whether something changed that the runtime has to be built anew for.
    pub(super) fn is_stale(&self) -> bool {
        !self.stale.dependents.is_empty() || !self.stale.routes.is_empty()
    }

    /// Takes new and changed resources. The refused ones are answered by name; all others are applied.
    /// `ConfigOrigin::Static` resources cannot be replaced by others.
    pub fn apply(
        &mut self,
        kind: ResourceKind,
        source: &ConfigSource,
        origin: ConfigOrigin,
        added: Vec<ReceivedResource>,
        now: Now,
    ) -> Vec<RefusedName> {
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
                tracing::warn!(
                    event = "resource_refused",
                    kind = kind.short(), name = &*name, %rejection,
                    "resource refused"
                );
                refusals.push((name, rejection));
            }
        }
        refusals
    }

    fn take(
        &mut self,
        kind: ResourceKind,
        source: &ConfigSource,
        origin: ConfigOrigin,
        incoming: ReceivedResource,
        now: Now,
    ) -> Result<(), Rejection> {
        let ReceivedResource { name, version, body } = incoming;
        let key = (source.clone(), name);
        // The same bytes again change nothing.
        if self.table(kind).is_current(&key, &body) {
            return Ok(());
        }
        if origin == ConfigOrigin::Dynamic && self.table(kind).is_static(&key.1) {
            return Err(Rejection::new("name", "belongs to a static resource, which cannot be replaced"));
        }
        if kind == ResourceKind::VirtualHost {
            VirtualHosts::check(&key)?;
        }
        match decode(kind, &body, &mut self.registry) {
            Ok((decoded, notes)) => {
                let ignored = notes.fields().to_vec();
                let accepted = Accepted { value: (), version, body, ignored, updated: now.wall, origin };
                self.keep(decoded, key.clone(), accepted, now);
                self.changed(kind, key);
                Ok(())
            }
            Err(rejection) => {
                let refused = Refused { version, body, rejection: rejection.clone(), at: now.wall };
                self.table_mut(kind).refuse(&key, refused);
                self.changed(kind, key);
                Err(rejection)
            }
        }
    }

    fn keep(&mut self, decoded: DecodedResource, key: ChildKey, accepted: Accepted<()>, now: Now) {
        match decoded {
            DecodedResource::Cluster(plan) => self.clusters.warm(key.1, accepted.with(plan), now.instant),
            DecodedResource::Listener(plan) => self.listeners.warm(key.1, accepted.with(plan), now.instant),
            DecodedResource::Endpoints(plan) => self.endpoints.put(key, accepted.with(plan)),
            DecodedResource::Route(config) => {
                self.virtual_hosts.follow(&key, config.vhds, now.instant);
                self.routes.put(key, accepted.with(config));
            }
            DecodedResource::VirtualHost(host) => self.virtual_hosts.put(key, accepted.with(host)),
            DecodedResource::Secret(plan) => self.put_secret(key, accepted.with(plan)),
        }
    }

    /// Forgets resources. Secrets stay: one that is in use must not be taken away.
    pub fn remove(&mut self, kind: ResourceKind, source: &ConfigSource, names: &[Arc<str>]) {
        for name in names {
            let key = (source.clone(), Arc::clone(name));
            self.table_mut(kind).remove(&key);
            self.changed(kind, key);
        }
    }

    /// Gives the workload's own certificate, which never comes from outside.
    pub fn set_own_secret(&mut self, name: &str, plan: SecretPlan, now: Now) {
        let accepted = Accepted {
            value: plan,
            version: "local".into(),
            body: Bytes::new(),
            ignored: Vec::new(),
            updated: now.wall,
            origin: ConfigOrigin::Static,
        };
        let key: ChildKey = (ConfigSource::Ads, name.into());
        self.put_secret(key.clone(), accepted);
        self.changed(ResourceKind::Secret, key);
    }

    /// A stand-in for a secret that the control plane has not sent yet.
    pub fn set_fallback_secret(&mut self, name: &str, plan: SecretPlan, now: Now) {
        let key: ChildKey = (ConfigSource::Ads, name.into());
        let sent = self.secrets.get(&key).and_then(|child| child.accepted.as_ref());
        if sent.is_none_or(|accepted| accepted.body.is_empty()) {
            self.set_own_secret(name, plan, now);
        }
    }

    fn put_secret(&mut self, key: ChildKey, accepted: Accepted<SecretPlan>) {
        *self.generations.entry(key.clone()).or_default() += 1;
        Arc::make_mut(&mut self.usable).insert(key.clone(), accepted.value.clone());
        self.secrets.put(key, accepted);
    }

    /// The secrets of the moment.
    #[must_use]
    pub fn usable_secrets(&self) -> &Arc<KnownSecrets> {
        &self.usable
    }

    /// Takes the addresses of a name.
    pub fn resolve(&mut self, question: Lookup, addresses: Vec<SocketAddr>) {
        self.resolved.insert(question.clone(), addresses);
        self.dependency_changed(Dependency::Addresses(question));
    }

    /// The addresses of a name; `None` before the first answer.
    #[must_use]
    pub fn resolved(&self, question: &Lookup) -> Option<&[SocketAddr]> {
        self.resolved.get(question).map(Vec::as_slice)
    }

    /// Notes why a listener could not be bound; it stays configured, and binding is tried again.
    pub fn note_unbound(&mut self, name: &str, rejection: &Rejection, now: Now) {
        self.listeners.note_unusable(name, rejection, now);
    }

    /// Grows with each change of a secret; 0 while it is missing.
    pub(super) fn secret_generation(&self, reference: &ResourceReference) -> u64 {
        let key = (reference.source.clone(), Arc::clone(&reference.name));
        self.generations.get(&key).copied().unwrap_or(0)
    }

    /// The certificate that the workload serves with, if it has one.
    #[must_use]
    pub fn own_certificate(&self) -> Option<&CertifiedIdentity> {
        match self.usable.get(&(ConfigSource::Ads, weft_api::names::IDENTITY_SECRET.into()))? {
            SecretPlan::Identity(identity) => Some(identity),
            SecretPlan::Trust(_) => None,
        }
    }
}
