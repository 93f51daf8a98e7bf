//! Tables of resources, one a type: those that warm before they are used, and those that arrive for others.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use weft_routing::rejection::Rejection;

use super::dependencies::{Dependency, HasDependencies};
use super::resource::{
    Accepted, ChildKey, ChildResource, ConfigOrigin, Now, Refused, WarmingResource, refused_version,
};
use crate::decode::ConfigSource;

/// What every table can do, whatever it holds.
pub(super) trait Table {
    /// Whether these bytes are what came last.
    fn is_current(&self, key: &ChildKey, body: &Bytes) -> bool;
    /// Whether the resource is of the bootstrap file and cannot be replaced from outside.
    fn is_static(&self, name: &str) -> bool;
    /// Notes a version that was refused.
    fn refuse(&mut self, key: &ChildKey, refused: Refused);
    /// Takes notice that a resource does not exist.
    fn remove(&mut self, key: &ChildKey);
    /// Whether this version is no longer on its way: in use, refused, or replaced.
    fn is_settled(&self, name: &str, version: &str) -> bool;
    /// Names of listed resources that came by a stream or a file; none where only those are taken that others name.
    fn dynamic_names(&self) -> Vec<Arc<str>>;
    /// What is in use of what came by the stream, by name: its version and bytes.
    fn sent(&self) -> Vec<(&Arc<str>, &Arc<str>, &Bytes)>;
    /// Fields of what is in use that were accepted and have no effect.
    fn ignored_fields(&self) -> usize;
}

/// Resources that warm before they are used, by name.
#[derive(Debug)]
pub struct WarmingTable<T>(BTreeMap<Arc<str>, WarmingResource<T>>);

impl<T> Default for WarmingTable<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Deref for WarmingTable<T> {
    type Target = BTreeMap<Arc<str>, WarmingResource<T>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T> WarmingTable<T> {
    /// A version that was accepted: it warms, in place of one that did.
    pub(super) fn warm(&mut self, name: Arc<str>, accepted: Accepted<Arc<T>>, now: Instant) {
        let entry = self.0.entry(name).or_default();
        entry.refused = None;
        entry.warming = Some((accepted, now));
    }

    /// What is in use.
    pub(super) fn active(&self, name: &str) -> Option<Arc<T>> {
        Some(Arc::clone(&self.0.get(name)?.active.as_ref()?.value))
    }

    /// What is on its way, and since when.
    pub(super) fn warming(&self, name: &str) -> Option<(Arc<T>, Instant)> {
        let (accepted, since) = self.0.get(name)?.warming.as_ref()?;
        Some((Arc::clone(&accepted.value), *since))
    }

    /// Puts what was on its way into use, or refuses it; answers who configured it.
    pub(super) fn settle(
        &mut self,
        name: &str,
        refusal: Option<&Rejection>,
        now: Now,
    ) -> Option<ConfigOrigin> {
        let entry = self.0.get_mut(name)?;
        let (accepted, _) = entry.warming.take()?;
        let origin = accepted.origin;
        match refusal {
            None => entry.active = Some(accepted),
            Some(rejection) => entry.refused = Some(refused_version(&accepted, rejection, now)),
        }
        Some(origin)
    }

    /// Notes why what is in use does not serve.
    pub(super) fn note_unusable(&mut self, name: &str, rejection: &Rejection, now: Now) {
        if let Some(entry) = self.0.get_mut(name)
            && let Some(active) = &entry.active
        {
            entry.refused = Some(refused_version(active, rejection, now));
        }
    }
}

impl<T: HasDependencies> WarmingTable<T> {
    /// What a resource names, in use and on its way.
    pub(super) fn dependencies(&self, name: &str) -> HashSet<Dependency> {
        let entry = self.0.get(name);
        let plans = entry.into_iter().flat_map(WarmingResource::both);
        plans.flat_map(|accepted| accepted.value.dependencies().map(|(dependency, _)| dependency)).collect()
    }
}

impl<T> Table for WarmingTable<T> {
    fn is_current(&self, (_, name): &ChildKey, body: &Bytes) -> bool {
        self.0.get(name).and_then(WarmingResource::newest).is_some_and(|accepted| accepted.body == *body)
    }

    fn is_static(&self, name: &str) -> bool {
        let entry = self.0.get(name);
        entry
            .and_then(|entry| entry.both().next())
            .is_some_and(|accepted| accepted.origin == ConfigOrigin::Static)
    }

