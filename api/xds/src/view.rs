//! What one proxy should see: shared, immutable layers of resources.
//!
//! ```text
//!   View ──► Layer (this proxy's own: listeners, secrets)      looked up first
//!        └─► Layer (shared by all: clusters, endpoints, …)     then this one
//! ```
//!
//! Cloning a view copies two pointers; changing one entry of a layer shares the rest with the old layer.

use std::sync::Arc;

use imbl::OrdMap;
use weft_api::resource::{Resource, ResourceKey, ResourceKind};

/// Resources of one origin, by kind and name.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    kinds: [OrdMap<Arc<str>, Arc<Resource>>; ResourceKind::COUNT],
}

impl Layer {
    /// A layer without resources.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a resource in, in place of one with its kind and name.
    pub fn insert(&mut self, resource: Arc<Resource>) -> Option<Arc<Resource>> {
        self.kinds[resource.kind.index()].insert(resource.name.clone(), resource)
    }

    /// Takes a resource out.
    pub fn remove(&mut self, kind: ResourceKind, name: &str) -> Option<Arc<Resource>> {
        self.kinds[kind.index()].remove(name)
    }

    /// The resource of that kind and name.
    #[must_use]
    pub fn lookup(&self, kind: ResourceKind, name: &str) -> Option<&Arc<Resource>> {
        self.kinds[kind.index()].get(name)
    }

    /// All resources of a kind, by name.
    pub fn of_kind(&self, kind: ResourceKind) -> impl Iterator<Item = &Arc<Resource>> {
        self.kinds[kind.index()].values()
    }

    /// How many resources of a kind there are.
    #[must_use]
    pub fn count(&self, kind: ResourceKind) -> usize {
        self.kinds[kind.index()].len()
    }
}

impl FromIterator<Arc<Resource>> for Layer {
    fn from_iter<I: IntoIterator<Item = Arc<Resource>>>(resources: I) -> Self {
        let mut layer = Self::new();
        for resource in resources {
            layer.insert(resource);
        }
        layer
    }
}

/// Everything one proxy is entitled to see, at one revision of the store. A secret that is not in the view
/// does not exist for the proxy: authorisation is the choice of layers.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Revision of the store that the layers were compiled from.
    pub revision: u64,
    /// The first layer that has a name wins.
    pub layers: Vec<Arc<Layer>>,
}

impl View {
    /// A view of layers at a revision.
    #[must_use]
    pub fn new(revision: u64, layers: Vec<Arc<Layer>>) -> Self {
        Self { revision, layers }
    }

    /// The resource of that kind and name in the first layer that has it.
    #[must_use]
    pub fn lookup(&self, kind: ResourceKind, name: &str) -> Option<&Arc<Resource>> {
        self.layers.iter().find_map(|layer| layer.lookup(kind, name))
    }

    /// All resources of a kind; a name appears once.
    pub fn of_kind(&self, kind: ResourceKind) -> impl Iterator<Item = &Arc<Resource>> {
        self.layers.iter().enumerate().flat_map(move |(depth, layer)| {
            let above = &self.layers[..depth];
            layer.of_kind(kind).filter(move |resource| {
                above.iter().all(|layer| layer.lookup(kind, &resource.name).is_none())
            })
        })
    }
}

/// Past this many names an update is cheaper, and no less correct, as "look at everything".
const MAX_KEYS: usize = 4096;

/// What may differ from the view before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// Anything may differ: every name asked for is looked at.
    All,
    /// Only these names; more than one entry for a name is harmless.
    Keys(Vec<ResourceKey>),
}

impl Changes {
    /// Adds later changes. The result is bounded: past a limit it becomes [`Changes::All`].
    pub fn merge(&mut self, later: Self) {
        let Self::Keys(keys) = self else { return };
        match later {
            Self::All => *self = Self::All,
            Self::Keys(more) => {
                keys.extend(more);
                if keys.len() > MAX_KEYS {
                    keys.sort_unstable();
                    keys.dedup();
                }
                if keys.len() > MAX_KEYS {
                    *self = Self::All;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str, body: &'static str) -> Arc<Resource> {
        Resource::new(ResourceKind::Cluster, name, body, vec![])
    }

    #[test]
    fn first_layer_that_has_a_name_wins_and_names_appear_once() {
        let own: Layer = [resource("a", "own")].into_iter().collect();
        let shared: Layer = [resource("a", "shared"), resource("b", "shared")].into_iter().collect();
        let view = View::new(1, vec![Arc::new(own), Arc::new(shared)]);
        assert_eq!(view.lookup(ResourceKind::Cluster, "a").unwrap().body, "own");
        let names: Vec<_> = view.of_kind(ResourceKind::Cluster).map(|r| (&*r.name, &r.body[..])).collect();
        assert_eq!(names, [("a", &b"own"[..]), ("b", &b"shared"[..])]);
        assert!(view.lookup(ResourceKind::Listener, "a").is_none());
    }

    #[test]
    fn changing_a_copy_of_a_layer_leaves_the_original() {
        let before: Layer = [resource("a", "1")].into_iter().collect();
        let mut after = before.clone();
        after.insert(resource("a", "2"));
        assert_eq!(before.lookup(ResourceKind::Cluster, "a").unwrap().body, "1");
        assert_eq!(after.count(ResourceKind::Cluster), 1);
    }

    #[test]
    fn merging_changes_is_bounded() {
        let key = |n: usize| ResourceKey::new(ResourceKind::Endpoint, format!("e{n}"));
        let mut changes = Changes::Keys(vec![key(0)]);
        for _ in 0..3 * MAX_KEYS {
            changes.merge(Changes::Keys(vec![key(0), key(1)]));
        }
        assert!(matches!(&changes, Changes::Keys(keys) if keys.len() <= MAX_KEYS));
        changes.merge(Changes::Keys((0..=MAX_KEYS).map(key).collect()));
        assert_eq!(changes, Changes::All);
    }
}
