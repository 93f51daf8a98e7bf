//! The words that travel between the parts of Weft.
//!
//! Names and identities, the REST documents and their client, the join protocol, the unit of compiled
//! configuration ([`Resource`]), and the JSON form of Envoy's messages. Values only: no sockets are opened here
//! but by [`client`], [`probe`] and [`supervisor`], and no server code lives here.

pub mod address;
#[cfg(feature = "backoff")]
pub mod backoff;
pub mod cause;
#[cfg(feature = "client")]
pub mod client;
pub mod context;
pub mod edge_statistic;
#[cfg(feature = "flags")]
pub mod flags;
#[cfg(feature = "json")]
pub mod json;
pub mod log_event;
mod log_throttle;
pub mod names;
pub mod probe;
pub mod resource;
pub mod rest;
pub mod supervisor;
pub mod system_roots;
pub mod text;
pub mod token;

/// The join protocol, generated from `proto/weft/join/v1/join.proto`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unused_qualifications,
    clippy::all,
    clippy::too_many_lines
)]
pub mod join {
    tonic::include_proto!("weft.join.v1");
}

/// How weft-proxies tell of requests that somebody looks on, generated from `proto/weft/tap/v1/tap.proto`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unused_qualifications,
    clippy::all,
    clippy::too_many_lines
)]
pub mod tapping {
    tonic::include_proto!("weft.tap.v1");
}

/// Major and minor version of the oldest Envoy that is served; an older one is refused with a sentence.
pub const OLDEST_ENVOY: (u32, u32) = (1, 36);

pub use address::{ControlPlanes, Host, HostPort, host_and_port};
#[cfg(feature = "backoff")]
pub use backoff::Backoff;
pub use context::{CONTEXT_FILE, Context};
pub use edge_statistic::{EdgeStatistic, HISTOGRAM_BOUNDS, Measured, StatisticKind, shadow_denied};
pub use log_event::{LOG_EVENTS, LogEvent};
pub use log_throttle::LogThrottle;
pub use names::{Destination, Name, ServiceId, SpiffeId, TrustDomain, WorkloadId};
pub use resource::{Resource, ResourceKey, ResourceKind, ResourceRef, Version};
pub use token::JoinToken;
