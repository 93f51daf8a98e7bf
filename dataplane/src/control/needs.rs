//! What clusters and listeners name that arrives by itself, and who names it.
//!
//! ```text
//!   Cluster, Listener --link--> Needs { what -> who } --owners--> who is affected when it comes or goes
//!                                        `--take_changes--> what has to be asked for, and what no longer
//! ```

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::resource::ChildKey;
use crate::decode::{ClusterPlan, EndpointSource, ListenerPlan, Reference};
use crate::dns::Question;

/// How long the first answer to a question about a name is waited for.
const FIRST_ANSWER: Duration = Duration::from_secs(15);

/// Something that a cluster or listener names and that arrives by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Need {
    /// An assignment of endpoints (EDS).
    Endpoints(ChildKey),
    /// A route configuration (RDS).
    Route(ChildKey),
    /// A secret (SDS).
    Secret(ChildKey),
    /// The addresses of a name.
    Addresses(Question),
    /// All virtual hosts that are resources of their own (VHDS).
    VirtualHosts,
}

/// A resource that names others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A cluster, by name.
    Cluster(Arc<str>),
    /// A listener, by name.
    Listener(Arc<str>),
}

/// What is decoded of a resource that names others.
pub trait Names {
    /// What it names, each with how long it is waited for; `None` is for ever.
    fn needs(&self) -> impl Iterator<Item = (Need, Option<Duration>)> + '_;
}

fn key_of(reference: &Reference) -> ChildKey {
    (reference.source.clone(), Arc::clone(&reference.name))
}

fn secret(reference: &Reference) -> (Need, Option<Duration>) {
    (Need::Secret(key_of(reference)), reference.patience)
}

impl Names for ClusterPlan {
    fn needs(&self) -> impl Iterator<Item = (Need, Option<Duration>)> + '_ {
        let (endpoints, names) = match &self.source {
            EndpointSource::Eds(reference) => {
                (Some((Need::Endpoints(key_of(reference)), reference.patience)), None)
            }
            EndpointSource::Dns(dns) => (None, Some(dns.questions())),
            EndpointSource::Static(_) | EndpointSource::OnDemand(_) => (None, None),
        };
        let names = names.into_iter().flatten().map(|name| (Need::Addresses(name), Some(FIRST_ANSWER)));
        endpoints.into_iter().chain(names).chain(self.secrets().map(secret))
    }
}

impl Names for ListenerPlan {
    fn needs(&self) -> impl Iterator<Item = (Need, Option<Duration>)> + '_ {
        let routes = self.routes.iter().map(|reference| (Need::Route(key_of(reference)), reference.patience));
        routes.chain(self.secrets().map(secret))
    }
}

/// Who names what.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// What nobody names is not in it.
    owners: HashMap<Need, BTreeSet<Owner>>,
    named: HashMap<Owner, HashSet<Need>>,
    changed: HashSet<Need>,
    /// What was told as begun and not as ended.
    asked: HashSet<Need>,
}

/// What became of something that is named, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// Somebody names it now.
    Begun(Need),
    /// Nobody names it any more.
    Ended(Need),
    /// It came, and nobody names it.
    Stray(Need),
}

impl Needs {
    /// Replaces what `owner` names.
    pub(super) fn link(&mut self, owner: &Owner, needs: HashSet<Need>) {
        let before = self.named.remove(owner).unwrap_or_default();
        for need in before.difference(&needs) {
            if let Some(owners) = self.owners.get_mut(need) {
                owners.remove(owner);
                if owners.is_empty() {
                    self.owners.remove(need);
                    self.changed.insert(need.clone());
                }
            }
        }
        for need in needs.difference(&before) {
            let owners = self.owners.entry(need.clone()).or_default();
            if owners.is_empty() {
                self.changed.insert(need.clone());
            }
            owners.insert(owner.clone());
        }
        if !needs.is_empty() {
            self.named.insert(owner.clone(), needs);
        }
    }

    /// Who names it.
    pub(super) fn owners(&self, need: &Need) -> impl Iterator<Item = &Owner> {
        self.owners.get(need).into_iter().flatten()
    }

    /// Whether anybody names it.
    pub(super) fn is_named(&self, need: &Need) -> bool {
        self.owners.contains_key(need)
    }

    /// Notes something that came although nobody names it, so that it is looked at with what changed.
    pub(super) fn note(&mut self, need: Need) {
        self.changed.insert(need);
    }

    /// Takes what changed since the last time.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::with_capacity(self.changed.len());
        for need in std::mem::take(&mut self.changed) {
            if !self.owners.contains_key(&need) {
                changes.push(if self.asked.remove(&need) {
                    Change::Ended(need)
                } else {
                    Change::Stray(need)
                });
            } else if self.asked.insert(need.clone()) {
                changes.push(Change::Begun(need));
            }
        }
        changes
    }
}
