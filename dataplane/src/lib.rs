//! The data plane: a sidecar that takes Envoy's own resources.
//!
//! One control thread (xDS, admin, identity, telemetry) builds an immutable runtime; worker threads serve with
//! it. Nothing on the path of a request takes a lock or reads configuration messages.

#![allow(
    missing_docs,
    reason = "an application: items are public for its tests and binary, and a field or variant whose name says all needs no comment"
)]

pub mod access_log_service;
pub mod admin;
pub mod args;
pub mod balance;
pub mod bootstrap;
pub mod breaker;
pub mod config_dump;
pub mod control;
pub mod declare;
pub mod decode;
pub mod descriptors;
pub mod dns;
pub mod engine;
pub mod filter;
pub mod format;
pub mod fraction;
pub mod hds;
pub mod identity;
pub mod join_keep;
pub mod joining;
mod listening;
pub mod logs;
pub mod metrics_push;
pub mod otlp;
pub mod outlier;
pub mod peer;
pub(crate) mod preface;
pub(crate) mod random;
pub mod reserve;
pub mod route;
pub mod run;
pub mod runtime;
pub mod snapshot;
pub mod stats;
pub mod supervision;
pub mod tap;
pub mod tracer;
