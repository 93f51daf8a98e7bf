//! What belongs to one worker and may be used by everything that runs on it: its numbers, deadlines, logs, randomness
//! and connections.
//!
//! It knows neither listeners nor clusters: those stand above it, and each holds it by reference.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::access::LogWriter;
use super::clock::Deadlines;
use super::command::Draining;
use super::connection::DownstreamConnections;
use super::connection_balance::ConnectionCounts;
use super::date::Date;
use super::failure_log::FailureLog;
use super::otlp_buffers::OtlpBuffers;
use super::tap_point::TapPoint;
use super::trust::servers::Servers;
use crate::filter::jwt_authn::key_cache::KeyCache;
use crate::random;
use crate::stats::Shard;

/// Where a worker tells of requests that ended.
#[derive(Debug)]
pub(super) struct WorkerReports {
    pub(super) logs: LogWriter,
    pub(super) taps: TapPoint,
}

/// The part of a worker that requests and connections need.
#[derive(Debug)]
pub(crate) struct Local {
    /// The worker's counters, gauges and histograms.
    pub(crate) shard: Shard,
    pub(crate) deadlines: Rc<Deadlines>,
    /// Downstream connections, to tell them to end.
    pub(crate) connections: Rc<DownstreamConnections>,
    /// Connections to servers over TLS, to end those whose server is not trusted any more.
    pub(super) servers: Rc<Servers>,
    /// Lines of access logs.
    pub(crate) logs: LogWriter,
    /// Spans, and entries of access logs, for OpenTelemetry collectors.
    pub(crate) otlp: OtlpBuffers,
    /// Who looks on requests as they end.
    pub(super) taps: TapPoint,
    pub(crate) throttle: Arc<FailureLog>,
    /// Keys that tokens are verified with.
    pub(crate) jwt_keys: KeyCache,
    /// What has been told to end.
    pub(crate) draining: Cell<Draining>,
    /// The `date` of responses.
    pub(super) date: Date,
    random: Cell<u64>,
    next_id: Cell<u64>,
    workers: u64,
}

impl Local {
    /// For the worker number `index` of `workers`.
    pub(super) fn new(
        index: usize,
        workers: usize,
        load: ConnectionCounts,
        WorkerReports { logs, taps }: WorkerReports,
        throttle: Arc<FailureLog>,
    ) -> Rc<Self> {
        Rc::new(Self {
            shard: Shard::default(),
            deadlines: Deadlines::new(),
            connections: DownstreamConnections::new(load),
            servers: Servers::new(),
            logs,
            otlp: OtlpBuffers::default(),
            taps,
            throttle,
            jwt_keys: KeyCache::default(),
            draining: Cell::default(),
            date: Date::new(),
            random: Cell::new(rand::random::<u64>() | 1),
            next_id: Cell::new(index as u64),
            workers: workers.max(1) as u64,
        })
    }

    /// A random number for choices that need no secrecy.
    pub(crate) fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(random::STEP);
        self.random.set(state);
        random::mix(state)
    }

    /// A number for a connection, of no other connection of this process: workers count in steps of their number.
    pub(crate) fn next_id(&self) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + self.workers);
        id
    }
}
