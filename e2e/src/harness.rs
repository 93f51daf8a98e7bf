//! A whole mesh for a test: real processes, found where cargo put them, on loopback addresses of their own.
//!
//! ```text
//! Mesh ─┬─ etcd (when asked for)
//!       ├─ weft-control-plane
//!       └─ Workload ─┬─ weft-demo
//!                    └─ weft-proxy, or Envoy with weft-proxy join --keep
//! ```
//!
//! Everything waits for a condition with a deadline. Every process logs to a file of its own; when a test fails, the
//! ends of all of them are printed. When the mesh is dropped, or the test is killed, every process ends.

mod address;
mod calls;
mod collector;
mod control_plane;
mod conversation;
mod descent;
mod door;
mod etcd;
mod forge;
mod impostor;
mod joiner;
mod machines;
mod mesh;
mod odd_application;
mod offline_root;
mod owned;
mod page;
mod process;
mod program;
mod responder;
mod standalone;
mod stream;
mod supervisor;
mod tls;
mod wait;
mod workload;

pub use address::{Subnet, free_port};
pub use calls::{Answer, Calls, GrpcFinding};
pub use collector::{OtelCollector, ReceivedLog, ReceivedSpan};
pub use control_plane::ControlPlane;
pub use conversation::Conversations;
pub use descent::{child, children, marked_by};
pub use door::{Door, Visit};
pub use etcd::Etcd;
pub use forge::{Forger, leaf_params};
pub use impostor::{Impostor, Visits};
pub use joiner::{Joined, NewKey, channel, described, join, join_with};
pub use machines::{Machine, MachineNetwork, Place};
pub use mesh::{CONVERGES, Mesh, Options, StoreKind};
pub use odd_application::{Manner, OddApplication};
pub use offline_root::OfflineRoot;
pub use owned::OwnerEnvoy;
pub use page::{DocPage, Walkthrough};
pub use process::{Process, tails as process_tails};
pub use program::{
    Age, collector as collector_program, envoy as envoy_program, envoys as envoy_programs,
    etcd as etcd_program, ours, system,
};
pub use responder::Responder;
pub use standalone::Standalone;
pub use stream::XdsStream;
pub use supervisor::SupervisorSocket;
pub use tls::{Presented, dial, serial};
pub use wait::until;
pub use workload::{Builder, Pair, Sidecar, Workload, envoy_flags};

/// Whether the long counts are asked for: `make soak` sets `WEFT_SOAK=1`.
#[must_use]
pub fn soak() -> bool {
    std::env::var("WEFT_SOAK").is_ok_and(|value| value == "1")
}

/// One of two numbers: for `make test`, and for `make soak`.
#[must_use]
pub fn short_or_long<T>(short: T, long: T) -> T {
    if soak() { long } else { short }
}
