//! A downstream connection from its handshake to its end.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;

use super::body::Body;
use super::clock::{Deadline, now};
use super::exec::Local;
use super::heard::Heard;
use super::held::{Ending, Held};
use super::stream::Stream;
use super::worker::Worker;
use super::{http as requests, tcp};
use crate::runtime::{Codec, HttpManager, Terminal};

/// What an h2 client with prior knowledge sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A request's head has to be complete this long after its first byte, or after the connection was opened.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// hyper's own limit of headers, for which it has room on the stack. Asked for another one, it clears a larger room for
/// each message, even where the number is the same.
const HYPER_HEADERS: usize = 100;
/// Connections end this long before a certificate does.
const MARGIN: Duration = Duration::from_secs(1);
/// They are announced to end this long before it: time for each to carry one more response.
const ANNOUNCED: Duration = Duration::from_secs(3);

/// A connection that is ready to be served.
pub(super) struct Opened {
    pub(super) stream: Stream,
    pub(super) held: Rc<Held>,
    /// Whether ALPN or inspection settled the protocol.
    pub(super) h2: Option<bool>,
}

/// A downstream HTTP connection, as its requests see it.
#[derive(Debug)]
pub(crate) struct HttpConnection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) held: Rc<Held>,
    pub(crate) protocol: Protocol,
    in_flight: Cell<u32>,
    requests: Cell<u32>,
    idle_since: Cell<Instant>,
    /// Bytes came since this was looked at.
    heard: Arc<AtomicBool>,
    pub(crate) closing: Cell<bool>,
}

/// What is spoken on a downstream connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl HttpConnection {
    /// Counts a request in; the guard counts it out.
    pub(crate) fn enter(self: &Rc<Self>) -> InFlight {
        self.in_flight.set(self.in_flight.get() + 1);
        self.requests.set(self.requests.get() + 1);
        InFlight(self.clone())
    }

    pub(crate) fn speaks_http1(&self) -> bool {
        self.protocol == Protocol::Http1
    }

    /// Whether the response that is about to be sent should be the connection's last.
    pub(crate) fn should_close(&self, manager: &HttpManager) -> bool {
        if self.closing.get() || self.worker.draining.get() || self.held.ending() != Ending::Stay {
            return true;
        }
        let most = manager.limits.requests_per_connection;
        if most.is_some_and(|most| self.requests.get() >= most) {
            self.worker.shard.inc(manager.stats.downstream_cx_max_requests_reached);
            self.held.end(Ending::Announce);
            return true;
        }
        false
    }
}

/// A request in flight on a connection.
#[derive(Debug)]
pub(crate) struct InFlight(Rc<HttpConnection>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let left = self.0.in_flight.get() - 1;
        self.0.in_flight.set(left);
        if left == 0 {
            self.0.idle_since.set(now());
        }
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(worker: Rc<Worker>, opened: Opened) {
    let view = opened.held.chain.view();
    match &view.chain.terminal {
        Terminal::Tcp(proxy) => {
            let proxy = proxy.clone();
            tcp::serve(&worker, &proxy, opened.stream, &opened.held).await;
        }
        Terminal::Http(manager) => {
            let manager = manager.clone();
            let Opened { mut stream, held, h2 } = opened;
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
            serve_http(worker, held, stream, &manager, protocol).await;
        }
    }
}

/// Tells h2 with prior knowledge from HTTP/1 by the first bytes.
async fn detect(mut stream: Stream) -> Option<(Stream, bool)> {
    let mut ahead = Vec::with_capacity(8 * 1024);
    loop {
        let n = ahead.len().min(PREFACE.len());
        if ahead[..n] != PREFACE[..n] {
            return Some((stream.rewind(ahead), false));
        }
        if n == PREFACE.len() {
            return Some((stream.rewind(ahead), true));
        }
        if stream.read_buf(&mut ahead).await.ok()? == 0 {
            return None;
        }
    }
}

async fn serve_http(
    worker: Rc<Worker>,
    held: Rc<Held>,
    stream: Stream,
    manager: &HttpManager,
    protocol: Protocol,
) {
    let connection = Rc::new(HttpConnection {
        worker: worker.clone(),
        held,
        protocol,
        in_flight: Cell::new(0),
        requests: Cell::new(0),
        idle_since: Cell::new(now()),
        heard: Arc::default(),
        closing: Cell::new(false),
    });
    let counted = Counted::new(&worker, manager, protocol, connection.held.facts.tls.is_some());
    let handler = connection.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let connection = handler.clone();
        async move { Ok::<Response<Body>, Infallible>(requests::handle(connection, request).await) }
    });
    let io = TokioIo::new(Heard { stream, heard: connection.heard.clone() });
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
            let driver = builder.serve_connection(io, service).with_upgrades();
            drive(connection, driver, manager, http1::UpgradeableConnection::graceful_shutdown).await
        }
        Protocol::Http2 => {
            let options = manager.http2;
            let mut builder = http2::Builder::new(Local);
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
            let driver = builder.serve_connection(io, service);
            drive(connection, driver, manager, http2::Connection::graceful_shutdown).await
        }
    };
    if ended == Ended::ProtocolError {
        worker.shard.inc(counted.protocol_error);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Well,
    ProtocolError,
    Cut,
}

