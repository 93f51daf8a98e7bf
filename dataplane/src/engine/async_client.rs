//! Calls of the proxy's own to a cluster: what filters ask of others before a request goes on.
//!
//! A call takes an endpoint, a connection and its place in the circuit breakers as a request does, and is counted as one.
//! There is no route: no retry but the one on a connection that the server had closed meanwhile, no change of the head.
//! Time and size of the answer are bounded by who calls.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version, response};
use http_body_util::BodyExt as _;

use super::body::{BodyError, RequestBody};
use super::clock::{now, within};
use super::cluster::{ClusterState, Picked};
use super::cluster_info::BreakerOf;
use super::connect::ConnectError;
use super::ejection;
use super::grpc;
use super::handshake::refused_by_server;
use super::local::Local;
use super::pool::{self, ConnectionLease, Content, Freshness};
use super::round_trip::{Reset, round_trip};
use crate::balance::PreviousHosts;
use crate::breaker::{BreakerResource, Permit};
use crate::outlier::{AttemptOutcome, grpc_as_http};
use crate::runtime::UpstreamProtocol;

/// How often a call is sent again on a fresh connection, since the server had closed the one from the pool.
const REPEATS: u32 = 2;

const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) authority: Authority,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// How long the whole call may take.
    pub(crate) timeout: Option<Duration>,
    /// Bytes of content that the answer may have.
    pub(crate) largest: usize,
}

#[derive(Debug)]
pub(crate) struct CallResponse {
    pub(crate) head: response::Parts,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("there is no such cluster")]
    NoCluster,
    #[error("no healthy upstream")]
    NoHealthy,
    #[error("the circuit breaker of requests is open")]
    Overflow,
    #[error(transparent)]
    Connect(ConnectError),
    #[error("no response: {0:?}")]
    Reset(Reset),
    #[error("the response broke off: {0}")]
    Broke(BodyError),
    #[error("the response has more content than allowed")]
    TooLarge,
    #[error("no response in time")]
    TimedOut,
}

/// Calls a cluster. Dropped before, the call is broken off.
///
/// # Errors
/// There is no whole answer.
pub(crate) async fn call(
    worker: &Rc<Local>,
    cluster: &ClusterState,
    call: Call,
) -> Result<CallResponse, CallError> {
    let Some(picked) = cluster.pick(None, PreviousHosts::default()) else {
        worker.shard.inc(cluster.view().config.stats.upstream_cx_none_healthy);
        return Err(CallError::NoHealthy);
    };
    let config = picked.view.config.clone();
    let breaker = BreakerOf::Default(config.clone());
    let Some(permit) = Permit::try_new(breaker, BreakerResource::Requests) else {
        worker.shard.inc(config.stats.upstream_rq_pending_overflow);
        return Err(CallError::Overflow);
    };
    let mut counted = CountedCall::begin(worker, &picked, permit);
    let answering = counted.answer(&call);
    let answered =
        within(&worker.deadlines, call.timeout, answering).await.unwrap_or(Err(CallError::TimedOut));
    counted.end(&answered);
    answered
}

/// A call on its way, which is counted as a request to its endpoint.
struct CountedCall<'a> {
    worker: &'a Rc<Local>,
    picked: &'a Picked,
    started: Instant,
    ended: bool,
    _permit: Permit<BreakerOf>,
}

impl<'a> CountedCall<'a> {
    fn begin(worker: &'a Rc<Local>, picked: &'a Picked, permit: Permit<BreakerOf>) -> Self {
        let stats = &picked.view.config.stats;
        worker.shard.inc(stats.upstream_rq_total);
        worker.shard.up(stats.upstream_rq_active);
        Self { worker, picked, started: now(), ended: false, _permit: permit }
    }

