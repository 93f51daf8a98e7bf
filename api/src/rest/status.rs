//! What became of an object: whether it holds, and which proxies have it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::explain::ExplainedValue;
use super::problem::Laggard;

/// Whether a condition holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// What it says is so.
    True,
    /// It does not: `reason` and `message` say why.
    False,
    /// Nobody can say whether it is so.
    #[default]
    Unknown,
}

/// One thing that holds of an object, or does not.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusCondition {
    /// `Accepted`: nothing else contradicts it. `ResolvedRefs`: what it names exists. `Programmed`: every connected proxy that it
    /// concerns has it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds now.
    pub status: ConditionStatus,
    /// Why, for programs: `Accepted`, `Conflicted`, `ResolvedRefs`, `RefNotFound`, `Programmed`, `Refused`, `Pending`, `NoProxies`.
    pub reason: String,
    /// Why, in words for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The generation of the object that this is about.
    pub observed_generation: u64,
    /// Since when, RFC 3339, as far as the replica that answers has seen. It looks when somebody reads the object, so that a change
    /// shows no sooner than the first reading after it, and later at a replica that was started since, or that nobody asked
    /// before: it is so since then at least. `Accepted` holds since the object was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
}

/// How many proxies an object concerns, and how they took it; of all replicas.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyCounts {
    /// Connected proxies that it concerns.
    pub targeted: usize,
    /// Those that have it.
    pub acked: usize,
    /// Those that have not answered yet.
    pub pending: usize,
    /// Those that refused a part of it, and run on what they had.
    pub nacked: usize,
    /// Those that have no stream to any replica: they get it when they come back.
    pub away: usize,
    /// Those that refused it, with their words, and then those that have not answered: the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub laggards: Vec<Laggard>,
    /// Those that have it, where they were asked for: the first thousand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acknowledged: Vec<String>,
    /// Those that are away, where they were asked for: the first thousand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<String>,
    /// Replicas of the control plane that did not answer in time: their proxies are not counted.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub unheard: usize,
}

/// What holds for a part of an object when policies of all levels are merged, each value with who set it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveValues {
    /// `port NAME` of a Service, `rule RULE at NAMESPACE/SERVICE:PORT` of a route.
    pub of: String,
    /// The values, those that somebody set first.
    pub values: Vec<ExplainedValue>,
}

/// The `status` of an object that a document describes. Services and Workloads have more beside it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// The generation that this is about.
    #[serde(default)]
    pub observed_generation: u64,
    /// What holds of it, and what does not.
    #[serde(default)]
    pub conditions: Vec<StatusCondition>,
    /// Who has it; absent for kinds that no proxy is told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxies: Option<ProxyCounts>,
    /// What holds for the ports of a Service and the rules of a route, where it was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effective: Vec<EffectiveValues>,
}
