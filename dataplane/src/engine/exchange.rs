//! One request and its response, from the first byte to the last: what is counted, timed and logged of it.
//!
//! An [`Exchange`] is made when a request's head has come. It travels with the response's body; when that ends, or
//! is dropped because the caller went away, the exchange gives its connection back, counts, and logs.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Instant;

use http::{HeaderMap, StatusCode};

use super::body::Progress;
use super::chain::ChainView;
use super::clock::now;
use super::cluster::Picked;
use super::cluster_info::BreakerOf;
use super::dynamic::Found;
use super::limits::{Limits, TimedOut};
use super::pool::Lease;
use super::record::Record;
use super::serve::{HttpConnection, InFlight, Protocol};
use crate::breaker::Permit;
use crate::format::ResponseFlags;
use crate::outlier::Outcome;
use crate::route::RouteRef;
use crate::runtime::HttpManager;

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
    /// The host that the request names, where its cluster is one of those.
    pub(crate) host: Option<Found>,
    pub(crate) sent: u64,
    pub(crate) attempts: u32,
    pub(crate) retried: bool,
    pub(crate) grpc_status: Option<u32>,
    /// `x-request-id`, where the response shall have it.
    pub(crate) request_id: Option<http::HeaderValue>,
    pub(crate) limits: Rc<Limits>,
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
        limits: Rc<Limits>,
    ) -> Box<Self> {
        let start = now();
        limits.begin(&manager.timeouts, start);
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
            host: None,
            sent: 0,
            attempts: 0,
            retried: false,
            grpc_status: None,
            request_id: None,
            limits,
            responding: false,
            done: false,
            _in_flight: connection.enter(),
        })
    }

    /// The response's head has come: only the limits of the whole go on.
    pub(crate) fn responded(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        self.responding = true;
        self.limits.responded();
    }

    /// Takes an endpoint for a try; replaces the one of the try before.
    pub(crate) fn assign(&mut self, picked: Picked, permit: Permit<BreakerOf>) {
        self.release_failed();
        let (shard, stats) = (&self.connection.worker.shard, &picked.view.config.stats);
        shard.inc(stats.upstream_rq_total);
        shard.up(stats.upstream_rq_active);
        self.upstream = Some(Upstream { picked, lease: None, started: now(), local: None, _permit: permit });
    }

    /// Bytes of the response's body went out.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        self.limits.moved();
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
        if let Some(upstream) = &mut self.upstream {
            // As in Envoy: what of the request is not there yet is not waited for.
            match upstream.lease.take().filter(|_| self.limits.request_ended()) {
                Some(Lease::Http1(lease)) => lease.give_back(),
                Some(Lease::Http2(lease)) => lease.finish(),
                None => {}
            }
        }
        self.report();
        match self.connection.protocol {
            // hyper has the rest, and the connection watches that it goes out.
            Protocol::Http1 => self.limits.end(),
            Protocol::Http2 => self.limits.flush(),
        }
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

    /// The driver ended the stream at a limit, when it was too late for an answer.
    fn cut(&mut self, reached: TimedOut) {
        self.details = Cow::Borrowed(reached.details());
        if let Some(flag) = reached.flag() {
            self.flags.insert(flag);
        }
        let shard = &self.connection.worker.shard;
        if let Some(manager) = self.view.manager() {
            shard.inc(manager.stats.downstream_rq_tx_reset);
            shard.inc(manager.stats.downstream_rq_rx_reset);
        }
        reached.count(self);
        if let Some(upstream) = &self.upstream {
            shard.inc(upstream.picked.view.config.stats.upstream_rq_tx_reset);
        }
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
        let cut = self.limits.cut_for();
        if self.done {
            if cut.is_some()
                && let Some(manager) = self.view.manager()
            {
                // Counted and logged long ago; only its bytes were still not taken.
                self.connection.worker.shard.inc(manager.stats.downstream_rq_tx_reset);
            }
            return;
        }
        self.done = true;
        if let Some(reached) = cut {
            self.cut(reached);
        } else if self.flags == ResponseFlags::default() {
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
        if cut.is_none() {
            self.limits.end();
        }
        self.report();
    }
}
