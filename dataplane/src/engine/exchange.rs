//! One request and its response, from the first byte to the last: what is counted, timed and logged of it.
//!
//! An [`Exchange`] is made when a request's head has come. It travels with the response's body; when that ends, or
//! is dropped because the caller went away, the exchange gives its connection back, counts, and logs.

use std::borrow::Cow;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};

use super::body::{BodyError, Progress};
use super::chain::ChainView;
use super::clock::{Deadline, now};
use super::cluster::{BreakerOf, Picked};
use super::pool::Lease;
use super::record::Record;
use super::serve::{HttpConnection, InFlight, Protocol};
use crate::breaker::Permit;
use crate::format::ResponseFlags;
use crate::outlier::Outcome;
use crate::route::RouteRef;
use crate::runtime::HttpManager;

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimedOut {
    /// The route's timeout.
    Route,
    /// The retry policy's limit of one try.
    PerTry,
    /// The stream was silent.
    Idle,
    /// The longest life of a stream.
    Duration,
    /// The caller took too long to send its request.
    Request,
}

/// What the request does upstream.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) picked: Picked,
    pub(crate) lease: Option<Lease>,
    pub(crate) started: Instant,
    pub(crate) local: Option<std::net::SocketAddr>,
    _permit: Permit<BreakerOf>,
}

/// One request and its response.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) connection: Rc<HttpConnection>,
    pub(crate) view: Rc<ChainView>,
    pub(crate) start: Instant,
    pub(crate) status: u16,
    pub(crate) flags: ResponseFlags,
    pub(crate) details: Cow<'static, str>,
    pub(crate) progress: Option<Rc<Progress>>,
    pub(crate) upstream: Option<Upstream>,
    pub(crate) record: Option<Box<Record>>,
    /// The route that `view.routes` has for the request.
    pub(crate) found: Option<RouteRef>,
    pub(crate) sent: u64,
    pub(crate) attempts: u32,
    pub(crate) retried: bool,
    pub(crate) grpc_status: Option<u32>,
    /// `x-request-id`, where the response shall have it.
    pub(crate) request_id: Option<http::HeaderValue>,
    /// When the whole request must be there.
    request_ends: Option<Instant>,
    deadline: Option<Deadline>,
    idle: Option<Duration>,
    moved: Instant,
    route: Option<(Duration, Instant)>,
    try_ends: Option<Instant>,
    ends: Option<Instant>,
    responding: bool,
    done: bool,
    _in_flight: InFlight,
}

impl Exchange {
    /// Begins with a request whose head has come.
    pub(crate) fn begin(
        connection: &Rc<HttpConnection>,
        view: &Rc<ChainView>,
        manager: &HttpManager,
    ) -> Box<Self> {
        let start = now();
        let (shard, stats) = (&connection.worker.shard, &manager.stats);
        shard.inc(stats.downstream_rq_total);
        shard.up(stats.downstream_rq_active);
        shard.inc(match connection.protocol {
            Protocol::Http1 => stats.downstream_rq_http1_total,
            Protocol::Http2 => stats.downstream_rq_http2_total,
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
            found: None,
            sent: 0,
            attempts: 0,
            retried: false,
            grpc_status: None,
            request_id: None,
            request_ends: manager.timeouts.request.map(|span| start + span),
            deadline: None,
            idle: manager.timeouts.stream_idle,
            moved: start,
            route: None,
            try_ends: None,
            ends: manager.timeouts.max_stream.map(|span| start + span),
            responding: false,
            done: false,
            _in_flight: connection.enter(),
        })
    }

    /// Sets the limits that a route gives; called when the request is about to be sent.
    pub(crate) fn limit(
        &mut self,
        route: Option<Duration>,
        idle: Option<Option<Duration>>,
        longest: Option<Option<Duration>>,
    ) {
        let at = now();
        self.route = route.map(|span| (span, at + span));
        if let Some(idle) = idle {
            self.idle = idle;
        }
        if let Some(longest) = longest {
            self.ends = longest.map(|span| self.start + span);
        }
        self.arm();
    }

    /// Sets or removes the limit of one try.
    pub(crate) fn limit_try(&mut self, span: Option<Duration>) {
        if span.is_some() || self.try_ends.is_some() {
            self.try_ends = span.map(|span| now() + span);
            self.arm();
        }
    }

