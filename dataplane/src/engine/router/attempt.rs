//! One try: the request goes out, a response or an error comes back.

use std::borrow::Cow;
use std::future::poll_fn;
use std::task::Poll;

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::super::clock::now;
use super::super::connect::ConnectError;
use super::super::exchange::Exchange;
use super::super::handshake::refused_by_server;
use super::super::http::Stage;
use super::super::limits::{Limits, TimedOut};
use super::super::pool::{Lease, UploadBody};
use super::super::reply::{Reply, server_header};
use super::super::response_body::{ContentBody, ResponseBody, Source};
use super::super::serve::Protocol;
use super::super::{body, record};
use super::Sending;
use super::outgoing::{Outgoing, is_hop_by_hop};
use crate::format::ResponseFlags;
use crate::route::WeightedCluster;
use crate::runtime::HttpFilter;

/// Why a try brought no response.
#[derive(Debug)]
pub(super) enum AttemptError {
    /// No connection.
    Connect(ConnectError),
    /// The request did not leave this process.
    NotSent,
    /// The server refused the stream without looking at it.
    Refused,
    /// The connection ended before any byte of a response.
    Broken,
    /// The stream was reset, or what came was no response.
    Reset,
    /// A limit was reached.
    TimedOut(TimedOut),
}

/// Runs `work` unless a limit of the request is reached first. Everything that a request waits for before it has a
/// response runs in here: what is reached elsewhere cuts the stream without an answer.
pub(in super::super) async fn limited<F: Future>(limits: &Limits, work: F) -> Result<F::Output, TimedOut> {
    let mut work = std::pin::pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => limits.answerable(cx).map(Err),
    })
    .await
}

/// Sends a request over a connection and waits for the response's head.
pub(super) async fn send(
    exchange: &mut Exchange,
    mut lease: Lease,
    request: Request<UploadBody>,
    outgoing: &mut Outgoing,
) -> Result<(Response<Incoming>, Lease), AttemptError> {
    let sent = match &mut lease {
        Lease::Http1(lease) => {
            let driver = lease.driver().clone();
            let response = lease.sender().try_send_request(request);
            limited(&exchange.limits, driver.drive(response)).await
        }
        Lease::Http2(lease) => {
            let response = lease.sender().try_send_request(request);
            limited(&exchange.limits, response).await
        }
    };
    match sent {
        Ok(Ok(response)) => Ok((response, lease)),
        Err(reached) => Err(AttemptError::TimedOut(reached)),
        Ok(Err(mut failed)) => {
            tracing::debug!(error = %failed.error(), "no response");
            if let Some(upstream) = &exchange.upstream {
                let (worker, config) = (&exchange.connection.worker, &upstream.picked.view.config);
                refused_by_server(worker, config, upstream.picked.endpoint().address, failed.error());
            }
            if let Some(request) = failed.take_message() {
                outgoing.put_back(request);
                if let Lease::Http2(lease) = &lease {
                    lease.connection().spent.set(true);
                }
                return Err(AttemptError::NotSent);
            }
            Err(classify(failed.error()))
        }
    }
}

fn classify(error: &hyper::Error) -> AttemptError {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return match h2.reason() {
                Some(h2::Reason::REFUSED_STREAM) => AttemptError::Refused,
                Some(_) | None if h2.is_io() || h2.is_go_away() => AttemptError::Broken,
                Some(_) | None => AttemptError::Reset,
            };
        }
        source = cause.source();
    }
    let broken = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
    let io = std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    if broken || io { AttemptError::Broken } else { AttemptError::Reset }
}

/// The answer to a request that nobody answered.
pub(super) fn reply(exchange: &mut Exchange, error: &AttemptError) -> Reply {
    let worker = exchange.connection.worker.clone();
    let stats = exchange.upstream.as_ref().map(|upstream| upstream.picked.view.config.clone());
    let count = |which: fn(&crate::stats::ClusterStats) -> crate::stats::CounterId| {
        if let Some(config) = &stats {
            worker.shard.inc(which(&config.stats));
        }
    };
    let unavailable = |reason: &str, details: String, flag| {
        let text =
            format!("upstream connect error or disconnect/reset before headers. reset reason: {reason}");
        Reply::new(StatusCode::SERVICE_UNAVAILABLE, details).body(text).flag(flag)
    };
    match error {
        AttemptError::Connect(ConnectError::Timeout) => unavailable(
            "connection timeout",
            "upstream_reset_before_response_started{connection_timeout}".into(),
            ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
        ),
        AttemptError::Connect(error) => {
            count(|stats| stats.upstream_rq_pending_failure_eject);
            let reason = format!("remote connection failure, transport failure reason: {error}");
            let details = format!(
                "upstream_reset_before_response_started{{remote_connection_failure|{}}}",
                error.to_string().replace(char::is_whitespace, "_")
            );
            unavailable(&reason, details, ResponseFlags::UPSTREAM_CONNECTION_FAILURE)
        }
        AttemptError::NotSent | AttemptError::Broken => {
            count(|stats| stats.upstream_cx_destroy_remote_with_active_rq);
            unavailable(
                "connection termination",
                "upstream_reset_before_response_started{connection_termination}".into(),
                ResponseFlags::UPSTREAM_TERMINATION,
            )
        }
        AttemptError::Refused | AttemptError::Reset => {
            count(|stats| stats.upstream_rq_rx_reset);
            unavailable(
                "remote reset",
                "upstream_reset_before_response_started{remote_reset}".into(),
                ResponseFlags::UPSTREAM_REMOTE_RESET,
            )
        }
        AttemptError::TimedOut(reached) => {
            reached.count(exchange);
            timed_out(*reached, exchange.limits.request_ended())
        }
    }
}

