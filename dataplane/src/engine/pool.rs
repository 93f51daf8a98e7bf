//! Connections of one worker to one endpoint.
//!
//! ```text
//! Pool (endpoint)
//!   idle:  h1 connections that wait, last used on top
//!   multi: h2 connections, each with many streams
//! ```
//!
//! A request that finds no room waits, or dials: as many dials are under way at once as the requests that wait need,
//! as far as the circuit breaker of the cluster's connections allows. Each dial belongs to one request, which is the
//! first on the new connection: so a server that allows no streams cannot make dials follow each other without end.
//!
//! Each connection is driven by a task of its own, which also ends it: after the idle timeout, after its longest
//! life, or before a certificate of either side expires. A connection that is dropped here while requests use it
//! finishes them first.

mod h1;
mod h2;
mod life;
mod line;
mod opening;
mod upload;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use hyper::client::conn::http1;
use tokio::sync::Notify;

pub(crate) use h1::IdleLease;
use h2::Connecting;
pub(crate) use h2::StreamLease;
pub(crate) use life::Connection;
pub(crate) use line::Line;
pub(crate) use upload::UploadBody;

use super::body::RequestBody;
use super::cluster::{BreakerOf, View};
use super::connect::{ConnectError, Dialed, Speak, dial};
use super::handshake::outbound_failed;
use super::local::Local;
use crate::breaker::{Permit, Resource};
use crate::runtime::{Cluster, Transport};

/// The HTTP connections to one endpoint.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) address: SocketAddr,
    transport: usize,
    idle: RefCell<Vec<h1::Idle>>,
    multi: RefCell<Vec<Rc<h2::Multi>>>,
    /// h2 connections of which it is not known yet how many streams they take.
    connecting: Cell<u32>,
    /// How many streams the server took at once on its newest connection.
    learned: Cell<Option<u32>>,
    /// Requests that wait for a stream.
    queued: Cell<u32>,
    failures: Cell<u64>,
    last_failure: RefCell<Option<ConnectError>>,
    /// An h1 connection may be had, or opened.
    changed: Notify,
    /// A stream may be had, or a connection for it opened.
    streams: Notify,
    /// Connections that are open or being opened.
    open: Cell<u32>,
    /// Set when the endpoint is gone or the cluster is configured anew: nothing comes back into the pool.
    pub(crate) retired: Cell<bool>,
}

/// A connection for one request.
#[derive(Debug)]
pub(crate) enum Lease {
    /// A whole h1 connection.
    Http1(IdleLease),
    /// A stream of an h2 connection.
    Http2(StreamLease),
}

impl Lease {
    pub(crate) fn connection(&self) -> &Rc<Connection> {
        match self {
            Self::Http1(lease) => lease.connection(),
            Self::Http2(lease) => lease.connection(),
        }
    }

    /// What moves the bytes, where the request has to drive it.
    pub(crate) fn line(&self) -> Option<&Rc<Line>> {
        match self {
            Self::Http1(lease) => Some(lease.line()),
            Self::Http2(_) => None,
        }
    }

    /// A request's body as it is sent over the connection.
    pub(crate) fn body(&mut self, body: RequestBody) -> UploadBody {
        let upload = match (&body, self) {
            (RequestBody::Empty, _) | (_, Self::Http1(_)) => None,
            (RequestBody::Once(_) | RequestBody::Replayed(_), Self::Http2(lease)) => Some(lease.upload()),
        };
        UploadBody::new(body, upload)
    }

    /// Whether the connection has served another request before.
    pub(crate) fn is_reused(&self) -> bool {
        self.connection().served.get() > 1
    }
}

/// Which HTTP a request wants to be sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
    /// Whatever ALPN picks; h2 connections are shared, h1 ones pooled.
    Auto,
}

impl Pool {
    pub(crate) fn new(address: SocketAddr, transport: usize) -> Rc<Self> {
        Rc::new(Self {
            address,
            transport,
            idle: RefCell::default(),
            multi: RefCell::default(),
            connecting: Cell::new(0),
            learned: Cell::new(None),
            queued: Cell::new(0),
            failures: Cell::new(0),
            last_failure: RefCell::default(),
            changed: Notify::new(),
            streams: Notify::new(),
            open: Cell::new(0),
            retired: Cell::new(false),
        })
    }

