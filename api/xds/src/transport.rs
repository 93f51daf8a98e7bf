//! Sessions over gRPC: thin adapters between tonic and the state machines. Clocks, tasks and sockets live here and
//! nowhere else in the crate.

mod admission;
pub mod buckets;
pub mod client;
mod peer;
pub mod server;
mod stream;

pub use admission::{Excess, MAX_CHILD_STREAMS, MAX_STREAMS, Purpose};
pub use peer::{NodeClaim, PeerIdentity};
