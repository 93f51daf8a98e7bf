//! Traces: which requests a span is made of, and whose part of a trace it is.
//!
//! ```text
//! traceparent of the caller, or sampling by the request's id --> a span of this hop --> traceparent for the server
//! ```
//!
//! As in Envoy's OpenTelemetry tracer: where a caller has begun a trace, what it decided holds; where none has, the route's
//! sampling decides, and the server is told either way. One span stands for the sidecar and its connection to the server:
//! of kind CLIENT where the application calls, of kind SERVER where it is called.

pub(crate) mod decode;
pub(crate) mod sampling;
pub(crate) mod trace_context;

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use opentelemetry_proto::tonic::trace::v1::Span;

pub use sampling::{RouteSampling, Sampling};

use crate::otlp::OtlpCollector;
use crate::stats::TracingStats;

/// `HttpConnectionManager.tracing`, with OpenTelemetry as its provider.
#[derive(Debug)]
pub struct HttpTracing {
    pub(crate) sampling: Sampling,
    pub(crate) tags: Box<[CustomTag]>,
    /// `max_path_tag_length`: bytes of the path and its query that a span has.
    pub(crate) path_length: usize,
    /// `spawn_upstream_span`: this proxy is a hop of its own, and its spans are those of a server.
    pub(crate) is_hop: bool,
    pub(crate) collector: Arc<OtlpCollector>,
    pub(crate) stats: TracingStats,
}

/// A span that has not ended.
#[derive(Debug)]
pub(crate) struct ActiveSpan {
    pub(crate) to: Arc<OtlpCollector>,
    /// In hexadecimal digits, for logs.
    pub(crate) trace_id: String,
    pub(crate) span: Span,
}

/// `Route.tracing`.
#[derive(Debug, Default)]
pub struct RouteTracing {
    pub(crate) sampling: RouteSampling,
    pub(crate) tags: Box<[CustomTag]>,
}

/// A tag that spans get besides those that all have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CustomTag {
    pub(crate) name: Box<str>,
    pub(crate) value: TagValue,
}

/// Where a tag's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TagValue {
    /// It is always this.
    Literal(Box<str>),
    /// A header of the request, or this where it has none; no tag where that is empty.
    RequestHeader(HeaderName, Box<str>),
}

impl CustomTag {
    /// The value for a request.
    pub(crate) fn value<'a>(&'a self, headers: &'a HeaderMap) -> Option<&'a str> {
        let value = match &self.value {
            TagValue::Literal(value) => &**value,
            TagValue::RequestHeader(name, otherwise) => {
                headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or(otherwise)
            }
        };
        (!value.is_empty()).then_some(value)
    }
}

impl HttpTracing {
    /// The tags of a request whose route says this; those of the route take the place of others of their names.
    pub(crate) fn tags<'a>(&'a self, route: Option<&'a RouteTracing>) -> impl Iterator<Item = &'a CustomTag> {
        let of_route = route.map(|route| &route.tags[..]).unwrap_or_default();
        let own = self.tags.iter().filter(|tag| of_route.iter().all(|other| other.name != tag.name));
        own.chain(of_route)
    }
}
