//! A downstream connection from its handshake to its end.

mod http1;
mod life;

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::Request;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;

use super::body::Incoming;
use super::chain::TerminalState;
use super::clock::now;
use super::clusters::Clusters;
use super::connection::{DownstreamConnection, Urgency};
use super::exec::StreamExecutor;
use super::http_connection::{CodecType, HttpConnection};
use super::limits::RequestLimits;
use super::local::Local;
use super::observed_stream::ObservedStream;
use super::stream::Stream;
use super::{connection_manager, tcp, tcp_log};
use crate::preface;
use crate::runtime::{Codec, HttpManager};
use life::{ConnectionTimers, HEAD_TIMEOUT};

/// A connection that is ready to be served.
pub(super) struct Opened {
    pub(super) stream: Stream,
    pub(super) connection: Rc<DownstreamConnection>,
    /// Whether ALPN or inspection settled the protocol.
    pub(super) h2: Option<bool>,
}

/// Serves a connection to its end.
pub(super) async fn serve(worker: Rc<Local>, clusters: Rc<Clusters>, opened: Opened) {
    let Opened { mut stream, connection, h2 } = opened;
    let terminal = match &connection.chain.terminal {
        TerminalState::Tcp(proxy) => {
            let proxy = proxy.borrow().clone();
            return tcp::serve(&worker, &clusters, &proxy, stream, &connection).await;
        }
        TerminalState::Http(terminal) => terminal.clone(),
    };
    let manager = terminal.view().manager.clone();
    let h2 = match (manager.codec, h2) {
        (Codec::Http1, _) => false,
        (Codec::Http2, _) => true,
        (Codec::Auto, Some(h2)) => h2,
        (Codec::Auto, None) => {
            let limit = manager.timeouts.idle.unwrap_or(HEAD_TIMEOUT).min(HEAD_TIMEOUT * 6);
            let Ok(Some((rewound, h2))) = tokio::time::timeout(limit, detect(stream)).await else {
                return;
            };
            stream = rewound;
            h2
        }
    };
    let protocol = if h2 { CodecType::Http2 } else { CodecType::Http1 };
    let (start, downstream) = (now(), connection.clone());
    let connection = HttpConnection::new(worker.clone(), clusters, connection, terminal, protocol);
    serve_http(connection, stream, &manager).await;
    tcp_log::write_http(&worker, &downstream, start);
}

/// Tells h2 with prior knowledge from HTTP/1 by the first bytes.
async fn detect(mut stream: Stream) -> Option<(Stream, bool)> {
    let mut ahead = Vec::with_capacity(8 * 1024);
    loop {
        if let Some(http2) = preface::is_http2(&ahead) {
            return Some((stream.rewind(ahead), http2));
        }
        if stream.read_buf(&mut ahead).await.ok()? == 0 {
            return None;
        }
    }
}

async fn serve_http(connection: Rc<HttpConnection>, stream: Stream, manager: &HttpManager) {
    let (worker, protocol) = (connection.worker.clone(), connection.protocol);
    let counted =
        ConnectionGauges::new(&worker, manager, protocol, connection.downstream.facts.tls.is_some());
    let io = ObservedStream { stream, activity: connection.activity.clone() };
    let ended = match protocol {
        CodecType::Http1 => {
            let limits = RequestLimits::new(&worker.deadlines);
            let (handler, of_request) = (connection.clone(), limits.clone());
            let answer =
                move |request| connection_manager::handle(handler.clone(), of_request.clone(), request);
            let driver = http1::driver(connection.clone(), limits.clone(), io, manager, answer);
            drive(connection, Some(limits), driver, manager).await
        }
        CodecType::Http2 => {
            let options = manager.http2;
            let mut builder = http2::Builder::new(StreamExecutor(connection.handover.clone()));
            builder
                .timer(TokioTimer::new())
                .initial_stream_window_size(options.stream_window)
                .initial_connection_window_size(options.connection_window)
                .max_concurrent_streams(options.max_concurrent_streams)
                .max_header_list_size(most_read_of_a_head(manager))
                .header_table_size(options.header_table)
                .keep_alive_interval(options.keepalive_interval)
                .keep_alive_timeout(options.keepalive_timeout);
            if options.allow_connect || manager.upgrades.iter().any(|upgrade| upgrade.enabled) {
                builder.enable_connect_protocol();
            }
            let handler = connection.clone();
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                // hyper makes the stream's task as soon as this returns: it finds its limits there.
                let limits = RequestLimits::new(&handler.worker.deadlines);
                handler.handover.set(Some(limits.clone()));
                let answer =
                    connection_manager::handle(handler.clone(), limits, request.map(Incoming::Http2));
                async { Ok::<_, Infallible>(answer.await) }
            });
            let driver = Box::pin(builder.serve_connection(TokioIo::new(io), service));
            let driver = Http2 { driver, shut: http2::Connection::graceful_shutdown };
            drive(connection, None, driver, manager).await
        }
    };
    if ended == Ended::ProtocolError {
        worker.shard.inc(counted.protocol_error);
    }
}