    /// Whether the pool serves an endpoint with this address and transport socket.
    pub(crate) fn fits(&self, address: SocketAddr, transport: usize) -> bool {
        self.address == address && self.transport == transport
    }

    /// Ends idle connections now, and the others after their last request.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
        let idle = self.idle.take();
        idle.into_iter().for_each(h1::Idle::discard);
        self.multi.borrow_mut().clear();
        self.changed.notify_waiters();
        self.streams.notify_waiters();
    }

    /// A connection that may take a request: a pooled one, else a new one. Where the cluster's connections are
    /// used up, the request waits for one; where too many wait, it is refused.
    pub(crate) async fn lease(
        self: &Rc<Self>,
        worker: &Rc<Local>,
        view: &Rc<View>,
        version: Version,
        fresh: Freshness,
    ) -> Result<Lease, ConnectError> {
        let mut waiting = None;
        loop {
            if fresh == Freshness::Any {
                if version != Version::Http2 {
                    while let Some(idle) = self.take_idle() {
                        if let Some(lease) = idle.check(self).await {
                            return Ok(Lease::Http1(lease));
                        }
                    }
                }
                if version != Version::Http1
                    && let Some(lease) = self.free_stream()
                {
                    return Ok(Lease::Http2(lease));
                }
            }
            let must = fresh == Freshness::New || version == Version::Http1;
            if must || self.needs_connection(view, waiting.is_some()) {
                if let Some(place) = self.place(view) {
                    drop(waiting);
                    // Large and rare: a request that finds a connection does not carry it around.
                    return Box::pin(self.open(worker, view, version, place)).await;
                }
                if waiting.is_none() {
                    worker.shard.inc(view.config.stats.upstream_cx_overflow);
                }
            }
            if waiting.is_none() {
                waiting = Some(Waiting::begin(self, worker, view, version)?);
            }
            self.wait(version).await?;
        }
    }

    /// Waits until trying again is worth it. Who waits for a connection that others open fails with them.
    async fn wait(&self, version: Version) -> Result<(), ConnectError> {
        let failures = self.failures.get();
        match version {
            Version::Http1 => {
                self.changed.notified().await;
                return Ok(());
            }
            Version::Http2 => self.streams.notified().await,
            Version::Auto => tokio::select! {
                () = self.streams.notified() => {}
                () = self.changed.notified() => {}
            },
        }
        match &*self.last_failure.borrow() {
            Some(error) if self.failures.get() != failures => Err(error.clone()),
            Some(_) | None => Ok(()),
        }
    }

    async fn open(
        self: &Rc<Self>,
        worker: &Rc<Local>,
        view: &Rc<View>,
        version: Version,
        place: Place,
    ) -> Result<Lease, ConnectError> {
        let speak = match version {
            Version::Http1 => {
                let dialed = self.dial(worker, &view.config, Speak::Http1).await?;
                return self.open_h1(worker, view, dialed, place).await.map(Lease::Http1);
            }
            Version::Http2 => Speak::Http2,
            Version::Auto => Speak::Auto,
        };
        let connecting = Connecting::begin(self);
        let opened = async {
            let dialed = self.dial(worker, &view.config, speak).await?;
            if version == Version::Auto && !dialed.h2_chosen {
                // Each of those who wait needs a connection of its own.
                self.learned.set(Some(1));
                drop(connecting);
                return self.open_h1(worker, view, dialed, place).await.map(Lease::Http1);
            }
            self.open_h2(worker, view, dialed, place, connecting).await.map(Lease::Http2)
        };
        let result = opened.await;
        if let Err(error) = &result {
            self.failures.set(self.failures.get() + 1);
            *self.last_failure.borrow_mut() = Some(error.clone());
            self.streams.notify_waiters();
        }
        result
    }

    /// A place for one more connection. The first to an endpoint is always allowed, as in Envoy: else a cluster
    /// whose connections all go to other endpoints could never reach this one.
    fn place(self: &Rc<Self>, view: &Rc<View>) -> Option<Place> {
        let breaker = BreakerOf::Default(view.clone());
        let permit = if self.open.get() == 0 {
            Permit::new(breaker, Resource::Connections)
        } else {
            Permit::try_new(breaker, Resource::Connections)?
        };
        self.open.set(self.open.get() + 1);
        Some(Place { pool: self.clone(), _permit: permit })
    }

    async fn dial(
        &self,
        worker: &Rc<Local>,
        cluster: &Arc<Cluster>,
        speak: Speak,
    ) -> Result<Dialed, ConnectError> {
        // Secrets rotate without a new pool: the transport comes from the cluster of the moment.
        let transport = cluster.transports.get(self.transport).ok_or(ConnectError::NoTransport)?;
        self.dial_by(worker, cluster, transport, speak).await
    }

    async fn dial_by(
        &self,
        worker: &Rc<Local>,
        cluster: &Arc<Cluster>,
        transport: &Transport,
        speak: Speak,
    ) -> Result<Dialed, ConnectError> {
        let start = super::clock::now();
        let result = dial(&worker.deadlines, cluster, self.address, transport, speak).await;
        let (shard, stats) = (&worker.shard, &cluster.stats);
        match &result {
            Ok(dialed) => {
                shard.inc(stats.upstream_cx_total);
                shard.record(stats.upstream_cx_connect_ms, start.elapsed());
                if dialed.tls.is_some() {
                    shard.inc(stats.tls.handshake);
                }
            }
            Err(error) => {
                shard.inc(stats.upstream_cx_total);
                shard.inc(stats.upstream_cx_connect_fail);
                match error {
                    ConnectError::Timeout => shard.inc(stats.upstream_cx_connect_timeout),
                    ConnectError::Tls(error) => {
                        outbound_failed(worker, cluster, transport.tls(), self.address, error);
                    }
                    ConnectError::Refused(_)
                    | ConnectError::NoTransport
                    | ConnectError::Overflow
                    | ConnectError::Protocol(_) => {}
                }
            }
        }
        result
    }

    fn take_idle(&self) -> Option<h1::Idle> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let at = idle.iter().rposition(h1::Idle::is_settled)?;
            let candidate = idle.remove(at);
            if !candidate.is_closed() {
                return Some(candidate);
            }
            candidate.discard();
        }
    }
}

