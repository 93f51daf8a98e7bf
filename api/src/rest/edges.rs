//! Traffic between services, now and over the last day.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an edge carries, by the Service's port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum EdgeProtocol {
    /// Requests: HTTP/1.1, HTTP/2 and gRPC.
    #[default]
    Http,
    /// Connections: TCP, and TLS of the application's own.
    Tcp,
}

/// How an edge does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum EdgeState {
    /// Requests are answered, or connections carry bytes.
    Flowing,
    /// No request and no byte in the whole window.
    #[default]
    Idle,
    /// Requests wait for an answer, and none was answered through the whole window: the server hangs.
    Silent,
    /// One in twenty or more of what completed failed.
    Failing,
}

impl fmt::Display for EdgeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Flowing => "flowing",
            Self::Idle => "idle",
            Self::Silent => "silent",
            Self::Failing => "failing",
        })
    }
}

/// Traffic from one service to another over the last window, from what the caller's sidecars push.
///
/// `success`, `failed` and `denied` are shares of the requests that completed, and make 1 together. An open request is in
/// none of them.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Edge {
    /// Calling service, `NAMESPACE/SERVICE`; `-` for any.
    pub source: String,
    /// Called service, `NAMESPACE/SERVICE`.
    pub destination: String,
    /// Called port of the service, by its name.
    pub port: String,
    /// Called subset, when the calls name one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<String>,
    /// The rule that the requests follow, `KIND NAMESPACE/NAME rule RULE`, when rules are told apart; `other rules` for those
    /// of a port beyond fifty. Such an edge has requests, retries and latencies; what is open nobody counts by rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The label `version` of the instances that answer, when versions are told apart: their own sidecars tell of it, so that
    /// `source` is `-`, for any, what a policy refuses is not in it, and `mtls` says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What the port carries.
    #[serde(default)]
    pub protocol: EdgeProtocol,
    /// How the edge does.
    #[serde(default)]
    pub state: EdgeState,
    /// Completed requests a second, each once however often it was tried; connections begun a second for TCP.
    pub rate: f64,
    /// Share, from 0 to 1, of what neither failed nor was refused; absent where nothing completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<f64>,
    /// Share, from 0 to 1, of answers of 500 and above, among them those that the caller's sidecar gives for a reset, a
    /// timeout or a failed connection; for TCP of connections that could not be opened. Absent where nothing completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<f64>,
    /// Share, from 0 to 1, of answers of 403, as a policy's Deny gives; absent where nothing completed, and for TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<f64>,
    /// Requests or connections a second that pass, and that AuthorizationPolicies with `mode: Shadow` would refuse; told by the
    /// called side, so only where versions are told apart, and absent where none ever was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow_denied: Option<f64>,
    /// How many of them there were since the control plane began to count.
    #[serde(default, skip_serializing_if = "is_none")]
    pub shadow_denied_total: u64,
    /// Requests that are under way now, or connections that are open.
    #[serde(default)]
    pub open: u64,
    /// Members that failed, and that outlier detection leaves alone for a while: each caller's sidecar counts its own.
    #[serde(default, skip_serializing_if = "is_none")]
    pub ejected: u64,
    /// Tries after the first, a second.
    #[serde(default)]
    pub retries: f64,
    /// Bytes a second to the server; for TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_sent: Option<f64>,
    /// Bytes a second from the server; for TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_received: Option<f64>,
    /// Median latency in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// 90th percentile of latency in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p90_ms: Option<f64>,
    /// 99th percentile of latency in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    /// True when every connection of the edge is mutual TLS.
    pub mtls: bool,
    /// Seconds covered.
    pub window_seconds: f64,
}

/// The answer of `GET /v1/edges`: all edges that the caller may see.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeList {
    /// Ordered by source, destination, port.
    pub items: Vec<Edge>,
    /// Replicas of the control plane that did not answer in time: the traffic of their callers is missing.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub unheard: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// How fine a series is, and so how far back it goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum SeriesStep {
    /// 5 s, for 10 minutes.
    #[default]
    #[serde(rename = "5s")]
    FiveSeconds,
    /// 1 minute, for 24 hours.
    #[serde(rename = "1m")]
    OneMinute,
}

/// The traffic of one step of time.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgePoint {
    /// Seconds since 1970 when the step begins.
    pub at: u64,
    /// Completed requests a second, or connections begun.
    pub rate: f64,
    /// Share, from 0 to 1, of what neither failed nor was refused; absent where nothing completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<f64>,
    /// Share, from 0 to 1, of what failed; absent where nothing completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<f64>,
    /// Share, from 0 to 1, of what was refused; absent where nothing completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<f64>,
    /// Requests under way, or connections open, at the end of the step; of a minute, the most that was seen.
    pub open: u64,
    /// Bytes a second to the server; for TCP, and absent where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_sent: Option<f64>,
    /// Bytes a second from the server; for TCP, and absent where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_received: Option<f64>,
    /// Median latency in milliseconds; absent where nothing was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// 90th percentile of latency in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p90_ms: Option<f64>,
    /// 99th percentile of latency in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
}

/// The traffic of an edge, or of all edges to a service, over time.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeSeries {
    /// How much time each point covers.
    pub step: SeriesStep,
    /// One point for each step, oldest first, from the first that something is known of; the newest ends 5 to 10 s ago,
    /// once every caller has reported.
    pub points: Vec<EdgePoint>,
    /// Replicas of the control plane that did not answer in time: the traffic of their callers is missing.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub unheard: usize,
}
