//! HTTP/2 connections: many streams each, as many connections as the streams need.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::super::clock::Deadline;
use super::super::cluster::View;
use super::super::connect::{ConnectError, Dialed};
use super::super::local::Local;
use super::super::stream::Stream;
use super::opening::Opening;
use super::upload::{Stop, Upload, UploadBody, Uploads};
use super::{Connection, Place, Pool};

type Sender = http2::SendRequest<UploadBody>;
type Driver = http2::Connection<TokioIo<Opening<Stream>>, UploadBody, Uploads>;

/// What of a body waits for the window of one stream, at most.
const SEND_BUFFER: usize = 256 * 1024;
/// What hyper says a server allows before the server has said anything; no server asks for just this.
const UNSAID: usize = 0x4000_0001;

/// One h2 connection.
#[derive(Debug)]
pub(super) struct Multi {
    sender: Sender,
    pub(super) connection: Rc<Connection>,
    most: u32,
    /// How many streams the server takes at once, as its settings say; `None` until they come.
    allowed: Cell<Option<u32>>,
    uploads: Uploads,
    pool: Weak<Pool>,
}

impl Multi {
    fn is_usable(&self) -> bool {
        !self.sender.is_closed() && !self.connection.spent.get()
    }

    /// A server that has not said what it allows has got one request, which went out with the connection's first bytes.
    fn has_room(&self) -> bool {
        self.connection.active.get() < self.most.min(self.allowed.get().unwrap_or(1))
    }

    /// Nothing is under way, and nothing may be: the connection is of no use, and would hold a place of the cluster's.
    fn is_useless(&self) -> bool {
        self.allowed.get() == Some(0) && self.connection.active.get() == 0
    }

    fn lease(self: &Rc<Self>) -> StreamLease {
        self.connection.begin();
        StreamLease { sender: self.sender.clone(), place: Some(StreamPlace(self.clone())), upload: None }
    }
}

/// A place among the streams of a connection, taken until it is dropped.
#[derive(Debug)]
pub(super) struct StreamPlace(Rc<Multi>);

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.0.connection.end(None);
        let Some(pool) = self.0.pool.upgrade() else { return };
        if self.0.is_useless() {
            pool.forget(&self.0.connection);
        }
        pool.streams.notify_one();
    }
}

/// A stream of an h2 connection; dropping it frees the place, and ends what still sends the request.
#[derive(Debug)]
pub(crate) struct StreamLease {
    sender: Sender,
    place: Option<StreamPlace>,
    upload: Option<Rc<Stop>>,
}

impl StreamLease {
    fn multi(&self) -> &Multi {
        &self.place.as_ref().expect("the place is taken only when the lease ends").0
    }

    pub(crate) fn connection(&self) -> &Rc<Connection> {
        &self.multi().connection
    }

    pub(crate) fn sender(&mut self) -> &mut Sender {
        &mut self.sender
    }

    pub(super) fn upload(&mut self) -> Upload {
        let (upload, stop) = self.multi().uploads.upload();
        self.upload = Some(stop);
        upload
    }

    /// The exchange ended well: what is left of a request that was read whole may still go out, and has its place as
    /// long.
    pub(crate) fn finish(mut self) {
        if let Some(upload) = self.upload.take() {
            upload.keep(self.place.take());
        }
    }
}

impl Drop for StreamLease {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.stop();
        }
    }
}

/// A connection that is being opened, until it is known how many streams it takes.
#[derive(Debug)]
pub(super) struct Connecting(Rc<Pool>);

impl Connecting {
    pub(super) fn begin(pool: &Rc<Pool>) -> Self {
        pool.connecting.set(pool.connecting.get() + 1);
        Self(pool.clone())
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.connecting.set(self.0.connecting.get() - 1);
        self.0.streams.notify_waiters();
    }
}

impl Pool {
    pub(super) fn free_stream(&self) -> Option<StreamLease> {
        let mut multi = self.multi.borrow_mut();
        multi.retain(|one| one.is_usable());
        multi.iter().find(|one| one.has_room()).map(Multi::lease)
    }

    /// Whether the connections that are being opened will not do for all who wait: each takes the request that opens it,
    /// and as many more as the server took of late.
    pub(super) fn needs_connection(&self, view: &View, queued: bool) -> bool {
        let most = view.config.http.http2.max_concurrent_streams;
        let each = u64::from(self.learned.get().map_or(most, |learned| learned.min(most)));
        let waiting = u64::from(self.queued.get()) + u64::from(!queued);
        waiting > u64::from(self.connecting.get()) * each.saturating_sub(1)
    }

