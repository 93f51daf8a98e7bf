//! HTTP/2 connections: many streams each, as many connections as the streams need.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::super::body::RequestBody;
use super::super::clock::Deadline;
use super::super::cluster_info::ClusterInfo;
use super::super::connect::{ConnectError, Dialed};
use super::super::local::Local;
use super::super::stream::Stream;
use super::connection::UpstreamConnection;
use super::opening::Opening;
use super::place::{ConnectionPlace, Places};
use super::upload::{Stop, UploadBody, Uploads};

type RequestSender = http2::SendRequest<UploadBody>;
type Driver = http2::Connection<TokioIo<Opening<Stream>>, UploadBody, Uploads>;

/// What of a body waits for the window of one stream, at most.
const SEND_BUFFER: usize = 256 * 1024;
/// What hyper says a server allows before the server has said anything; no server asks for just this.
const UNSAID: usize = 0x4000_0001;

/// One h2 connection.
#[derive(Debug)]
struct Multiplexed {
    sender: RequestSender,
    connection: Rc<UpstreamConnection>,
    most: u32,
    /// How many streams the server takes at once, as its settings say; `None` until they come.
    allowed: Cell<Option<u32>>,
    uploads: Uploads,
    of: Weak<H2Connections>,
}

impl Multiplexed {
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

    fn lease(self: &Rc<Self>) -> H2Lease {
        self.connection.begin();
        H2Lease { sender: self.sender.clone(), place: Some(StreamPlace(self.clone())), upload: None }
    }
}

/// A place among the streams of a connection, taken until it is dropped.
#[derive(Debug)]
pub(super) struct StreamPlace(Rc<Multiplexed>);

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.0.connection.end();
        let Some(of) = self.0.of.upgrade() else { return };
        if self.0.is_useless() {
            of.forget(&self.0.connection);
        }
        of.places.streams.notify_one();
    }
}

/// A stream of an h2 connection; dropping it frees the place, and ends what still sends the request.
#[derive(Debug)]
pub(crate) struct H2Lease {
    sender: RequestSender,
    place: Option<StreamPlace>,
    upload: Option<Rc<Stop>>,
}

impl H2Lease {
    fn multi(&self) -> &Multiplexed {
        &self.place.as_ref().expect("the place is taken only when the lease ends").0
    }

    pub(crate) fn connection(&self) -> &Rc<UpstreamConnection> {
        &self.multi().connection
    }

    pub(crate) fn sender(&mut self) -> &mut RequestSender {
        &mut self.sender
    }

    /// A request's body as it is sent over the connection.
    pub(crate) fn body(&mut self, body: RequestBody) -> UploadBody {
        let upload = match &body {
            RequestBody::Empty => None,
            RequestBody::Once(_) | RequestBody::Replayed(_) => {
                let (upload, stop) = self.multi().uploads.upload();
                self.upload = Some(stop);
                Some(upload)
            }
        };
        UploadBody::new(body, upload)
    }

    /// The request ended well: what is left of a request that was read whole may still go out, and has its place as
    /// long.
    pub(crate) fn finish(mut self) {
        if let Some(upload) = self.upload.take() {
            upload.keep(self.place.take());
        }
    }
}

impl Drop for H2Lease {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.stop();
        }
    }
}

/// A connection that is being opened, until it is known how many streams it takes.
#[derive(Debug)]
pub(super) struct Connecting(Rc<H2Connections>);

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.connecting.set(self.0.connecting.get() - 1);
        self.0.places.streams.notify_waiters();
    }
}

/// A request that waits for a stream, or for a connection that has one.
#[derive(Debug)]
pub(super) struct QueuedRequest(Rc<H2Connections>);

impl Drop for QueuedRequest {
    fn drop(&mut self) {
        self.0.queued.set(self.0.queued.get() - 1);
    }
}

/// The HTTP/2 connections to one endpoint.
#[derive(Debug)]
pub(super) struct H2Connections {
    open: RefCell<Vec<Rc<Multiplexed>>>,
    /// Connections of which it is not known yet how many streams they take.
    connecting: Cell<u32>,
    /// How many streams the server took at once on its newest connection.
    learned: Cell<Option<u32>>,
    /// Requests that wait for a stream.
    queued: Cell<u32>,
    places: Rc<Places>,
    /// No connection is kept for later requests any more.
    retired: Cell<bool>,
}