/// A head that is too large is read up to twice the limit, so that it is refused like any other request, with its id, its
/// reason, and a line in the log. Beyond, h2 answers 431 by itself.
fn most_read_of_a_head(manager: &HttpManager) -> u32 {
    u32::try_from(manager.limits.header_bytes.saturating_mul(2)).unwrap_or(u32::MAX)
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Well,
    ProtocolError,
    Cut,
}

/// What reads requests from a connection and writes what answers them.
trait Driven {
    /// Ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended>;

    /// Takes no more requests, and ends when those under way are answered.
    fn finish(&mut self);

    /// What it is when it is cut now.
    fn cut(&self) -> Ended;

    /// Whether all was said, and only the peer's closing is waited for.
    fn is_lingering(&self) -> bool;
}

/// An HTTP/2 connection.
struct Http2<C> {
    driver: Pin<Box<C>>,
    shut: fn(Pin<&mut C>),
}

impl<C: Future<Output = hyper::Result<()>>> Driven for Http2<C> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.driver.as_mut().poll(cx).map(|result| {
            let broken = result.is_err_and(|error| error.is_parse() || error.is_timeout());
            if broken { Ended::ProtocolError } else { Ended::Well }
        })
    }

    fn finish(&mut self) {
        (self.shut)(self.driver.as_mut());
    }

    fn cut(&self) -> Ended {
        Ended::Cut
    }

    fn is_lingering(&self) -> bool {
        false
    }
}

/// Polls a connection, and ends it when the worker or a timer says so, or when the one request that it serves has
/// reached a limit and cannot be answered any more.
async fn drive(
    connection: Rc<HttpConnection>,
    limits: Option<Rc<RequestLimits>>,
    driver: impl Driven,
    manager: &HttpManager,
) -> Ended {
    let mut driver = Box::new(driver);
    let mut life = ConnectionTimers::new(&connection, manager);
    let mut shut_down = false;
    std::future::poll_fn(|cx| {
        connection.downstream.watch(cx);
        match connection.downstream.ending() {
            Urgency::Stay => {}
            // An idle h1 connection is left to its peer until there is no choice: closing it could cross a
            // request on the wire. An h2 peer is told by GOAWAY, which crosses nothing.
            Urgency::Announce if connection.protocol == CodecType::Http1 => {}
            Urgency::Announce | Urgency::Finish => {
                if !std::mem::replace(&mut shut_down, true) {
                    driver.finish();
                }
            }
            Urgency::Cut => return Poll::Ready(driver.cut()),
        }
        if let Poll::Ready(ended) = driver.poll(cx) {
            return Poll::Ready(ended);
        }
        if driver.is_lingering() {
            life.linger(&connection);
        }
        let overdue = |limits: &Rc<RequestLimits>| limits.are_armed() && limits.overdue(cx).is_ready();
        if limits.as_ref().is_some_and(overdue) || life.poll(&connection, cx).is_ready() {
            return Poll::Ready(driver.cut());
        }
        if !shut_down && connection.downstream.ending() >= Urgency::Finish {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await
}

/// Connection counters and gauges of a manager, taken back at the end.
struct ConnectionGauges<'a> {
    worker: &'a Local,
    manager: &'a HttpManager,
    protocol: CodecType,
    tls: bool,
    opened: Instant,
    protocol_error: crate::stats::CounterId,
}

impl<'a> ConnectionGauges<'a> {
    fn new(worker: &'a Local, manager: &'a HttpManager, protocol: CodecType, tls: bool) -> Self {
        let (shard, stats) = (&worker.shard, &manager.stats);
        shard.inc(stats.downstream_cx_total);
        shard.up(stats.downstream_cx_active);
        match protocol {
            CodecType::Http1 => {
                shard.inc(stats.downstream_cx_http1_total);
                shard.up(stats.downstream_cx_http1_active);
            }
            CodecType::Http2 => {
                shard.inc(stats.downstream_cx_http2_total);
                shard.up(stats.downstream_cx_http2_active);
            }
        }
        if tls {
            shard.inc(stats.downstream_cx_ssl_total);
            shard.up(stats.downstream_cx_ssl_active);
        }
        let protocol_error = stats.downstream_cx_protocol_error;
        Self { worker, manager, protocol, tls, opened: now(), protocol_error }
    }
}

impl Drop for ConnectionGauges<'_> {
    fn drop(&mut self) {
        let (shard, stats) = (&self.worker.shard, &self.manager.stats);
        shard.down(stats.downstream_cx_active);
        shard.inc(stats.downstream_cx_destroy);
        match self.protocol {
            CodecType::Http1 => shard.down(stats.downstream_cx_http1_active),
            CodecType::Http2 => shard.down(stats.downstream_cx_http2_active),
        }
        if self.tls {
            shard.down(stats.downstream_cx_ssl_active);
        }
        shard.record(stats.downstream_cx_length_ms, now().saturating_duration_since(self.opened));
    }
}