    async fn answer(&self, call: &Call) -> Result<CallResponse, CallError> {
        let config = &self.picked.view.config;
        let version = match config.http.protocol {
            UpstreamProtocol::Http1 | UpstreamProtocol::Downstream => pool::HttpChoice::Http1,
            UpstreamProtocol::Http2 => pool::HttpChoice::Http2,
            UpstreamProtocol::Auto => pool::HttpChoice::Auto,
        };
        let (mut fresh, mut repeats) = (Freshness::Any, 0);
        loop {
            let lease = self.picked.pool().lease(self.worker, config, version, fresh).await;
            let mut lease = lease.map_err(CallError::Connect)?;
            let reused = lease.is_reused();
            let request = call.request(&lease);
            match round_trip(&mut lease, request).await {
                Ok(response) => return collect(response, lease, call.largest).await,
                Err(failed) => {
                    let address = self.picked.endpoint().address;
                    refused_by_server(self.worker, config, address, &*failed.error);
                    if !reused || repeats == REPEATS || !failed.reset.had_no_effect(&call.method) {
                        return Err(CallError::Reset(failed.reset));
                    }
                    (fresh, repeats) = (Freshness::New, repeats + 1);
                }
            }
        }
    }

    fn end(&mut self, answered: &Result<CallResponse, CallError>) {
        self.ended = true;
        let (shard, stats) = (&self.worker.shard, &self.picked.view.config.stats);
        let outcome = match answered {
            Ok(answer) => {
                let status = answer.head.status.as_u16();
                shard.inc(stats.upstream_rq_completed);
                shard.response_code(stats.upstream_rq, status);
                shard.record(stats.upstream_rq_time, now().saturating_duration_since(self.started));
                AttemptOutcome::Answered(grpc::status(&answer.head.headers).map_or(status, grpc_as_http))
            }
            Err(CallError::TimedOut) => {
                shard.inc(stats.upstream_rq_timeout);
                AttemptOutcome::TimedOut
            }
            Err(CallError::Connect(ConnectError::Overflow)) => return,
            Err(CallError::Connect(_)) => {
                shard.inc(stats.upstream_rq_pending_failure_eject);
                AttemptOutcome::ConnectFailed
            }
            Err(CallError::Reset(_) | CallError::Broke(_)) => {
                shard.inc(stats.upstream_rq_rx_reset);
                AttemptOutcome::Reset
            }
            Err(CallError::TooLarge | CallError::NoCluster | CallError::NoHealthy | CallError::Overflow) => {
                shard.inc(stats.upstream_rq_tx_reset);
                return;
            }
        };
        ejection::report(shard, self.picked, outcome);
    }
}

impl Drop for CountedCall<'_> {
    fn drop(&mut self) {
        let (shard, stats) = (&self.worker.shard, &self.picked.view.config.stats);
        shard.down(stats.upstream_rq_active);
        if !self.ended {
            shard.inc(stats.upstream_rq_cancelled);
        }
    }
}

impl Call {
    /// The request in the form of the connection.
    fn request(&self, lease: &ConnectionLease) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::whole(self.body.clone()));
        *request.method_mut() = self.method.clone();
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        headers.insert(INTERNAL, HeaderValue::from_static("true"));
        if let Some(timeout) = self.timeout {
            headers.insert(EXPECTED_TIMEOUT, HeaderValue::from(timeout.as_millis() as u64));
        }
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(self.path.clone());
        match lease {
            ConnectionLease::Http1(_) => {
                if let Ok(host) = HeaderValue::from_str(self.authority.as_str()) {
                    headers.insert(HOST, host);
                }
            }
            ConnectionLease::Http2(lease) => {
                *request.version_mut() = Version::HTTP_2;
                uri.authority = Some(self.authority.clone());
                let secured = lease.connection().peer.is_some();
                uri.scheme = Some(if secured { Scheme::HTTPS } else { Scheme::HTTP });
            }
        }
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        request
    }
}

/// Reads the answer to its end; the connection goes back to the pool then.
async fn collect(
    response: Response<Content>,
    lease: ConnectionLease,
    largest: usize,
) -> Result<CallResponse, CallError> {
    let (head, mut content) = response.into_parts();
    let (mut body, mut trailers) = (BytesMut::new(), None);
    while let Some(frame) = content.frame().await {
        match frame.map_err(CallError::Broke)?.into_data() {
            Ok(data) if body.len() + data.len() > largest => return Err(CallError::TooLarge),
            Ok(data) => body.extend_from_slice(&data),
            Err(other) => trailers = other.into_trailers().ok(),
        }
    }
    match lease {
        ConnectionLease::Http1(lease) => lease.give_back(),
        ConnectionLease::Http2(lease) => lease.finish(),
    }
    Ok(CallResponse { head, body: body.freeze(), trailers })
}
