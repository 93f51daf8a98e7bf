//! A downstream connection from its handshake to its end.

mod life;

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;

use super::chain::TerminalState;
use super::clock::now;
use super::clusters::Clusters;
use super::connection::{Connection, Ending};
use super::exec::Streams;
use super::heard::Heard;
use super::http_connection::{HttpConnection, Protocol};
use super::limits::Limits;
use super::local::Local;
use super::response_body::ResponseBody;
use super::stream::Stream;
use super::{connection_manager, tcp};
use crate::preface;
use crate::runtime::{Codec, HttpManager};
use life::{HEAD_TIMEOUT, Life};

/// hyper's own limit of headers, for which it has room on the stack. Asked for another one, it clears a larger room for
/// each message, even where the number is the same.
const HYPER_HEADERS: usize = 100;

/// A connection that is ready to be served.
pub(super) struct Opened {
    pub(super) stream: Stream,
    pub(super) connection: Rc<Connection>,
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
    let protocol = if h2 { Protocol::Http2 } else { Protocol::Http1 };
    let connection = HttpConnection::new(worker, clusters, connection, terminal, protocol);
    serve_http(connection, stream, &manager).await;
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
    let counted = Counted::new(&worker, manager, protocol, connection.downstream.facts.tls.is_some());
    let io = TokioIo::new(Heard { stream, signs: connection.signs.clone() });
    let ended = match protocol {
        Protocol::Http1 => {
            let mut builder = http1::Builder::new();
            if manager.limits.headers != HYPER_HEADERS {
                builder.max_headers(manager.limits.headers);
            }
            builder
                .half_close(false)
                .max_header_size(manager.limits.header_bytes)
                .title_case_headers(manager.http1.title_case_headers);
            // One request at a time: its limits are the connection's.
            let limits = Limits::new(&worker.deadlines);
            let (handler, of_request) = (connection.clone(), limits.clone());
            let service = service_fn(move |request| answer(handler.clone(), of_request.clone(), request));
            let driver = builder.serve_connection(io, service).with_upgrades();
            let shut = http1::UpgradeableConnection::graceful_shutdown;
            drive(connection, Some(limits), driver, manager, shut).await
        }
        Protocol::Http2 => {
            let options = manager.http2;
            let mut builder = http2::Builder::new(Streams(connection.handover.clone()));
            builder
                .timer(TokioTimer::new())
                .initial_stream_window_size(options.stream_window)
                .initial_connection_window_size(options.connection_window)
                .max_concurrent_streams(options.max_concurrent_streams)
                .max_header_list_size(u32::try_from(manager.limits.header_bytes).unwrap_or(u32::MAX))
                .header_table_size(options.header_table)
                .keep_alive_interval(options.keepalive_interval)
                .keep_alive_timeout(options.keepalive_timeout);
            if options.allow_connect || manager.upgrades.iter().any(|upgrade| upgrade.enabled) {
                builder.enable_connect_protocol();
            }
            let handler = connection.clone();
            let service = service_fn(move |request| {
                // hyper makes the stream's task as soon as this returns: it finds its limits there.
                let limits = Limits::new(&handler.worker.deadlines);
                handler.handover.set(Some(limits.clone()));
                answer(handler.clone(), limits, request)
            });
            let driver = builder.serve_connection(io, service);
            drive(connection, None, driver, manager, http2::Connection::graceful_shutdown).await
        }
    };
    if ended == Ended::ProtocolError {
        worker.shard.inc(counted.protocol_error);
    }
}

async fn answer(
    connection: Rc<HttpConnection>,
    limits: Rc<Limits>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    Ok(connection_manager::handle(connection, limits, request).await)
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Well,
    ProtocolError,
    Cut,
}

/// Polls a hyper connection, and ends it when the worker or a timer says so, or when the one request that it serves has
/// reached a limit and cannot be answered any more.
async fn drive<C>(
    connection: Rc<HttpConnection>,
    limits: Option<Rc<Limits>>,
    driver: C,
    manager: &HttpManager,
    shut: fn(Pin<&mut C>),
) -> Ended
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut driver = Box::pin(driver);
    let mut life = Life::new(&connection, manager);
    let mut shut_down = false;
    std::future::poll_fn(|cx| {
        connection.downstream.watch(cx);
        match connection.downstream.ending() {
            Ending::Stay => {}
            // An idle h1 connection is left to its peer until there is no choice: closing it could cross a
            // request on the wire. An h2 peer is told by GOAWAY, which crosses nothing.
            Ending::Announce if connection.protocol == Protocol::Http1 => {}
            Ending::Announce | Ending::Finish => {
                if !std::mem::replace(&mut shut_down, true) {
                    shut(driver.as_mut());
                }
            }
            Ending::Cut => return Poll::Ready(Ended::Cut),
        }
        if let Poll::Ready(result) = driver.as_mut().poll(cx) {
            let broken = result.is_err_and(|error| error.is_parse() || error.is_timeout());
            return Poll::Ready(if broken { Ended::ProtocolError } else { Ended::Well });
        }
        let overdue = |limits: &Rc<Limits>| limits.are_armed() && limits.overdue(cx).is_ready();
        if limits.as_ref().is_some_and(overdue) || life.poll(&connection, cx).is_ready() {
            return Poll::Ready(Ended::Cut);
        }
        if !shut_down && connection.downstream.ending() >= Ending::Finish {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await
}

/// Connection counters and gauges of a manager, taken back at the end.
struct Counted<'a> {
    worker: &'a Local,
    manager: &'a HttpManager,
    protocol: Protocol,
    tls: bool,
    opened: Instant,
    protocol_error: crate::stats::CounterId,
}

impl<'a> Counted<'a> {
    fn new(worker: &'a Local, manager: &'a HttpManager, protocol: Protocol, tls: bool) -> Self {
        let (shard, stats) = (&worker.shard, &manager.stats);
        shard.inc(stats.downstream_cx_total);
        shard.up(stats.downstream_cx_active);
        match protocol {
            Protocol::Http1 => {
                shard.inc(stats.downstream_cx_http1_total);
                shard.up(stats.downstream_cx_http1_active);
            }
            Protocol::Http2 => {
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

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let (shard, stats) = (&self.worker.shard, &self.manager.stats);
        shard.down(stats.downstream_cx_active);
        shard.inc(stats.downstream_cx_destroy);
        match self.protocol {
            Protocol::Http1 => shard.down(stats.downstream_cx_http1_active),
            Protocol::Http2 => shard.down(stats.downstream_cx_http2_active),
        }
        if self.tls {
            shard.down(stats.downstream_cx_ssl_active);
        }
        shard.record(stats.downstream_cx_length_ms, now().saturating_duration_since(self.opened));
    }
}
