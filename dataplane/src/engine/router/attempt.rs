//! One try: the request goes out, a response or an error comes back.

use http::{HeaderName, HeaderValue, Request, Response, StatusCode};

use super::super::active_stream::ActiveStream;
use super::super::body::RequestBody;
use super::super::connect::ConnectError;
use super::super::handshake::refused_by_server;
use super::super::limits::{TimedOut, limited};
use super::super::pool::{ConnectionLease, Content};
use super::super::reply::Reply;
use super::super::round_trip::{Reset, round_trip};
use super::outgoing::RepeatableRequest;
use crate::format::ResponseFlags;

/// Why a try brought no response.
#[derive(Debug)]
pub(super) enum AttemptError {
    Connect(ConnectError),
    /// Nothing came on the connection.
    Reset(Reset),
    /// A limit was reached.
    TimedOut(TimedOut),
}

/// Sends a request over a connection and waits for the response's head.
pub(super) async fn send(
    stream: &mut ActiveStream,
    mut lease: ConnectionLease,
    request: Request<RequestBody>,
    outgoing: &mut RepeatableRequest,
) -> Result<(Response<Content>, ConnectionLease), AttemptError> {
    match limited(&stream.limits, round_trip(&mut lease, request)).await {
        Ok(Ok(response)) => Ok((response, lease)),
        Ok(Err(unanswered)) => {
            note_refusal(stream, &*unanswered.error);
            if let Some(request) = unanswered.unsent {
                outgoing.put_back(request);
            }
            Err(AttemptError::Reset(unanswered.reset))
        }
        Err(reached) => Err(AttemptError::TimedOut(reached)),
    }
}

/// Says so where a server refused our certificate, which is known only now.
fn note_refusal(stream: &mut ActiveStream, error: &(dyn std::error::Error + 'static)) {
    let Some(upstream) = &stream.upstream else { return };
    let (worker, config) = (&stream.connection.worker, &upstream.picked.view.config);
    let refusal = refused_by_server(worker, config, upstream.picked.endpoint().address, error);
    stream.failure = refusal.map(Into::into);
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
            stream.failure = Some(error.to_string().into());
            let reason = format!("remote connection failure, transport failure reason: {error}");
            let details = format!(
                "upstream_reset_before_response_started{{remote_connection_failure|{}}}",
                error.to_string().replace(char::is_whitespace, "_")
            );
            unavailable(&reason, details, ResponseFlags::UPSTREAM_CONNECTION_FAILURE)
        }
        AttemptError::Reset(Reset::NotSent | Reset::Broken) => {
            count(|stats| stats.upstream_cx_destroy_remote_with_active_rq);
            let told = stream.failure.as_deref().map(|failure| format!("|{}", failure.replace(' ', "_")));
            let told = told.unwrap_or_default();
            unavailable(
                "connection termination",
                format!("upstream_reset_before_response_started{{connection_termination{told}}}"),
                ResponseFlags::UPSTREAM_TERMINATION,
            )
        }
        AttemptError::Reset(Reset::Refused | Reset::Stream) => {
            count(|stats| stats.upstream_rq_rx_reset);
            unavailable(
                "remote reset",
                "upstream_reset_before_response_started{remote_reset}".into(),
                ResponseFlags::UPSTREAM_REMOTE_RESET,
            )
        }
        AttemptError::Reset(Reset::Malformed) => {
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

/// The answer where no endpoint is healthy.
pub(super) fn no_healthy() -> Reply {
    Reply::new(StatusCode::SERVICE_UNAVAILABLE, "no_healthy_upstream")
        .body("no healthy upstream")
        .flag(ResponseFlags::NO_HEALTHY_UPSTREAM)
}

/// The answer where a circuit breaker is open.
pub(super) fn overflow() -> Reply {
    Reply::new(StatusCode::SERVICE_UNAVAILABLE, "upstream_reset_before_response_started{overflow}")
        .body("upstream connect error or disconnect/reset before headers. reset reason: overflow")
        .flag(ResponseFlags::UPSTREAM_OVERFLOW)
        .header(HeaderName::from_static("x-envoy-overloaded"), HeaderValue::from_static("true"))
}
