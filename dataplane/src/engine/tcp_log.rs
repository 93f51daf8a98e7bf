//! Access logs of TCP connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::access::LogWriter;
use super::connection::Connection;
use crate::format::{Context, ResponseFlags, Timing, UpstreamInfo};
use crate::runtime::AccessLog;

/// What a log is told of a TCP connection.
pub(super) struct TcpRecord<'a> {
    connection: &'a Connection,
    start: Instant,
    began: SystemTime,
    pub(super) flags: ResponseFlags,
    pub(super) cluster: Option<Arc<str>>,
    pub(super) upstream: Option<SocketAddr>,
    pub(super) upstream_local: Option<SocketAddr>,
    pub(super) failure: Option<String>,
    pub(super) up: u64,
    pub(super) down: u64,
}

impl<'a> TcpRecord<'a> {
    pub(super) fn new(connection: &'a Connection, start: Instant) -> Self {
        Self {
            connection,
            start,
            began: SystemTime::now(),
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

/// Writes the access logs of a TCP connection.
pub(super) fn write(logs: &LogWriter, to: &[AccessLog], record: &TcpRecord<'_>) {
    if to.is_empty() {
        return;
    }
    let context = Context {
        flags: record.flags,
        bytes_received: record.up,
        bytes_sent: record.down,
        start: Some(record.began),
        timing: Timing { total: Some(record.start.elapsed()), ..Timing::default() },
        downstream: record.connection.facts.for_formats(),
        upstream: UpstreamInfo {
            host: record.upstream,
            local: record.upstream_local,
            cluster: record.cluster.as_deref(),
            transport_failure: record.failure.as_deref(),
            ..UpstreamInfo::default()
        },
        ..Context::default()
    };
    logs.write(to, &context);
}
