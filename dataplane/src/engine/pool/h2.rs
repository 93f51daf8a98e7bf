//! HTTP/2 connections: many streams each, as many connections as the streams need.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::super::body::Body;
use super::super::cluster::View;
use super::super::connect::{ConnectError, Dialed, Speak};
use super::super::worker::Worker;
use super::upload::{Stop, Upload, Uploads};
use super::{Connection, Freshness, Lease, Place, Pool, Version};

type Sender = http2::SendRequest<Body>;

/// One h2 connection.
#[derive(Debug)]
pub(super) struct Multi {
    sender: Sender,
    pub(super) connection: Rc<Connection>,
    most: u32,
    /// How many streams the server takes at once, as its settings say.
    allowed: Rc<Cell<usize>>,
    uploads: Uploads,
}

impl Multi {
    fn is_usable(&self) -> bool {
        !self.sender.is_closed() && !self.connection.spent.get()
    }

    fn has_room(&self) -> bool {
        let allowed = u32::try_from(self.allowed.get()).unwrap_or(u32::MAX);
        self.connection.active.get() < self.most.min(allowed.max(1))
    }

    fn lease(&self) -> StreamLease {
        self.connection.begin();
        let (sender, connection) = (self.sender.clone(), self.connection.clone());
        StreamLease { sender, connection, uploads: self.uploads.clone(), upload: None }
    }
}

/// A stream of an h2 connection; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct StreamLease {
    sender: Sender,
    connection: Rc<Connection>,
    uploads: Uploads,
    upload: Option<Rc<Stop>>,
}

impl StreamLease {
    pub(crate) fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }

    pub(crate) fn sender(&mut self) -> &mut Sender {
        &mut self.sender
    }

    pub(super) fn upload(&mut self) -> Upload {
        let (upload, stop) = self.uploads.upload();
        self.upload = Some(stop);
        upload
    }

    /// The exchange ended well: what is left of a request that was read whole may still go out.
    pub(crate) fn finish(mut self) {
        self.upload = None;
    }
}

impl Drop for StreamLease {
    fn drop(&mut self) {
        self.connection.end(None);
        if let Some(upload) = &self.upload {
            upload.stop();
        }
    }
}

/// Only one task connects; the others wait for its result.
struct Connecting<'a>(&'a Pool);

impl<'a> Connecting<'a> {
    fn begin(pool: &'a Pool) -> Self {
        pool.connecting.set(true);
        Self(pool)
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        self.0.changed.notify_waiters();
    }
}

impl Pool {
    pub(super) async fn lease_stream(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        view: &Rc<View>,
        version: Version,
        fresh: Freshness,
    ) -> Result<Lease, ConnectError> {
        loop {
            if fresh == Freshness::Any
                && let Some(lease) = self.free_stream()
            {
                return Ok(Lease::Http2(lease));
            }
            if !self.connecting.get() {
                return self.open_stream(worker, view, version).await;
            }
            let failures = self.failures.get();
            self.changed.notified().await;
            if self.failures.get() != failures
                && let Some(error) = self.last_failure.borrow().clone()
            {
                return Err(error);
            }
        }
    }

    fn free_stream(&self) -> Option<StreamLease> {
        let mut multi = self.multi.borrow_mut();
        multi.retain(|one| one.is_usable());
        multi.iter().find(|one| one.has_room()).map(|one| one.lease())
    }

    async fn open_stream(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        view: &Rc<View>,
        version: Version,
    ) -> Result<Lease, ConnectError> {
        let _connecting = Connecting::begin(self);
        let speak = if version == Version::Auto { Speak::Auto } else { Speak::Http2 };
        let Some(place) = self.place(view) else {
            worker.shard.inc(view.config.stats.upstream_cx_overflow);
            return Err(ConnectError::Overflow);
        };
        let opened = async {
            let dialed = self.dial(worker, &view.config, speak).await?;
            if version == Version::Auto && !dialed.h2_chosen {
                return self.open_h1(worker, view, dialed, place).await.map(Lease::Http1);
            }
            self.open_h2(worker, view, dialed, place).await.map(Lease::Http2)
        };
        let result = opened.await;
        if let Err(error) = &result {
            self.failures.set(self.failures.get() + 1);
            *self.last_failure.borrow_mut() = Some(error.clone());
        }
        result
    }

    async fn open_h2(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        view: &Rc<View>,
        dialed: Dialed,
        place: Place,
    ) -> Result<StreamLease, ConnectError> {
        let cluster = &view.config;
        let stats = &cluster.stats;
        worker.shard.inc(stats.upstream_cx_http2_total);
        let options = cluster.http.http2;
        let connection = Connection::new(worker, cluster, &dialed, place);
        let uploads = Uploads::default();
        let mut builder = http2::Builder::new(uploads.clone());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(options.stream_window)
            .initial_connection_window_size(options.connection_window)
            .header_table_size(options.header_table)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(options.keepalive_interval)
            .keep_alive_timeout(options.keepalive_timeout);
        let (sender, mut driver) = builder
            .handshake(TokioIo::new(dialed.stream))
            .await
            .map_err(|error| ConnectError::Protocol(error.to_string().into()))?;
        let allowed = Rc::new(Cell::new(driver.current_max_send_streams()));
        let most = options.max_concurrent_streams;
        let multi = Multi { sender, connection: connection.clone(), most, allowed: allowed.clone(), uploads };
        let multi = Rc::new(multi);
        let lease = multi.lease();
        if !self.retired.get() {
            self.multi.borrow_mut().push(multi);
        }
        let pool = Rc::downgrade(self);
        let ended = Cell::new(false);
        tokio::task::spawn_local(async move {
            std::future::poll_fn(|cx| {
                if Pin::new(&mut driver).poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                allowed.set(driver.current_max_send_streams());
                if !ended.get() && connection.poll_end(cx).is_ready() {
                    // Dropping the pool's handle lets hyper close the connection when its streams are done.
                    ended.set(true);
                    if let Some(pool) = pool.upgrade() {
                        pool.multi.borrow_mut().retain(|one| !Rc::ptr_eq(&one.connection, &connection));
                    }
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            })
            .await;
        });
        Ok(lease)
    }
}

/// What of a body waits for the window of one stream, at most.
const SEND_BUFFER: usize = 256 * 1024;
