//! Requests that become tunnels: WebSocket and other upgrades, extended CONNECT, CONNECT.

use std::rc::Rc;
use std::task::{Context, Poll};

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{Method, Response, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::active_stream::ActiveStream;
use super::super::body::{BodyError, RequestContent};
use super::super::clock::Deadline;
use super::super::cluster::ClusterState;
use super::super::connection::Urgency;
use super::super::copy::{TunnelEnd, tunnel};
use super::super::http_connection::CodecType;
use super::super::limits::{TimedOut, limited};
use super::super::pool::{ConnectionLease, Content};
use super::super::reach::{self, Unreached};
use super::super::reply::Reply;
use super::super::request_context::RequestContext;
use super::super::response_body::ResponseBody;
use super::super::trust::servers::Trusted;
use super::super::upgraded::Upgraded;
use super::attempt::{self, AttemptError};
use super::outgoing::RepeatableRequest;
use super::response;
use super::routed::Routed;
use crate::runtime::HttpManager;

/// Whether manager and route allow the upgrade that is asked for.
pub(super) fn is_allowed(routed: &Routed<'_>, parts: &Parts) -> bool {
    let protocol = asked(parts);
    let same = |kind: &str| kind.eq_ignore_ascii_case(&protocol);
    let route = routed.forward.upgrades.iter().find(|upgrade| same(&upgrade.kind));
    let manager = routed.manager.upgrades.iter().find(|upgrade| same(&upgrade.protocol));
    route.map(|upgrade| upgrade.enabled).or(manager.map(|upgrade| upgrade.enabled)).unwrap_or(false)
}

fn asked(parts: &Parts) -> String {
    if parts.method == Method::CONNECT {
        return match parts.extensions.get::<hyper::ext::Protocol>() {
            Some(protocol) => protocol.as_str().to_owned(),
            None => "CONNECT".to_owned(),
        };
    }
    parts.headers.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// Whether a request for an upgrade announces content of its own. What follows it is the tunnel's: a server that reads
/// on by the announced length would take the next request on the connection for content, or content for a request.
pub(super) fn has_content(parts: &Parts, content: &RequestContent) -> bool {
    let length = parts.headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    length
        || parts.headers.contains_key(TRANSFER_ENCODING)
        || (parts.version <= Version::HTTP_11 && !content.is_end_stream())
}

/// Whether a response accepts an extended CONNECT that we sent.
pub(super) fn is_extended(
    outgoing: &RepeatableRequest,
    lease: &ConnectionLease,
    response: &Response<Content>,
) -> bool {
    outgoing.upgrades() && matches!(lease, ConnectionLease::Http2(_)) && response.status() == StatusCode::OK
}

/// The upstream accepted the upgrade: both connections become one tunnel.
pub(super) fn accept(
    mut context: RequestContext,
    mut routed: Routed<'_>,
    outgoing: &RepeatableRequest,
    mut response: Response<Content>,
    lease: ConnectionLease,
) -> Response<ResponseBody> {
    let upstream = hyper::upgrade::on(&mut response);
    let protocol = response.headers().get(UPGRADE).cloned();
    let (mut parts, _) = response.into_parts();
    // What follows is the tunnel's, no content that a filter could change.
    let _ = response::head(
        &mut context,
        &routed,
        None,
        outgoing,
        StatusCode::SWITCHING_PROTOCOLS,
        &mut parts.headers,
        false,
    );
    let mut answer = Response::new(ResponseBody::Tunnel);
    *answer.headers_mut() = parts.headers;
    match context.connection.protocol {
        CodecType::Http1 => {
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = answer.headers_mut();
            headers.remove(CONTENT_LENGTH);
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            let asked = protocol.or_else(|| outgoing.parts().headers.get(UPGRADE).cloned());
            headers.insert(UPGRADE, asked.unwrap_or(HeaderValue::from_static("websocket")));
        }
        CodecType::Http2 => *answer.status_mut() = StatusCode::OK,
    }
    context.stream.responded(answer.status());
    context.stream.details = "via_upstream".into();
    let Some(downstream) = routed.upgrade.take() else { return answer };
    begin(&context, routed.manager);
    tokio::task::spawn_local(async move {
        let expiry = reach::certificate_end(
            &context.connection.worker,
            &context.connection.downstream,
            lease.connection().certificate_end(),
        );
        // An HTTP/2 connection to the server ends its streams itself.
        let trusted = match &lease {
            ConnectionLease::Http1(lease) => lease.connection().trusted(),
            ConnectionLease::Http2(_) => None,
        };
        let both = async {
            let downstream = downstream.stream().await?;
            let upstream = match &lease {
                ConnectionLease::Http1(lease) => {
                    let stream = lease.take_stream().ok_or(BodyError::Http1(weft_http1::Error::Gone))?;
                    Upgraded::Connection(stream)
                }
                ConnectionLease::Http2(_) => {
                    upstream.await.map(Upgraded::stream_of).map_err(BodyError::Http2)?
                }
            };
            Ok::<_, BodyError>((downstream, upstream))
        };
        match limited(&context.stream.limits, both).await {
            Ok(Ok((downstream, upstream))) => {
                let ends = Ends { expiry, trusted };
                run(context.stream, downstream, upstream, ends).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "upgrade did not come about"),
            Err(reached) => context.stream.limits.cut(reached),
        }
    });
    answer
}

/// The answer that makes a tunnel of the stream is about to go out: its caller must take it, as any other.
fn begin(context: &RequestContext, manager: &HttpManager) {
    context.connection.worker.shard.inc(manager.stats.downstream_cx_upgrades_total);
    let limits = &context.stream.limits;
    limits.flush();
    if context.connection.protocol == CodecType::Http2 {
        // hyper makes a task that writes the tunnel's bytes, which must end with it.
        context.connection.handover.set(Some(limits.clone()));
    }
}

/// CONNECT: ends here, and its content goes to an endpoint as TCP, where the route says so.
pub(super) async fn connect(
    mut context: RequestContext,
    mut routed: Routed<'_>,
    parts: Parts,
    cluster: &Rc<ClusterState>,
) -> Response<ResponseBody> {
    let manager = routed.manager;
    let terminates = routed.forward.upgrades.iter().any(|upgrade| {
        upgrade.enabled && upgrade.terminates_connect && upgrade.kind.eq_ignore_ascii_case("connect")
    });
    let (true, Some(downstream)) = (terminates, routed.upgrade.take()) else {
        return context.reply(&parts, Reply::new(StatusCode::FORBIDDEN, "upgrade_failed"));
    };
    let hash = routed.hash(&mut context, &cluster.view().config, &parts);
    let reached = match reach::reach(&context.connection.worker, cluster, hash, 1).await {
        Ok(reached) => reached,
        Err(unreached) => {
            let reply = match unreached {
                Unreached::NoHealthy => attempt::no_healthy(),
                Unreached::Overflow => attempt::overflow(),
                Unreached::Failed(error, _) => {
                    attempt::reply(&mut context.stream, &AttemptError::Connect(error))
                }
            };
            return super::fail(context, &parts, cluster, reply);
        }
    };
    context.stream.responded(StatusCode::OK);
    context.stream.details = "via_upstream".into();
    begin(&context, manager);
    tokio::task::spawn_local(async move {
        let expiry = reach::certificate_end(
            &context.connection.worker,
            &context.connection.downstream,
            reached.dialed.certificate_end(),
        );
        match limited(&context.stream.limits, downstream.stream()).await {
            Ok(Ok(downstream)) => {
                let ends = Ends { expiry, trusted: reached.trusted };
                run(context.stream, downstream, reached.dialed.stream, ends).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "CONNECT did not come about"),
            Err(reached) => context.stream.limits.cut(reached),
        }
    });
    Response::new(ResponseBody::Tunnel)
}

/// What ends a tunnel besides its two sides.
struct Ends {
    /// The first certificate's expiry.
    expiry: Option<Deadline>,
    /// The server is not trusted any more.
    trusted: Option<Rc<Trusted>>,
}

/// Copies both ways until either ends, or a certificate of either side; the stream is over then.
async fn run<D, U>(mut stream: Box<ActiveStream>, downstream: D, upstream: U, ends: Ends)
where
    D: AsyncRead + AsyncWrite,
    U: AsyncRead + AsyncWrite,
{
    let connection = stream.connection.clone();
    let deadlines = &connection.worker.deadlines;
    let limits = stream.limits.clone();
    limits.rest();
    let idle = limits.idle().map(|span| (Deadline::new(deadlines), span));
    let longest = limits.left().map(|span| Deadline::after(deadlines, span));
    let due = |deadline: &Option<Deadline>, cx: &Context<'_>| {
        deadline.as_ref().is_some_and(|deadline| deadline.poll(cx).is_ready())
    };
    let mut too_long = false;
    let done = tunnel(downstream, upstream, idle, |cx, _| {
        connection.downstream.watch(cx);
        too_long = due(&longest, cx);
        let refused = ends.trusted.as_ref().is_some_and(|trusted| trusted.poll_refused(cx).is_ready());
        if too_long || refused || due(&ends.expiry, cx) || connection.downstream.ending() >= Urgency::Cut {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    stream.sent = done.down;
    stream.tunnelled(done.up);
    match done.end {
        TunnelEnd::Idle => limits.cut(TimedOut::Idle),
        TunnelEnd::Stopped if too_long => limits.cut(TimedOut::Duration),
        TunnelEnd::Closed | TunnelEnd::DownstreamBroke | TunnelEnd::UpstreamBroke | TunnelEnd::Stopped => {
            stream.complete();
        }
    }
}
