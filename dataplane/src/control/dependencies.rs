//! The resources that clusters and listeners name, such as endpoints, routes and secrets, and who names each.
//!
//! ```text
//!   Cluster, Listener --link--> Dependencies --dependents--> who is affected when a resource comes or goes
//!                                    `--take_changes--> what has to be subscribed to, and what no longer
//! ```

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::resource::ChildKey;
use crate::decode::{ClusterPlan, EndpointSource, ListenerPlan, ResourceReference};
use crate::dns::Lookup;

/// How long a DNS cluster warms until the first answer of the resolver.
const FIRST_ANSWER: Duration = Duration::from_secs(15);
/// How long a listener warms until a cluster is in use whose server decides on its requests.
const DECIDING_CLUSTER: Duration = Duration::from_secs(15);

/// What a cluster or listener names and needs before it can be used, and what does not come with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dependency {
    /// An assignment of endpoints (EDS).
    Endpoints(ChildKey),
    /// A route configuration (RDS).
    Route(ChildKey),
    /// A secret (SDS).
    Secret(ChildKey),
    /// The addresses of a DNS name.
    Addresses(Lookup),
    /// A cluster that a filter calls, by name. It comes with all others (CDS).
    Cluster(Arc<str>),
    /// All virtual hosts that are resources of their own (VHDS).
    VirtualHosts,
}

/// A resource that names others, and warms until they are there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dependent {
    /// A cluster, by name.
    Cluster(Arc<str>),
    /// A listener, by name.
    Listener(Arc<str>),
}

/// A decoded resource that names others.
pub trait HasDependencies {
    /// What it names, each with how long it is waited for; `None` is for ever.
    fn dependencies(&self) -> impl Iterator<Item = (Dependency, Option<Duration>)> + '_;
}

fn key_of(reference: &ResourceReference) -> ChildKey {
    (reference.source.clone(), Arc::clone(&reference.name))
}

fn secret(reference: &ResourceReference) -> (Dependency, Option<Duration>) {
    (Dependency::Secret(key_of(reference)), reference.fetch_timeout)
}

impl HasDependencies for ClusterPlan {
    fn dependencies(&self) -> impl Iterator<Item = (Dependency, Option<Duration>)> + '_ {
        let (endpoints, names) = match &self.source {
            EndpointSource::Eds(reference) => {
                (Some((Dependency::Endpoints(key_of(reference)), reference.fetch_timeout)), None)
            }
            EndpointSource::Dns(dns) => (None, Some(dns.questions())),
            EndpointSource::Static(_) | EndpointSource::OnDemand(_) => (None, None),
        };
        let names = names.into_iter().flatten().map(|name| (Dependency::Addresses(name), Some(FIRST_ANSWER)));
        endpoints.into_iter().chain(names).chain(self.secrets().map(secret))
    }
}

impl HasDependencies for ListenerPlan {
    fn dependencies(&self) -> impl Iterator<Item = (Dependency, Option<Duration>)> + '_ {
        let routes = self
            .routes
            .iter()
            .map(|reference| (Dependency::Route(key_of(reference)), reference.fetch_timeout));
        let clusters =
            self.clusters().map(|name| (Dependency::Cluster(Arc::clone(name)), Some(DECIDING_CLUSTER)));
        routes.chain(clusters).chain(self.secrets().map(secret))
    }
}

/// Which dependents name which dependencies, and what is subscribed to because of that.
#[derive(Debug, Default)]
pub(super) struct Dependencies {
    /// What nobody names is not in it.
    dependents: HashMap<Dependency, BTreeSet<Dependent>>,
    named: HashMap<Dependent, HashSet<Dependency>>,
    changed: HashSet<Dependency>,
    /// What was told as begun and not as ended.
    asked: HashSet<Dependency>,
}

/// A change of what is named, since the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DependencyChange {
    /// Somebody names it now.
    Begun(Dependency),
    /// Nobody names it any more.
    Ended(Dependency),
    /// It came, and nobody names it.
    Unreferenced(Dependency),
}

impl Dependencies {
    /// Replaces what `owner` names.
    pub(super) fn link(&mut self, dependent: &Dependent, dependencies: HashSet<Dependency>) {
        let before = self.named.remove(dependent).unwrap_or_default();
        for dependency in before.difference(&dependencies) {
            if let Some(dependents) = self.dependents.get_mut(dependency) {
                dependents.remove(dependent);
                if dependents.is_empty() {
                    self.dependents.remove(dependency);
                    self.changed.insert(dependency.clone());
                }
            }
        }
        for dependency in dependencies.difference(&before) {
            let dependents = self.dependents.entry(dependency.clone()).or_default();
            if dependents.is_empty() {
                self.changed.insert(dependency.clone());
            }
            dependents.insert(dependent.clone());
        }
        if !dependencies.is_empty() {
            self.named.insert(dependent.clone(), dependencies);
        }
    }

    pub(super) fn dependents(&self, dependency: &Dependency) -> impl Iterator<Item = &Dependent> {
        self.dependents.get(dependency).into_iter().flatten()
    }

    /// Whether anybody names it.
    pub(super) fn is_named(&self, dependency: &Dependency) -> bool {
        self.dependents.contains_key(dependency)
    }

    /// Notes something that came although nobody names it, so that it is looked at with what changed.
    pub(super) fn note(&mut self, dependency: Dependency) {
        self.changed.insert(dependency);
    }

    /// Takes what changed since the last time.
    pub(super) fn take_changes(&mut self) -> Vec<DependencyChange> {
        let mut changes = Vec::with_capacity(self.changed.len());
        for dependency in std::mem::take(&mut self.changed) {
            if !self.dependents.contains_key(&dependency) {
                changes.push(if self.asked.remove(&dependency) {
                    DependencyChange::Ended(dependency)
                } else {
                    DependencyChange::Unreferenced(dependency)
                });
            } else if self.asked.insert(dependency.clone()) {
                changes.push(DependencyChange::Begun(dependency));
            }
        }
        changes
    }
}
