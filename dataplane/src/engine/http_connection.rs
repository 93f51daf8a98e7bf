//! A downstream HTTP connection, as its requests see it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use super::chain::HttpTerminal;
use super::clock::now;
use super::clusters::Clusters;
use super::connection::{DownstreamConnection, Urgency};
use super::exec::Handover;
use super::local::Local;
use super::observed_stream::StreamActivity;
use crate::runtime::HttpManager;

/// What the requests of one connection share.
#[derive(Debug)]
pub(crate) struct HttpConnection {
    pub(crate) worker: Rc<Local>,
    pub(crate) clusters: Rc<Clusters>,
    pub(crate) downstream: Rc<DownstreamConnection>,
    pub(crate) terminal: Rc<HttpTerminal>,
    pub(crate) protocol: CodecType,
    pub(super) in_flight: Cell<u32>,
    pub(super) requests: Cell<u32>,
    pub(super) idle_since: Cell<Instant>,
    pub(super) activity: Rc<StreamActivity>,
    /// The limits of a stream on their way to its task.
    pub(super) handover: Handover,
    pub(crate) closing: Cell<bool>,
}

/// What is spoken on a downstream connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodecType {
    Http1,
    Http2,
}

impl HttpConnection {
    pub(super) fn new(
        worker: Rc<Local>,
        clusters: Rc<Clusters>,
        downstream: Rc<DownstreamConnection>,
        terminal: Rc<HttpTerminal>,
        protocol: CodecType,
    ) -> Rc<Self> {
        Rc::new(Self {
            worker,
            clusters,
            downstream,
            terminal,
            protocol,
            in_flight: Cell::new(0),
            requests: Cell::new(0),
            idle_since: Cell::new(now()),
            activity: Rc::default(),
            handover: Handover::default(),
            closing: Cell::new(false),
        })
    }

    /// Counts a request in; the guard counts it out.
    pub(crate) fn enter(self: &Rc<Self>) -> InFlight {
        self.in_flight.set(self.in_flight.get() + 1);
        self.requests.set(self.requests.get() + 1);
        InFlight(self.clone())
    }

    pub(crate) fn speaks_http1(&self) -> bool {
        self.protocol == CodecType::Http1
    }

    /// Whether the response that is about to be sent should be the connection's last.
    pub(crate) fn should_close(&self, manager: &HttpManager) -> bool {
        if self.closing.get()
            || self.worker.draining.get().takes(self.downstream.direction)
            || self.downstream.ending() != Urgency::Stay
        {
            return true;
        }
        let most = manager.limits.requests_per_connection;
        if most.is_some_and(|most| self.requests.get() >= most) {
            self.worker.shard.inc(manager.stats.downstream_cx_max_requests_reached);
            self.downstream.end(Urgency::Announce);
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
