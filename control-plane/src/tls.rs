//! TLS as the control plane serves it: TLS 1.3, aws-lc-rs, identities of the mesh on both sides.
//!
//! ```text
//! ca::Authority ──issues──▶ ServerIdentity ──┐
//!              └──bundle──────────────────────┴─▶ ServerConfig ──watch──▶ Listener (each new connection)
//! ```
//!
//! A client's certificate is verified against the bundle and must be exactly one identity of the trust domain; who
//! it is stands in the request's extensions as [`Peer`]. What a peer may do is decided by the handlers.

mod keeper;
mod peer;
mod settings;
mod shown;
mod verifier;

pub use keeper::{ListenerTls, ListenerTlsError, spawn_keeper};
pub use peer::{Peer, PeerError, identify};
pub use settings::{ServerTls, provider, server_config};
pub(crate) use shown::{ExpiredCertificate, watching};
pub use verifier::ClientCertificates;

#[cfg(test)]
mod tests;
