//! How routes name services and callers: parents, backends and clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::{Name, ServiceId};

use super::kind::Kind;
use super::port::Port;
use crate::finding::{Code, Findings};

/// The most traffic that a backend can weigh, as in Gateway API.
pub const WEIGHT_MAX: u32 = 1_000_000;

/// What a route hangs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParentRef {
    /// The API group, as Gateway API writes it; empty for a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The kind of parent.
    #[serde(default)]
    pub kind: ParentKind,
    /// The name of the object that the route hangs on.
    pub name: Name,
    /// Its namespace; the route's own when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    /// The number of the port; all ports of a fitting protocol when neither this nor `sectionName` is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// The name of the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<Name>,
}

/// The kind of a parent. Gateway API's own default is Gateway; in a mesh it is Service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ParentKind {
    /// Calls to a service.
    #[default]
    Service,
    /// Traffic that enters at the edge.
    Gateway,
}

impl ParentRef {
    /// The service meant, where `namespace` is the route's.
    #[must_use]
    pub fn service(&self, namespace: &Name) -> ServiceId {
        ServiceId::new(self.namespace.clone().unwrap_or_else(|| namespace.clone()), self.name.clone())
    }

    /// Whether this port of the service is meant.
    #[must_use]
    pub fn names_port(&self, port: &Port) -> bool {
        self.port.is_none_or(|number| number == port.port)
            && self.section_name.as_ref().is_none_or(|name| *name == port.name)
    }

    pub(crate) fn check(&self, out: &mut Findings) {
        match self.kind {
            ParentKind::Gateway => {
                out.not_supported("kind", "a Gateway as parent").hint("use kind: Service").value("Gateway");
            }
            ParentKind::Service => check_group(self.group.as_deref(), out),
        }
    }
}

/// A service, or a part of one, that traffic goes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendRef {
    /// The API group, as Gateway API writes it; empty for a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The kind of backend.
    #[serde(default)]
    pub kind: BackendKind,
    /// The name of the service.
    pub name: Name,
    /// Its namespace; the route's own when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    /// The number of its port; may be left out when the service has one port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// The part of its members that takes the traffic; all when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<Name>,
    /// Its share, in proportion to the sum of all; 0 sends nothing.
    #[serde(default = "default_weight")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: u32,
    /// Gateway API's filters of one backend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<super::route_filter::Filter>,
}

fn default_weight() -> u32 {
    1
}

/// The kind of a backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BackendKind {
    /// A service of the mesh.
    #[default]
    Service,
    /// Something outside of it.
    ExternalService,
}

impl BackendKind {
    /// The kind of objects that it means.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Service => Kind::Service,
            Self::ExternalService => Kind::ExternalService,
        }
    }
}

impl BackendRef {
    /// The service meant, of the mesh or outside, where `namespace` is the route's.
    #[must_use]
    pub fn service(&self, namespace: &Name) -> ServiceId {
        ServiceId::new(self.namespace.clone().unwrap_or_else(|| namespace.clone()), self.name.clone())
    }

    pub(crate) fn check(&self, out: &mut Findings) {
        check_group(self.group.as_deref(), out);
        if let (BackendKind::ExternalService, Some(subset)) = (self.kind, &self.subset) {
            out.add_at("subset", Code::Inconsistent, "an ExternalService has no subsets").value(subset);
        }
        if !self.filters.is_empty() {
            out.not_supported("filters", "filters of one backend")
                .hint("give the backend a rule of its own with these filters");
        }
    }
}

/// Notes what is wrong with a list of backends: at least one of any that are written must have a weight.
pub(crate) fn check_backends(backends: &[BackendRef], out: &mut Findings) {
    out.each("backendRefs", backends, |out, backend| backend.check(out));
    if !backends.is_empty() && backends.iter().all(|backend| backend.weight == 0) {
        out.add_at("backendRefs", Code::Inconsistent, "all weights are 0, so no backend takes traffic")
            .hint("give one backend a weight, or remove the list to answer 500");
    }
    let sum: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
    if sum > u64::from(u32::MAX) {
        out.add_at("backendRefs", Code::InvalidValue, "the sum of all weights is too large").value(sum);
    }
}

fn check_group(group: Option<&str>, out: &mut Findings) {
    if let Some(group) = group.filter(|group| !matches!(*group, "" | "core" | "weft.dev")) {
        out.add_at("group", Code::InvalidValue, format!("a Service is not in group {group:?}"))
            .value(group)
            .hint("leave group out");
    }
}

/// A caller for whom a route or policy is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientRef {
    /// The kind of caller.
    pub kind: ClientKind,
    /// The name of the namespace or service.
    pub name: Name,
    /// The namespace of the service; the document's own when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
}

/// The kind of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ClientKind {
    /// All callers of a namespace.
    Namespace,
    /// The workloads of one service.
    Service,
}
