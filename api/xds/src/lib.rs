//! How xDS resources travel.
//!
//! ```text
//!   View ──on_update──► server::Session ──Response──► transport ~~ wire ~~ transport ──► client::Session ──► Update
//!                            ▲      └──Event──► status of policies and proxies              │
//!                            └────────────── Request (subscribe, ACK, NACK) ◄───────────────┘
//! ```
//!
//! Sessions are state machines: they do no I/O and read no clock, so that tests can reorder, cut and replay
//! what travels. Only [`transport`] knows tonic and tokio. What the resources mean is no concern of this
//! crate: a resource is a name, a content hash, bytes, and the names it refers to.
//!
//! Rules are cited by id (`S5`, `W1`, …); the list is in the design notes on the discovery protocol and every id in scope
//! has a test that carries it.

mod access_logs;
pub mod client;
pub mod interest;
pub mod mailbox;
mod sanitize;
pub mod server;
pub mod source;
pub mod transport;
pub mod view;
pub mod wire;

pub use interest::Interest;
pub use view::{Changes, Layer, View};
