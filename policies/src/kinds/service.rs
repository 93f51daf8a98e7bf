//! Service: a name, its ports, and which workloads are its members.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::names::cluster_name;
use weft_api::{Name, ServiceId};

use crate::value::{Hostname, PortRef};

mod check;
mod health_check;
mod spec;

pub use super::port::{Port, Protocol};
pub use health_check::{GrpcProbe, HealthCheck, HttpProbe, NoProbe, Probe, TcpProbe};

/// How many bytes `PORT.SERVICE.NAMESPACE` and `WORKLOAD.SERVICE.NAMESPACE` may have without dots: with the two dots,
/// one more and a trust domain of 120 bytes they stay below the 253 of a DNS name.
pub const SNI_LABELS_MAX: usize = 130;

/// A name, its ports, and which workloads are its members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Where callers reach it.
    pub ports: Vec<Port>,
    /// The workloads of its namespace that belong to it. Those that name it in their `services` belong to it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Named parts of the members, which a route can choose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subsets: Vec<Subset>,
    /// How each sidecar checks its own application; by a connection to each port where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// More names by which callers know it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<Hostname>,
}

/// Labels that a workload must have, all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// The labels; none select nothing.
    pub match_labels: BTreeMap<String, String>,
}

impl Selector {
    /// Whether a workload with `labels` is selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.match_labels.is_empty() && has_labels(labels, &self.match_labels)
    }
}

/// A named part of the members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subset {
    /// The name, unique in the service.
    pub name: Name,
    /// The labels that its members have, beside being members of the service.
    pub match_labels: BTreeMap<String, String>,
}

impl Subset {
    /// Whether a member with `labels` is in this subset.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        has_labels(labels, &self.match_labels)
    }
}

fn has_labels(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

impl Service {
    /// The port with this name.
    #[must_use]
    pub fn port(&self, name: &Name) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == *name)
    }

    /// The port with this number.
    #[must_use]
    pub fn port_number(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.port == number)
    }

    /// The port that a reference means.
    #[must_use]
    pub fn find_port(&self, port: &PortRef) -> Option<&Port> {
        super::port::find(&self.ports, port)
    }

    /// The port that a backend means, which need not say so where there is one alone.
    pub(crate) fn backend_port(&self, number: Option<u16>) -> Option<&Port> {
        match (number, &self.ports[..]) {
            (Some(number), _) => self.port_number(number),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// The names of a port's clusters: its own, and that of each subset.
    pub(crate) fn names_of_clusters<'a>(
        &'a self,
        service: &'a ServiceId,
        port: &'a Port,
    ) -> impl Iterator<Item = (String, Option<&'a Subset>)> {
        std::iter::once(None).chain(self.subsets.iter().map(Some)).map(move |subset| {
            let name = subset.map(|subset| subset.name.as_str());
            (cluster_name(service, port.name.as_str(), name), subset)
        })
    }

    /// How each sidecar checks its own application.
    #[must_use]
    pub fn health_check(&self) -> Cow<'_, HealthCheck> {
        self.health_check.as_ref().map_or_else(|| Cow::Owned(HealthCheck::implicit()), Cow::Borrowed)
    }

    /// Whether an application is checked at all.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        self.health_check.as_ref().is_none_or(|check| check.none.is_none())
    }

    /// The subset with this name.
    #[must_use]
    pub fn subset(&self, name: &Name) -> Option<&Subset> {
        self.subsets.iter().find(|subset| subset.name == *name)
    }
}
