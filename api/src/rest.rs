//! The documents of the REST API, as server and clients share them.

mod access;
mod check;
mod diff;
mod edges;
mod history;
mod mesh;
mod problem;
mod requests;
mod session;
mod taps;

pub use access::*;
pub use check::*;
pub use diff::*;
pub use edges::*;
pub use history::*;
pub use mesh::*;
pub use problem::*;
pub use requests::*;
pub use session::*;
pub use taps::*;