    /// The response's head has come: only the limits of the whole go on.
    pub(crate) fn responded(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        self.responding = true;
        self.moved = now();
        self.try_ends = None;
    }

    /// Takes an endpoint for a try; replaces the one of the try before.
    pub(crate) fn assign(&mut self, picked: Picked, permit: Permit<BreakerOf>) {
        self.release_failed();
        let (shard, stats) = (&self.connection.worker.shard, &picked.view.config.stats);
        shard.inc(stats.upstream_rq_total);
        shard.up(stats.upstream_rq_active);
        self.upstream = Some(Upstream { picked, lease: None, started: now(), local: None, _permit: permit });
    }

    /// Ready when a limit is reached; else the task is woken then.
    pub(crate) fn poll_limits(&mut self, cx: &Context<'_>) -> Poll<TimedOut> {
        loop {
            let Some(deadline) = &self.deadline else { return Poll::Pending };
            if deadline.poll(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(reached) = self.reached() {
                return Poll::Ready(reached);
            }
            self.arm();
        }
    }

    /// The same for a response's body.
    pub(crate) fn poll_timeouts(&mut self, cx: &Context<'_>) -> Poll<BodyError> {
        let Poll::Ready(reached) = self.poll_limits(cx) else { return Poll::Pending };
        let stats = self.view.manager().map(|manager| &manager.stats);
        let shard = &self.connection.worker.shard;
        self.details = Cow::Borrowed(match reached {
            TimedOut::Idle => "stream_idle_timeout",
            TimedOut::Duration => "max_duration_timeout",
            TimedOut::Request => "request_overall_timeout",
            TimedOut::Route | TimedOut::PerTry => "response_timeout",
        });
        Poll::Ready(match reached {
            TimedOut::Idle => {
                self.flags.insert(ResponseFlags::STREAM_IDLE_TIMEOUT);
                if let Some(stats) = stats {
                    shard.inc(stats.downstream_rq_idle_timeout);
                }
                BodyError::Idle
            }
            TimedOut::Duration => {
                self.flags.insert(ResponseFlags::DURATION_TIMEOUT);
                BodyError::Timeout
            }
            TimedOut::Request => {
                self.flags.insert(ResponseFlags::DOWNSTREAM_TERMINATION);
                BodyError::Timeout
            }
            TimedOut::Route | TimedOut::PerTry => {
                self.flags.insert(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT);
                BodyError::Timeout
            }
        })
    }

    /// Bytes of the response's body went out.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        if self.deadline.is_some() {
            self.moved = now();
        }
    }

    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(status) = super::body::grpc_status(trailers) {
            self.grpc_status = Some(status);
        }
        if let Some(record) = &mut self.record {
            record.trailers = Some(trailers.clone());
        }
    }

    /// The response went out whole: the connection may serve the next request.
    pub(crate) fn complete(&mut self) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        let ended = self.progress.as_ref().is_none_or(|progress| progress.ended.get());
        if let Some(upstream) = &mut self.upstream {
            match upstream.lease.take() {
                Some(Lease::Http1(lease)) if ended => lease.give_back(),
                Some(Lease::Http1(_) | Lease::Http2(_)) | None => {}
            }
        }
        self.report();
    }

    /// The upstream broke off in the middle of its response.
    pub(crate) fn upstream_broke(&mut self) {
        self.flags.insert(ResponseFlags::UPSTREAM_TERMINATION);
        self.details = Cow::Borrowed("upstream_reset_after_response_started{connection_termination}");
        if let Some(manager) = self.view.manager() {
            self.connection.worker.shard.inc(manager.stats.rq_reset_after_downstream_response_started);
        }
        if let Some(upstream) = &self.upstream {
            self.connection.worker.shard.inc(upstream.picked.view.config.stats.upstream_rq_rx_reset);
        }
        self.outcome(Outcome::Reset);
    }

    /// Tells outlier detection how a try ended.
    pub(crate) fn outcome(&self, outcome: Outcome) {
        let Some(upstream) = &self.upstream else { return };
        let config = &upstream.picked.view.config;
        if config.outliers.config().is_none() {
            return;
        }
        if let Some((kind, ruling)) = config.outliers.report(upstream.picked.index, outcome, now()) {
            super::record::count_ejection(&self.connection.worker.shard, &config.stats.outlier, kind, ruling);
        }
    }

    /// Ends what the last try holds, without a response.
    pub(crate) fn release_failed(&mut self) {
        if let Some(upstream) = self.upstream.take() {
            self.connection.worker.shard.down(upstream.picked.view.config.stats.upstream_rq_active);
        }
    }

    /// How long a tunnel may be silent.
    pub(crate) fn idle_limit(&self) -> Option<Duration> {
        self.idle
    }

    /// A tunnel ended after `bytes` from the caller.
    pub(crate) fn tunnelled(&mut self, bytes: u64) {
        let progress = Progress::default();
        progress.bytes.set(bytes);
        progress.ended.set(true);
        self.progress = Some(Rc::new(progress));
    }

    /// An answer of our own goes out: the endpoint stays named in the log, its connection is not kept.
    pub(crate) fn responding_locally(&mut self) {
        self.deadline = None;
        self.responding = false;
        if let Some(upstream) = &mut self.upstream {
            upstream.lease = None;
        }
    }

    fn reached(&mut self) -> Option<TimedOut> {
        let at = now();
        let request_ended = self.progress.as_ref().is_none_or(|progress| progress.ended.get());
        if self.try_ends.is_some_and(|end| at >= end) {
            return Some(TimedOut::PerTry);
        }
        if request_ended {
            self.request_ends = None;
        } else if self.request_ends.is_some_and(|end| at >= end) {
            return Some(TimedOut::Request);
        }
        // The route's clock runs from the end of the request.
        if request_ended && self.route.is_some_and(|(_, end)| at >= end) {
            return Some(TimedOut::Route);
        }
        if self.ends.is_some_and(|end| at >= end) {
            return Some(TimedOut::Duration);
        }
        let moved = self.progress.as_ref().is_some_and(|progress| progress.moved.replace(false));
        if moved {
            self.moved = at;
        }
        self.idle.is_some_and(|idle| at >= self.moved + idle).then_some(TimedOut::Idle)
    }

    fn arm(&mut self) {
        let at = now();
        if let Some((span, end)) = &mut self.route
            && at >= *end
        {
            *end = at + *span;
        }
        let idle = self.idle.map(|idle| (self.moved + idle).max(at + Duration::from_millis(1)));
        let route = self.route.map(|(_, end)| end);
        let Some(end) =
            [idle, route, self.try_ends, self.ends, self.request_ends].into_iter().flatten().min()
        else {
            return;
        };
        let deadlines = &self.connection.worker.deadlines;
        self.deadline.get_or_insert_with(|| Deadline::new(deadlines)).set(end.saturating_duration_since(at));
    }

    /// Counts and logs; once.
    fn report(&mut self) {
        let took = now().saturating_duration_since(self.start);
        let worker = self.connection.worker.clone();
        let shard = &worker.shard;
        let view = self.view.clone();
        if let Some(manager) = view.manager() {
            let stats = &manager.stats;
            shard.down(stats.downstream_rq_active);
            shard.inc(stats.downstream_rq_completed);
            if let Some(class) = stats.downstream_rq_class(self.status) {
                shard.inc(class);
            }
            shard.record(stats.downstream_rq_time, took);
            if !manager.access_log.is_empty() {
                super::record::log(self, manager, took);
            }
        }
        if let Some(upstream) = &self.upstream {
            let stats = &upstream.picked.view.config.stats;
            shard.down(stats.upstream_rq_active);
            if self.responding {
                shard.inc(stats.upstream_rq_completed);
                shard.response_code(stats.upstream_rq, self.status);
                shard.record(stats.upstream_rq_time, now().saturating_duration_since(upstream.started));
            }
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.done = true;
        if self.flags == ResponseFlags::default() {
            // Nobody here ended it, so the caller did.
            self.flags.insert(ResponseFlags::DOWNSTREAM_TERMINATION);
            if self.details.is_empty() || self.responding {
                self.details = Cow::Borrowed("downstream_remote_disconnect");
            }
            if let Some(manager) = self.view.manager() {
                self.connection.worker.shard.inc(manager.stats.downstream_rq_rx_reset);
            }
            if let Some(upstream) = &self.upstream {
                self.connection.worker.shard.inc(upstream.picked.view.config.stats.upstream_rq_cancelled);
            }
        }
        self.report();
    }
}
