//! TelemetryPolicy: what services tell of the requests that they are asked: access logs, and their part in traces.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::target::TargetRef;
use crate::value::{CollectorUrl, HeaderName, LogFileName};

mod check;
pub mod effect;
pub mod fields;
mod format;
mod in_set;
mod spec;

/// What services tell of the requests that they are asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TelemetryPolicy {
    /// What the policy is about.
    pub target_refs: Vec<TargetRef>,
    /// Where requests are written down, in place of those that failed or were refused to standard output; nowhere with an
    /// empty list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_logs: Option<Vec<RequestLog>>,
    /// The part of the service's requests in traces. Where they go stands in the Mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<ServiceTracing>,
    /// What metrics tell apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Name of the file where a policy gives none.
const DEFAULT_FILE: &str = "access.log";

/// One place where requests are written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestLog {
    /// Where the proxy writes its entries.
    pub sink: RequestLogSink,
    /// With sink Otlp, the collector that takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<CollectorUrl>,
    /// With sink File, the name of the file, of letters, digits, `-`, `_` and `.`; `access.log` unless written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<LogFileName>,
    /// How an entry looks.
    #[serde(default)]
    pub format: RequestLogFormat,
    /// With format Text, the line in place of the usual one, with Envoy's commands such as `%RESPONSE_CODE%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// With format Json, the fields in place of the usual ones: each is text with Envoy's commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<BTreeMap<String, String>>,
    /// Which requests are written down.
    #[serde(default)]
    pub filter: RequestLogFilter,
}

impl RequestLog {
    /// With sink File, the name of the file.
    #[must_use]
    pub fn file(&self) -> String {
        self.file.as_ref().map_or_else(|| DEFAULT_FILE.to_owned(), ToString::to_string)
    }
}

/// Where a proxy writes the entries of its access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RequestLogSink {
    /// The proxy's standard output, a line each.
    Stdout,
    /// A file in the directory that each sidecar's `--access-log-dir` names on its own machine; standard output of one that
    /// names none.
    File,
    /// An OpenTelemetry collector, by OTLP over gRPC.
    Otlp,
}

/// How an entry looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RequestLogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object; attributes of the entry with sink Otlp.
    Json,
}

/// Which requests are written down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RequestLogFilter {
    /// Those that failed or were refused: 401, 403, 5xx, calls of gRPC that failed for a reason of the server's, and what
    /// did not end as it should.
    #[default]
    Failures,
    /// Every request that ended, and every connection.
    All,
}

/// The part of a service's requests in traces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceTracing {
    /// Percentage of the requests to the service that begin a trace, in place of the Mesh's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub sampling: Option<f64>,
    /// What spans of these requests tell besides what all do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<SpanTag>>,
}

/// One thing that spans tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpanTag {
    /// Name of the span's attribute.
    pub name: String,
    /// Its value, always the same; this or `header`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The header of the request that has the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderName>,
}
