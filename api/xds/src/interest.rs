//! What of a view a client has asked for, as a snapshot that its publisher may look at.

use std::sync::Arc;

use imbl::OrdSet;
use weft_api::resource::{ResourceKey, ResourceKind};

/// The resources that a client is to be told of.
///
/// Whatever else a session does because of a change, it does for a name that is asked for: a listener or route waits for
/// a cluster only where the client asked for that cluster, a child is sent again with its parent only where the client
/// asked for the child. So a change of other names moves nothing.
#[derive(Clone, Debug, Default)]
pub enum Interest {
    /// All there is, and the view itself: what a stream begins with, until it has its first view.
    #[default]
    Everything,
    /// What is asked for of each type, by `ResourceKind::index`.
    Subscribed(Box<[TypeInterest; ResourceKind::COUNT]>),
}

/// What is asked for of one type.
#[derive(Clone, Debug, Default)]
pub struct TypeInterest {
    /// Every name is asked for, also those that do not exist yet.
    pub wildcard: bool,
    /// These names, with or without the wildcard.
    pub names: OrdSet<Arc<str>>,
}

impl Interest {
    /// Whether a change of this resource concerns the client.
    #[must_use]
    pub fn covers(&self, key: &ResourceKey) -> bool {
        match self {
            Self::Everything => true,
            Self::Subscribed(kinds) => kinds[key.kind.index()].covers(&key.name),
        }
    }
}

impl TypeInterest {
    /// Whether a name is asked for.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }
}
