//! How objects name each other: parents and backends of routes, targets of policies, and callers.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::{Name, ServiceId};

use super::Kind;
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
    /// Its name.
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
    pub fn names_port(&self, port: &super::service::Port) -> bool {
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

/// Where traffic goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendRef {
    /// The API group, as Gateway API writes it; empty for a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The kind of backend.
    #[serde(default)]
    pub kind: BackendKind,
    /// Its name.
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

impl BackendRef {
    /// The service meant, where `namespace` is the route's.
    #[must_use]
    pub fn service(&self, namespace: &Name) -> ServiceId {
        ServiceId::new(self.namespace.clone().unwrap_or_else(|| namespace.clone()), self.name.clone())
    }

    pub(crate) fn check(&self, out: &mut Findings) {
        match self.kind {
            BackendKind::ExternalService => {
                out.not_supported("kind", "an ExternalService as backend").value("ExternalService");
            }
            BackendKind::Service => check_group(self.group.as_deref(), out),
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

/// What a policy is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetRef {
    /// The kind of target, which is also the level of the policy.
    pub kind: TargetKind,
    /// Its name: `mesh`, a namespace, a service or a route.
    pub name: Name,
    /// Its namespace; the policy's own when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    /// A part of it: the name of a service's port, or of a route's rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<Name>,
}

/// The kind of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TargetKind {
    /// The whole mesh.
    Mesh,
    /// All services of a namespace.
    Namespace,
    /// A service, or one port of it.
    Service,
    /// A route, or one rule of it.
    #[serde(rename = "HTTPRoute")]
    HttpRoute,
    /// A route, or one rule of it.
    #[serde(rename = "TCPRoute")]
    TcpRoute,
}

/// How specific a policy is about what it targets. Later ones win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The whole mesh.
    Mesh,
    /// A namespace.
    Namespace,
    /// A service.
    Service,
    /// One port of a service.
    ServicePort,
    /// A route.
    Route,
    /// One rule of a route.
    RouteRule,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mesh => "mesh",
            Self::Namespace => "namespace",
            Self::Service => "service",
            Self::ServicePort => "service port",
            Self::Route => "route",
            Self::RouteRule => "route rule",
        })
    }
}

impl TargetRef {
    /// The level at which a policy with this target speaks.
    #[must_use]
    pub fn level(&self) -> Level {
        match (self.kind, self.section_name.is_some()) {
            (TargetKind::Mesh, _) => Level::Mesh,
            (TargetKind::Namespace, _) => Level::Namespace,
            (TargetKind::Service, false) => Level::Service,
            (TargetKind::Service, true) => Level::ServicePort,
            (TargetKind::HttpRoute | TargetKind::TcpRoute, false) => Level::Route,
            (TargetKind::HttpRoute | TargetKind::TcpRoute, true) => Level::RouteRule,
        }
    }

    /// The namespace of the target, where `namespace` is the policy's.
    #[must_use]
    pub fn namespace<'a>(&'a self, namespace: &'a Name) -> &'a Name {
        self.namespace.as_ref().unwrap_or(namespace)
    }

    /// The kind of object that is targeted, where it is one.
    #[must_use]
    pub const fn object_kind(&self) -> Option<Kind> {
        match self.kind {
            TargetKind::Mesh | TargetKind::Namespace => None,
            TargetKind::Service => Some(Kind::Service),
            TargetKind::HttpRoute => Some(Kind::HttpRoute),
            TargetKind::TcpRoute => Some(Kind::TcpRoute),
        }
    }

    /// Notes what is wrong with the target by itself, of a policy in `namespace`.
    pub(crate) fn check(&self, namespace: &Name, out: &mut Findings) {
        match self.kind {
            TargetKind::Mesh => {
                if self.name.as_str() != super::mesh::MESH_NAME {
                    out.add_at("name", Code::InvalidValue, "the Mesh is named mesh").value(&self.name);
                }
                self.refuse_part("a Mesh", out);
            }
            TargetKind::Namespace => {
                if self.namespace.as_ref().is_some_and(|namespace| *namespace != self.name) {
                    out.add_at("namespace", Code::Inconsistent, "a namespace is not in another one")
                        .hint("leave namespace out");
                }
                if self.name != *namespace {
                    out.not_supported("name", "a target namespace other than the policy's own")
                        .value(&self.name)
                        .hint(format!("put the policy into namespace {}", self.name));
                }
                self.refuse_part("a Namespace", out);
            }
            TargetKind::Service | TargetKind::HttpRoute | TargetKind::TcpRoute => {
                if self.namespace.as_ref().is_some_and(|of_target| of_target != namespace) {
                    out.not_supported("namespace", "a target in another namespace than the policy's own")
                        .hint(format!("put the policy into namespace {}", self.namespace(namespace)));
                }
            }
        }
    }

    fn refuse_part(&self, whole: &str, out: &mut Findings) {
        if self.section_name.is_some() {
            out.add_at("sectionName", Code::Inconsistent, format!("{whole} has no sections"));
        }
    }
}

impl fmt::Display for TargetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            TargetKind::Mesh => "Mesh",
            TargetKind::Namespace => "Namespace",
            TargetKind::Service => "Service",
            TargetKind::HttpRoute => "HTTPRoute",
            TargetKind::TcpRoute => "TCPRoute",
        };
        write!(f, "{kind} {}", self.name)?;
        match &self.section_name {
            Some(section) => write!(f, " section {section}"),
            None => Ok(()),
        }
    }
}

/// Notes what is wrong with the targets of a policy in `namespace`.
pub(crate) fn check_targets(targets: &[TargetRef], namespace: &Name, out: &mut Findings) {
    if targets.is_empty() {
        out.add_at("targetRefs", Code::Required, "a policy names at least one target");
    }
    out.each("targetRefs", targets, |out, target| target.check(namespace, out));
    out.unique("targetRefs", targets, "", |target| {
        let namespace = target.namespace(namespace);
        format!("{target} in namespace {namespace}")
    });
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
