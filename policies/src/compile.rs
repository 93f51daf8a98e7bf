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
mod scope;
mod tls;
mod traffic;
mod units;
mod unknown_hosts;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_api::names::{Name, ServiceId, route_configuration_name, vhds_route_configuration_name};
use weft_api::resource::Resource;

pub use health::health_checks;
pub use hosts::route_table;
pub use model::{
    ControlPlaneAddresses, Health, Locality, Model, ProxyType, Upstream, WorkloadState, Workloads,
};
pub use scope::{Scope, Sees};
pub use units::{Change, Unit, affected, all_units};

use crate::set::PolicyKey;

/// How a proxy is told the virtual hosts of services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteForm {
    /// All in one RouteConfiguration, which is sent whole whenever one of them changes.
    Table,
    /// One resource each, by VHDS.
    VirtualHosts,
}

impl RouteForm {
    /// The RouteConfiguration of a namespace's callers. Its name differs, so that a proxy that is told otherwise than
    /// before makes the new one ready beside the old one.
    #[must_use]
    pub fn route_configuration(self, namespace: &Name) -> String {
        match self {
            Self::Table => route_configuration_name(namespace),
            Self::VirtualHosts => vhds_route_configuration_name(namespace),
        }
    }
}

/// A resource, and the policies whose status its acknowledgement is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The resource.
    pub resource: Arc<Resource>,
    /// The policies that shaped it, sorted.
    pub origins: Vec<PolicyKey>,
    /// Whom it is for: proxies that are told virtual hosts in this form, or all.
    pub form: Option<RouteForm>,
}

impl Compiled {
    fn new(resource: Arc<Resource>, origins: Vec<PolicyKey>) -> Self {
        Self { resource, origins, form: None }
    }
}

/// Compiles one unit. What the unit no longer gives (a service that is gone gives nothing) is to be removed.
#[must_use]
pub fn compile(unit: &Unit, model: &Model<'_>) -> Vec<Compiled> {
    match unit {
        Unit::Cluster(service, port) => cluster::compile(service, port, model),
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
