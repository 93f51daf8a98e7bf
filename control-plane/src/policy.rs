//! The policies: a log of opaque documents, and the repository that knows what they mean.

pub mod log;
pub mod repository;
