//! From a valid policy set and the registry's workloads to Envoy's resources.
//!
//! Pure: no clock, no files, no randomness; equal input gives equal bytes in every process, since versions are hashes
//! of the bytes. It does not decide who is sent what, nor in which order: that is the control plane's and the
//! session's.
//!
//! ```text
//!   Model { set, workloads }
//!     | affected(changes, old, new)         which units a change touches
//!   Unit::ServicePort  -> Cluster + ClusterLoadAssignment, and one pair for each subset      shared by all
//!   Unit::Routes       -> RouteConfiguration "outbound/NAMESPACE" from per-service VirtualHosts  shared by callers
//!   Unit::Workload     -> listeners and the clusters of its own application                  that sidecar's own
//! ```

mod cluster;
mod endpoints;
mod health;
mod hosts;
mod http;
mod inbound;
mod model;
mod outbound;
mod overrides;
mod rbac;
mod route;
mod tls;
mod traffic;
mod units;
mod unknown_hosts;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_api::names::ServiceId;
use weft_api::resource::Resource;

pub use health::health_checks;
pub use hosts::HostCache;
pub use model::{
    ControlPlaneAddresses, Health, Locality, Model, ProxyType, Upstream, WorkloadState, Workloads,
};
pub use units::{Change, Unit, affected, all_units};

use crate::set::PolicyKey;

/// A resource, and the policies whose status its acknowledgement is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The resource.
    pub resource: Arc<Resource>,
    /// The policies that shaped it, sorted.
    pub origins: Vec<PolicyKey>,
}

/// Compiles one unit. What the unit no longer gives (a service that is gone gives nothing) is to be removed.
#[must_use]
pub fn compile(unit: &Unit, model: &Model<'_>) -> Vec<Compiled> {
    compile_with(unit, model, &mut HostCache::default())
}

/// Compiles one unit, taking the virtual hosts of services that did not change from `cache`. The caller tells the
/// cache about changes with [`HostCache::forget`].
#[must_use]
pub fn compile_with(unit: &Unit, model: &Model<'_>, cache: &mut HostCache) -> Vec<Compiled> {
    match unit {
        Unit::ServicePort(service, port) => cluster::compile(service, port, model),
        Unit::Routes(namespace) => hosts::compile(namespace, model, cache),
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

/// Collects the policies that shape a resource.
#[derive(Debug, Default, Clone)]
struct Origins(BTreeSet<PolicyKey>);

impl Origins {
    fn of_service(service: &ServiceId) -> Self {
        let mut origins = Self::default();
        origins.service(service);
        origins
    }

    fn service(&mut self, service: &ServiceId) {
        self.add(PolicyKey::of_service(service));
    }

    fn add(&mut self, key: PolicyKey) {
        self.0.insert(key);
    }

    fn extend(&mut self, keys: impl IntoIterator<Item = PolicyKey>) {
        self.0.extend(keys);
    }

    fn into_vec(self) -> Vec<PolicyKey> {
        self.0.into_iter().collect()
    }
}
