//! The documents of the REST API, as server and clients share them.

mod mesh;
mod problem;

pub use mesh::*;
pub use problem::*;
