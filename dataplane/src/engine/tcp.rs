//! TCP proxy: one connection in, one connection out.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use tokio::io::AsyncWriteExt;

use super::clock::Deadline;
use super::cluster::{ClusterState, Picked};
use super::cluster_info::BreakerOf;
use super::clusters::Clusters;
use super::connect::{ApplicationProtocol, ConnectError, Dialed, dial};
use super::connection::{Connection, Ending};
use super::copy::{End, Tunnelled, tunnel};
use super::ejection;
use super::handshake::{outbound_failed, refused_by_server};
use super::local::Local;
use super::stream::Stream;
use super::tcp_log::{self, TcpRecord};
use super::trust::servers::Trusted;
use crate::balance::PreviousHosts;
use crate::breaker::{Permit, Resource};
use crate::format::ResponseFlags;
use crate::outlier::Outcome;
use crate::runtime::{TcpProxy, TcpTarget, Transport};

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
    Failed(ConnectError),
}

impl Unreached {
    pub(super) fn flag(&self) -> ResponseFlags {
        match self {
            Self::NoHealthy => ResponseFlags::NO_HEALTHY_UPSTREAM,
            Self::Overflow => ResponseFlags::UPSTREAM_OVERFLOW,
            Self::Failed(_) => ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
        }
    }
}

/// Serves a downstream connection to its end.
pub(super) async fn serve(
    worker: &Rc<Local>,
    clusters: &Clusters,
    proxy: &Arc<TcpProxy>,
    stream: Stream,
    connection: &Rc<Connection>,
) {
    let shard = &worker.shard;
    shard.inc(proxy.stats.downstream_cx_total);
    let start = super::clock::now();
    let mut log = TcpRecord::new(connection, start);
    match target(worker, clusters, proxy) {
        None => {
            shard.inc(proxy.stats.downstream_cx_no_route);
            log.flags.insert(ResponseFlags::NO_ROUTE);
        }
        Some((name, cluster)) => {
            log.cluster = Some(name);
            match reach(worker, &cluster, proxy.connect_attempts).await {
                Ok(reached) => {
                    let done = pass(worker, proxy, stream, connection, reached, &mut log).await;
                    shard.add(proxy.stats.downstream_cx_rx_bytes_total, done.up);
                    shard.add(proxy.stats.downstream_cx_tx_bytes_total, done.down);
                    (log.up, log.down) = (done.up, done.down);
                }
                Err(unreached) => {
                    log.flags.insert(unreached.flag());
                    if let Unreached::Failed(error) = &unreached {
                        log.failure = Some(error.to_string());
                    }
                    let mut stream = stream;
                    // The caller learns by the close; whether the close is heard changes nothing.
                    let _ = stream.shutdown().await;
                }
            }
        }
    }
    tcp_log::write(&worker.logs, &proxy.access_log, &log);
}

async fn pass(
    worker: &Rc<Local>,
    proxy: &TcpProxy,
    stream: Stream,
    connection: &Rc<Connection>,
    reached: Reached,
    log: &mut TcpRecord<'_>,
) -> Tunnelled {
    let Reached { picked, dialed, trusted, _permit } = reached;
    let (shard, stats) = (&worker.shard, &picked.view.config.stats);
    log.upstream = Some(picked.endpoint().address);
    log.upstream_local = dialed.local;
    let opened = super::clock::now();
    shard.up(stats.upstream_cx_active);
    let idle = proxy.idle_timeout.map(|span| (Deadline::new(&worker.deadlines), span));
    let longest = proxy.max_duration.map(|span| Deadline::after(&worker.deadlines, span));
    let expiry = certificate_end(worker, connection, dialed.certificate_end());
    let done = tunnel(stream, dialed.stream, idle, |cx| {
        connection.watch(cx);
        let over = |deadline: &Option<Deadline>| deadline.as_ref().is_some_and(|end| end.poll(cx).is_ready());
        let refused = trusted.as_ref().is_some_and(|trusted| trusted.poll_refused(cx).is_ready());
        if connection.ending() >= Ending::Cut || refused || over(&longest) || over(&expiry) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    match done.end {
        End::Idle => shard.inc(proxy.stats.idle_timeout),
        End::DownstreamBroke => log.flags.insert(ResponseFlags::DOWNSTREAM_TERMINATION),
        End::UpstreamBroke => {
            if let Some(failure) = &done.failure {
                refused_by_server(worker, &picked.view.config, picked.endpoint().address, failure);
            }
        }
        End::Closed | End::Stopped => {}
    }
    shard.add(stats.upstream_cx_tx_bytes_total, done.up);
    shard.add(stats.upstream_cx_rx_bytes_total, done.down);
    shard.down(stats.upstream_cx_active);
    shard.inc(stats.upstream_cx_destroy);
    shard.record(stats.upstream_cx_length_ms, opened.elapsed());
    done
}

/// A tunnel may not outlive the certificates of its two connections.
pub(super) fn certificate_end(
    worker: &Local,
    connection: &Connection,
    upstream: Option<SystemTime>,
) -> Option<Deadline> {
    let end = [upstream, connection.facts.expires()].into_iter().flatten().min()?;
    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
    Some(Deadline::after(&worker.deadlines, left))
}

fn target(worker: &Local, clusters: &Clusters, proxy: &TcpProxy) -> Option<(Arc<str>, Rc<ClusterState>)> {
    let name = match &proxy.target {
        TcpTarget::Cluster(name) => name,
        TcpTarget::Weighted(clusters) => {
            let total: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
            let mut at = worker.random() % total.max(1);
            let chosen = clusters.iter().find(|cluster| {
                let weight = u64::from(cluster.weight);
                let here = at < weight;
                at = at.saturating_sub(weight);
                here
            });
            &chosen?.name
        }
    };
    Some((name.clone(), clusters.snapshot().cluster(name)?.clone()))
}

/// Connects to an endpoint of the cluster, and to another one when that fails, at most `attempts` times.
pub(super) async fn reach(
    worker: &Rc<Local>,
    cluster: &Rc<ClusterState>,
    attempts: u32,
) -> Result<Reached, Unreached> {
    let mut tried = Vec::new();
    let mut last = Unreached::NoHealthy;
    for _ in 0..attempts.max(1) {
        let Some(picked) = cluster.pick(PreviousHosts { tried: &tried, attempts: HOST_SELECTION_ATTEMPTS })
        else {
            worker.shard.inc(cluster.view().config.stats.upstream_cx_none_healthy);
            return Err(last);
        };
        tried.push(picked.index);
        let config = picked.view.config.clone();
        let (shard, stats) = (&worker.shard, &config.stats);
        let breaker = BreakerOf::Default(config.clone());
        let Some(permit) = Permit::try_new(breaker, Resource::Connections) else {
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
                ejection::report(&worker.shard, &picked, Outcome::Connected);
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
                ejection::report(&worker.shard, &picked, Outcome::ConnectFailed);
                last = Unreached::Failed(error);
            }
        }
    }
    worker.shard.inc(cluster.view().config.stats.upstream_cx_connect_attempts_exceeded);
    Err(last)
}