/// The answer where a circuit breaker is open.
pub(super) fn overflow() -> Reply {
    Reply::new(StatusCode::SERVICE_UNAVAILABLE, "upstream_reset_before_response_started{overflow}")
        .body("upstream connect error or disconnect/reset before headers. reset reason: overflow")
        .flag(ResponseFlags::UPSTREAM_OVERFLOW)
        .header(HeaderName::from_static("x-envoy-overloaded"), HeaderValue::from_static("true"))
}

/// The caller's request ended in bytes that are no HTTP: nothing that the endpoint did.
pub(super) fn broken_request() -> Reply {
    Reply::new(StatusCode::BAD_REQUEST, "http1.codec_error")
        .body("Bad Request")
        .flag(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR)
}

/// 408 where the caller has not sent its request yet: it is not the endpoint that is late then.
fn timed_out(reached: TimedOut, request_ended: bool) -> Reply {
    let late = if request_ended { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::REQUEST_TIMEOUT };
    let (code, body) = match reached {
        TimedOut::Route | TimedOut::PerTry => (StatusCode::GATEWAY_TIMEOUT, "upstream request timeout"),
        TimedOut::Idle => (late, "stream timeout"),
        TimedOut::Duration => (late, "downstream duration timeout"),
        TimedOut::Request => (StatusCode::REQUEST_TIMEOUT, "request timeout"),
    };
    let reply = Reply::new(code, reached.details()).body(body);
    match reached.flag() {
        Some(flag) => reply.flag(flag),
        None => reply,
    }
}

/// Passes a response on.
pub(super) fn respond(
    mut stage: Stage,
    sending: &Sending<'_>,
    weighted: Option<&WeightedCluster>,
    outgoing: &Outgoing,
    response: Response<Incoming>,
) -> Response<ResponseBody> {
    let (mut parts, incoming) = response.into_parts();
    head(&mut stage, sending, weighted, outgoing, parts.status, &mut parts.headers);
    let mut response = Response::new(());
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    stage.exchange.responded(parts.status);
    stage.exchange.details = Cow::Borrowed("via_upstream");
    let source = Source::Upstream(incoming);
    let body = ContentBody::new(source, stage.exchange);
    response.map(|()| ResponseBody::Content(body))
}

/// Brings the response's head into the form that the caller sees.
pub(in super::super) fn head(
    stage: &mut Stage,
    sending: &Sending<'_>,
    weighted: Option<&WeightedCluster>,
    outgoing: &Outgoing,
    status: StatusCode,
    headers: &mut HeaderMap,
) {
    let manager = sending.manager;
    remove_hop_by_hop(headers);
    stage.exchange.grpc_status = body::grpc_status(headers);
    let suppress = manager
        .filters
        .iter()
        .any(|filter| matches!(filter, HttpFilter::Router { suppress_envoy_headers: true }));
    if !suppress && let Some(upstream) = &stage.exchange.upstream {
        let took = now().saturating_duration_since(upstream.started).as_millis() as u64;
        headers.insert(record::SERVICE_TIME, HeaderValue::from(took));
    }
    let request = stage.head(outgoing.parts());
    let ops =
        record::response_ops(&stage.exchange, sending.routes, sending.found, weighted, &request, headers);
    for (ops, values) in ops {
        ops.apply(headers, values);
    }
    if sending.routes.virtual_host(sending.found).attempt_count_in_response {
        let name = HeaderName::from_static("x-envoy-attempt-count");
        headers.insert(name, HeaderValue::from(stage.exchange.attempts));
    }
    server_header(headers, manager);
    if let Some(id) = &stage.exchange.request_id {
        headers.insert(super::super::forwarded::REQUEST_ID, id.clone());
    }
    if stage.connection.should_close(manager)
        && stage.connection.protocol == Protocol::Http1
        && status != StatusCode::SWITCHING_PROTOCOLS
    {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        stage.connection.worker.shard.inc(manager.stats.downstream_cx_drain_close);
    }
    record::note_response(&mut stage.exchange, manager, status, headers);
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let mut left = headers.keys().filter(|name| is_hop_by_hop(name)).count();
    if left == 0 {
        return;
    }
    // The coding framed what came (RFC 9112, 6.3): the length beside it says nothing.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    if let Some(connection) = headers.remove(CONNECTION) {
        left -= 1;
        for word in connection.to_str().unwrap_or_default().split(',').map(str::trim) {
            // What most servers say; neither names a header that would stay.
            if word.eq_ignore_ascii_case("keep-alive") || word.eq_ignore_ascii_case("close") {
                continue;
            }
            if let Ok(name) = word.parse::<HeaderName>() {
                headers.remove(&name);
            }
        }
        if left == 0 {
            return;
        }
    }
    headers.remove(TRANSFER_ENCODING);
    headers.remove(UPGRADE);
    headers.remove(HeaderName::from_static("keep-alive"));
    headers.remove(HeaderName::from_static("proxy-connection"));
}
