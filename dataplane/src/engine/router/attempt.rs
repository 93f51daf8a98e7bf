//! One try: the request goes out, a response or an error comes back.

use http::{HeaderName, HeaderValue, Request, Response, StatusCode};

use super::super::active_stream::ActiveStream;
use super::super::body::RequestBody;
use super::super::connect::ConnectError;
use super::super::handshake::refused_by_server;
use super::super::limits::{TimedOut, limited};
use super::super::pool::{Content, Lease, UploadBody};
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
    /// The stream was reset.
    Reset,
    /// What came was no response.
    Malformed,
    /// A limit was reached.
    TimedOut(TimedOut),
}

/// Sends a request over a connection and waits for the response's head.
pub(super) async fn send(
    stream: &mut ActiveStream,
    mut lease: Lease,
    request: Request<RequestBody>,
    outgoing: &mut Outgoing,
) -> Result<(Response<Content>, Lease), AttemptError> {
    match &mut lease {
        Lease::Http1(h1) => {
            h1.send(request);
            match limited(&stream.limits, std::future::poll_fn(|cx| h1.poll_head(cx))).await {
                Ok(Ok(response)) => {
                    let content = Content::Http1(h1.content());
                    Ok((response.map(|()| content), lease))
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, "no response");
                    Err(classify_http1(stream, &error))
                }
                Err(reached) => Err(AttemptError::TimedOut(reached)),
            }
        }
        Lease::Http2(h2) => {
            let (parts, body) = request.into_parts();
            let request = Request::from_parts(parts, h2.body(body));
            let response = h2.sender().try_send_request(request);
            match limited(&stream.limits, response).await {
                Ok(Ok(response)) => Ok((response.map(Content::Http2), lease)),
                Ok(Err(mut failed)) => {
                    tracing::debug!(error = %failed.error(), "no response");
                    note_refusal(stream, failed.error());
                    if let Some(request) = failed.take_message() {
                        outgoing.put_back(request.map(UploadBody::into_inner));
                        h2.connection().spent.set(true);
                        return Err(AttemptError::NotSent);
                    }
                    Err(classify_http2(failed.error()))
                }
                Err(reached) => Err(AttemptError::TimedOut(reached)),
            }
        }
    }
}

/// Says so where a server refused our certificate, which is known only now.
fn note_refusal(stream: &ActiveStream, error: &(dyn std::error::Error + 'static)) {
    if let Some(upstream) = &stream.upstream {
        let (worker, config) = (&stream.connection.worker, &upstream.picked.view.config);
        refused_by_server(worker, config, upstream.picked.endpoint().address, error);
    }
}

fn classify_http1(stream: &ActiveStream, error: &weft_http1::Error) -> AttemptError {
    match error {
        weft_http1::Error::Malformed(_) | weft_http1::Error::Incomplete => AttemptError::Malformed,
        weft_http1::Error::Io(error) => {
            note_refusal(stream, error);
            AttemptError::Broken
        }
        weft_http1::Error::Closed | weft_http1::Error::Gone => AttemptError::Broken,
        weft_http1::Error::Body => AttemptError::Reset,
    }
}

fn classify_http2(error: &hyper::Error) -> AttemptError {
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
        AttemptError::Malformed => {
            count(|stats| stats.upstream_cx_protocol_error);
            let text =
                "upstream connect error or disconnect/reset before headers. reset reason: protocol error";
            let details = "upstream_reset_before_response_started{protocol_error}";
            let flag = ResponseFlags::UPSTREAM_PROTOCOL_ERROR;
            Reply::new(StatusCode::BAD_GATEWAY, details).body(text).flag(flag)
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
