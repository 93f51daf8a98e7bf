//! The span of a request: begun when its route is known, told when its last byte is out. Names of spans and of their
//! attributes are those of Envoy's tracer, so that a trace reads alike whichever proxies made it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{CONTENT_TYPE, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{Span, Status, status::StatusCode};
use weft_routing::grpc::is_grpc;
use weft_routing::matcher::RequestHead;

use super::active_stream::ActiveStream;
use super::forwarded::{FORWARDED_PROTO, REQUEST_ID};
use super::request_head::head;
use super::stream_info;
use crate::otlp::{OtlpRecord, attribute};
use crate::runtime::TrafficDirection;
use crate::tracer::sampling::TraceReason;
use crate::tracer::trace_context::{IncomingTrace, TRACEPARENT, TRACESTATE, TraceContext};
use crate::tracer::{ActiveSpan, HttpTracing, RouteTracing};

const DOWNSTREAM_CLUSTER: HeaderName = HeaderName::from_static("x-envoy-downstream-service-cluster");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// What W3C asks for of `tracestate`: longer ones may be cut.
const STATE_LENGTH: usize = 512;

/// Begins the span of a request whose route was sought, and tells the server of the trace; only the latter where the trace
/// is not recorded.
pub(super) fn begin(
    stream: &mut ActiveStream,
    tracing: &HttpTracing,
    parts: &mut Parts,
    scheme: &'static str,
) {
    let view = stream.view.clone();
    let route = stream.found.and_then(|found| view.routes.route(found).effect.tracing.as_deref());
    let sampling = route.map(|route| route.sampling).unwrap_or_default();
    let reason = tracing.sampling.decide(sampling, &parts.headers);
    let worker = stream.connection.worker.clone();
    worker.shard.inc(match reason {
        TraceReason::Client => tracing.stats.client_enabled,
        TraceReason::Service => tracing.stats.service_forced,
        TraceReason::Random => tracing.stats.random_sampling,
        TraceReason::NotTraceable => tracing.stats.not_traceable,
    });
    let random = || worker.random().max(1);
    let (parent, trace_id, sampled) = match IncomingTrace::of(&parts.headers) {
        IncomingTrace::Malformed => return,
        IncomingTrace::Parent(parent) => (Some(parent.span_id), parent.trace_id, parent.sampled),
        IncomingTrace::Nothing => {
            // It would be another trace's.
            parts.headers.remove(&TRACESTATE);
            let trace_id = (u128::from(random()) << 64) | u128::from(random());
            (None, trace_id, reason != TraceReason::NotTraceable)
        }
    };
    let context = TraceContext { trace_id, span_id: random(), sampled };
    if sampled {
        let kind = kind(tracing, stream.connection.downstream.direction);
        let head = head(parts, scheme);
        let span = Span {
            trace_id: trace_id.to_be_bytes().into(),
            span_id: context.span_id.to_be_bytes().into(),
            trace_state: trace_state(&parts.headers),
            parent_span_id: parent.map(|parent| parent.to_be_bytes().into()).unwrap_or_default(),
            flags: u32::from(sampled),
            name: match kind {
                SpanKind::Client => format!("egress {}", head.authority),
                _ => "ingress".to_owned(),
            },
            kind: kind.into(),
            start_time_unix_nano: nanoseconds(SystemTime::now()),
            attributes: of_request(stream, tracing, route, &head),
            ..Default::default()
        };
        let trace_id = format!("{trace_id:032x}");
        stream.span = Some(Box::new(ActiveSpan { to: Arc::clone(&tracing.collector), trace_id, span }));
    }
    parts.headers.insert(TRACEPARENT, context.header());
}

