//! The contract of [`weft_store::Store`], checked against every engine, and what each engine survives.
//!
//! `WEFT_SOAK=1` runs the long counts.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod backup;
mod bench;
mod conformance;
mod crash;
mod embedded;
mod etcd;
mod etcd_server;
mod filling;
mod follower;
mod leases;
