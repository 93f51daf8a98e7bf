//! A compiled resource, for whom it is, and which policies shaped it.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_api::names::{Name, ServiceId, route_configuration_name, vhds_route_configuration_name};
use weft_api::resource::Resource;

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
    /// What is sent: name, version, encoded body.
    pub resource: Arc<Resource>,
    /// The policies that shaped it, sorted.
    pub origins: Vec<PolicyKey>,
    /// Whom it is for: proxies that are told virtual hosts in this form, or all.
    pub form: Option<RouteForm>,
}

impl Compiled {
    pub(super) fn new(resource: Arc<Resource>, origins: Vec<PolicyKey>) -> Self {
        Self { resource, origins, form: None }
    }
}

/// Collects the policies that shape a resource.
#[derive(Debug, Default, Clone)]
pub(super) struct Origins(BTreeSet<PolicyKey>);

impl Origins {
    pub(super) fn of_service(service: &ServiceId) -> Self {
        Self::of(PolicyKey::of_service(service))
    }

    pub(super) fn of(key: PolicyKey) -> Self {
        Self(BTreeSet::from([key]))
    }

    pub(super) fn add(&mut self, key: PolicyKey) {
        self.0.insert(key);
    }

    pub(super) fn extend(&mut self, keys: impl IntoIterator<Item = PolicyKey>) {
        self.0.extend(keys);
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(super) fn into_vec(self) -> Vec<PolicyKey> {
        self.0.into_iter().collect()
    }
}
