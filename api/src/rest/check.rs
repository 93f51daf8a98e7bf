//! What is wrong with a mesh, which versions it runs, and what a control plane tells of itself where something is.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Code of a finding of `weft` itself: it is of another minor version than the control plane.
pub const CLI_VERSION: &str = "cli_version";
/// Code of a finding of `weft` itself: the clock of its machine is off by more than half a minute.
pub const MACHINE_CLOCK: &str = "machine_clock";
/// Code of a finding of `weft` itself: a control plane that it was told of does not answer.
pub const CONTROL_PLANE_AWAY: &str = "control_plane_away";

/// How bad a finding is. Ordered from the worst.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize, JsonSchema,
)]
pub enum CheckSeverity {
    /// Something does not work, or will soon not.
    Failure,
    /// Somebody should look: it works, and is not as it should be.
    Warning,
    /// It cannot be seen from here, which is never the same as being well.
    NotKnown,
    /// It was looked at and is well.
    #[default]
    Ok,
}

impl CheckSeverity {
    /// As tables write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Warning => "warning",
            Self::NotKnown => "not known",
            Self::Ok => "ok",
        }
    }
}

/// One thing that was found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckFinding {
    /// Stable code for programs, for instance `proxy_refused`; of what is well, the area that was looked at: `proxies`.
    pub code: String,
    /// How bad it is.
    pub severity: CheckSeverity,
    /// Whom it is about: a workload, a service, a document, a control plane; empty for the whole mesh.
    #[serde(default, rename = "where", skip_serializing_if = "String::is_empty")]
    pub place: String,
    /// What is wrong, with the value.
    pub what: String,
    /// A command or a change that mends it; none for what is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// The answer of `GET /v1/check`: what all replicas know to be wrong.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckResult {
    /// The findings, the worst first; at most 20 of one code.
    pub findings: Vec<CheckFinding>,
    /// How many more there are of a code than are told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub omitted: BTreeMap<String, usize>,
    /// Whether everything was looked at; false where the caller may not read all of it.
    pub complete: bool,
    /// Version of the control plane that answers.
    pub version: String,
    /// Its time of day, milliseconds since 1970.
    pub now: u64,
}

/// One replica of the control plane, and which version it is of.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaVersion {
    /// Where other replicas reach it.
    pub address: String,
    /// Its version; none where it did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why it did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How many proxies there are of one version.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyVersion {
    /// What they call themselves: `weft-proxy 0.1.0`, `envoy 1.40.0`.
    pub agent: String,
    /// How many of them are connected.
    pub count: usize,
}

/// The answer of `GET /v1/version`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionInfo {
    /// Version of the control plane that answers.
    pub version: String,
    /// All control planes, the one that answers first.
    pub replicas: Vec<ReplicaVersion>,
    /// The proxies that are connected, of those that the caller may see.
    pub proxies: Vec<ProxyVersion>,
}

/// Takes a workload out of balancing, or back.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrainRequest {
    /// Let it have requests again.
    #[serde(default)]
    pub undo: bool,
    /// Also where no other healthy instance of one of its services is left.
    #[serde(default)]
    pub force: bool,
    /// Return when the connected proxies have it, or after this long (`30s`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = super::WAIT_PATTERN))]
    pub wait: Option<String>,
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainResult {
    /// `NAMESPACE/WORKLOAD`.
    pub workload: String,
    /// Whether it is drained now.
    pub drained: bool,
    /// Whether that is new.
    pub changed: bool,
    /// The services that it is a member of.
    pub services: Vec<DrainedService>,
    /// Which proxies have it, where that was waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<super::WaitResult>,
}

/// A service of a workload that is drained.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainedService {
    /// `NAMESPACE/SERVICE`.
    pub service: String,
    /// Its other instances that take requests.
    pub others: usize,
}

/// Who drained a workload, and when.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainMark {
    /// Seconds since 1970.
    pub at: i64,
    /// The principal, or `operator`.
    pub by: String,
}

/// The answer of `GET /v1/debug`: what each control plane tells of itself, for a bundle.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DebugInfo {
    /// Each replica that answered.
    pub replicas: Vec<ReplicaDebug>,
    /// Replicas that did not, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unheard: BTreeMap<String, String>,
}

/// One control plane, as it looks from inside.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaDebug {
    /// Where other replicas reach it.
    pub address: String,
    /// Version of its program.
    pub version: String,
    /// As `/dump` of its admin endpoints.
    pub dump: Value,
    /// As `/metrics` of its admin endpoints.
    pub metrics: String,
    /// Its newest log lines of level info and above, oldest first.
    pub log: Vec<String>,
    /// Lines before those that were not kept.
    #[serde(default)]
    pub log_dropped: u64,
}
