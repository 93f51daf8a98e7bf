//! The whole control plane in one process, from outside: REST over HTTP, joins and streams over mutual TLS.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod api;
mod arrival;
mod backup;
mod bounds;
mod configuration;
mod diff;
mod entrance;
mod health;
mod history;
mod liveness;
mod objects;
mod peer;
mod plane;
mod proxy;
mod replicas;
mod reseal;
mod restart;
mod roles;
mod sessions;
mod status;
mod store_room;
mod stored;
mod strangers;
mod supervision;
mod takedown;
mod taps;
mod watch;

#[path = "../../store/tests/store/etcd_server.rs"]
#[allow(dead_code, reason = "the store's own tests use the rest of it")]
mod etcd_server;
