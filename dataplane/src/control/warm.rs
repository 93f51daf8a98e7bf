//! Warming: when a resource has everything that it names, and what has to be asked for until then.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weft_api::ResourceKind;

use super::build::Builder;
use super::resource::{Now, ConfigOrigin, RefusedName};
use super::needs::{Change, Names, Need, Owner};
use super::world::{Wanted, World};
use crate::decode::{ClusterPlan, EndpointSource, EndpointsPlan, Source};

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
    /// Who configured it.
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

    fn is_there(&self, need: &Need) -> bool {
        match need {
            Need::Endpoints(key) => self.endpoints.is_known(key),
            Need::Route(key) => self.routes.is_known(key) && !self.virtual_hosts.keeps_waiting(key),
            Need::Secret(key) => self.usable.contains_key(key),
            Need::Addresses(question) => self.resolved.contains_key(question),
            Need::VirtualHosts => self.virtual_hosts.is_heard(),
        }
    }

    /// Until when something is waited for that is not there; `None` is for ever. Routes that have come and wait for
    /// their virtual hosts are waited for as long as they do.
    fn waits_until(&self, need: &Need, since: Instant, patience: Option<Duration>) -> Option<Instant> {
        let own = match need {
            Need::Route(key) => self.virtual_hosts.waits_until(key),
            Need::Endpoints(_) | Need::Secret(_) | Need::Addresses(_) | Need::VirtualHosts => None,
        };
        own.unwrap_or_else(|| Some(since + patience?))
    }

    /// When a resource that is on its way has waited long enough for what it lacks, `None` for never; nothing when none
    /// is on its way.
    fn warms_until(&self, owner: &Owner) -> Option<Option<Instant>> {
        fn of<T: Names>(world: &World, (plan, since): (Arc<T>, Instant)) -> Option<Instant> {
            let mut missing = plan.needs().filter(|(need, _)| !world.is_there(need));
            missing.try_fold(since, |most, (need, patience)| {
                Some(most.max(world.waits_until(&need, since, patience)?))
            })
        }
        match owner {
            Owner::Cluster(name) => self.clusters.warming(name).map(|warming| of(self, warming)),
            Owner::Listener(name) => self.listeners.warming(name).map(|warming| of(self, warming)),
        }
    }

    /// Puts what is warm, or has waited long enough, into use. What cannot be prepared with its secrets is refused,
    /// and the version before it stays.
    pub(super) fn promote(&mut self, builder: &mut Builder, now: Now) -> Promoted {
        for key in self.virtual_hosts.expired(now.instant) {
            self.route_came(key);
        }
        let mut due = std::mem::take(&mut self.due);
        due.extend(self.patience.expired(now.instant));
        let mut promoted = Promoted { examined: due.len(), refusals: Vec::new() };
        for owner in due {
            let Some(until) = self.warms_until(&owner) else { continue };
            if until.is_none_or(|until| now.instant < until) {
                self.patience.set(owner, until);
                continue;
            }
            let checked = builder.check(&owner, self);
            let refusal = checked.as_ref().err();
            let (kind, name, origin) = match &owner {
                Owner::Cluster(name) => {
                    (ResourceKind::Cluster, name, self.clusters.settle(name, refusal, now))
                }
                Owner::Listener(name) => {
                    (ResourceKind::Listener, name, self.listeners.settle(name, refusal, now))
                }
            };
            if let (Err(rejection), Some(origin)) = (checked, origin) {
                let refusal = (Arc::clone(name), rejection);
                promoted.refusals.push(Unusable { kind, origin, refusal });
            }
            self.owner_changed(owner);
        }
        promoted
    }

    /// When the next warming resource loses its patience.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.patience.next().into_iter().chain(self.virtual_hosts.next_deadline()).min()
    }

    /// Whether nothing is on its way any more.
    #[must_use]
    pub fn is_warm(&self) -> bool {
        self.due.is_empty() && self.patience.is_empty() && self.virtual_hosts.is_warm()
    }

    /// Whether this version of a resource is no longer on its way: in use, refused, or replaced.
    #[must_use]
    pub fn is_settled(&self, kind: ResourceKind, name: &str, version: &str) -> bool {
        match kind {
            ResourceKind::Route => {
                let key = (Source::Ads, name.into());
                let accepted = self.routes.get(&key).and_then(|child| child.accepted.as_ref());
                !(self.virtual_hosts.keeps_waiting(&key)
                    && accepted.is_some_and(|accepted| *accepted.version == *version))
            }
            ResourceKind::Cluster
            | ResourceKind::Listener
            | ResourceKind::Endpoint
            | ResourceKind::Secret
            | ResourceKind::VirtualHost => self.table(kind).is_settled(name, version),
        }
    }

    /// Takes what has to be asked for since the last time, and what no longer. What nobody names is dropped.
    pub(super) fn take_wanted(&mut self) -> Wanted {
        let mut wanted = Wanted::default();
        for change in self.needs.take_changes() {
            self.take_change(change, &mut wanted);
        }
        // Routes that nobody names any more want no virtual hosts either.
        if let Some(change) = self.virtual_hosts.take_change() {
            self.take_change(change, &mut wanted);
        }
        wanted
    }

    fn take_change(&mut self, change: Change, wanted: &mut Wanted) {
        match change {
            Change::Begun(need) => wanted.begun.push(need),
            Change::Ended(need) => {
                self.forget(&need);
                wanted.ended.push(need);
            }
            Change::Stray(need) => self.forget(&need),
        }
    }

    fn forget(&mut self, need: &Need) {
        match need {
            Need::Endpoints(key) => self.endpoints.forget(key),
            Need::Route(key) => {
                self.routes.forget(key);
                self.virtual_hosts.unfollow(key);
                self.stale.routes.insert(key.clone());
            }
            // The next who names it finds it there.
            Need::Secret(_) => {}
            Need::Addresses(question) => drop(self.resolved.remove(question)),
            Need::VirtualHosts => self.virtual_hosts.forget(),
        }
    }
}
