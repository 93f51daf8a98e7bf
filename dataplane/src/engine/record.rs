//! What formats, access logs and local replies are told of an exchange.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Response, StatusCode, Uri};

use super::cluster::Picked;
use super::exchange::Exchange;
use super::held::{Facts, Held};
use super::http::{Target, head_of, target};
use super::local::Local;
use super::reply::Reply;
use super::serve::Protocol;
use crate::format::{Context, Downstream, LocalReplies, ResponseFlags, Timing, Upstream};
use crate::matcher::RequestHead;
use crate::outlier::{Kind, Outcome, Ruling};
use crate::path::{Normal, normalize};
use crate::route::{DirectResponse, Direction, Evaluated, HeaderOps, RouteConfig, RouteRef, WeightedCluster};
use crate::runtime::{AccessLog, HttpManager, PeerCertificate};
use crate::stats::{OutlierStats, Shard};

/// What is kept of a request for its log line; made only where there is a log.
#[derive(Debug)]
pub(crate) struct Record {
    method: Method,
    scheme: &'static str,
    uri: Uri,
    target: Target,
    headers: HeaderMap,
    response: HeaderMap,
    pub(crate) trailers: Option<HeaderMap>,
    began: SystemTime,
    remote: Option<IpAddr>,
    /// When the response's head came.
    responded: Option<Duration>,
}

impl Record {
    fn head(&self) -> RequestHead<'_> {
        head_of(&self.method, &self.uri, &self.headers, self.target, self.scheme)
    }
}

/// Keeps what a log will want of the request, before it changes.
pub(super) fn note_request(
    exchange: &mut Exchange,
    manager: &HttpManager,
    parts: &Parts,
    scheme: &'static str,
    remote: IpAddr,
) {
    if manager.access_log.is_empty() {
        return;
    }
    exchange.record = Some(Box::new(Record {
        method: parts.method.clone(),
        scheme,
        uri: parts.uri.clone(),
        target: target(parts),
        headers: parts.headers.clone(),
        response: HeaderMap::new(),
        trailers: None,
        began: SystemTime::now(),
        remote: Some(remote),
        responded: None,
    }));
}

/// Keeps the response's headers for the log; forgets the request's where no log will take a response like this.
pub(super) fn note_response(
    exchange: &mut Exchange,
    manager: &HttpManager,
    status: StatusCode,
    headers: &HeaderMap,
) {
    if exchange.record.is_none() {
        return;
    }
    let rules_out = |log: &AccessLog| log.filter.as_ref().is_some_and(|filter| filter.rules_out(status));
    if manager.access_log.iter().all(rules_out) {
        exchange.record = None;
        return;
    }
    let responded = super::clock::now().saturating_duration_since(exchange.start);
    if let Some(record) = &mut exchange.record {
        record.response = headers.clone();
        record.responded = Some(responded);
    }
}

/// Writes the access logs of a request.
pub(super) fn log(exchange: &Exchange, manager: &HttpManager, took: Duration) {
    let Some(record) = &exchange.record else { return };
    let mut context = context(exchange, Some(record.head()), Some(&record.response));
    context.trailers = record.trailers.as_ref();
    context.start = Some(record.began);
    context.downstream.remote = record.remote;
    context.timing = Timing {
        total: Some(took),
        response: record.responded,
        response_sent: record.responded,
        ..Timing::default()
    };
    write(&exchange.connection.worker, &manager.access_log, &context);
}

fn write(worker: &Local, logs: &[AccessLog], context: &Context<'_>) {
    for log in logs {
        if log.filter.as_ref().is_none_or(|filter| filter.accepts(context)) {
            let mut line = String::with_capacity(256);
            log.format.render(context, &mut line);
            worker.logs.line(&log.sink, line.as_bytes());
        }
    }
}

