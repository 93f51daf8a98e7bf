//! HTTP/1.1 connections: one request at a time, last used first.

use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::super::cluster::View;
use super::super::connect::{ConnectError, Dialed};
use super::super::local::Local;
use super::line::{Line, WATCH};
use super::{Connection, H1Sender, Place, Pool};

/// A connection that waited for longer than this is looked at before it is used again: the event loop gets one
/// turn to notice that the server has closed it.
const STALE: Duration = Duration::from_millis(2);

/// A connection that waits.
#[derive(Debug)]
pub(super) struct Idle {
    sender: H1Sender,
    connection: Rc<Connection>,
    line: Rc<Line>,
}

impl Idle {
    /// Whether its last exchange is over, or it is closed; one whose request body is still being sent is not.
    pub(super) fn is_settled(&self) -> bool {
        if !self.sender.is_ready() {
            self.line.glance();
            if !self.sender.is_ready() && !self.sender.is_closed() {
                self.line.leave();
                return false;
            }
        }
        true
    }

    /// Ends it.
    pub(super) fn discard(self) {
        let Self { sender, connection, line } = self;
        drop((sender, connection));
        line.leave();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.connection.spent.get()
    }

    /// Makes sure, as far as that can be known, that the server has not closed it meanwhile.
    pub(super) async fn check(self, pool: &Rc<Pool>) -> Option<IdleLease> {
        if self.connection.idle_for() > STALE {
            tokio::task::yield_now().await;
        }
        self.line.glance();
        if self.is_closed() {
            self.discard();
            return None;
        }
        Some(IdleLease::new(self.sender, self.connection, self.line, pool.clone()))
    }
}

/// An h1 connection in use. It goes back into the pool by [`IdleLease::give_back`]; dropped before, its exchange was
/// broken off, and it is closed at once: nothing that either side still waits for may hold it.
#[derive(Debug)]
pub(crate) struct IdleLease {
    sender: Option<H1Sender>,
    connection: Rc<Connection>,
    line: Rc<Line>,
    pool: Rc<Pool>,
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

impl IdleLease {
    fn new(sender: H1Sender, connection: Rc<Connection>, line: Rc<Line>, pool: Rc<Pool>) -> Self {
        connection.begin();
        line.attend();
        Self { sender: Some(sender), connection, line, pool, end: LeaseEnd::BrokenOff }
    }

    /// What moves its bytes.
    pub(crate) fn line(&self) -> &Rc<Line> {
        &self.line
    }

    pub(crate) fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }

    pub(crate) fn sender(&mut self) -> &mut H1Sender {
        self.sender.as_mut().expect("the sender is taken only when the lease ends")
    }

    /// The exchange ended well: the next request may use the connection.
    pub(crate) fn give_back(mut self) {
        let Some(sender) = self.sender.take() else { return };
        self.end = LeaseEnd::Closing;
        if sender.is_closed() || self.connection.spent.get() || self.pool.retired.get() {
            return;
        }
        if sender.is_ready() {
            self.line.rest();
        } else {
            // The end of the request is still to be sent.
            self.line.leave();
        }
        let (connection, line) = (self.connection.clone(), self.line.clone());
        self.pool.idle.borrow_mut().push(Idle { sender, connection, line });
        self.pool.changed.notify_one();
        self.end = LeaseEnd::Kept;
    }
}

impl Drop for IdleLease {
    fn drop(&mut self) {
        drop(self.sender.take());
        match self.end {
            LeaseEnd::Kept => self.connection.end(Some(WATCH)),
            LeaseEnd::Closing => {
                self.connection.end(None);
                self.line.leave();
            }
            LeaseEnd::BrokenOff => {
                self.connection.end(None);
                self.line.cut();
            }
        }
    }
}

impl Pool {
    pub(super) async fn open_h1(
        self: &Rc<Self>,
        worker: &Rc<Local>,
        view: &Rc<View>,
        dialed: Dialed,
        place: Place,
    ) -> Result<IdleLease, ConnectError> {
        worker.shard.inc(view.config.stats.upstream_cx_http1_total);
        let connection = Connection::new(worker, &view.config, &dialed, place);
        // At most 100 headers in a response: hyper's own limit is Envoy's default.
        let (sender, driver) = http1::Builder::new()
            .handshake(TokioIo::new(dialed.stream))
            .await
            .map_err(|error| ConnectError::Protocol(error.to_string().into()))?;
        let line = Rc::new(Line::new(driver.with_upgrades()));
        let (watched, kept) = (connection.clone(), line.clone());
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
        Ok(IdleLease::new(sender, connection, line, self.clone()))
    }
}
