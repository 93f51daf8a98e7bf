//! Mesh: posture and trust. There is one, named `mesh`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::Timespan;

mod check;
mod spec;

/// The name that the one Mesh object has.
pub const MESH_NAME: &str = "mesh";

/// Posture and trust of the whole mesh.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mesh {
    /// What holds where no policy says otherwise.
    #[serde(default)]
    pub defaults: Defaults,
    /// How long certificates of workloads are valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<CertificateLifetimes>,
    /// Which requests are traced, and where spans go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
}

/// What holds where no policy says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Defaults {
    /// Whether services take connections without mutual TLS.
    #[serde(default)]
    pub mtls: MtlsMode,
    /// What happens to a request that no AuthorizationPolicy speaks of.
    #[serde(default)]
    pub authorization: DefaultAction,
    /// What happens to calls to hosts that the mesh does not know.
    #[serde(default)]
    pub outbound: OutboundMode,
    /// Which services a sidecar is told of.
    #[serde(default)]
    pub view: DefaultView,
}

/// Whether services take connections without mutual TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MtlsMode {
    /// They take mutual TLS and nothing else.
    #[default]
    Strict,
    /// Mutual TLS, and plain connections on a port of their own.
    Permissive,
}

/// What happens to a request that no AuthorizationPolicy speaks of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DefaultAction {
    /// It passes, from any member of the mesh.
    #[default]
    Allow,
    /// It is refused: only what an AuthorizationPolicy allows passes.
    Deny,
}

/// What happens to calls to hosts that the mesh does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OutboundMode {
    /// They are refused by the caller's own sidecar.
    #[default]
    RegistryOnly,
    /// They are forwarded as they are, but never to the machine itself or to its link.
    Allow,
}

/// Which services a sidecar is told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "View")]
pub enum DefaultView {
    /// All services of the mesh.
    #[default]
    All,
    /// Those in its `upstreams`, and those that an AuthorizationPolicy of action Allow lets it call by name. Where
    /// `authorization` is Deny: those that one lets it call at all.
    Declared,
    /// Each at first use.
    OnDemand,
}

/// How long certificates of workloads are valid, and when they are renewed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Identity")]
pub struct CertificateLifetimes {
    /// How long a workload's certificate is valid, 10 minutes to 7 days.
    #[serde(default, rename = "leafTTL", skip_serializing_if = "Option::is_none")]
    pub leaf_ttl: Option<Timespan>,
    /// After which percentage of that it is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 90))]
    pub rotate_at: Option<u8>,
}

/// Which requests are traced, and where spans go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tracing {
    /// Where traces go, an OTLP endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Percentage of requests that are traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub sampling: Option<f64>,
}