/// The facts of an exchange at this moment.
pub(super) fn context<'a>(
    exchange: &'a Exchange,
    request: Option<RequestHead<'a>>,
    response: Option<&'a HeaderMap>,
) -> Context<'a> {
    let connection = &exchange.connection;
    let upstream = exchange.upstream.as_ref().map(|upstream| {
        let endpoint = upstream.picked.endpoint();
        let held = upstream.lease.as_ref().map(super::pool::Lease::connection);
        Upstream {
            host: Some(endpoint.address),
            host_name: endpoint.hostname.as_deref(),
            local: upstream.local,
            cluster: Some(&upstream.picked.view.config.name),
            peer: held.and_then(|connection| connection.peer.as_deref()),
            attempts: exchange.attempts,
            ..Upstream::default()
        }
    });
    let routed = exchange.found.zip(exchange.view.routes.as_deref());
    Context {
        request,
        response,
        route_name: routed.map_or("", |(found, routes)| &routes.route(found).name),
        virtual_host: routed.map_or("", |(found, routes)| &routes.virtual_host(found).name),
        protocol: Some(match connection.protocol {
            Protocol::Http1 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
        }),
        response_code: exchange.status,
        response_code_details: (!exchange.details.is_empty()).then_some(&*exchange.details),
        flags: exchange.flags,
        bytes_received: exchange.progress.as_ref().map_or(0, |progress| progress.bytes.get()),
        bytes_sent: exchange.sent,
        downstream: downstream(&connection.held.facts),
        upstream: upstream.unwrap_or_default(),
        ..Context::default()
    }
}

fn downstream(facts: &Facts) -> Downstream<'_> {
    let tls = facts.tls.as_ref();
    Downstream {
        local: Some(facts.local),
        direct_remote: Some(facts.peer),
        remote: None,
        server_name: facts.server_name(),
        peer: facts.peer_certificate(),
        certificate: tls.map(|tls| -> &PeerCertificate { &tls.own }),
        tls_version: tls.map(|tls| tls.version),
        tls_cipher: tls.map(|tls| tls.cipher),
        transport_failure: None,
        connection_id: facts.id,
    }
}

/// Header operations with the values that depend on the request.
pub(super) type Ops<'a> = Vec<(&'a HeaderOps, Evaluated)>;

/// The route's operations on the request.
pub(super) fn request_ops<'a>(
    exchange: &Exchange,
    routes: &'a RouteConfig,
    found: RouteRef,
    weighted: Option<&'a WeightedCluster>,
    head: &RequestHead<'_>,
) -> Ops<'a> {
    let ops = routes.header_ops(found, weighted, Direction::Request);
    ops.map(|ops| (ops, ops.evaluate(&context(exchange, Some(*head), None)))).collect()
}

/// The route's operations on the response.
pub(super) fn response_ops<'a>(
    exchange: &Exchange,
    routes: &'a RouteConfig,
    found: RouteRef,
    weighted: Option<&'a WeightedCluster>,
    head: &RequestHead<'_>,
    response: &HeaderMap,
) -> Ops<'a> {
    let ops = routes.header_ops(found, weighted, Direction::Response);
    ops.map(|ops| (ops, ops.evaluate(&context(exchange, Some(*head), Some(response))))).collect()
}

/// The body of a `direct_response`.
pub(super) fn direct_body(exchange: &Exchange, head: &RequestHead<'_>, direct: &DirectResponse) -> Bytes {
    let Some(format) = &direct.format else { return direct.body.clone() };
    let text = String::from_utf8_lossy(&direct.body);
    let mut context = context(exchange, Some(*head), None);
    context.response_code = direct.status.as_u16();
    context.local_reply_body = &text;
    let mut rendered = String::new();
    format.render(&context, &mut rendered);
    rendered.into()
}

