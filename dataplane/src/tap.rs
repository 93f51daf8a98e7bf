//! Requests that somebody looks on as they end.
//!
//! ```text
//! control plane ──TapOrder──▶ stream ──TapSet──▶ each worker: filters, room ──TappedRequest──▶ stream ──TapReport──▶
//! ```
//!
//! A tap lives as long as orders name it, and each order for its lease only: where none comes, all end. What is wanted
//! and finds no room is counted and told as a number.

pub(crate) mod filter;
pub(crate) mod set;
pub mod stream;
