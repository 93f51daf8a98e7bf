//! TLS as the control plane serves it: TLS 1.3, aws-lc-rs, identities of the mesh on both sides.
//!
//! ```text
//! ca::Authority ──issues──▶ ServerIdentity ──┐
//!              └──bundle──────────────────────┴─▶ ServerConfig ──watch──▶ TlsServer (each new connection)
//! ```
//!
//! A client's certificate is verified against the bundle and must be exactly one identity of the trust domain; who
//! it is stands in the request's extensions as [`Peer`]. What a peer may do is decided by the handlers.

mod connections;
mod keeper;
mod lifetime;
mod peer;
mod pulse;
mod server;
mod settings;
mod verifier;

pub use connections::Connections;
pub use keeper::{ListenerTls, TlsError, spawn_keeper};
pub use peer::{Peer, PeerError, identify};
pub use server::{
    API_STREAMS, HANDSHAKE_TIMEOUT, ListenerCounters, MAX_HEADERS, PENDING_HANDSHAKES, TlsServer, XDS_STREAMS,
};
pub use settings::{ServerTls, provider, server_config};
pub use verifier::ClientCertificates;

#[cfg(test)]
mod tests;
