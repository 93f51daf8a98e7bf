//! TCP proxy: one connection in, one connection out.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tokio::io::AsyncWriteExt;

use super::clock::Deadline;
use super::cluster::ClusterState;
use super::clusters::Clusters;
use super::connection::{DownstreamConnection, Urgency};
use super::copy::{Moved, TunnelEnd, Tunnelled, tunnel};
use super::handshake::refused_by_server;
use super::local::Local;
use super::reach::{Reached, Unreached, certificate_end, reach};
use super::stream::Stream;
use super::tcp_log::{self, TcpRecord};
use crate::format::ResponseFlags;
use crate::route::hash_address;
use crate::runtime::{TcpProxy, TcpTarget};

/// Serves a downstream connection to its end.
pub(super) async fn serve(
    worker: &Rc<Local>,
    clusters: &Clusters,
    proxy: &Arc<TcpProxy>,
    stream: Stream,
    connection: &Rc<DownstreamConnection>,
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
            let hash = proxy.hash_source.then(|| hash_address(connection.facts.peer.ip()));
            match reach(worker, &cluster, hash, proxy.connect_attempts).await {
                Ok(reached) => {
                    let done = pass(worker, proxy, stream, connection, reached, &mut log).await;
                    (log.up, log.down) = (done.up, done.down);
                }
                Err(unreached) => {
                    log.flags.insert(unreached.flag());
                    if let Unreached::Failed(error, address) = &unreached {
                        (log.failure, log.upstream) = (Some(error.to_string()), Some(*address));
                    }
                    let mut stream = stream;
                    // The caller learns by the close; whether the close is heard changes nothing.
                    let _ = stream.shutdown().await;
                }
            }
        }
    }
    tcp_log::write(worker, &proxy.access_log, &log);
}

async fn pass(
    worker: &Rc<Local>,
    proxy: &TcpProxy,
    stream: Stream,
    connection: &Rc<DownstreamConnection>,
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
    let counted = Cell::new(Moved::default());
    // A connection may last for days: its bytes are counted as they go.
    let count = |moved: Moved| {
        let before = counted.replace(moved);
        let (up, down) = (moved.up - before.up, moved.down - before.down);
        shard.add(stats.upstream_cx_tx_bytes_total, up);
        shard.add(stats.upstream_cx_rx_bytes_total, down);
        shard.add(proxy.stats.downstream_cx_rx_bytes_total, up);
        shard.add(proxy.stats.downstream_cx_tx_bytes_total, down);
    };
    let done = tunnel(stream, dialed.stream, idle, |cx, moved| {
        count(moved);
        connection.watch(cx);
        let over = |deadline: &Option<Deadline>| deadline.as_ref().is_some_and(|end| end.poll(cx).is_ready());
        let refused = trusted.as_ref().is_some_and(|trusted| trusted.poll_refused(cx).is_ready());
        if connection.ending() >= Urgency::Cut || refused || over(&longest) || over(&expiry) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    match done.end {
        TunnelEnd::Idle => shard.inc(proxy.stats.idle_timeout),
        TunnelEnd::DownstreamBroke => log.flags.insert(ResponseFlags::DOWNSTREAM_TERMINATION),
        TunnelEnd::UpstreamBroke => {
            if let Some(failure) = &done.failure {
                refused_by_server(worker, &picked.view.config, picked.endpoint().address, failure);
            }
        }
        TunnelEnd::Closed | TunnelEnd::Stopped => {}
    }
    count(Moved { up: done.up, down: done.down });
    shard.down(stats.upstream_cx_active);
    shard.inc(stats.upstream_cx_destroy);
    shard.record(stats.upstream_cx_length_ms, opened.elapsed());
    done
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
