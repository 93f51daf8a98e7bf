//! The documents of the REST API, as server and clients share them.

mod access;
mod diff;
mod edges;
mod explain;
mod history;
mod mesh;
mod problem;
mod requests;
mod session;
mod taps;

pub use access::*;
pub use diff::*;
pub use edges::*;
pub use explain::*;
pub use history::*;
pub use mesh::*;
pub use problem::*;
pub use requests::*;
pub use session::*;
pub use taps::*;
