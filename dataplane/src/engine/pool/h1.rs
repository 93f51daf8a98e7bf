//! HTTP/1.1 connections: one request at a time, last used first.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use weft_http1::Error;

use super::super::body::RequestBody;
use super::super::cluster_info::ClusterInfo;
use super::super::connect::Dialed;
use super::super::local::Local;
use super::super::stream::Stream;
use super::connection::UpstreamConnection;
use super::h1_wire::{H1Body, H1Wire};
use super::place::{ConnectionPlace, Places};

/// A connection that waited for longer than this is looked at before it is used again: the event loop gets one
/// turn to notice that the server has closed it.
const STALE: Duration = Duration::from_millis(2);

/// A connection that waits.
#[derive(Debug)]
struct Idle {
    connection: Rc<UpstreamConnection>,
    wire: Rc<H1Wire>,
}

impl Idle {
    /// Whether its last request is over, or it is closed; one whose request body is still being sent is not.
    fn is_settled(&self) -> bool {
        if !self.wire.is_reusable() {
            self.wire.check_idle();
        }
        self.wire.is_reusable() || self.wire.is_closed()
    }

    fn is_closed(&self) -> bool {
        self.wire.is_closed() || self.connection.spent.get()
    }

    /// Makes sure, as far as that can be known, that the server has not closed it meanwhile.
    async fn check(self, of: &Rc<H1Connections>) -> Option<H1Lease> {
        if self.connection.idle_for() > STALE {
            tokio::task::yield_now().await;
        }
        self.wire.check_idle();
        if self.is_closed() {
            self.wire.close();
            return None;
        }
        Some(H1Lease::new(self.connection, self.wire, of.clone()))
    }
}

/// An h1 connection in use. It goes back into the pool by [`H1Lease::give_back`]; dropped before, its request was
/// broken off, and it is closed at once: nothing that either side still waits for may hold it.
#[derive(Debug)]
pub(crate) struct H1Lease {
    connection: Rc<UpstreamConnection>,
    wire: Rc<H1Wire>,
    of: Rc<H1Connections>,
    end: LeaseEnd,
}

/// What becomes of a connection after its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeaseEnd {
    BrokenOff,
    /// Closed when all of the request was sent.
    Closing,
    Kept,
}

impl H1Lease {
    fn new(connection: Rc<UpstreamConnection>, wire: Rc<H1Wire>, of: Rc<H1Connections>) -> Self {
        connection.begin();
        wire.begin_request();
        Self { connection, wire, of, end: LeaseEnd::BrokenOff }
    }

    pub(crate) fn connection(&self) -> &Rc<UpstreamConnection> {
        &self.connection
    }

    /// Takes the request, which goes out when the response is polled.
    pub(crate) fn send(&self, request: Request<RequestBody>) {
        self.wire.send(request);
    }

    /// Sends the request and waits for the response's head.
    pub(crate) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, Error>> {
        self.wire.poll_head(cx)
    }

    /// The content of the response whose head has come.
    pub(crate) fn content(&self) -> H1Body {
        H1Body::new(&self.wire)
    }

    /// The stream of a connection whose response has made a tunnel of it.
    pub(crate) fn take_stream(&self) -> Option<Stream> {
        self.wire.take_stream()
    }

    /// The request ended well: the next request may use the connection.
    pub(crate) fn give_back(mut self) {
        self.end = LeaseEnd::Closing;
        if self.connection.spent.get() || self.of.retired.get() || !self.wire.finish_request() {
            return;
        }
        let (connection, wire) = (self.connection.clone(), self.wire.clone());
        self.of.idle.borrow_mut().push(Idle { connection, wire });
        self.of.places.connections.notify_one();
        self.end = LeaseEnd::Kept;
    }
}

impl Drop for H1Lease {
    fn drop(&mut self) {
        self.connection.end();
        match self.end {
            LeaseEnd::Kept => {}
            LeaseEnd::Closing => self.wire.finish(),
            LeaseEnd::BrokenOff => self.wire.close(),
        }
    }
}

/// The HTTP/1.1 connections to one endpoint.
#[derive(Debug)]
pub(super) struct H1Connections {
    idle: RefCell<Vec<Idle>>,
    places: Rc<Places>,
    /// Nothing comes back any more.
    retired: Cell<bool>,
}

impl H1Connections {
    pub(super) fn new(places: &Rc<Places>) -> Rc<Self> {
        Rc::new(Self { idle: RefCell::default(), places: places.clone(), retired: Cell::new(false) })
    }

    pub(super) async fn lease(self: &Rc<Self>) -> Option<H1Lease> {
        while let Some(idle) = self.take_idle() {
            if let Some(lease) = idle.check(self).await {
                return Some(lease);
            }
        }
        None
    }

    fn take_idle(&self) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let at = idle.iter().rposition(Idle::is_settled)?;
            let candidate = idle.remove(at);
            if !candidate.is_closed() {
                return Some(candidate);
            }
            candidate.wire.close();
        }
    }

    /// One more, of a connection that was just opened.
    pub(super) fn open(
        self: &Rc<Self>,
        worker: &Rc<Local>,
        cluster: &Rc<ClusterInfo>,
        dialed: Dialed,
        place: ConnectionPlace,
    ) -> H1Lease {
        worker.shard.inc(cluster.stats.upstream_cx_http1_total);
        let connection = UpstreamConnection::new(worker, cluster, &dialed, place);
        let wire = H1Wire::new(dialed.stream);
        let (watched, kept) = (connection.clone(), wire.clone());
        tokio::task::spawn_local(async move {
            std::future::poll_fn(|cx| {
                if kept.poll_task(cx).is_ready() {
                    return Poll::Ready(());
                }
                watched.poll_end(cx)
            })
            .await;
            kept.close();
        });
        H1Lease::new(connection, wire, self.clone())
    }

    /// Ends those that wait now, and the others after their request.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        let idle = self.idle.take();
        idle.iter().for_each(|idle| idle.wire.close());
    }
}
