//! Access logs of connections: those of TCP proxies, and those of listeners.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::clock::now;
use super::connection::{DownstreamConnection, Facts};
use super::local::Local;
use crate::format::{DownstreamInfo, FormatContext, ResponseFlags, Timing, UpstreamInfo};
use crate::runtime::{AccessLogs, Listener};

/// What a log is told of a TCP connection.
pub(super) struct TcpRecord<'a> {
    connection: &'a DownstreamConnection,
    start: Instant,
    pub(super) flags: ResponseFlags,
    pub(super) cluster: Option<Arc<str>>,
    pub(super) upstream: Option<SocketAddr>,
    pub(super) upstream_local: Option<SocketAddr>,
    pub(super) failure: Option<String>,
    pub(super) up: u64,
    pub(super) down: u64,
}

impl<'a> TcpRecord<'a> {
    pub(super) fn new(connection: &'a DownstreamConnection, start: Instant) -> Self {
        Self {
            connection,
            start,
            flags: ResponseFlags::default(),
            cluster: None,
            upstream: None,
            upstream_local: None,
            failure: None,
            up: 0,
            down: 0,
        }
    }
}

/// Writes the access logs of a TCP connection: its proxy's, and its listener's.
pub(super) fn write(worker: &Local, of_proxy: &AccessLogs, record: &TcpRecord<'_>) {
    let view = record.connection.chain.view();
    let of_listener = &view.listener.access_log;
    if of_proxy.is_empty() && of_listener.is_empty() {
        return;
    }
    let context = FormatContext {
        flags: record.flags,
        bytes_received: record.up,
        bytes_sent: record.down,
        upstream: UpstreamInfo {
            host: record.upstream,
            local: record.upstream_local,
            cluster: record.cluster.as_deref(),
            transport_failure: record.failure.as_deref(),
            ..UpstreamInfo::default()
        },
        ..ended(record.connection.facts.for_formats(), record.start)
    };
    for logs in [of_proxy, of_listener] {
        worker.logs.write(&worker.shard, &worker.otlp, logs, &context);
    }
}

/// Writes the listener's access logs of a connection that carried requests.
pub(super) fn write_http(worker: &Local, connection: &DownstreamConnection, start: Instant) {
    let view = connection.chain.view();
    let logs = &view.listener.access_log;
    if !logs.is_empty() {
        worker.logs.write(&worker.shard, &worker.otlp, logs, &ended(connection.facts.for_formats(), start));
    }
}

/// Why a connection is not served.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unserved<'a> {
    /// No filter chain is for it. It may be so because it is not TLS.
    NoChain {
        plaintext: bool,
    },
    Handshake(&'a str),
    /// A filter refused it.
    Refused(&'a str),
}

/// Writes the listener's access logs of a connection that is not served.
pub(super) fn write_unserved(
    worker: &Local,
    listener: &Listener,
    facts: &Facts,
    start: Instant,
    why: Unserved<'_>,
) {
    if listener.access_log.is_empty() {
        return;
    }
    let mut context = ended(facts.for_formats(), start);
    match why {
        Unserved::NoChain { plaintext } => {
            context.flags = ResponseFlags::NO_ROUTE;
            context.response_code_details = Some("filter_chain_not_found");
            context.downstream.transport_failure =
                plaintext.then_some("TLS_error: the connection is not TLS");
        }
        Unserved::Handshake(reason) => context.downstream.transport_failure = Some(reason),
        Unserved::Refused(details) => context.connection_termination_details = Some(details),
    }
    worker.logs.write(&worker.shard, &worker.otlp, &listener.access_log, &context);
}

fn ended(downstream: DownstreamInfo<'_>, start: Instant) -> FormatContext<'_> {
    let took: Duration = now().saturating_duration_since(start);
    FormatContext {
        start: SystemTime::now().checked_sub(took),
        timing: Timing { total: Some(took), ..Timing::default() },
        downstream,
        ..FormatContext::default()
    }
}
