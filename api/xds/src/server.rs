//! The server's side of one discovery stream, as a state machine.
//!
//! ```text
//!   on_request ──► WatchedType (one a type): subscription, what the client holds, what is in flight
//!   on_update  ──►   │  dirty names
//!                    ▼
//!   poll ◄── decide: skip, send, remove, or wait for a reference ──► Event
//! ```
//!
//! It does no I/O and reads no clock. Contents are computed when a response leaves, from the view and the
//! subscription of that moment (U16). At most one response is outstanding for each type (S5), which is also what
//! merges a storm of changes. A view update with [`Changes::Keys`](crate::Changes::Keys) costs those names and no more.
//!
//! Order: clusters and endpoints (and secrets) go out together, since Envoy acknowledges a cluster only when it is warm;
//! listeners and routes wait until the clusters that they name are accepted (W5), and a cluster stays until
//! nothing that the client has accepted names it (W6, W7, W9).
//!
//! Not here: who may see what (the view says that), sockets, timers, encoding.

mod ack;
mod complete_set;
mod decide;
mod delivery;
mod event;
mod gate;
mod limits;
mod message;
mod request;
mod respond;
mod session;
mod status;
mod subscription;
#[cfg(test)]
mod tests;
mod watched_type;

pub use delivery::{DeliveredVersion, ResourceDelivery};
pub use event::{Blame, Rejected, SessionEvent};
pub use limits::{ACK_TIMEOUT, MAX_NAMES, MAX_RESPONSE};
pub use message::{ClientMessage, EmptyFirst, ServedTypes, ServerMessage, Variant};
pub use request::RequestError;
pub use session::Session;
pub use status::{StreamStatus, StreamTypeStatus};