/// What `local_reply_config` makes of an answer.
pub(super) fn map_reply(
    exchange: &mut Exchange,
    replies: &LocalReplies,
    head: &RequestHead<'_>,
    response: &mut Response<()>,
    body: &[u8],
) -> Bytes {
    let text = String::from_utf8_lossy(body);
    let headers = response.headers().clone();
    let mut context = context(exchange, Some(*head), Some(&headers));
    context.local_reply_body = &text;
    let mapped = replies.reply(&context);
    let values = mapped.headers.map(|ops| (ops, ops.evaluate(&context)));
    if let Ok(status) = StatusCode::from_u16(mapped.status) {
        *response.status_mut() = status;
    }
    if !mapped.body.is_empty()
        && let Ok(value) = HeaderValue::from_str(mapped.content_type)
    {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    if let Some((ops, values)) = values {
        ops.apply(response.headers_mut(), values);
    }
    mapped.body.into()
}

/// Normalises the path in place; an answer where the request goes no further.
pub(super) fn normalize_path(manager: &HttpManager, parts: &mut Parts, shard: &Shard) -> Result<(), Reply> {
    let Some(path) = parts.uri.path_and_query() else { return Ok(()) };
    let changed = match normalize(path.as_str(), &manager.path) {
        Ok(Normal::Forward(std::borrow::Cow::Borrowed(_))) => return Ok(()),
        Ok(Normal::Forward(std::borrow::Cow::Owned(changed))) => changed,
        Ok(Normal::Redirect(to)) => {
            shard.inc(manager.stats.downstream_rq_redirected_with_normalized_path);
            let reply = Reply::new(StatusCode::TEMPORARY_REDIRECT, "path_normalization_failed");
            return Err(match HeaderValue::from_str(&to) {
                Ok(value) => reply.header(http::header::LOCATION, value),
                Err(_) => reply,
            });
        }
        Err(_) => {
            shard.inc(manager.stats.downstream_rq_failed_path_normalization);
            return Err(Reply::new(StatusCode::BAD_REQUEST, "path_normalization_failed"));
        }
    };
    let refused = || Reply::new(StatusCode::BAD_REQUEST, "path_normalization_failed");
    let mut uri = parts.uri.clone().into_parts();
    uri.path_and_query = Some(changed.parse().map_err(|_| refused())?);
    parts.uri = Uri::from_parts(uri).map_err(|_| refused())?;
    Ok(())
}

/// `x-envoy-upstream-service-time`.
pub(super) const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// Reports an outcome that belongs to no exchange: a TCP connection's.
pub(super) fn report(worker: &Local, picked: &Picked, outcome: Outcome) {
    let config = &picked.view.config;
    if config.outliers.config().is_none() {
        return;
    }
    if let Some((kind, ruling)) = config.outliers.report(picked.index, outcome, super::clock::now()) {
        count_ejection(&worker.shard, &config.stats.outlier, kind, ruling);
    }
}

/// Counts what outlier detection found.
pub(super) fn count_ejection(shard: &Shard, stats: &OutlierStats, kind: Kind, ruling: Ruling) {
    let (detected, enforced) = match kind {
        Kind::ServerErrors => {
            (stats.ejections_detected_consecutive_5xx, stats.ejections_enforced_consecutive_5xx)
        }
        Kind::GatewayFailures => (
            stats.ejections_detected_consecutive_gateway_failure,
            stats.ejections_enforced_consecutive_gateway_failure,
        ),
        Kind::LocalOriginFailures => (
            stats.ejections_detected_consecutive_local_origin_failure,
            stats.ejections_enforced_consecutive_local_origin_failure,
        ),
    };
    shard.inc(detected);
    match ruling {
        Ruling::Ejected => {
            shard.inc(enforced);
            shard.inc(stats.ejections_enforced_total);
        }
        Ruling::Overflow => shard.inc(stats.ejections_overflow),
        Ruling::AlreadyEjected | Ruling::NotEnforced => {}
    }
}

/// What a log is told of a TCP connection.
pub(super) struct TcpRecord<'a> {
    held: &'a Rc<Held>,
    start: Instant,
    began: SystemTime,
    pub(super) flags: ResponseFlags,
    pub(super) cluster: Option<Arc<str>>,
    pub(super) upstream: Option<SocketAddr>,
    pub(super) upstream_local: Option<SocketAddr>,
    pub(super) failure: Option<String>,
    pub(super) up: u64,
    pub(super) down: u64,
}

impl<'a> TcpRecord<'a> {
    pub(super) fn new(held: &'a Rc<Held>, start: Instant) -> Self {
        Self {
            held,
            start,
            began: SystemTime::now(),
            flags: ResponseFlags::default(),
            cluster: None,
            upstream: None,
            upstream_local: None,
            failure: None,
            up: 0,
            down: 0,
        }
    }
}

/// Writes the access logs of a TCP connection.
pub(super) fn log_tcp(worker: &Local, logs: &[AccessLog], record: &TcpRecord<'_>) {
    if logs.is_empty() {
        return;
    }
    let context = Context {
        flags: record.flags,
        bytes_received: record.up,
        bytes_sent: record.down,
        start: Some(record.began),
        timing: Timing { total: Some(record.start.elapsed()), ..Timing::default() },
        downstream: downstream(&record.held.facts),
        upstream: Upstream {
            host: record.upstream,
            local: record.upstream_local,
            cluster: record.cluster.as_deref(),
            transport_failure: record.failure.as_deref(),
            ..Upstream::default()
        },
        ..Context::default()
    };
    write(worker, logs, &context);
}
