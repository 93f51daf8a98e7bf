//! The engine with a runtime built by hand, between real sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod authority;
mod filters;
mod harness;
mod http;
mod life;
mod limits;
mod local_replies;
mod reuse;
mod revocation;
mod stalls;
mod streams;
mod tcp;
mod tls;
mod upgrades;
