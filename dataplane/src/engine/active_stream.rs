//! One request and its response, from the first byte to the last: what is counted, timed and logged of it.
//!
//! An [`ActiveStream`] is made when a request's head has come. It travels with the response's body; when that ends, or
//! is dropped because the caller went away, the stream gives its connection back, counts, and logs.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, StatusCode};
use weft_routing::metadata::DynamicMetadata;
use weft_routing::route::RouteRef;

use super::body::{BodyError, Progress};
use super::chain::HttpView;
use super::clock::now;
use super::cluster::Picked;
use super::cluster_info::BreakerOf;
use super::dynamic::ResolvedHost;
use super::ejection;
use super::grpc;
use super::http_connection::{CodecType, HttpConnection, InFlight};
use super::limits::{RequestLimits, TimedOut};
use super::pool::ConnectionLease;
use super::record::Record;
use crate::breaker::Permit;
use crate::filter::state::Remembered;
use crate::format::ResponseFlags;
use crate::outlier::AttemptOutcome;
use crate::stats::RouteStats;
use crate::tracer::ActiveSpan;

/// The newest attempt of a request on an endpoint.
#[derive(Debug)]
pub(crate) struct UpstreamRequest {
    /// The endpoint, which counts the request as active while this lives.
    pub(crate) picked: Picked,
    /// The pooled connection, from the response's head on.
    pub(crate) lease: Option<ConnectionLease>,
    /// When the endpoint was picked, for `upstream_rq_time`.
    pub(crate) started: Instant,
    /// This side's address of the connection, once there is one.
    pub(crate) local: Option<std::net::SocketAddr>,
    /// Its place among the cluster's `max_requests`.
    _permit: Permit<BreakerOf>,
}

/// One request and its response.
#[derive(Debug)]
pub(crate) struct ActiveStream {
    /// The downstream connection that it came by.
    pub(crate) connection: Rc<HttpConnection>,
    /// The connection manager and routes as they were when the request began.
    pub(crate) view: Rc<HttpView>,
    /// When the request's head had come.
    pub(crate) start: Instant,
    /// The status that the caller gets; 0 before it is known.
    pub(crate) status: u16,
    /// `%RESPONSE_FLAGS%`.
    pub(crate) flags: ResponseFlags,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub(crate) details: Cow<'static, str>,
    /// How far the request's body is; `None` where it has none or was not begun.
    pub(crate) progress: Option<Rc<Progress>>,
    /// The newest attempt; `None` before the first, and for local replies.
    pub(crate) upstream: Option<UpstreamRequest>,
    /// What the access log is told of the head; `None` where there is no log.
    pub(crate) record: Option<Box<Record>>,
    /// Its span, where it is part of a trace that is recorded.
    pub(crate) span: Option<Box<ActiveSpan>>,
    /// The route that `view.routes` has for the request.
    pub(crate) found: Option<RouteRef>,
    /// The member of the route's weighted clusters, where a filter had to know it before the router.
    pub(crate) member: Option<u32>,
    /// The host that the request names, where its cluster is one of those.
    pub(crate) host: Option<ResolvedHost>,
    /// Bytes of the response's body that the caller was sent.
    pub(crate) sent: u64,
    /// The cluster in which no endpoint was found.
    pub(crate) unreached: Option<Arc<str>>,
    /// Why the last try found no connection.
    pub(crate) failure: Option<Box<str>>,
    /// How often the request was sent to an endpoint.
    pub(crate) attempts: u32,
    /// Whether the retry policy had it sent again.
    pub(crate) retried: bool,
    /// `grpc-status` of the response, from its head or trailers.
    pub(crate) grpc_status: Option<u32>,
    /// `x-request-id`, where the response shall have it.
    pub(crate) request_id: Option<http::HeaderValue>,
    /// Cookies that were made for the caller, for the response.
    pub(crate) set_cookies: Vec<http::HeaderValue>,
    /// The timeouts that apply to it.
    pub(crate) limits: Rc<RequestLimits>,
    /// What filters keep from the request for the response and its trailers.
    pub(crate) filters: Vec<Remembered>,
    /// What filters found out, for those behind them.
    pub(crate) metadata: Option<Box<DynamicMetadata>>,
    /// The response's head has come from the server.
    pub(super) responding: bool,
    /// Whether its end was counted and logged, which happens once.
    pub(super) done: bool,
    /// Counts it as active on the downstream connection.
    _in_flight: InFlight,
}

impl ActiveStream {
    /// Begins with a request whose head has come.
    pub(crate) fn begin(
        connection: &Rc<HttpConnection>,
        view: &Rc<HttpView>,
        limits: Rc<RequestLimits>,
    ) -> Box<Self> {
        let (start, manager) = (now(), &view.manager);
        limits.begin(&manager.timeouts, start);
        let (shard, stats) = (&connection.worker.shard, &manager.stats);
        shard.inc(stats.downstream_rq_total);
        shard.up(stats.downstream_rq_active);
        shard.inc(match connection.protocol {
            CodecType::Http1 => stats.downstream_rq_http1_total,
            CodecType::Http2 => stats.downstream_rq_http2_total,
        });
        Box::new(Self {
            connection: connection.clone(),
            view: view.clone(),
            start,
            status: 0,
            flags: ResponseFlags::default(),
            details: Cow::Borrowed(""),
            progress: None,
            upstream: None,
            record: None,
            span: None,
            found: None,
            member: None,
            host: None,
            sent: 0,
            failure: None,
            unreached: None,
            attempts: 0,
            retried: false,
            grpc_status: None,
            request_id: None,
            set_cookies: Vec::new(),
            limits,
            filters: Vec::new(),
            metadata: None,
            responding: false,
            done: false,
            _in_flight: connection.enter(),
        })
    }

