//! Whole meshes of real processes: the control plane on a real store, weft-proxy and stock Envoy beside applications.

mod authorization;
mod backup;
mod beside;
mod dashboards;
mod dev;
mod entry;
mod existing_envoy;
mod explain;
mod grpc_routes;
mod health;
mod issuer;
mod local;
mod login;
mod numbers;
mod outage;
mod owner;
mod planted;
mod protocols;
mod refusal;
mod replicas;
mod shop;
mod steady;
mod supervised;
mod tap;
mod upgrade;
mod visibility;
