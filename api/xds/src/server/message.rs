//! What travels on a discovery stream, of which types, and in which of the two protocols.

use weft_api::resource::ResourceKind;

use crate::wire;

/// Which of the two protocols a stream speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Variant {
    /// State of the world: requests carry the whole subscription.
    Sotw,
    /// Incremental: requests carry changes of the subscription.
    Delta,
}

/// Which types a stream serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServedTypes {
    /// All types on one stream (ADS); only here can types be ordered.
    Aggregated,
    /// One type, by the service of its own; requests of another type are an error.
    Only(ResourceKind),
}

/// What an empty first request of a listener, cluster or virtual host subscription means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EmptyFirst {
    /// Everything (Envoy; U1).
    Wildcard,
    /// Nothing (gRPC; U2).
    Nothing,
}

/// A message from the client.
#[derive(Clone, PartialEq, Debug)]
pub enum ClientMessage {
    /// On a state-of-the-world stream.
    Sotw(wire::DiscoveryRequest),
    /// On a delta stream.
    Delta(wire::DeltaDiscoveryRequest),
}

/// A message to the client.
#[derive(Clone, PartialEq, Debug)]
pub enum ServerMessage {
    /// On a state-of-the-world stream.
    Sotw(wire::DiscoveryResponse),
    /// On a delta stream.
    Delta(wire::DeltaDiscoveryResponse),
}
