//! What an apply would change.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::history::DocumentDiff;
use super::problem::{Outcome, Violation};

/// A resource that proxies would be given, given anew, or have taken away.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceDiff {
    /// Its type by Envoy's name: `Cluster`, `ClusterLoadAssignment`, `Listener`, `RouteConfiguration`, `VirtualHost`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name; several proxies may each have one of their own of this name.
    pub name: String,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Connected proxies that it goes to, the first hundred.
    pub proxies: Vec<String>,
    /// How many those are.
    pub proxy_count: usize,
}

/// A connected proxy that the change concerns.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyDiff {
    /// The workload, `NAMESPACE/WORKLOAD`.
    pub id: String,
    /// What it calls itself, where it is connected to the replica that answers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    /// How many resources would change for it.
    pub resources: usize,
    /// Why it may not take them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What a change does to the requests of an edge. All but `MayBeRefused` are promises.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
pub enum EdgeEffect {
    /// Every one of them is refused, which was not so; of TCP, every new connection.
    Refused,
    /// It depends on the request, or on more than policies: `reasons` tells on what.
    MayBeRefused,
    /// All that passed still pass, and some that were refused may pass.
    Eased,
    /// Each is refused as it was, or passes as it did, the same way.
    Unaffected,
}

impl fmt::Display for EdgeEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Refused => "refused",
            Self::MayBeRefused => "may be refused",
            Self::Eased => "eased",
            Self::Unaffected => "unaffected",
        })
    }
}

/// Why requests of an edge are, or may be, refused.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeReason {
    /// The whole, for people.
    pub message: String,
    /// The object that is the cause, `KIND NAMESPACE/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Its rule, by name or index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What of a request decides: `path`, `method`, `header x-team`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
}

/// An edge that was seen lately.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeDiff {
    /// Calling service, `NAMESPACE/SERVICE`.
    pub source: String,
    /// Called service, `NAMESPACE/SERVICE`.
    pub destination: String,
    /// Called port of the service, by its name.
    pub port: String,
    /// What the change does to its requests.
    pub effect: EdgeEffect,
    /// Why; nothing where it is unaffected or eased.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<EdgeReason>,
}

/// The answer of `POST /v1/diff`. Nothing was written.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiffResult {
    /// The revision that it was compared with.
    pub revision: u64,
    /// Whether anything would change.
    pub changes: bool,
    /// Documents that would change; the others are not named.
    pub documents: Vec<DocumentDiff>,
    /// What people should look at, the first hundred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Violation>,
    /// How many warnings there are, where that is more than are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning_count: Option<usize>,
    /// Resources that would change, the first thousand.
    pub resources: Vec<ResourceDiff>,
    /// How many those are.
    pub resource_count: usize,
    /// Connected proxies that the change concerns, at whatever replica.
    pub proxies: Vec<ProxyDiff>,
    /// Edges that were seen lately, those that would be refused first.
    pub edges: Vec<EdgeDiff>,
    /// Replicas of the control plane that did not answer in time: the edges of their callers are missing.
    #[serde(default)]
    pub unheard: usize,
}