impl H2Connections {
    pub(super) fn new(places: &Rc<Places>) -> Rc<Self> {
        Rc::new(Self {
            open: RefCell::default(),
            connecting: Cell::new(0),
            learned: Cell::new(None),
            queued: Cell::new(0),
            places: places.clone(),
            retired: Cell::new(false),
        })
    }

    /// A stream of a connection that has room.
    pub(super) fn lease(&self) -> Option<H2Lease> {
        let mut open = self.open.borrow_mut();
        open.retain(|one| one.is_usable());
        open.iter().find(|one| one.has_room()).map(Multiplexed::lease)
    }

    /// Whether the connections that are being opened will not do for all who wait: each takes the request that opens it,
    /// and as many more as the server took of late.
    pub(super) fn needs_connection(&self, cluster: &ClusterInfo, queued: bool) -> bool {
        let most = cluster.http.http2.max_concurrent_streams;
        let each = u64::from(self.learned.get().map_or(most, |learned| learned.min(most)));
        let waiting = u64::from(self.queued.get()) + u64::from(!queued);
        waiting > u64::from(self.connecting.get()) * each.saturating_sub(1)
    }

    /// A connection is about to be opened.
    pub(super) fn connect(self: &Rc<Self>) -> Connecting {
        self.connecting.set(self.connecting.get() + 1);
        Connecting(self.clone())
    }

    /// A request begins to wait.
    pub(super) fn queue(self: &Rc<Self>) -> QueuedRequest {
        self.queued.set(self.queued.get() + 1);
        QueuedRequest(self.clone())
    }

    /// The server speaks HTTP/1.1: each of those who wait needs a connection of its own.
    pub(super) fn note_h1(&self) {
        self.learned.set(Some(1));
    }

    /// Ends connections that nobody uses, and the others after their last stream.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        self.open.borrow_mut().clear();
    }

    /// Lets a connection end with its last stream.
    fn forget(&self, connection: &Rc<UpstreamConnection>) {
        self.open.borrow_mut().retain(|one| !Rc::ptr_eq(&one.connection, connection));
    }

    /// The first stream of a connection that was just opened.
    pub(super) async fn open(
        self: &Rc<Self>,
        worker: &Rc<Local>,
        cluster: &Rc<ClusterInfo>,
        dialed: Dialed,
        place: ConnectionPlace,
        connecting: Connecting,
    ) -> Result<H2Lease, ConnectError> {
        worker.shard.inc(cluster.stats.upstream_cx_http2_total);
        let options = cluster.http.http2;
        let connection = UpstreamConnection::new(worker, cluster, &dialed, place);
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
        let multi = Rc::new(Multiplexed {
            sender,
            connection,
            most: options.max_concurrent_streams,
            allowed: Cell::new(None),
            uploads,
            of: Rc::downgrade(self),
        });
        let lease = multi.lease();
        let settings_timeout = Deadline::after(&worker.deadlines, cluster.connect_timeout);
        let life = H2ConnectionTask {
            driver: Some(driver),
            wire: multi.uploads.take_wire(),
            connection: multi.connection.clone(),
            multi: Rc::downgrade(&multi),
            of: Rc::downgrade(self),
            connecting: Some((connecting, settings_timeout)),
            ended: false,
        };
        if !self.retired.get() {
            self.open.borrow_mut().push(multi);
        }
        tokio::task::spawn_local(life.run());
        Ok(lease)
    }
}

/// What drives a connection to its end, and tells the pool what the server allows.
struct H2ConnectionTask {
    /// hyper's task that hands over requests.
    driver: Option<Driver>,
    /// hyper's task that reads and writes. It is driven from here, so that what it reads is known at once.
    wire: Option<Pin<Box<dyn Future<Output = ()>>>>,
    connection: Rc<UpstreamConnection>,
    /// Gone when neither the pool nor a request has the connection.
    multi: Weak<Multiplexed>,
    of: Weak<H2Connections>,
    /// Others wait for this connection, at most as long as connecting may take, until its settings have come.
    connecting: Option<(Connecting, Deadline)>,
    ended: bool,
}

impl H2ConnectionTask {
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
        if self.connecting.as_ref().is_some_and(|(_, settings_timeout)| settings_timeout.poll(cx).is_ready())
        {
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
            if let Some(of) = self.of.upgrade() {
                of.forget(&self.connection);
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
        if let Some(of) = self.of.upgrade() {
            of.learned.set(Some(allowed));
            if multi.is_useless() {
                of.forget(&self.connection);
            }
            of.places.streams.notify_waiters();
        }
        self.connecting = None;
    }
}
