//! The documents of the REST API, as server and clients share them.

mod edges;
mod mesh;
mod problem;
mod session;

pub use edges::*;
pub use mesh::*;
pub use problem::*;
pub use session::*;
