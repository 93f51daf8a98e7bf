//! What is told to OpenTelemetry collectors, by OTLP over gRPC: to whom, and as whom.
//!
//! ```text
//! request --> OtlpBuffers of its worker (bounded) --> exporter of the worker --> a cluster, as filters call one
//! ```
//!
//! Nothing leaves the worker, so nothing is locked; what finds no room is dropped and counted, since requests matter more.

use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::stats::OtlpStats;

/// How this program names itself, as the scope of what it tells and as the SDK that tells it.
pub(crate) const SCOPE: &str = "weft-proxy";

#[derive(Debug, Clone)]
pub struct OtlpCollector {
    /// The cluster that it is reached by.
    pub(crate) cluster: Arc<str>,
    pub(crate) authority: Authority,
    /// How long it may take for what it is sent at once; `None` is no limit.
    pub(crate) timeout: Option<Duration>,
    pub(crate) resource: Resource,
    /// Records that may wait for it in one worker.
    pub(crate) most: usize,
    /// A record waits so long at most for others.
    pub(crate) flush: Duration,
    pub(crate) stats: OtlpStats,
}

impl OtlpCollector {
    /// Whether both are sent to alike, so that one batch may be for both.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.cluster == other.cluster
            && self.authority == other.authority
            && self.timeout == other.timeout
            && self.resource == other.resource
            && self.most == other.most
            && self.flush == other.flush
            && self.stats == other.stats
    }
}

/// One thing that is told.
#[derive(Debug)]
pub(crate) enum OtlpRecord {
    Span(Box<Span>),
    Log(Box<LogRecord>),
}

impl OtlpRecord {
    /// Its bytes on the wire.
    pub(crate) fn encoded_len(&self) -> usize {
        match self {
            Self::Span(span) => span.encoded_len(),
            Self::Log(log) => log.encoded_len(),
        }
    }
}

/// A text under a name.
pub(crate) fn attribute(key: impl Into<String>, value: impl Into<String>) -> KeyValue {
    KeyValue { key: key.into(), value: Some(text(value)), ..Default::default() }
}

/// A text as a value.
pub(crate) fn text(value: impl Into<String>) -> AnyValue {
    AnyValue { value: Some(any_value::Value::StringValue(value.into())) }
}
