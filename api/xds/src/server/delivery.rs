//! One resource on a stream: what the client was sent of it last, and what it has taken.

use std::sync::Arc;

use weft_api::resource::{Resource, ResourceKind, Version};

use super::session::Session;
use super::watched_type::{ClientVersion, ResourceState, WatchedType};

/// What a stream says of one resource.
#[derive(Clone, Debug)]
pub struct ResourceDelivery {
    /// The type of the resource.
    pub kind: ResourceKind,
    /// The name of the resource, as the client has it.
    pub name: Arc<str>,
    /// The newest version that left for the client; it may have refused it.
    pub sent: Option<DeliveredVersion>,
    /// The newest version that the client took, and runs while it takes no other.
    pub acked: Option<DeliveredVersion>,
}

/// A version that a client was sent.
#[derive(Clone, Debug)]
pub struct DeliveredVersion {
    /// The version, a hash of what the resource says.
    pub version: Version,
    /// What it said; not known of what the client brought along from an earlier stream.
    pub resource: Option<Arc<Resource>>,
}

impl DeliveredVersion {
    fn of(resource: &Arc<Resource>) -> Self {
        Self { version: resource.version, resource: Some(resource.clone()) }
    }
}

impl Session {
    /// Each resource that the client was told of. A walk over all that it holds: for questions about one client.
    #[must_use]
    pub fn deliveries(&self) -> Vec<ResourceDelivery> {
        let types = ResourceKind::ALL.into_iter().map(|kind| (kind, self.state(kind)));
        types
            .flat_map(|(kind, state)| state.held.iter().map(move |held| self.delivery(kind, state, held)))
            .collect()
    }

    fn delivery(
        &self,
        kind: ResourceKind,
        state: &WatchedType,
        (name, held): (&Arc<str>, &ResourceState),
    ) -> ResourceDelivery {
        let acked = match (&held.accepted, held.known) {
            (Some(resource), _) => Some(DeliveredVersion::of(resource)),
            (None, ClientVersion::Exact(version)) => Some(DeliveredVersion { version, resource: None }),
            (None, ClientVersion::Unknown | ClientVersion::Unconfirmed | ClientVersion::Absent) => None,
        };
        let sent = match &held.in_flight {
            Some(in_flight) => in_flight.resource.as_ref().map(DeliveredVersion::of),
            None => {
                match state.rejected.get(name).filter(|rejected| self.is_refused(kind, state, rejected)) {
                    Some(rejected) => Some(DeliveredVersion { version: rejected.version, resource: None }),
                    None => acked.clone(),
                }
            }
        };
        ResourceDelivery { kind, name: name.clone(), sent, acked }
    }
}
