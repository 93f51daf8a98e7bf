//! Where a request goes, and whether it may: the decisions of Envoy's routes and of its RBAC filters.
//!
//! ```text
//!   path ──▶ normalised ──▶ RoutingTable::find ──▶ route ──▶ ClusterChoice, Redirect
//!                 └───────▶ RbacRules::evaluate ──▶ allowed, and the policy that said it
//! ```
//!
//! The proxy runs this for every request; the control plane asks it what the proxy would do. So there is one answer and not two.
//! Nothing here does I/O, reads a clock, counts, or draws random numbers: whoever asks brings them. What else a route does
//! (retries, time limits, headers, other filters) is its reader's, carried along in [`route::Route`] and [`route::VirtualHost`].

#![allow(missing_docs, reason = "a field or variant whose name says all needs no comment")]

pub mod decode;
pub mod grpc;
pub mod matcher;
pub mod metadata;
pub mod network;
pub mod path;
pub mod rbac;
pub mod rejection;
pub mod route;
