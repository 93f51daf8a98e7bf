//! The demo application, the harness, load generators, end-to-end tests and benchmarks of Weft.

pub mod demo;
pub mod harness;
pub mod load;
pub mod tokens;
