//! Lists of what is there: for the disk, for dumps, for statistics.

use std::sync::Arc;

use weft_api::ResourceKind;

use super::world::World;
use crate::snapshot::ConfigSnapshot;

impl World {
    /// Names of listed resources that came by a stream or a file.
    #[must_use]
    pub fn dynamic_names(&self, kind: ResourceKind) -> Vec<Arc<str>> {
        self.table(kind).dynamic_names()
    }

    /// What is in use of what came by the stream, to be kept on disk.
    #[must_use]
    pub fn snapshot(&self, node: &str) -> ConfigSnapshot {
        let mut snapshot = ConfigSnapshot { node: node.to_owned(), ..ConfigSnapshot::default() };
        for kind in ResourceKind::ALL {
            for (name, version, body) in self.table(kind).sent() {
                snapshot.push(kind, name, version, body.clone());
            }
        }
        snapshot
    }

    /// How many fields were accepted and have no effect.
    #[must_use]
    pub fn ignored_fields(&self) -> usize {
        ResourceKind::ALL.into_iter().map(|kind| self.table(kind).ignored_fields()).sum()
    }
}
