//! Connections of one worker to one endpoint.
//!
//! ```text
//! Pool (endpoint)
//!   h1:     connections that wait, last used on top
//!   h2:     connections with many streams each
//!   places: how many of both are open
//! ```
//!
//! A request that finds no room waits, or dials: as many dials are under way at once as the requests that wait need,
//! as far as the circuit breaker of the cluster's connections allows. Each dial belongs to one request, which is the
//! first on the new connection: so a server that allows no streams cannot make dials follow each other without end.
//!
//! Each connection has a task of its own, which ends it: after the idle timeout, after its longest life, or before a
//! certificate of either side expires. A connection that is dropped here while requests use it finishes them first.

mod connection;
mod h1;
mod h1_wire;
mod h2;
mod opening;
mod place;
mod upload;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

pub(crate) use connection::UpstreamConnection;
pub(crate) use upload::UploadBody;

use super::body::CodecBody;
use super::cluster_info::{BreakerOf, ClusterInfo};
use super::connect::{ApplicationProtocol, ConnectError, Dialed, dial};
use super::handshake::outbound_failed;
use super::local::Local;
use crate::breaker::{BreakerResource, Permit};
use crate::runtime::Transport;
use h1::{H1Connections, H1Lease};
use h1_wire::H1Body;
use h2::{H2Connections, H2Lease, QueuedRequest};
use place::{ConnectionPlace, Places};

/// The HTTP connections to one endpoint.
#[derive(Debug)]
pub(crate) struct ConnectionPool {
    pub(crate) address: SocketAddr,
    transport: usize,
    places: Rc<Places>,
    h1: Rc<H1Connections>,
    h2: Rc<H2Connections>,
    failures: Cell<u64>,
    last_failure: RefCell<Option<ConnectError>>,
}

/// The content of a response.
pub(crate) type Content = CodecBody<H1Body>;

/// A connection for one request.
#[derive(Debug)]
pub(crate) enum ConnectionLease {
    /// A whole h1 connection.
    Http1(H1Lease),
    /// A stream of an h2 connection.
    Http2(H2Lease),
}

impl ConnectionLease {
    pub(crate) fn connection(&self) -> &Rc<UpstreamConnection> {
        match self {
            Self::Http1(lease) => lease.connection(),
            Self::Http2(lease) => lease.connection(),
        }
    }

    /// Whether the connection has served another request before.
    pub(crate) fn is_reused(&self) -> bool {
        self.connection().served.get() > 1
    }
}

/// Which HTTP a request wants to be sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HttpChoice {
    Http1,
    Http2,
    /// Whatever ALPN picks; h2 connections are shared, h1 ones pooled.
    Auto,
}

impl ConnectionPool {
    pub(crate) fn new(address: SocketAddr, transport: usize) -> Rc<Self> {
        let places = Rc::<Places>::default();
        Rc::new(Self {
            address,
            transport,
            h1: H1Connections::new(&places),
            h2: H2Connections::new(&places),
            places,
            failures: Cell::new(0),
            last_failure: RefCell::default(),
        })
    }

    /// Whether the pool serves an endpoint with this address and transport socket.
    pub(crate) fn fits(&self, address: SocketAddr, transport: usize) -> bool {
        self.address == address && self.transport == transport
    }

    /// Ends idle connections now, and the others after their last request: the endpoint is gone, or the cluster is
    /// configured anew.
    pub(crate) fn retire(&self) {
        self.h1.retire();
        self.h2.retire();
        self.places.notify_all();
    }

    /// A connection that may take a request: a pooled one, else a new one. Where the cluster's connections are
    /// used up, the request waits for one; where too many wait, it is refused.
    pub(crate) async fn lease(
        self: &Rc<Self>,
        worker: &Rc<Local>,
        cluster: &Rc<ClusterInfo>,
        version: HttpChoice,
        fresh: Freshness,
    ) -> Result<ConnectionLease, ConnectError> {
        let mut waiting = None;
        loop {
            if fresh == Freshness::Any {
                if version != HttpChoice::Http2
                    && let Some(lease) = self.h1.lease().await
                {
                    return Ok(ConnectionLease::Http1(lease));
                }
                if version != HttpChoice::Http1
                    && let Some(lease) = self.h2.lease()
                {
                    return Ok(ConnectionLease::Http2(lease));
                }
            }
            let must = fresh == Freshness::New || version == HttpChoice::Http1;
            if must || self.h2.needs_connection(cluster, waiting.is_some()) {
                if let Some(place) = self.places.take(cluster) {
                    drop(waiting);
                    // Large and rare: a request that finds a connection does not carry it around.
                    return Box::pin(self.open(worker, cluster, version, place)).await;
                }
                if waiting.is_none() {
                    worker.shard.inc(cluster.stats.upstream_cx_overflow);
                }
            }
            if waiting.is_none() {
                waiting = Some(PendingRequest::begin(self, worker, cluster, version)?);
            }
            self.wait(version).await?;
        }
    }

