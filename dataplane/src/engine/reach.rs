//! A connection to an endpoint that is passed through as it is: TCP, and tunnels of CONNECT.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::SystemTime;

use super::clock::Deadline;
use super::cluster::{ClusterState, Picked};
use super::cluster_info::BreakerOf;
use super::connect::{ApplicationProtocol, ConnectError, Dialed, dial};
use super::connection::DownstreamConnection;
use super::ejection;
use super::handshake::outbound_failed;
use super::local::Local;
use super::trust::servers::Trusted;
use crate::balance::PreviousHosts;
use crate::breaker::{BreakerResource, Permit};
use crate::format::ResponseFlags;
use crate::outlier::AttemptOutcome;
use crate::runtime::Transport;

/// How many more picks are made to avoid endpoints to which no connection could be made.
const HOST_SELECTION_ATTEMPTS: u32 = 5;

/// A connection to an endpoint, with what it holds of the cluster.
pub(super) struct Reached {
    pub(super) picked: Picked,
    pub(super) dialed: Dialed,
    /// Ends a tunnel whose server is not trusted any more.
    pub(super) trusted: Option<Rc<Trusted>>,
    pub(super) _permit: Permit<BreakerOf>,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Unreached {
    NoHealthy,
    Overflow,
    /// With the endpoint that was tried last.
    Failed(ConnectError, SocketAddr),
}

impl Unreached {
    pub(super) fn flag(&self) -> ResponseFlags {
        match self {
            Self::NoHealthy => ResponseFlags::NO_HEALTHY_UPSTREAM,
            Self::Overflow => ResponseFlags::UPSTREAM_OVERFLOW,
            Self::Failed(..) => ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
        }
    }
}

/// Connects to an endpoint of the cluster, and to another one when that fails, at most `attempts` times.
pub(super) async fn reach(
    worker: &Rc<Local>,
    cluster: &Rc<ClusterState>,
    hash: Option<u64>,
    attempts: u32,
) -> Result<Reached, Unreached> {
    let mut tried = Vec::new();
    let mut last = Unreached::NoHealthy;
    for _ in 0..attempts.max(1) {
        let previous = PreviousHosts { tried: &tried, attempts: HOST_SELECTION_ATTEMPTS };
        let Some(picked) = cluster.pick(hash, previous) else {
            worker.shard.inc(cluster.view().config.stats.upstream_cx_none_healthy);
            return Err(last);
        };
        tried.push(picked.index);
        let config = picked.view.config.clone();
        let (shard, stats) = (&worker.shard, &config.stats);
        let breaker = BreakerOf::Default(config.clone());
        let Some(permit) = Permit::try_new(breaker, BreakerResource::Connections) else {
            shard.inc(stats.upstream_cx_overflow);
            return Err(Unreached::Overflow);
        };
        shard.inc(stats.upstream_cx_total);
        let endpoint = picked.endpoint();
        let transport = config.transports.get(endpoint.transport);
        let start = super::clock::now();
        let dialed = match transport {
            Some(transport) => {
                dial(&worker.deadlines, &config, endpoint.address, transport, ApplicationProtocol::Tcp).await
            }
            None => Err(ConnectError::NoTransport),
        };
        match dialed {
            Ok(dialed) => {
                shard.record(stats.upstream_cx_connect_ms, start.elapsed());
                ejection::report(&worker.shard, &picked, AttemptOutcome::Connected);
                if dialed.tls.is_some() {
                    shard.inc(stats.tls.handshake);
                }
                let trusted = worker.servers.hold(&worker.throttle, &config.name, &dialed);
                return Ok(Reached { picked, dialed, trusted, _permit: permit });
            }
            Err(error) => {
                shard.inc(stats.upstream_cx_connect_fail);
                match &error {
                    ConnectError::Timeout => shard.inc(stats.upstream_cx_connect_timeout),
                    ConnectError::Tls(error) => {
                        let tls = transport.and_then(Transport::tls);
                        outbound_failed(worker, &config, tls, endpoint.address, error);
                    }
                    ConnectError::Refused(_)
                    | ConnectError::NoTransport
                    | ConnectError::Overflow
                    | ConnectError::Protocol(_) => {}
                }
                ejection::report(&worker.shard, &picked, AttemptOutcome::ConnectFailed);
                last = Unreached::Failed(error, endpoint.address);
            }
        }
    }
    worker.shard.inc(cluster.view().config.stats.upstream_cx_connect_attempts_exceeded);
    Err(last)
}

/// A tunnel may not outlive the certificates of its two connections.
pub(super) fn certificate_end(
    worker: &Local,
    connection: &DownstreamConnection,
    upstream: Option<SystemTime>,
) -> Option<Deadline> {
    let end = [upstream, connection.facts.expires()].into_iter().flatten().min()?;
    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
    Some(Deadline::after(&worker.deadlines, left))
}
