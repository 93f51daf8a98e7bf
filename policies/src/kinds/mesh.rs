//! Mesh: posture and trust. There is one, named `mesh`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::Name;

use super::kind::Kind;
use crate::metadata::default_namespace;
use crate::object::PolicyKey;
use crate::value::{CollectorUrl, Timespan};

mod check;
mod spec;

pub(crate) use check::check_sampling;

/// The name that the one Mesh object has.
pub const MESH_NAME: &str = "mesh";

/// The key of the one Mesh object.
///
/// # Panics
/// Never: its name is a label.
#[must_use]
pub fn key() -> PolicyKey {
    let name = Name::try_new(MESH_NAME).expect("a valid label");
    PolicyKey::new(Kind::Mesh, default_namespace(), name)
}

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
    /// The collector that spans are sent to, by OTLP over gRPC.
    pub endpoint: CollectorUrl,
    /// Percentage of requests that begin a trace, 10 when it is left out. Where a caller has begun one already, what it
    /// decided holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub sampling: Option<f64>,
}

impl Tracing {
    /// The share that holds: one request of ten is seen at once by who tries it, and cheap enough to be left on.
    #[must_use]
    pub fn share(&self) -> TraceShare {
        TraceShare::of_percent(self.sampling.unwrap_or(10.0))
    }
}

/// A share of requests, in parts of ten thousand: proxies count no finer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TraceShare(u32);

impl TraceShare {
    /// No request is traced unless its caller asks for it.
    pub const NONE: Self = Self(0);

    /// A percentage of 0 to 100.
    #[must_use]
    pub fn of_percent(percent: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is 0 to 100")]
        Self((percent.clamp(0.0, 100.0) * 100.0).round() as u32)
    }

    /// So many of ten thousand.
    #[must_use]
    pub const fn per_ten_thousand(self) -> u32 {
        self.0
    }
}
