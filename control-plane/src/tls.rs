//! TLS as the control plane serves it: TLS 1.3, aws-lc-rs, identities of the mesh on both sides.
//!
//! ```text
//! ca::Authority ──issues──▶ ServerIdentity ──┐
//!              └──bundle──────────────────────┴─▶ ServerConfig ──watch──▶ Listener (each new connection)
//! ```
//!
//! A client's certificate is verified against the bundle and must be exactly one identity of the trust domain; who
//! it is stands in the request's extensions as [`Peer`]. What a peer may do is decided by the handlers.

mod connections;
mod keeper;
mod lifetime;
mod peer;
mod pulse;
mod settings;
mod verifier;

pub use connections::{CONNECTIONS_OF_A_WORKLOAD, Connections};
pub use keeper::{ListenerTls, TlsError, spawn_keeper};
pub(crate) use lifetime::Lifetime;
pub use peer::{Peer, PeerError, identify};
pub(crate) use pulse::Pinged;
pub use settings::{ServerTls, provider, server_config};
pub use verifier::ClientCertificates;

#[cfg(test)]
pub(crate) mod tests;
