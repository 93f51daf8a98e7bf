//! Warming: when a cluster or listener has everything that it names, and what has to be subscribed to until then.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weft_api::ResourceKind;

use super::dependencies::{Dependency, DependencyChange, Dependent, HasDependencies};
use super::resource::{ConfigOrigin, Now, RefusedName};
use super::runtime_builder::RuntimeBuilder;
use super::world::{SubscriptionChanges, World};
use crate::decode::{ClusterPlan, ConfigSource, EndpointSource, EndpointsPlan};

/// What [`World::promote`] did.
#[derive(Debug, Default)]
pub(super) struct Promoted {
    /// How many warming resources were looked at.
    pub(super) examined: usize,
    /// What could not be prepared.
    pub(super) refusals: Vec<Unusable>,
}

/// A resource that was accepted as it stands and cannot be prepared with its secrets.
#[derive(Debug, Clone)]
pub(super) struct Unusable {
    pub(super) kind: ResourceKind,
    pub(super) origin: ConfigOrigin,
    /// Its name, and why.
    pub(super) refusal: RefusedName,
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
                let child = self.endpoints.get(&(reference.source.clone(), Arc::clone(&reference.name)))?;
                Some(child.accepted.as_ref().map(|accepted| Arc::clone(&accepted.value)).unwrap_or_default())
            }
        }
    }

    fn is_there(&self, dependency: &Dependency) -> bool {
        match dependency {
            Dependency::Endpoints(key) => self.endpoints.is_known(key),
            Dependency::Route(key) => self.routes.is_known(key) && !self.virtual_hosts.keeps_waiting(key),
            Dependency::Secret(key) => self.usable.contains_key(key),
            Dependency::Addresses(question) => self.resolved.contains_key(question),
            Dependency::Cluster(name) => self.clusters.active(name).is_some(),
            Dependency::VirtualHosts => self.virtual_hosts.is_answered(),
        }
    }

    /// Until when something is waited for that is not there; `None` is for ever. Routes that have come and wait for
    /// their virtual hosts are waited for as long as they do.
    fn waits_until(
        &self,
        dependency: &Dependency,
        since: Instant,
        fetch_timeout: Option<Duration>,
    ) -> Option<Instant> {
        let own = match dependency {
            Dependency::Route(key) => self.virtual_hosts.waits_until(key),
            Dependency::Endpoints(_)
            | Dependency::Secret(_)
            | Dependency::Addresses(_)
            | Dependency::Cluster(_)
            | Dependency::VirtualHosts => None,
        };
        own.unwrap_or_else(|| Some(since + fetch_timeout?))
    }

    /// When a resource that is on its way has waited long enough for what it lacks, `None` for never; nothing when none
    /// is on its way.
    fn warms_until(&self, dependent: &Dependent) -> Option<Option<Instant>> {
        fn of<T: HasDependencies>(world: &World, (plan, since): (Arc<T>, Instant)) -> Option<Instant> {
            let mut missing = plan.dependencies().filter(|(dependency, _)| !world.is_there(dependency));
            missing.try_fold(since, |most, (dependency, fetch_timeout)| {
                Some(most.max(world.waits_until(&dependency, since, fetch_timeout)?))
            })
        }
        match dependent {
            Dependent::Cluster(name) => self.clusters.warming(name).map(|warming| of(self, warming)),
            Dependent::Listener(name) => self.listeners.warming(name).map(|warming| of(self, warming)),
        }
    }

    /// Puts what is warm, or has waited long enough, into use. What cannot be prepared with its secrets is refused,
    /// and the version before it stays.
    pub(super) fn promote(&mut self, builder: &mut RuntimeBuilder, now: Now) -> Promoted {
        for key in self.virtual_hosts.expired(now.instant) {
            self.route_came(key);
        }
        let expired = self.warming_deadlines.expired(now.instant);
        self.due.extend(expired);
        let mut promoted = Promoted::default();
        // A cluster that is in use now may be what a listener waited for, which is looked at behind it.
        while let Some(dependent) = self.due.pop_first() {
            promoted.examined += 1;
            let Some(until) = self.warms_until(&dependent) else { continue };
            if until.is_none_or(|until| now.instant < until) {
                self.warming_deadlines.set(dependent, until);
                continue;
            }
            let checked = builder.check(&dependent, self);
            let refusal = checked.as_ref().err();
            let (kind, name, origin) = match &dependent {
                Dependent::Cluster(name) => {
                    (ResourceKind::Cluster, name, self.clusters.settle(name, refusal, now))
                }
                Dependent::Listener(name) => {
                    (ResourceKind::Listener, name, self.listeners.settle(name, refusal, now))
                }
            };
            if let (Err(rejection), Some(origin)) = (checked, origin) {
                let refusal = (Arc::clone(name), rejection);
                promoted.refusals.push(Unusable { kind, origin, refusal });
            }
            self.dependent_changed(dependent);
        }
        promoted
    }

    /// When the next warming resource has waited long enough.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.warming_deadlines.next().into_iter().chain(self.virtual_hosts.next_deadline()).min()
    }

    /// Whether nothing is on its way any more.
    #[must_use]
    pub fn is_warm(&self) -> bool {
        self.due.is_empty() && self.warming_deadlines.is_empty() && self.virtual_hosts.is_warm()
    }

    /// Whether this version of a resource is no longer on its way: in use, refused, or replaced.
    #[must_use]
    pub fn is_settled(&self, kind: ResourceKind, name: &str, version: &str) -> bool {
        match kind {
            ResourceKind::Route => {
                let key = (ConfigSource::Ads, name.into());
                let accepted = self.routes.get(&key).and_then(|child| child.accepted.as_ref());
                !(self.virtual_hosts.keeps_waiting(&key)
                    && accepted.is_some_and(|accepted| *accepted.version == *version))
            }
            ResourceKind::Cluster
            | ResourceKind::Listener
            | ResourceKind::Endpoint
            | ResourceKind::Secret
            | ResourceKind::VirtualHost
            | ResourceKind::Runtime => self.table(kind).is_settled(name, version),
        }
    }

    /// Takes what has to be asked for since the last time, and what no longer. What nobody names is dropped.
    pub(super) fn take_subscription_changes(&mut self) -> SubscriptionChanges {
        let mut changes = SubscriptionChanges::default();
        for change in self.dependencies.take_changes() {
            self.take_change(change, &mut changes);
        }
        // Routes that nobody names any more want no virtual hosts either.
        if let Some(change) = self.virtual_hosts.take_change() {
            self.take_change(change, &mut changes);
        }
        changes
    }

    fn take_change(&mut self, change: DependencyChange, changes: &mut SubscriptionChanges) {
        match change {
            DependencyChange::Begun(dependency) => changes.begun.push(dependency),
            DependencyChange::Ended(dependency) => {
                self.forget(&dependency);
                changes.ended.push(dependency);
            }
            DependencyChange::Unreferenced(dependency) => self.forget(&dependency),
        }
    }

    fn forget(&mut self, dependency: &Dependency) {
        match dependency {
            Dependency::Endpoints(key) => self.endpoints.forget(key),
            Dependency::Route(key) => {
                self.routes.forget(key);
                self.virtual_hosts.unfollow(key);
                self.stale.routes.insert(key.clone());
            }
            // The next who names it finds it there.
            Dependency::Secret(_) | Dependency::Cluster(_) => {}
            Dependency::Addresses(question) => drop(self.resolved.remove(question)),
            Dependency::VirtualHosts => self.virtual_hosts.forget(),
        }
    }
}