/// An open connection's part of the cluster's limit.
#[derive(Debug)]
pub(crate) struct Place {
    pool: Rc<Pool>,
    _permit: Permit<BreakerOf>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.open.set(self.pool.open.get() - 1);
        self.pool.changed.notify_one();
        self.pool.streams.notify_one();
    }
}

/// A request that waits for a connection.
struct Waiting<'a> {
    pool: &'a Pool,
    worker: &'a Local,
    view: &'a View,
    version: Version,
    _permit: Permit<BreakerOf>,
}

impl<'a> Waiting<'a> {
    fn begin(
        pool: &'a Pool,
        worker: &'a Local,
        view: &'a Rc<View>,
        version: Version,
    ) -> Result<Self, ConnectError> {
        let (shard, stats) = (&worker.shard, &view.config.stats);
        let permit = Permit::try_new(BreakerOf::Default(view.clone()), Resource::Pending);
        let Some(permit) = permit else {
            shard.inc(stats.upstream_rq_pending_overflow);
            return Err(ConnectError::Overflow);
        };
        shard.inc(stats.upstream_rq_pending_total);
        shard.up(stats.upstream_rq_pending_active);
        if version != Version::Http1 {
            pool.queued.set(pool.queued.get() + 1);
        }
        Ok(Self { pool, worker, view, version, _permit: permit })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.worker.shard.down(self.view.config.stats.upstream_rq_pending_active);
        if self.version != Version::Http1 {
            self.pool.queued.set(self.pool.queued.get() - 1);
        }
    }
}

/// Whether a pooled connection will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Any.
    Any,
    /// Only a new one: a pooled one has just failed before any byte came back.
    New,
}

type H1Sender = http1::SendRequest<UploadBody>;