    /// A refused version also ends the warming of the one before it, which its source no longer has.
    fn refuse(&mut self, (_, name): &ChildKey, refused: Refused) {
        let entry = self.0.entry(Arc::clone(name)).or_default();
        (entry.refused, entry.warming) = (Some(refused), None);
    }

    fn remove(&mut self, (_, name): &ChildKey) {
        if !self.is_static(name) {
            self.0.remove(name);
        }
    }

    fn is_settled(&self, name: &str, version: &str) -> bool {
        let warming = self.0.get(name).and_then(|entry| entry.warming.as_ref());
        warming.is_none_or(|(accepted, _)| *accepted.version != *version)
    }

    fn dynamic_names(&self) -> Vec<Arc<str>> {
        self.0.keys().filter(|name| !self.is_static(name)).cloned().collect()
    }

    fn sent(&self) -> Vec<(&Arc<str>, &Arc<str>, &Bytes)> {
        let active = self.0.iter().filter_map(|(name, entry)| Some((name, entry.active.as_ref()?)));
        let sent = active.filter(|(_, accepted)| accepted.origin == ConfigOrigin::Dynamic);
        sent.map(|(name, accepted)| (name, &accepted.version, &accepted.body)).collect()
    }

    fn ignored_fields(&self) -> usize {
        self.0.values().filter_map(|entry| entry.active.as_ref()).map(|accepted| accepted.ignored.len()).sum()
    }
}

/// What becomes of a resource of which is said that it does not exist.
#[derive(Debug, Clone, Copy)]
pub(super) enum Absent {
    /// It is empty. Nobody need wait for it.
    Empties,
    /// It goes. Nobody waits for it alone.
    Goes,
    /// What is in use stays until nobody names it, as in Envoy. Nobody need wait for it.
    KeepsServing,
    /// Nothing: one that is in use must not be taken away, and one that is not is waited for.
    IsNoWord,
}

/// Resources that arrive for others and are used at once.
#[derive(Debug)]
pub struct ChildTable<T> {
    all: HashMap<ChildKey, ChildResource<T>>,
    absent: Absent,
}

impl<T> Deref for ChildTable<T> {
    type Target = HashMap<ChildKey, ChildResource<T>>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl<T> ChildTable<T> {
    pub(super) fn new(absent: Absent) -> Self {
        Self { all: HashMap::new(), absent }
    }

    /// A version that was accepted.
    pub(super) fn put(&mut self, key: ChildKey, accepted: Accepted<T>) {
        self.all.insert(key, ChildResource { accepted: Some(accepted), refused: None });
    }

    /// Forgets what nobody names.
    pub(super) fn forget(&mut self, key: &ChildKey) {
        self.all.remove(key);
    }

    /// Whether something is there or known not to exist. A refused version is no word yet.
    pub(super) fn is_known(&self, key: &ChildKey) -> bool {
        self.all.get(key).is_some_and(|child| child.accepted.is_some() || child.refused.is_none())
    }
}

impl<T> Table for ChildTable<T> {
    fn is_current(&self, key: &ChildKey, body: &Bytes) -> bool {
        self.all
            .get(key)
            .and_then(|child| child.accepted.as_ref())
            .is_some_and(|accepted| accepted.body == *body)
    }

    fn is_static(&self, _name: &str) -> bool {
        false
    }

    fn refuse(&mut self, key: &ChildKey, refused: Refused) {
        self.all.entry(key.clone()).or_default().refused = Some(refused);
    }

    fn remove(&mut self, key: &ChildKey) {
        match self.absent {
            Absent::Empties => self.all.entry(key.clone()).or_default().accepted = None,
            Absent::Goes => drop(self.all.remove(key)),
            Absent::KeepsServing => drop(self.all.entry(key.clone()).or_default()),
            Absent::IsNoWord => {}
        }
    }

    fn is_settled(&self, _name: &str, _version: &str) -> bool {
        true
    }

    fn dynamic_names(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    fn sent(&self) -> Vec<(&Arc<str>, &Arc<str>, &Bytes)> {
        let accepted = self.all.iter().filter_map(|(key, child)| Some((key, child.accepted.as_ref()?)));
        // One with the workload's identity comes from its own file.
        let sent = accepted.filter(|((source, _), accepted)| {
            *source == ConfigSource::Ads && accepted.origin == ConfigOrigin::Dynamic
        });
        sent.map(|((_, name), accepted)| (name, &accepted.version, &accepted.body)).collect()
    }

    fn ignored_fields(&self) -> usize {
        self.all
            .values()
            .filter_map(|child| child.accepted.as_ref())
            .map(|accepted| accepted.ignored.len())
            .sum()
    }
}