/// Polls a hyper connection, and ends it when the worker or a timer says so.
async fn drive<C>(
    connection: Rc<HttpConnection>,
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
        connection.held.watch(cx);
        match connection.held.ending() {
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
        if life.poll(&connection, cx).is_ready() {
            return Poll::Ready(Ended::Cut);
        }
        if !shut_down && connection.held.ending() >= Ending::Finish {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await
}

/// The timers of a downstream connection: silence, slow heads, longest life, certificates.
struct Life {
    deadline: Deadline,
    idle: Option<Duration>,
    /// From then on responses say that the connection ends.
    announce_at: Option<Instant>,
    /// Then it ends also where no response came by.
    finish_at: Option<Instant>,
    grace: Duration,
    cut_at: Option<Instant>,
    first_head: Option<Instant>,
    head: Duration,
    /// When a head that has begun must be complete; only of later heads of an HTTP/1 connection.
    head_ends: Option<Instant>,
    /// How many requests there had been when bytes were last looked for.
    requests: u32,
    /// The peer was too slow, and is about to be cut off.
    timed_out: bool,
}

impl Life {
    fn new(connection: &HttpConnection, manager: &HttpManager) -> Self {
        let at = now();
        let certificate = connection
            .held
            .facts
            .expires()
            .map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
        let (most, grace) = (manager.timeouts.max_connection, manager.timeouts.drain);
        let announce = certificate.map(|life| life.saturating_sub(ANNOUNCED));
        let finish = certificate.map(|life| life.saturating_sub(MARGIN));
        let announce = [most, announce].into_iter().flatten().min();
        let finish = [most.map(|most| most + grace), finish].into_iter().flatten().min();
        let deadline = Deadline::new(&connection.worker.deadlines);
        let head = manager.timeouts.request_headers.unwrap_or(HEAD_TIMEOUT);
        let mut this = Self {
            deadline,
            idle: manager.timeouts.idle,
            announce_at: announce.map(|life| at + life),
            finish_at: finish.map(|life| at + life),
            grace,
            cut_at: None,
            first_head: Some(at + head),
            head,
            head_ends: None,
            requests: 0,
            timed_out: false,
        };
        this.arm(connection, at);
        this
    }

    fn arm(&mut self, connection: &HttpConnection, at: Instant) {
        let idle = self.idle_end(connection);
        match [idle, self.announce_at, self.finish_at, self.cut_at].into_iter().flatten().min() {
            Some(end) => self.deadline.set(end.saturating_duration_since(at)),
            None => self.deadline.clear(),
        }
    }

    fn idle_end(&self, connection: &HttpConnection) -> Option<Instant> {
        if connection.in_flight.get() > 0 {
            return self.idle.map(|idle| now() + idle);
        }
        let since = connection.idle_since.get();
        // A peer that connects and never sends a request head is not kept for the idle timeout's hour.
        let unused = connection.requests.get() == 0 && connection.protocol == Protocol::Http1;
        let unused = self.first_head.filter(|_| unused);
        [self.idle.map(|idle| since + idle), unused, self.head_ends].into_iter().flatten().min()
    }

    /// Bytes between two requests begin a head, which has to be complete in time.
    fn look_for_a_head(&mut self, connection: &HttpConnection) {
        if connection.protocol == Protocol::Http2 || !connection.heard.load(Ordering::Relaxed) {
            return;
        }
        connection.heard.store(false, Ordering::Relaxed);
        let requests = connection.requests.get();
        if std::mem::replace(&mut self.requests, requests) != requests || connection.in_flight.get() > 0 {
            self.head_ends = None;
        } else if self.head_ends.is_none() && requests > 0 && !self.timed_out {
            let at = now();
            self.head_ends = Some(at + self.head);
            self.arm(connection, at);
        }
    }

    /// Ready when the connection must be cut.
    fn poll(&mut self, connection: &HttpConnection, cx: &Context<'_>) -> Poll<()> {
        self.look_for_a_head(connection);
        while self.deadline.poll(cx).is_ready() {
            let at = now();
            if self.cut_at.is_some_and(|cut| at >= cut) {
                return Poll::Ready(());
            }
            if self.announce_at.take_if(|announce| at >= *announce).is_some() {
                // The certificate's or the connection's time is nearly over: a peer that hears of it in a response
                // sends no request that would cross the end.
                connection.held.end(Ending::Announce);
                cx.waker().wake_by_ref();
            }
            if self.finish_at.take_if(|finish| at >= *finish).is_some() {
                self.cut_at = Some(at + self.grace);
                connection.held.end(Ending::Finish);
                cx.waker().wake_by_ref();
            } else if self.idle_end(connection).is_some_and(|end| at >= end) {
                // Said once: said again, it would put off the end for as long as the peer sends anything.
                (self.idle, self.first_head, self.head_ends) = (None, None, None);
                self.timed_out = true;
                self.cut_at = Some(at + Duration::from_secs(1));
                connection.held.end(Ending::Finish);
                cx.waker().wake_by_ref();
            }
            self.arm(connection, at);
        }
        Poll::Pending
    }
}

/// Connection counters and gauges of a manager, taken back at the end.
struct Counted<'a> {
    worker: &'a Worker,
    manager: &'a HttpManager,
    protocol: Protocol,
    tls: bool,
    opened: Instant,
    protocol_error: crate::stats::CounterId,
}

impl<'a> Counted<'a> {
    fn new(worker: &'a Worker, manager: &'a HttpManager, protocol: Protocol, tls: bool) -> Self {
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