    /// The request's body is about to be read: its progress counts from here on.
    pub(crate) fn follow(&mut self) -> Rc<Progress> {
        let limits = &self.limits;
        let begin = || {
            let progress = Progress::new();
            limits.follow(&progress);
            progress
        };
        self.progress.get_or_insert_with(begin).clone()
    }

    /// The response's head has come: only the limits of the whole go on.
    pub(crate) fn responded(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        self.responding = true;
        self.limits.responded();
        if let Some(upstream) = &self.upstream {
            let shard = &self.connection.worker.shard;
            upstream.picked.view.config.stats.answered(shard, self.status);
            self.count_route(|stats| stats.answered(shard, self.status));
        }
    }

    /// Counts for the route too, where that has statistics of its own.
    pub(crate) fn count_route(&self, count: impl FnOnce(&RouteStats)) {
        let route = self.found.map(|found| self.view.routes.route(found));
        if let Some(stats) = route.and_then(|route| route.effect.counts.as_ref()?.stats()) {
            count(stats);
        }
    }

    /// Takes an endpoint for a try; replaces the one of the try before.
    pub(crate) fn assign(&mut self, picked: Picked, permit: Permit<BreakerOf>) {
        self.release_failed();
        let (shard, stats) = (&self.connection.worker.shard, &picked.view.config.stats);
        shard.inc(stats.upstream_rq_total);
        shard.up(stats.upstream_rq_active);
        self.count_route(|stats| shard.inc(stats.upstream_rq_total));
        self.upstream =
            Some(UpstreamRequest { picked, lease: None, started: now(), local: None, _permit: permit });
    }

    /// Bytes of the response's body went out.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        self.limits.moved();
    }

    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(status) = grpc::status(trailers) {
            self.grpc_status = Some(status);
        }
        if let Some(record) = &mut self.record {
            record.trail(trailers);
        }
    }

    /// The upstream broke off in the middle of its response, or what it sent was none.
    pub(crate) fn upstream_broke(&mut self, error: &BodyError) {
        let shard = &self.connection.worker.shard;
        if error.is_malformed() {
            self.flags.insert(ResponseFlags::UPSTREAM_PROTOCOL_ERROR);
            self.details = Cow::Borrowed("upstream_reset_after_response_started{protocol_error}");
            if let Some(upstream) = &self.upstream {
                shard.inc(upstream.picked.view.config.stats.upstream_cx_protocol_error);
            }
        } else {
            self.flags.insert(ResponseFlags::UPSTREAM_TERMINATION);
            self.details = Cow::Borrowed("upstream_reset_after_response_started{connection_termination}");
        }
        let stats = &self.view.manager.stats;
        shard.inc(stats.rq_reset_after_downstream_response_started);
        if let Some(upstream) = &self.upstream {
            self.connection.worker.shard.inc(upstream.picked.view.config.stats.upstream_rq_rx_reset);
        }
        self.outcome(AttemptOutcome::Reset);
    }

    /// Tells outlier detection how a try ended.
    pub(crate) fn outcome(&self, outcome: AttemptOutcome) {
        if let Some(upstream) = &self.upstream {
            ejection::report(&self.connection.worker.shard, &upstream.picked, outcome);
        }
    }

    /// Ends what the last try holds, without a response.
    pub(crate) fn release_failed(&mut self) {
        self.limits.one_try(None);
        if let Some(upstream) = self.upstream.take() {
            self.connection.worker.shard.down(upstream.picked.view.config.stats.upstream_rq_active);
        }
    }

    /// A tunnel ended after `bytes` from the caller.
    pub(crate) fn tunnelled(&mut self, bytes: u64) {
        let progress = Progress::new();
        progress.bytes.set(bytes);
        progress.end();
        self.progress = Some(progress);
    }

    /// An answer of our own goes out: the endpoint stays named in the log, its connection is not kept.
    pub(crate) fn responding_locally(&mut self) {
        self.responding = false;
        self.limits.flush();
        if let Some(upstream) = &mut self.upstream {
            upstream.lease = None;
        }
    }

    /// Counts a limit that was reached where Envoy does: what the caller is to blame for in the connection manager, the
    /// rest in the cluster.
    pub(crate) fn count_timeout(&self, reached: TimedOut) {
        let shard = &self.connection.worker.shard;
        let cluster = self.upstream.as_ref().map(|upstream| &upstream.picked.view.config.stats);
        let manager = &self.view.manager.stats;
        let counter = match reached {
            TimedOut::Route => {
                self.count_route(|stats| shard.inc(stats.upstream_rq_timeout));
                cluster.map(|stats| stats.upstream_rq_timeout)
            }
            TimedOut::PerTry => cluster.map(|stats| stats.upstream_rq_per_try_timeout),
            TimedOut::Idle => Some(manager.downstream_rq_idle_timeout),
            TimedOut::Duration => Some(manager.downstream_rq_max_duration_reached),
            TimedOut::Request => Some(manager.downstream_rq_timeout),
        };
        if let Some(counter) = counter {
            shard.inc(counter);
        }
    }
}