/// Ends the span of a stream that has ended, and tells the collector.
pub(super) fn end(stream: &ActiveStream, active: ActiveSpan, took: Duration) {
    let ActiveSpan { to, mut span, .. } = active;
    let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    span.end_time_unix_nano = span.start_time_unix_nano.saturating_add(took);
    let failed = of_response(stream, &mut span.attributes);
    // By OpenTelemetry's conventions an answer of 4xx is the caller's error, not the server's.
    let least = if span.kind == i32::from(SpanKind::Client) { 400 } else { 500 };
    if failed || stream.status >= least {
        span.status = Some(Status { code: StatusCode::Error.into(), message: String::new() });
    }
    let worker = &stream.connection.worker;
    let dropped = to.stats.dropped;
    if !worker.otlp.offer(&to, OtlpRecord::Span(Box::new(span))) {
        worker.shard.inc(dropped);
    }
}

fn kind(tracing: &HttpTracing, direction: TrafficDirection) -> SpanKind {
    match direction {
        TrafficDirection::Outbound if !tracing.is_hop => SpanKind::Client,
        TrafficDirection::Outbound | TrafficDirection::Inbound | TrafficDirection::Unspecified => {
            SpanKind::Server
        }
    }
}

fn of_request(
    stream: &ActiveStream,
    tracing: &HttpTracing,
    route: Option<&RouteTracing>,
    head: &RequestHead<'_>,
) -> Vec<KeyValue> {
    let headers = head.headers;
    let header = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let path = head.path.get(..tracing.path_length).unwrap_or(head.path);
    let scheme = header(&FORWARDED_PROTO).unwrap_or(head.scheme);
    let mut found = Vec::with_capacity(20);
    found.extend(header(&REQUEST_ID).map(|id| attribute("guid:x-request-id", id)));
    found.extend([
        attribute("http.url", format!("{scheme}://{}{path}", head.authority)),
        attribute("http.method", head.method),
        attribute("downstream_cluster", header(&DOWNSTREAM_CLUSTER).unwrap_or("-")),
        attribute("user_agent", header(&USER_AGENT).unwrap_or("-")),
        attribute("peer.address", stream.connection.downstream.facts.peer.ip().to_canonical().to_string()),
    ]);
    if is_grpc(headers) {
        found.push(attribute("grpc.path", head.path));
        found.push(attribute("grpc.authority", head.authority));
        found.extend(header(&CONTENT_TYPE).map(|kind| attribute("grpc.content_type", kind)));
        found.extend(header(&GRPC_TIMEOUT).map(|timeout| attribute("grpc.timeout", timeout)));
    }
    let tags = tracing.tags(route);
    found.extend(tags.filter_map(|tag| Some(attribute(&*tag.name, tag.value(headers)?))));
    found
}

/// Adds what is known at the end; whether it is an error.
fn of_response(stream: &ActiveStream, found: &mut Vec<KeyValue>) -> bool {
    let context = stream_info::context(stream, None, None);
    let flags = context.flags.short_names().collect::<Vec<_>>().join(",");
    found.extend([
        attribute("http.protocol", context.protocol.unwrap_or("-")),
        attribute("request_size", context.bytes_received.to_string()),
        attribute("response_size", context.bytes_sent.to_string()),
        attribute("component", "proxy"),
        attribute("http.status_code", stream.status.to_string()),
        attribute("response_flags", if flags.is_empty() { "-" } else { &flags }),
    ]);
    if let Some(cluster) = context.upstream.cluster {
        found.push(attribute("upstream_cluster", cluster));
        let shown =
            stream.upstream.as_ref().map_or(cluster, |upstream| &upstream.picked.view.config.stat_name);
        found.push(attribute("upstream_cluster.name", shown));
    }
    if let Some(status) = stream.grpc_status {
        found.push(attribute("grpc.status_code", status.to_string()));
    }
    // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
    let failed = matches!(stream.status, 0 | 500..) || matches!(stream.grpc_status, Some(2 | 4 | 12..=15));
    if failed {
        found.push(attribute("error", "true"));
    }
    failed
}

fn trace_state(headers: &HeaderMap) -> String {
    let values = headers.get_all(&TRACESTATE).iter().filter_map(|value| value.to_str().ok());
    let joined = values.collect::<Vec<_>>().join(",");
    if joined.len() > STATE_LENGTH { String::new() } else { joined }
}

fn nanoseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