    /// Lets a connection end with its last stream.
    fn forget(&self, connection: &Rc<Connection>) {
        self.multi.borrow_mut().retain(|one| !Rc::ptr_eq(&one.connection, connection));
    }

    pub(super) async fn open_h2(
        self: &Rc<Self>,
        worker: &Rc<Local>,
        view: &Rc<View>,
        dialed: Dialed,
        place: Place,
        connecting: Connecting,
    ) -> Result<StreamLease, ConnectError> {
        let cluster = &view.config;
        worker.shard.inc(cluster.stats.upstream_cx_http2_total);
        let options = cluster.http.http2;
        let connection = Connection::new(worker, cluster, &dialed, place);
        let uploads = Uploads::default();
        let mut builder = http2::Builder::new(uploads.clone());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(options.stream_window)
            .initial_connection_window_size(options.connection_window)
            .initial_max_send_streams(UNSAID)
            .header_table_size(options.header_table)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(options.keepalive_interval)
            .keep_alive_timeout(options.keepalive_timeout);
        let (sender, driver) = builder
            .handshake(TokioIo::new(Opening::new(dialed.stream)))
            .await
            .map_err(|error| ConnectError::Protocol(error.to_string().into()))?;
        let multi = Rc::new(Multi {
            sender,
            connection,
            most: options.max_concurrent_streams,
            allowed: Cell::new(None),
            uploads,
            pool: Rc::downgrade(self),
        });
        let lease = multi.lease();
        let patience = Deadline::after(&worker.deadlines, cluster.connect_timeout);
        let life = Life {
            driver: Some(driver),
            wire: multi.uploads.take_wire(),
            connection: multi.connection.clone(),
            multi: Rc::downgrade(&multi),
            pool: Rc::downgrade(self),
            connecting: Some((connecting, patience)),
            ended: false,
        };
        if !self.retired.get() {
            self.multi.borrow_mut().push(multi);
        }
        tokio::task::spawn_local(life.run());
        Ok(lease)
    }
}

/// What drives a connection to its end, and tells the pool what the server allows.
struct Life {
    /// hyper's task that hands over requests.
    driver: Option<Driver>,
    /// hyper's task that reads and writes. It is driven from here, so that what it reads is known at once.
    wire: Option<Pin<Box<dyn Future<Output = ()>>>>,
    connection: Rc<Connection>,
    /// Gone when neither the pool nor a request has the connection.
    multi: Weak<Multi>,
    pool: Weak<Pool>,
    /// Others wait for this connection, at most as long as connecting may take, until its settings have come.
    connecting: Option<(Connecting, Deadline)>,
    ended: bool,
}

impl Life {
    async fn run(mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // The request first: it goes out before the server's settings are read, as with Envoy.
        if self.driver.as_mut().is_some_and(|driver| Pin::new(driver).poll(cx).is_ready()) {
            // What hyper's other task waits for as well, to close the connection.
            (self.driver, self.connecting) = (None, None);
        }
        if self.wire.as_mut().is_some_and(|wire| wire.as_mut().poll(cx).is_ready()) {
            self.wire = None;
        }
        let Some(driver) = &self.driver else {
            return if self.wire.is_none() { Poll::Ready(()) } else { Poll::Pending };
        };
        self.note_settings(driver.current_max_send_streams());
        if self.connecting.as_ref().is_some_and(|(_, patience)| patience.poll(cx).is_ready()) {
            self.connecting = None;
        }
        if self.connection.poll_end(cx).is_ready() {
            if self.connection.is_cut() {
                return Poll::Ready(());
            }
            if self.ended {
                return Poll::Pending;
            }
            // Dropping the pool's handle lets hyper close the connection when its streams are done.
            self.ended = true;
            if let Some(pool) = self.pool.upgrade() {
                pool.forget(&self.connection);
            }
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn note_settings(&mut self, allowed: usize) {
        if allowed == UNSAID {
            return;
        }
        let allowed = u32::try_from(allowed).unwrap_or(u32::MAX);
        let Some(multi) = self.multi.upgrade() else {
            self.connecting = None;
            return;
        };
        if multi.allowed.replace(Some(allowed)) == Some(allowed) {
            return;
        }
        if let Some(pool) = self.pool.upgrade() {
            pool.learned.set(Some(allowed));
            if multi.is_useless() {
                pool.forget(&self.connection);
            }
            pool.streams.notify_waiters();
        }
        self.connecting = None;
    }
}
