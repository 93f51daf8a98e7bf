//! Weft's control plane.

pub mod admin;
pub mod args;
pub mod ca;
pub mod clock;
pub mod descriptors;
pub mod discovery;
pub mod edges;
pub mod grants;
pub mod health;
pub mod instances;
pub mod join;
pub mod leader;
pub mod listener;
pub mod liveness;
pub mod mesh_state;
pub mod metrics;
pub mod operator;
pub mod peer;
pub mod policies;
pub mod policy_log;
pub mod presence;
pub mod private_file;
pub mod reconciler;
pub mod registry;
pub mod rest;
pub mod revocation;
pub mod secrets;
mod seldom;
pub mod server;
pub mod source;
pub mod store_error;
pub mod telemetry;
pub mod tls;
pub mod tokens;
pub mod workloads;

pub use store_error::StoreError;
