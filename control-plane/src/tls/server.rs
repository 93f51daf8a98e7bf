//! The accept loop: TLS, then HTTP, with a bound on everything that a stranger can make us hold.
//!
//! ```text
//! accept ── 256 permits ── handshake (5 s) ── first byte (5 s) ── HTTP/2 or HTTP/1.1 ── router
//! ```
//!
//! The loop survives what the kernel answers when the machine is short of files or memory: it waits and goes on.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use weft_api::TrustDomain;

use super::connections::{Connections, Entered};
use super::lifetime::{GRACE, Lifetime};
use super::peer::{Peer, identify};
use super::pulse::Pinged;
use crate::clock::Clock;

/// Handshakes in progress at once; further connections wait in the kernel's queue.
pub const PENDING_HANDSHAKES: usize = 256;
/// Time for a handshake, and again for the first byte after it.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Header fields of one request, at most.
pub const MAX_HEADERS: usize = 100;

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEADER_BYTES: u32 = 60 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// HTTP/2 streams that a connection may have open on the xDS listener.
pub const XDS_STREAMS: u32 = 32;
/// HTTP/2 streams that a connection may have open on the API.
pub const API_STREAMS: u32 = 100;

/// What a listener counts.
#[derive(Debug, Default)]
pub struct ListenerCounters {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections open now.
    pub open: AtomicU64,
    /// Handshakes that failed: no common version, a certificate refused.
    pub handshakes_failed: AtomicU64,
    /// Handshakes, or first bytes, that took too long.
    pub handshakes_timed_out: AtomicU64,
    /// Times that the kernel refused to accept.
    pub accept_errors: AtomicU64,
}

/// A TLS listener and what it serves.
#[derive(Debug)]
pub struct TlsServer {
    /// Bound socket.
    pub listener: TcpListener,
    /// Newest configuration; each new connection takes it.
    pub config: watch::Receiver<Arc<ServerConfig>>,
    /// Trust domain of clients, to read their identity.
    pub trust_domain: TrustDomain,
    /// Concurrent HTTP/2 streams of one connection.
    pub max_streams: u32,
    /// Counted here.
    pub counters: Arc<ListenerCounters>,
    /// Connections of workloads enter here.
    pub connections: Connections,
    /// A connection ends with its certificate, by this clock.
    pub clock: Clock,
}

impl TlsServer {
    /// Serves `app` until `shutdown`, then sends GOAWAY and waits a little for what is running.
    ///
    /// A connection with a certificate gets its GOAWAY a little before the certificate ends, and ends with it.
    /// Requests carry a [`Peer`] in their extensions when the client showed a certificate, and `ConnectInfo` always.
    pub async fn serve(self, app: Router, shutdown: CancellationToken) {
        let connections = TaskTracker::new();
        let permits = Arc::new(Semaphore::new(PENDING_HANDSHAKES));
        let shared = Arc::new(Shared {
            app,
            trust_domain: self.trust_domain,
            max_streams: self.max_streams,
            counters: self.counters,
            connections: self.connections,
            clock: self.clock,
            shutdown: shutdown.clone(),
        });
        let accepting = async {
            loop {
                let permit = Arc::clone(&permits).acquire_owned().await.expect("it is never closed");
                let (stream, address) = accept(&self.listener, &shared.counters).await;
                let config = Arc::clone(&self.config.borrow());
                connections.spawn(Arc::clone(&shared).connection(stream, address, config, permit));
            }
        };
        tokio::select! {
            () = accepting => {}
            () = shutdown.cancelled() => {}
        }
        drop(self.listener);
        connections.close();
        if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
            tracing::info!(open = connections.len(), "connections are still open at shutdown; they are cut");
        }
    }
}

