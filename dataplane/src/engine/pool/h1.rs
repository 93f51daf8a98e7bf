//! HTTP/1.1 connections: one request at a time, last used first.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::super::cluster_info::ClusterInfo;
use super::super::connect::{ConnectError, Dialed};
use super::super::local::Local;
use super::connection::UpstreamConnection;
use super::h1_driver::{H1Driver, WATCH};
use super::place::{Place, Places};
use super::upload::UploadBody;

/// A connection that waited for longer than this is looked at before it is used again: the event loop gets one
/// turn to notice that the server has closed it.
const STALE: Duration = Duration::from_millis(2);

type Sender = http1::SendRequest<UploadBody>;

/// A connection that waits.
#[derive(Debug)]
struct Idle {
    sender: Sender,
    connection: Rc<UpstreamConnection>,
    driver: Rc<H1Driver>,
}

impl Idle {
    /// Whether its last exchange is over, or it is closed; one whose request body is still being sent is not.
    fn is_settled(&self) -> bool {
        if !self.sender.is_ready() {
            self.driver.glance();
            if !self.sender.is_ready() && !self.sender.is_closed() {
                self.driver.leave();
                return false;
            }
        }
        true
    }

    /// Ends it.
    fn discard(self) {
        let Self { sender, connection, driver } = self;
        drop((sender, connection));
        driver.leave();
    }

    fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.connection.spent.get()
    }

    /// Makes sure, as far as that can be known, that the server has not closed it meanwhile.
    async fn check(self, of: &Rc<H1Connections>) -> Option<H1Lease> {
        if self.connection.idle_for() > STALE {
            tokio::task::yield_now().await;
        }
        self.driver.glance();
        if self.is_closed() {
            self.discard();
            return None;
        }
        Some(H1Lease::new(self.sender, self.connection, self.driver, of.clone()))
    }
}

/// An h1 connection in use. It goes back into the pool by [`H1Lease::give_back`]; dropped before, its exchange was
/// broken off, and it is closed at once: nothing that either side still waits for may hold it.
#[derive(Debug)]
pub(crate) struct H1Lease {
    sender: Option<Sender>,
    connection: Rc<UpstreamConnection>,
    driver: Rc<H1Driver>,
    of: Rc<H1Connections>,
    end: LeaseEnd,
}

/// What becomes of a connection after its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeaseEnd {
    /// Closed now.
    BrokenOff,
    /// Closed when hyper has said goodbye.
    Closing,
    /// In the pool.
    Kept,
}

impl H1Lease {
    fn new(
        sender: Sender,
        connection: Rc<UpstreamConnection>,
        driver: Rc<H1Driver>,
        of: Rc<H1Connections>,
    ) -> Self {
        connection.begin();
        driver.attend();
        Self { sender: Some(sender), connection, driver, of, end: LeaseEnd::BrokenOff }
    }

    /// What moves its bytes.
    pub(crate) fn driver(&self) -> &Rc<H1Driver> {
        &self.driver
    }

    pub(crate) fn connection(&self) -> &Rc<UpstreamConnection> {
        &self.connection
    }

    pub(crate) fn sender(&mut self) -> &mut Sender {
        self.sender.as_mut().expect("the sender is taken only when the lease ends")
    }

    /// The exchange ended well: the next request may use the connection.
    pub(crate) fn give_back(mut self) {
        let Some(sender) = self.sender.take() else { return };
        self.end = LeaseEnd::Closing;
        if sender.is_closed() || self.connection.spent.get() || self.of.retired.get() {
            return;
        }
        if sender.is_ready() {
            self.driver.rest();
        } else {
            // The end of the request is still to be sent.
            self.driver.leave();
        }
        let (connection, driver) = (self.connection.clone(), self.driver.clone());
        self.of.idle.borrow_mut().push(Idle { sender, connection, driver });
        self.of.places.connections.notify_one();
        self.end = LeaseEnd::Kept;
    }
}

impl Drop for H1Lease {
    fn drop(&mut self) {
        drop(self.sender.take());
        match self.end {
            LeaseEnd::Kept => self.connection.end(Some(WATCH)),
            LeaseEnd::Closing => {
                self.connection.end(None);
                self.driver.leave();
            }
            LeaseEnd::BrokenOff => {
                self.connection.end(None);
                self.driver.cut();
            }
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

    /// One that waits.
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
            candidate.discard();
        }
    }

    /// One more, of a connection that was just opened.
    pub(super) async fn open(
        self: &Rc<Self>,
        worker: &Rc<Local>,
        cluster: &Rc<ClusterInfo>,
        dialed: Dialed,
        place: Place,
    ) -> Result<H1Lease, ConnectError> {
        worker.shard.inc(cluster.stats.upstream_cx_http1_total);
        let connection = UpstreamConnection::new(worker, cluster, &dialed, place);
        // At most 100 headers in a response: hyper's own limit is Envoy's default.
        let (sender, driver) = http1::Builder::new()
            .handshake(TokioIo::new(dialed.stream))
            .await
            .map_err(|error| ConnectError::Protocol(error.to_string().into()))?;
        let driver = Rc::new(H1Driver::new(driver.with_upgrades()));
        let (watched, kept) = (connection.clone(), driver.clone());
        tokio::task::spawn_local(async move {
            std::future::poll_fn(|cx| {
                if kept.keep(cx).is_ready() {
                    return Poll::Ready(());
                }
                watched.poll_end(cx)
            })
            .await;
            kept.close();
        });
        Ok(H1Lease::new(sender, connection, driver, self.clone()))
    }

    /// Ends those that wait now, and the others after their request.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        let idle = self.idle.take();
        idle.into_iter().for_each(Idle::discard);
    }
}
