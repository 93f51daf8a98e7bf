//! The documents of the REST API, as server and clients share them.

mod access;
mod authority;
mod check;
mod configuration;
mod diff;
mod edges;
mod explain;
mod history;
mod mesh;
mod problem;
mod requests;
mod session;
mod status;
mod taps;

pub use access::*;
pub use authority::*;
pub use check::*;
pub use configuration::*;
pub use diff::*;
pub use edges::*;
pub use explain::*;
pub use history::*;
pub use mesh::*;
pub use problem::*;
pub use requests::*;
pub use session::*;
pub use status::*;
pub use taps::*;

/// For counts that are told where there are any.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}
