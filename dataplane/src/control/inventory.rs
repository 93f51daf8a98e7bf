//! Lists of what is there: for the disk, for dumps, for statistics.

use std::sync::Arc;

use weft_api::ResourceKind;

use super::held::{Leaf, Origin, Slot};
use super::world::World;
use crate::decode::Source;
use crate::snapshot::Snapshot;

impl World {
    /// Names of resources that came by a stream or a file.
    #[must_use]
    pub fn dynamic_names(&self, kind: ResourceKind) -> Vec<Arc<str>> {
        let all: Vec<Arc<str>> = match kind {
            ResourceKind::Cluster => self.clusters.keys().cloned().collect(),
            ResourceKind::Listener => self.listeners.keys().cloned().collect(),
            ResourceKind::Endpoint
            | ResourceKind::Route
            | ResourceKind::Secret
            | ResourceKind::VirtualHost => Vec::new(),
        };
        all.into_iter().filter(|name| !self.is_static(kind, name)).collect()
    }

    /// What is in use of what came by the stream, to be kept on disk.
    #[must_use]
    pub fn snapshot(&self, node: &str) -> Snapshot {
        let mut snapshot = Snapshot { node: node.to_owned(), ..Snapshot::default() };
        for (name, slot) in &self.clusters {
            if let Some(held) = slot.active.as_ref().filter(|held| held.origin == Origin::Dynamic) {
                snapshot.push(ResourceKind::Cluster, name, &held.version, held.body.clone());
            }
        }
        for (name, slot) in &self.listeners {
            if let Some(held) = slot.active.as_ref().filter(|held| held.origin == Origin::Dynamic) {
                snapshot.push(ResourceKind::Listener, name, &held.version, held.body.clone());
            }
        }
        for ((source, name), leaf) in &self.endpoints {
            if let Some(held) = leaf.held.as_ref().filter(|_| *source == Source::Ads) {
                snapshot.push(ResourceKind::Endpoint, name, &held.version, held.body.clone());
            }
        }
        for ((source, name), leaf) in &self.routes {
            if let Some(held) = leaf.held.as_ref().filter(|_| *source == Source::Ads) {
                snapshot.push(ResourceKind::Route, name, &held.version, held.body.clone());
            }
        }
        for ((source, name), leaf) in &self.secrets {
            // One with the workload's identity comes from its own file.
            let sent = leaf.held.as_ref().filter(|held| held.origin == Origin::Dynamic);
            if let Some(held) = sent.filter(|_| *source == Source::Ads) {
                snapshot.push(ResourceKind::Secret, name, &held.version, held.body.clone());
            }
        }
        snapshot
    }

    /// How many fields were accepted and have no effect.
    #[must_use]
    pub fn ignored_fields(&self) -> usize {
        fn active<T>(slot: &Slot<T>) -> usize {
            slot.active.as_ref().map_or(0, |held| held.ignored.len())
        }
        fn leaf<T>(leaf: &Leaf<T>) -> usize {
            leaf.held.as_ref().map_or(0, |held| held.ignored.len())
        }
        self.clusters.values().map(active).sum::<usize>()
            + self.listeners.values().map(active).sum::<usize>()
            + self.endpoints.values().map(leaf).sum::<usize>()
            + self.routes.values().map(leaf).sum::<usize>()
            + self.secrets.values().map(leaf).sum::<usize>()
    }
}
