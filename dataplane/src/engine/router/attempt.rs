//! One try: the request goes out, a response or an error comes back.

use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::super::active_stream::ActiveStream;
use super::super::connect::ConnectError;
use super::super::handshake::refused_by_server;
use super::super::limits::{TimedOut, limited};
use super::super::pool::{Lease, UploadBody};
use super::super::reply::Reply;
use super::outgoing::Outgoing;
use crate::format::ResponseFlags;

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

/// Sends a request over a connection and waits for the response's head.
pub(super) async fn send(
    stream: &mut ActiveStream,
    mut lease: Lease,
    request: Request<UploadBody>,
    outgoing: &mut Outgoing,
) -> Result<(Response<Incoming>, Lease), AttemptError> {
    let sent = match &mut lease {
        Lease::Http1(lease) => {
            let driver = lease.driver().clone();
            let response = lease.sender().try_send_request(request);
            limited(&stream.limits, driver.drive(response)).await
        }
        Lease::Http2(lease) => {
            let response = lease.sender().try_send_request(request);
            limited(&stream.limits, response).await
        }
    };
    match sent {
        Ok(Ok(response)) => Ok((response, lease)),
        Err(reached) => Err(AttemptError::TimedOut(reached)),
        Ok(Err(mut failed)) => {
            tracing::debug!(error = %failed.error(), "no response");
            if let Some(upstream) = &stream.upstream {
                let (worker, config) = (&stream.connection.worker, &upstream.picked.view.config);
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
pub(super) fn reply(stream: &mut ActiveStream, error: &AttemptError) -> Reply {
    let worker = stream.connection.worker.clone();
    let stats = stream.upstream.as_ref().map(|upstream| upstream.picked.view.config.clone());
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
            stream.count_timeout(*reached);
            reached.reply(stream.limits.request_ended())
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
