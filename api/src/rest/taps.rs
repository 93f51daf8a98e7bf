//! Requests as they end, for who looks on: the events of `GET /v1/taps`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RequestRecord;

/// Requests a second that one viewer is shown; the rest is counted.
pub const SHOWN_PER_SECOND: u64 = 200;

/// Headers that a tap shows, where it is asked to: what says how a request is meant and answered, and not for whom. A stock
/// Envoy is told this list with its listeners, once: another one would drain their connections.
pub const SHOWN_HEADERS: [&str; 24] = [
    "accept",
    "accept-encoding",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-type",
    "etag",
    "grpc-message",
    "grpc-status",
    "grpc-timeout",
    "if-none-match",
    "location",
    "origin",
    "retry-after",
    "server",
    "te",
    "traceparent",
    "tracestate",
    "upgrade",
    "user-agent",
    "via",
    "x-envoy-attempt-count",
    "x-forwarded-for",
    "x-forwarded-proto",
];

/// Headers whose values nobody is shown, named so that the refusal can say why.
pub const SECRET_HEADERS: [&str; 5] =
    ["authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key"];

/// A request that ended: as its caller's sidecar saw it, and what the called side knows besides; of a caller whose sidecar
/// is not heard, as the called side saw it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TapLine {
    /// What one sidecar saw. `reason` and `remedy` are there where it failed or was refused.
    #[serde(flatten)]
    pub request: RequestRecord,
    /// What the sidecar of the called workload saw of it, where both are heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<TapServer>,
    /// How often it was sent, with retries.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Headers of the request that were asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub request_headers: BTreeMap<String, String>,
    /// Headers and trailers of the response that were asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub response_headers: BTreeMap<String, String>,
}

/// What the called side knows of a request.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TapServer {
    /// The workload that was called: `NAMESPACE/WORKLOAD`.
    pub workload: String,
    /// The status of its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Which rules let it in, or that none were needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// From its beginning to its end there, in milliseconds.
    pub duration_ms: f64,
}

/// Whose requests a tap hears: the event `listening`, at the beginning and whenever it changes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TapListening {
    /// How many sidecars tell of what is asked for.
    pub heard: usize,
    /// Those that would have to, and cannot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unheard: Vec<UnheardSidecar>,
    /// Control planes that do not answer: their sidecars are not heard.
    #[serde(default, skip_serializing_if = "is_none_at_all")]
    pub unheard_replicas: usize,
}

/// A sidecar that a tap does not hear.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnheardSidecar {
    /// The workload beside it: `NAMESPACE/WORKLOAD`.
    pub workload: String,
    /// Why, and what to do.
    pub reason: String,
}

/// What a tap did not show: the event `notShown`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TapNotShown {
    /// Requests since the beginning that were wanted and too many. Of an Envoy with more than that, an estimate.
    pub requests: u64,
}

fn is_zero(attempts: &u32) -> bool {
    *attempts == 0
}

fn is_none_at_all(count: &usize) -> bool {
    *count == 0
}
