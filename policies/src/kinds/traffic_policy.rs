//! TrafficPolicy: everything about calling a backend.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::hash_on::HashOn;
use super::reference::ClientRef;
use super::target::TargetRef;
use crate::value::{StatusRange, Timespan};

mod check;
pub mod effect;
pub mod fields;
pub mod hash_on;
mod in_set;
mod spec;

/// Everything about calling a backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficPolicy {
    /// What the policy is about.
    pub target_refs: Vec<TargetRef>,
    /// Only calls of these callers; all when it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientRef>,
    /// How one of many endpoints is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// Whether near endpoints are preferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<LocalityPolicy>,
    /// Connections and how many there may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// When an endpoint that fails is left alone for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
    /// How long requests may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<TrafficTimeouts>,
    /// What is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// How one of many endpoints is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadBalancer {
    /// By which rule an endpoint is chosen.
    #[serde(rename = "type")]
    pub balancer: Balancer,
    /// What of a request is hashed, for RingHash and Maglev: all that it has of these, together. One that has none of them
    /// goes to any endpoint. Where a rule of a route has several backends, it is what any of them asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hash_on: Vec<HashOn>,
}

/// The way in which one of many endpoints is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Balancer {
    /// One after the other, by weight.
    RoundRobin,
    /// The one with fewer open requests of two chosen at random.
    LeastRequest,
    /// The one that has answered fastest of late.
    PeakEwma,
    /// Any of them, by chance.
    Random,
    /// By a hash on a ring. When members come or go, few requests of others move.
    RingHash,
    /// By a hash in a table. When members come or go, fewer requests of others move than with RingHash.
    Maglev,
}

impl Balancer {
    /// Whether the hash of a request chooses.
    #[must_use]
    pub fn hashes(self) -> bool {
        match self {
            Self::RingHash | Self::Maglev => true,
            Self::RoundRobin | Self::LeastRequest | Self::PeakEwma | Self::Random => false,
        }
    }
}

/// Whether near endpoints are preferred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalityPolicy {
    /// How much they are preferred; not at all when it is left out.
    #[serde(default)]
    pub mode: LocalityMode,
    /// Where traffic goes when a place fails.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failover: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// How much near endpoints are preferred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LocalityMode {
    /// Near ones first, others when they fail.
    Prefer,
    /// Near ones only: with none that is healthy, requests fail.
    Strict,
    /// All are equal, wherever they run.
    #[default]
    None,
}

/// Connections and how many there may be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Connection {
    /// How long opening one may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Timespan>,
    /// How long one stays open unused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Timespan>,
    /// How many may be open to a service, from one proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_connections: Option<u32>,
    /// How many requests may wait for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_pending_requests: Option<u32>,
    /// How many requests may be open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_requests: Option<u32>,
    /// How the kernel finds out that a peer is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_keepalive: Option<TcpKeepalive>,
}

/// How the kernel finds out that a peer is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpKeepalive {
    /// How long a connection is silent before the first probe; whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timespan>,
    /// Time between probes; whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Timespan>,
    /// How many probes go unanswered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub probes: Option<u32>,
}

/// When an endpoint that fails is left alone for a while.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutlierDetection {
    /// After so many answers of 5xx in a row.
    #[serde(default, rename = "consecutive5xx", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub consecutive_5xx: Option<u32>,
    /// After so many 502, 503 and 504 in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub consecutive_gateway_failures: Option<u32>,
    /// How often ejected endpoints are looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Timespan>,
    /// How long the first time lasts; it grows with each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_ejection_time: Option<Timespan>,
    /// The greatest part of the endpoints, in percent, that may be left alone at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub max_ejection_percent: Option<u32>,
}

/// Limits on the time that a request may take. `0s` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficTimeouts {
    /// The whole request, all tries included, until the answer has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Timespan>,
    /// One try, until its answer has ended; at most `request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<Timespan>,
    /// How long a stream may be silent in both directions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_idle: Option<Timespan>,
}

/// What is tried again, and how often.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// How many tries follow the first; 0 switches retries off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub attempts: Option<u32>,
    /// Statuses that are tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codes: Option<Vec<StatusRange>>,
    /// Failures that are tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Vec<RetryOn>>,
    /// The least time between two tries; it grows with each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Timespan>,
    /// The greatest part of all requests that may be second tries. It is of what is called, not of a route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<RetryBudget>,
}

/// A failure that is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RetryOn {
    /// No connection could be opened, so that nothing was sent.
    ConnectFailure,
    /// The stream was refused before it began.
    RefusedStream,
    /// The connection ended before an answer.
    Reset,
    /// The connection ended before the request was sent.
    ResetBeforeRequest,
    /// Any 5xx, and no answer at all.
    #[serde(rename = "5xx")]
    ServerError,
    /// 502, 503 and 504.
    GatewayError,
    /// An answer of 409 Conflict.
    #[serde(rename = "Retriable4xx")]
    Retriable4xx,
    /// An answer with the gRPC status CANCELLED (1).
    GrpcCancelled,
    /// An answer with the gRPC status DEADLINE_EXCEEDED (4).
    GrpcDeadlineExceeded,
    /// An answer with the gRPC status INTERNAL (13).
    GrpcInternal,
    /// An answer with the gRPC status RESOURCE_EXHAUSTED (8).
    GrpcResourceExhausted,
    /// An answer with the gRPC status UNAVAILABLE (14).
    GrpcUnavailable,
}

/// The greatest part of all requests that may be second tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryBudget {
    /// The part, in percent of the requests that are open.
    #[schemars(range(min = 0, max = 100))]
    pub percent: u32,
    /// So many may be open at once, however few requests are; 3 when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_concurrent: Option<u32>,
}
