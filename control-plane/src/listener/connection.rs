//! HTTP on one connection, and the ends that it may come to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use weft_api::TrustDomain;

use super::calls::{Activity, RunningCall, TimedRequestBody, TrackedResponseBody};
use super::connection_pools::{ConnectionClass, ConnectionPermit};
use super::greeting::TlsConnection;
use super::keepalive::KeepaliveStream;
use super::lifetime::Lifetime;
use super::{ListenerShared, Security};
use crate::metrics::Closed;
use crate::tls::{Peer, identify};

/// Header fields of one request, at most.
pub const MAX_HEADERS: usize = 100;
/// HTTP/2 streams that a connection may have open on the xDS listener.
pub const XDS_STREAMS: u32 = 32;
/// HTTP/2 streams that a connection may have open on the API.
pub const API_STREAMS: u32 = 100;
/// Time for the head of a request.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Within this time some part of a stranger's request must come.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

const MAX_HEADER_BYTES: u32 = 60 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
// An idle connection has nothing to finish; its client may say goodbye.
const IDLE_GRACE: Duration = Duration::from_secs(1);

/// Which HTTP, where TLS has said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NegotiatedHttp {
    Http1,
    Http2,
    Either,
}

impl ListenerShared {
    /// Greets and serves; says why the connection was closed from this side, if it was.
    pub(super) async fn talk(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        permit: &ConnectionPermit,
    ) -> Option<Closed> {
        let (config, trust_domain) = match &self.security {
            Security::Plain => {
                return self.serve(stream, NegotiatedHttp::Either, None, address, permit).await;
            }
            Security::Tls { config, trust_domain } => (Arc::clone(&config.borrow()), trust_domain),
        };
        let greeted = tokio::select! {
            greeted = self.greet(stream, address, config, permit) => greeted?,
            () = self.shutdown.cancelled() => return None,
        };
        let peer = peer(&greeted, trust_domain);
        if !permit
            .becomes(if peer.is_some() { ConnectionClass::Member } else { ConnectionClass::Stranger })
            .await
        {
            return Some(Closed::no_room);
        }
        let is_h2 = greeted.get_ref().get_ref().1.alpn_protocol() == Some(b"h2");
        let protocol = if is_h2 { NegotiatedHttp::Http2 } else { NegotiatedHttp::Http1 };
        self.serve(greeted, protocol, peer, address, permit).await
    }

    async fn serve<S>(
        &self,
        stream: S,
        protocol: NegotiatedHttp,
        peer: Option<Peer>,
        address: SocketAddr,
        permit: &ConnectionPermit,
    ) -> Option<Closed>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let workload = peer.as_ref().and_then(|peer| Some((peer.workload.as_ref()?, &peer.serial)));
        let entered = match workload {
            Some((workload, serial)) => match self.connections.enter(workload, serial, &permit.activity) {
                Some(entered) => Some(entered),
                None => return Some(Closed::too_many_of_a_workload),
            },
            None => None,
        };
        let cut = entered.as_ref().map_or_else(CancellationToken::new, |entered| entered.cut());
        let keepalive =
            entered.as_ref().filter(|_| protocol == NegotiatedHttp::Http2).map(|entered| entered.keepalive());
        let lifetime = Lifetime::new(peer.as_ref(), cut.clone(), self.shutdown.clone(), self.clock.clone());
        let is_stranger = peer.is_none();
        let idle = self.idle_end(is_stranger, &permit.activity);
        let calls = CallContext {
            app: self.app.clone(),
            is_stranger,
            peer,
            address,
            activity: Arc::clone(&permit.activity),
            cut: cut.clone(),
        };
        let service = service_fn(move |request| calls.clone().answer(request));
        let builder = http_builder(self.max_streams, protocol);
        let connection =
            builder.serve_connection(TokioIo::new(KeepaliveStream::new(stream, keepalive)), service);
        let mut connection = std::pin::pin!(connection);
        let (result, closed) = tokio::select! {
            result = connection.as_mut() => (result, None),
            () = lifetime.goaway() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    result = connection => (result, lifetime.why()),
                    () = lifetime.end() => (Ok(()), lifetime.why()),
                }
            }
            () = idle => {
                connection.as_mut().graceful_shutdown();
                let ended = tokio::time::timeout(IDLE_GRACE, connection).await;
                (ended.unwrap_or(Ok(())), Some(Closed::idle))
            }
        };
        if let Err(error) = result {
            tracing::debug!(%address, %error, "connection ended");
        }
        closed
    }

    /// When a connection without a certificate has made no call for too long. Others may be silent for as long as they
    /// answer pings.
    async fn idle_end(&self, is_stranger: bool, activity: &Activity) {
        if is_stranger {
            activity.idles_for(self.idle).await;
        } else {
            std::future::pending::<()>().await;
        }
    }
}

// The verifier has refused what cannot be identified, so `None` is a client without a certificate.
fn peer(stream: &TlsConnection, trust_domain: &TrustDomain) -> Option<Peer> {
    let (_, session) = stream.get_ref().get_ref();
    let leaf = session.peer_certificates()?.first()?;
    identify(leaf, trust_domain).ok()
}

/// What the calls of a connection have in common.
#[derive(Clone)]
struct CallContext {
    app: Router,
    is_stranger: bool,
    peer: Option<Peer>,
    address: SocketAddr,
    activity: Arc<Activity>,
    cut: CancellationToken,
}

impl CallContext {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let running = RunningCall::start(&self.activity);
        let response = if self.cut.is_cancelled() {
            refusal(StatusCode::FORBIDDEN, "this connection has been cut\n")
        } else if request.headers().len() > MAX_HEADERS {
            let text = "too many header fields; the most is 100\n";
            refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text)
        } else {
            // A workload's request may be a stream that is silent for hours.
            let limit = self.is_stranger.then_some(BODY_TIMEOUT);
            let mut request =
                request.map(|body| Body::new(TimedRequestBody::new(body, &self.activity, limit)));
            let extensions = request.extensions_mut();
            extensions.insert(ConnectInfo(self.address));
            if let Some(peer) = self.peer {
                extensions.insert(peer);
            }
            self.app.oneshot(request).await?
        };
        Ok(response.map(|body| Body::new(TrackedResponseBody { body, running })))
    }
}

fn refusal(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}

fn http_builder(max_streams: u32, protocol: NegotiatedHttp) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(max_streams)
        .max_header_list_size(MAX_HEADER_BYTES)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024);
    match protocol {
        NegotiatedHttp::Http1 => builder.http1_only(),
        NegotiatedHttp::Http2 => builder.http2_only(),
        NegotiatedHttp::Either => builder,
    }
}
