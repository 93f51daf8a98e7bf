//! Objects, proxies and tokens.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::problem::Outcome;
use super::status::ObjectStatus;
use crate::ServiceId;

/// A stored object as the API shows it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// `weft.dev/v1`, or the Gateway API's group for its kinds.
    pub api_version: String,
    /// The kind, as documents write it: `HTTPRoute`.
    pub kind: String,
    /// Name, namespace, labels, and what the server adds.
    pub metadata: Value,
    /// What was applied, in the form in which it is kept.
    pub spec: Value,
    /// Computed when read; never stored. Of a Service or a Workload it has more fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ObjectStatus>")]
    pub status: Option<Value>,
}

/// A page of objects.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectList {
    /// The objects, ordered by namespace and name.
    pub items: Vec<Object>,
    /// Revision that the page was read at.
    pub revision: u64,
    /// Pass it as `continue` to read on; absent on the last page.
    #[serde(default, rename = "continue", skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Whether a proxy has what it should have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum Sync {
    /// It acknowledged everything that was sent.
    Synced,
    /// Something was sent and is not yet acknowledged.
    #[default]
    Pending,
    /// It refused something and runs on what it had.
    Refused,
    /// It refused something, and more than that is kept from it until what it refused changes or goes: what leads to
    /// nothing else, or the whole type where leaving a part out would delete what it runs.
    HeldBack,
    /// It has no stream at the moment.
    Disconnected,
}

impl std::fmt::Display for Sync {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Synced => "synced",
            Self::Pending => "pending",
            Self::Refused => "refused",
            Self::HeldBack => "held back",
            Self::Disconnected => "away",
        })
    }
}

/// A resource that a proxy refused, in the proxy's words.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// Names in the refused response.
    pub resources: Vec<String>,
    /// `error_detail` as it came.
    pub message: String,
    /// The policies that the resources come from, `KIND NAMESPACE/NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// One resource type on one proxy.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TypeStatus {
    /// How many resources it is subscribed to and was sent.
    pub sent: usize,
    /// How many of these it acknowledged.
    pub acked: usize,
    /// Whether it has what it should have of this type.
    pub sync: Sync,
    /// How many resources are kept from it until what it refused changes or goes.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub held_back: usize,
    /// What it has refused and still refuses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refusal>,
}

/// The newest certificate that was issued to a workload.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// Serial number in hexadecimal.
    pub serial: String,
    /// The SPIFFE id that it speaks for: `spiffe://TRUST-DOMAIN/ns/NAMESPACE/svc/SERVICE`.
    pub identity: String,
    /// Seconds since 1970 when it was issued.
    pub issued_at: i64,
    /// Seconds since 1970 when it expires.
    pub expires_at: i64,
    /// Where the private key was made: `Workload` or `ControlPlane`.
    pub key_made_by: String,
}

/// Who is connected, and what each was sent, acknowledged and refused.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyStatus {
    /// The workload, `NAMESPACE/WORKLOAD`.
    pub id: String,
    /// The service that it joined as, `NAMESPACE/SERVICE`; empty for one that a file describes and that never joined.
    pub service: String,
    /// `Weft`, `Envoy`, `GRPC` or `None`.
    pub proxy: String,
    /// It only calls others: it is a member of no service, and peers are never told of it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub client: bool,
    /// What it calls itself, for instance `envoy 1.40.0`.
    #[serde(default)]
    pub user_agent: String,
    /// The whole proxy: the worst of its types.
    pub sync: Sync,
    /// How many discovery streams it has open to the replica that answers.
    pub streams: usize,
    /// Seconds since 1970 when the oldest open stream began; 0 without one.
    pub connected_at: i64,
    /// By type: CDS, EDS, …
    pub types: BTreeMap<String, TypeStatus>,
    /// Health of the workload: `Starting`, `Healthy`, `Unhealthy`, `Degraded`, `Draining`.
    pub health: String,
    /// Why its health is that, where there is more to say: the Service that it joined as does not exist, for example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_reason: Option<String>,
    /// It was taken out of balancing by `weft drain`, and stays so until that is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<super::DrainMark>,
    /// How far its machine's clock is off, in milliseconds, where that is more than reports take on their way; positive when
    /// it is ahead of the control plane's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
    /// The newest certificate issued to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateStatus>,
    /// Its version, the label `version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The zone that it runs in, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Where peers reach it, as it declared or a file says.
    #[serde(default)]
    pub address: String,
    /// Where its join came from, when it joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined_from: Option<String>,
}

/// What a revocation took out of the mesh.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevokedProxy {
    /// The workload that was revoked, `NAMESPACE/WORKLOAD`.
    pub workload: String,
    /// Joinings of that name, the one on record and those before it whose certificates live.
    pub instances: usize,
    /// Certificates that stand on a revocation list now.
    pub leaves: usize,
}

/// The answer of `GET /v1/proxies`: all proxies that the mesh knows, connected or not.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyList {
    /// The proxies, ordered by id.
    pub items: Vec<ProxyStatus>,
    /// Revision of the configuration that is being served.
    pub revision: u64,
    /// Replicas that did not answer in time: proxies that are connected there are told of as disconnected.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub unheard: usize,
}

/// Asks for a join token.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRequest {
    /// `NAMESPACE/SERVICE` that joiners will belong to.
    #[schemars(with = "ServiceId")]
    pub service: String,
    /// Life of the token, `10m` by default, 30 days at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(
        pattern = r"^([1-9][0-9]{0,4}s|[1-9][0-9]{0,3}m|[1-9][0-9]{0,1}h|([1-9]|[12][0-9]|30)d)$"
    ))]
    pub ttl: Option<String>,
    /// How often it may be used, once by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub uses: Option<u32>,
    /// Labels that joiners may declare, `KEY=VALUE` or `KEY=*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(regex(pattern = r"^[A-Za-z0-9._/-]{1,253}=[A-Za-z0-9._-]{0,63}\*?$")))]
    pub allow_labels: Vec<String>,
    /// Addresses that joiners may declare, `10.0.0.0/8` or one address; any when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(regex(pattern = r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$")))]
    pub allow_addresses: Vec<String>,
    /// Whether joiners may declare that no proxy stands beside them, so that peers reach them in plain text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_no_proxy: bool,
    /// The Service is applied later: without this, a token for one that does not exist is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ahead: bool,
}

/// A token as it is listed: never the secret.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenInfo {
    /// What the token is listed and deleted by; it is no secret.
    pub id: String,
    /// Service of the joiners.
    pub service: String,
    /// Seconds since 1970 when it expires.
    pub expires_at: i64,
    /// Uses that are left.
    pub uses_left: u32,
    /// Labels that joiners may declare.
    #[serde(default)]
    pub allow_labels: Vec<String>,
    /// Addresses that joiners may declare; any when empty.
    #[serde(default)]
    pub allow_addresses: Vec<String>,
    /// Whether joiners may declare that no proxy stands beside them.
    #[serde(default)]
    pub allow_no_proxy: bool,
}

/// A new token, the only time its secret is shown.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewToken {
    /// What is listed from now on.
    #[serde(flatten)]
    pub info: TokenInfo,
    /// The token: give it to `weft-proxy run --join-file`.
    pub token: String,
}

/// The answer to a join token's revocation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevokedToken {
    /// What it was listed by.
    pub id: String,
    /// `Deleted`.
    pub outcome: Outcome,
}

/// The answer of `GET /v1/tokens`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct TokenList {
    /// The tokens, ordered by id.
    pub items: Vec<TokenInfo>,
}
