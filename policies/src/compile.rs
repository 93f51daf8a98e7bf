//! From a valid policy set and the registry's workloads to Envoy's resources.
//!
//! Pure: no clock, no files, no randomness; equal input gives equal bytes in every process, since versions are hashes
//! of the bytes. It does not decide who is sent what, nor in which order: that is the control plane's and the
//! session's.
//!
//! ```text
//!   Model { set, workloads }
//!     | affected(changes, old, new)         which units a change touches
//!   Unit::Cluster      -> Cluster, and one for each subset                             of all callers
//!   Unit::Endpoints    -> ClusterLoadAssignment, and one for each subset               of all callers
//!   Unit::Hosts        -> VirtualHost of each HTTP port                                of callers in one namespace
//!   Unit::Routes       -> RouteConfiguration that takes those by VHDS                  of callers in one scope
//!   Unit::Workload     -> listeners and the clusters of its own application            of one sidecar
//! ```
//!
//! A proxy that does not take virtual hosts by VHDS is given them within one RouteConfiguration, see [`RouteForm`].

mod access_log;
mod cluster;
mod collector;
mod compiled;
mod endpoints;
mod external;
mod hashing;
mod health;
mod hosts;
mod http;
mod inbound;
mod jwt;
mod local_reply;
mod model;
mod outbound;
mod overrides;
mod rbac;
mod request_log;
mod route;
mod scope;
mod server;
mod tap;
mod tls;
mod tracing;
mod traffic;
mod units;
mod unknown_hosts;
mod wire;

pub use cluster::built_in_of_backends;
pub use compiled::{Compiled, RouteForm};
pub use health::health_checks;
pub use hosts::route_table;
pub use inbound::application_ip;
pub use model::{
    ControlPlaneAddresses, Health, Locality, Model, ProxyType, UpstreamListener, WorkloadState, Workloads,
};
pub use scope::{Scope, Viewers, Visibility};
pub use traffic::built_in_of_requests;
pub use units::{Change, Unit, affected, all_units};

use crate::kinds::backend::Backend;

/// Compiles one unit. What the unit no longer gives (a service that is gone gives nothing) is to be removed.
#[must_use]
pub fn compile(unit: &Unit, model: &Model<'_>) -> Vec<Compiled> {
    match unit {
        Unit::Cluster(backend, port) => match model.set.backend(backend) {
            Some(Backend::Service(_)) => cluster::compile(backend, port, model),
            Some(Backend::External(external)) => {
                external::cluster(external, port, model).into_iter().collect()
            }
            None => Vec::new(),
        },
        Unit::Endpoints(service, port) => endpoints::compile(service, port, model),
        Unit::Hosts(service, namespace) => hosts::compile(service, namespace, model),
        Unit::Routes(scope) => hosts::route_configuration(scope, model).into_iter().collect(),
        Unit::Workload(workload) => match model.workloads.get(workload).filter(|state| state.has_sidecar()) {
            Some(state) => {
                let mut compiled = inbound::compile(state, model);
                compiled.extend(outbound::compile(state, model));
                compiled
            }
            None => Vec::new(),
        },
    }
}