    /// Waits until trying again is worth it. Who waits for a connection that others open fails with them.
    async fn wait(&self, version: HttpChoice) -> Result<(), ConnectError> {
        let failures = self.failures.get();
        match version {
            HttpChoice::Http1 => {
                self.places.connections.notified().await;
                return Ok(());
            }
            HttpChoice::Http2 => self.places.streams.notified().await,
            HttpChoice::Auto => tokio::select! {
                () = self.places.streams.notified() => {}
                () = self.places.connections.notified() => {}
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
        cluster: &Rc<ClusterInfo>,
        version: HttpChoice,
        place: ConnectionPlace,
    ) -> Result<ConnectionLease, ConnectError> {
        let protocol = match version {
            HttpChoice::Http1 => {
                let dialed = self.dial(worker, cluster, ApplicationProtocol::Http1).await?;
                return Ok(ConnectionLease::Http1(self.h1.open(worker, cluster, dialed, place)));
            }
            HttpChoice::Http2 => ApplicationProtocol::Http2,
            HttpChoice::Auto => ApplicationProtocol::Auto,
        };
        let connecting = self.h2.connect();
        let opened = async {
            let dialed = self.dial(worker, cluster, protocol).await?;
            if version == HttpChoice::Auto && !dialed.h2_chosen {
                self.h2.note_h1();
                drop(connecting);
                return Ok(ConnectionLease::Http1(self.h1.open(worker, cluster, dialed, place)));
            }
            self.h2.open(worker, cluster, dialed, place, connecting).await.map(ConnectionLease::Http2)
        };
        let result = opened.await;
        if let Err(error) = &result {
            self.failures.set(self.failures.get() + 1);
            *self.last_failure.borrow_mut() = Some(error.clone());
            self.places.streams.notify_waiters();
        }
        result
    }

    async fn dial(
        &self,
        worker: &Rc<Local>,
        cluster: &Rc<ClusterInfo>,
        protocol: ApplicationProtocol,
    ) -> Result<Dialed, ConnectError> {
        // Secrets rotate without a new pool: the transport comes from the cluster of the moment.
        let transport = cluster.transports.get(self.transport).ok_or(ConnectError::NoTransport)?;
        self.dial_by(worker, cluster, transport, protocol).await
    }

    async fn dial_by(
        &self,
        worker: &Rc<Local>,
        cluster: &Rc<ClusterInfo>,
        transport: &Transport,
        protocol: ApplicationProtocol,
    ) -> Result<Dialed, ConnectError> {
        let start = super::clock::now();
        let result = dial(&worker.deadlines, cluster, self.address, transport, protocol).await;
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
}

/// A request that waits for a connection.
struct PendingRequest<'a> {
    worker: &'a Local,
    cluster: &'a ClusterInfo,
    _queued: Option<QueuedRequest>,
    _permit: Permit<BreakerOf>,
}

impl<'a> PendingRequest<'a> {
    fn begin(
        pool: &ConnectionPool,
        worker: &'a Local,
        cluster: &'a Rc<ClusterInfo>,
        version: HttpChoice,
    ) -> Result<Self, ConnectError> {
        let (shard, stats) = (&worker.shard, &cluster.stats);
        let permit = Permit::try_new(BreakerOf::Default(cluster.clone()), BreakerResource::Pending);
        let Some(permit) = permit else {
            shard.inc(stats.upstream_rq_pending_overflow);
            return Err(ConnectError::Overflow);
        };
        shard.inc(stats.upstream_rq_pending_total);
        shard.up(stats.upstream_rq_pending_active);
        let queued = (version != HttpChoice::Http1).then(|| pool.h2.queue());
        Ok(Self { worker, cluster, _queued: queued, _permit: permit })
    }
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        self.worker.shard.down(self.cluster.stats.upstream_rq_pending_active);
    }
}

/// Whether a pooled connection will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    Any,
    /// Only a new one: a pooled one has just failed before any byte came back.
    New,
}