/// Accepts one connection, whatever it takes.
async fn accept(listener: &TcpListener, counters: &ListenerCounters) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                counters.accepted.fetch_add(1, Ordering::Relaxed);
                return accepted;
            }
            Err(error) => {
                counters.accept_errors.fetch_add(1, Ordering::Relaxed);
                if is_of_one_connection(&error) {
                    continue;
                }
                // EMFILE, ENFILE, ENOBUFS, ENOMEM: asking again at once would only spin.
                tracing::warn!(%error, "cannot accept a connection; raise the limit of open files if this stays");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

struct Shared {
    app: Router,
    trust_domain: TrustDomain,
    max_streams: u32,
    counters: Arc<ListenerCounters>,
    connections: Connections,
    clock: Clock,
    shutdown: CancellationToken,
}

impl Shared {
    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        config: Arc<ServerConfig>,
        permit: OwnedSemaphorePermit,
    ) {
        let _open = Open::count(&self.counters);
        let _ = stream.set_nodelay(true);
        let greeted = tokio::select! {
            greeted = greet(stream, config) => greeted,
            () = self.shutdown.cancelled() => return,
        };
        drop(permit);
        let stream = match greeted {
            Ok(stream) => stream,
            Err(error) => {
                let timed_out = error.kind() == io::ErrorKind::TimedOut;
                let counters = &self.counters;
                let counter =
                    if timed_out { &counters.handshakes_timed_out } else { &counters.handshakes_failed };
                counter.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%address, %error, "TLS handshake failed");
                return;
            }
        };
        let peer = self.peer(&stream);
        self.serve_http(stream, peer, address).await;
    }

    // The verifier has refused what cannot be identified, so `None` is a client without a certificate.
    fn peer(&self, stream: &BufReader<TlsStream<TcpStream>>) -> Option<Peer> {
        let (_, session) = stream.get_ref().get_ref();
        let leaf = session.peer_certificates()?.first()?;
        identify(leaf, &self.trust_domain).ok()
    }

    async fn serve_http(
        self: Arc<Self>,
        stream: BufReader<TlsStream<TcpStream>>,
        peer: Option<Peer>,
        address: SocketAddr,
    ) {
        let is_h2 = stream.get_ref().get_ref().1.alpn_protocol() == Some(b"h2");
        let builder = http_builder(self.max_streams);
        let builder = if is_h2 { builder.http2_only() } else { builder.http1_only() };
        let entered = peer.as_ref().and_then(|peer| {
            peer.workload.as_ref().map(|workload| self.connections.enter(workload, &peer.serial))
        });
        let cut = entered.as_ref().map_or_else(CancellationToken::new, Entered::cut);
        let pulse = entered.as_ref().filter(|_| is_h2).map(Entered::pulse);
        let lifetime = Lifetime::new(peer.as_ref(), cut.clone(), self.shutdown.clone(), self.clock.clone());
        let app = self.app.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let extensions = request.extensions_mut();
            extensions.insert(ConnectInfo(address));
            if let Some(peer) = &peer {
                attach(extensions, peer);
            }
            answer(app.clone(), request, cut.is_cancelled())
        });
        let stream = TokioIo::new(Pinged::new(stream, pulse));
        let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(stream, service));
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = lifetime.goaway() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    result = connection => result,
                    () = lifetime.end() => Ok(()),
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(%address, %error, "connection ended");
        }
    }
}

/// What handlers learn about the peer.
fn attach(extensions: &mut http::Extensions, peer: &Peer) {
    extensions.insert(peer.clone());
}

async fn answer(app: Router, request: Request<Incoming>, is_cut: bool) -> Result<Response<Body>, Infallible> {
    if is_cut {
        let mut response = Response::new(Body::from("this connection has been cut\n"));
        *response.status_mut() = StatusCode::FORBIDDEN;
        return Ok(response);
    }
    if request.headers().len() > MAX_HEADERS {
        let mut response = Response::new(Body::from("too many header fields; the most is 100\n"));
        *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Ok(response);
    }
    app.oneshot(request.map(Body::new)).await
}

/// Handshake and first byte, each in its time.
async fn greet(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<BufReader<TlsStream<TcpStream>>> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "it took longer than 5 s");
    let handshake = TlsAcceptor::from(config).accept(stream);
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(late)??;
    let mut stream = BufReader::with_capacity(16 * 1024, stream);
    // In TLS 1.3 a client is done before its certificate was judged; and hyper sets no limit on the preface.
    tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.fill_buf()).await.map_err(late)??;
    Ok(stream)
}

fn http_builder(max_streams: u32) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
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
    builder
}

struct Open(Arc<ListenerCounters>);

impl Open {
    fn count(counters: &Arc<ListenerCounters>) -> Self {
        counters.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counters))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
