//! The documents of the REST API, as server and clients share them.

mod edges;
mod mesh;
mod problem;
mod requests;
mod session;
mod taps;

pub use edges::*;
pub use mesh::*;
pub use problem::*;
pub use requests::*;
pub use session::*;
pub use taps::*;
