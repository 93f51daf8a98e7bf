//! What formats, access logs and header operations are told of a stream.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::header::HeaderValue;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use weft_routing::matcher::RequestHead;
use weft_routing::route::RouteRef;

use super::active_stream::ActiveStream;
use super::clock::now;
use super::http_connection::CodecType;
use super::pool::ConnectionLease;
use super::record::Record;
use crate::format::{FormatContext, Timing, UpstreamInfo};
use crate::route::{Direction, Evaluated, HeaderOps, RouteConfig, WeightedCluster};
use crate::runtime::AccessLog;

/// Keeps what a log will want of the request, before it changes.
pub(super) fn note_request(stream: &mut ActiveStream, parts: &Parts, scheme: &'static str, remote: IpAddr) {
    let (logs, taps) = (&stream.view.manager.access_log, &stream.connection.worker.taps);
    if logs.is_empty() && !taps.is_on() {
        return;
    }
    let record = Record::new(parts, scheme, remote, logs.needs().and(taps.needs()));
    stream.record = Some(Box::new(record));
}

/// The same where what came was no request.
pub(super) fn note_refused(stream: &mut ActiveStream, remote: IpAddr, id: Option<HeaderValue>) {
    if !stream.view.manager.access_log.is_empty() {
        stream.record = Some(Box::new(Record::refused(remote, id)));
    }
}

/// Keeps the response's headers for the log; forgets the request's where no log will take a response like this, and nobody
/// looks on.
pub(super) fn note_response(stream: &mut ActiveStream, status: StatusCode, headers: &HeaderMap) {
    let Some(record) = &mut stream.record else { return };
    let rules_out = |log: &AccessLog| log.filter.as_ref().is_some_and(|filter| filter.rules_out(status));
    record.is_logged = !stream.view.manager.access_log.iter().all(rules_out);
    if !record.is_logged && !stream.connection.worker.taps.is_on() {
        stream.record = None;
        return;
    }
    record.respond(headers, now().saturating_duration_since(stream.start));
}

/// Writes the access logs of a request, and tells those who look on.
pub(super) fn log(stream: &ActiveStream, took: Duration) {
    let Some(record) = &stream.record else { return };
    let mut context = context(stream, record.head(), record.response.as_ref());
    context.trailers = record.trailers.as_ref();
    context.start = SystemTime::now().checked_sub(took);
    context.stream_id = record.request_id();
    context.downstream.remote = Some(record.remote);
    context.timing = Timing {
        total: Some(took),
        response: record.responded,
        response_sent: record.responded,
        ..Timing::default()
    };
    let worker = &stream.connection.worker;
    if record.is_logged {
        worker.logs.write(&worker.shard, &worker.otlp, &stream.view.manager.access_log, &context);
    }
    if worker.taps.is_on() {
        worker.taps.tell(stream.connection.downstream.direction, record.needs(), &context);
    }
}

/// The facts of a stream at this moment.
pub(crate) fn context<'a>(
    stream: &'a ActiveStream,
    request: Option<RequestHead<'a>>,
    response: Option<&'a HeaderMap>,
) -> FormatContext<'a> {
    let connection = &stream.connection;
    let upstream = stream.upstream.as_ref().map(|upstream| {
        let endpoint = upstream.picked.endpoint();
        let connection = upstream.lease.as_ref().map(ConnectionLease::connection);
        UpstreamInfo {
            host: Some(endpoint.address),
            host_name: endpoint.hostname.as_deref(),
            local: upstream.local,
            cluster: Some(&upstream.picked.view.config.name),
            peer: connection.and_then(|connection| connection.peer.as_deref()),
            attempts: stream.attempts,
            transport_failure: stream.failure.as_deref(),
            ..UpstreamInfo::default()
        }
    });
    let routes = &stream.view.routes;
    FormatContext {
        request,
        response,
        route_name: stream.found.map_or("", |found| &routes.route(found).name),
        virtual_host: stream.found.map_or("", |found| &routes.virtual_host(found).name),
        protocol: Some(match connection.protocol {
            CodecType::Http1 => "HTTP/1.1",
            CodecType::Http2 => "HTTP/2",
        }),
        response_code: stream.status,
        response_code_details: (!stream.details.is_empty()).then_some(&*stream.details),
        flags: stream.flags,
        bytes_received: stream.progress.as_ref().map_or(0, |progress| progress.bytes.get()),
        bytes_sent: stream.sent,
        grpc_status: stream.grpc_status,
        trace_id: stream.span.as_ref().map_or("", |active| &active.trace_id),
        downstream: connection.downstream.facts.for_formats(),
        upstream: upstream.unwrap_or_else(|| UpstreamInfo {
            cluster: stream.unreached.as_deref(),
            ..UpstreamInfo::default()
        }),
        ..FormatContext::default()
    }
}

/// Header operations with the values that depend on the request.
pub(super) type Ops<'a> = Vec<(&'a HeaderOps, Evaluated)>;

/// The route's operations on the request.
pub(super) fn request_ops<'a>(
    stream: &ActiveStream,
    routes: &'a RouteConfig,
    found: RouteRef,
    weighted: Option<&'a WeightedCluster>,
    head: &RequestHead<'_>,
) -> Ops<'a> {
    let ops = routes.header_ops(found, weighted, Direction::Request);
    ops.map(|ops| (ops, ops.evaluate(&context(stream, Some(*head), None)))).collect()
}

/// The route's operations on the response.
pub(super) fn response_ops<'a>(
    stream: &ActiveStream,
    routes: &'a RouteConfig,
    found: RouteRef,
    weighted: Option<&'a WeightedCluster>,
    head: &RequestHead<'_>,
    response: &HeaderMap,
) -> Ops<'a> {
    let ops = routes.header_ops(found, weighted, Direction::Response);
    ops.map(|ops| (ops, ops.evaluate(&context(stream, Some(*head), Some(response))))).collect()
}
