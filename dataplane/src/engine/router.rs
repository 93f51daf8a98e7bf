//! The router: a request is sent to an endpoint of a cluster, again if that fails and may be repeated.

mod attempt;
mod outgoing;

use std::rc::Rc;
use std::time::Duration;

use http::request::Parts;
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::cluster::ClusterState;
use super::cluster_info::BreakerOf;
use super::connect::ConnectError;
use super::http::Stage;
use super::limits::TimedOut;
use super::pool::{Freshness, Lease, Version};
use super::reply::Reply;
use super::response_body::ResponseBody;
use super::serve::Protocol;
use super::upgrade;
use crate::breaker::{Permit, Resource};
use crate::format::ResponseFlags;
use crate::outlier::Outcome;
use crate::route::{
    ClusterChoice, Failure, Forward, Priority, RetryPolicy, RouteConfig, RouteRef, WeightedCluster,
};
use crate::runtime::{HttpManager, UpstreamProtocol};

use attempt::{AttemptError, send};
pub(super) use attempt::{head as response_head, limited};
use outgoing::Head;
pub(super) use outgoing::{Outgoing, set_authority, wanted_upgrade};

/// A request on a route that forwards.
pub(super) struct Sending<'a> {
    pub(super) manager: &'a HttpManager,
    pub(super) routes: &'a RouteConfig,
    pub(super) found: RouteRef,
    pub(super) forward: &'a Forward,
    /// The caller's side of an upgrade, where one is asked for.
    pub(super) upgrade: Option<OnUpgrade>,
}

/// Sends a request to the route's cluster and answers with what comes back.
pub(super) async fn forward(
    mut stage: Stage,
    sending: Sending<'_>,
    mut parts: Parts,
    incoming: Incoming,
) -> Response<ResponseBody> {
    let manager = sending.manager;
    let random = stage.connection.worker.random();
    let chosen = sending.forward.cluster.choose(&stage.head(&parts), random);
    let weighted = match (&sending.forward.cluster, chosen.and_then(|chosen| chosen.weighted)) {
        // The same member once more, so that it is borrowed from the route alone.
        (ClusterChoice::Weighted { clusters, .. }, Some(member)) => {
            clusters.iter().find(|cluster| std::ptr::eq(*cluster, member))
        }
        (ClusterChoice::Named(_) | ClusterChoice::Header(_) | ClusterChoice::Weighted { .. }, _) => None,
    };
    let Some(cluster) = chosen.and_then(|chosen| stage.snapshot.cluster(chosen.name)).cloned() else {
        stage.connection.worker.shard.inc(manager.stats.no_cluster);
        let reply = Reply::new(sending.forward.cluster_not_found, "cluster_not_found");
        return stage.reply(manager, &parts, reply.flag(ResponseFlags::NO_CLUSTER));
    };
    // A host that the request names stands for the cluster from here on.
    let cluster = stage.exchange.host.as_ref().map_or(cluster, |host| Rc::clone(&host.cluster));
    if parts.method == Method::CONNECT && parts.extensions.get::<hyper::ext::Protocol>().is_none() {
        return Box::pin(upgrade::connect(stage, sending, parts, &cluster)).await;
    }
    if sending.upgrade.is_some() && !upgrade::is_allowed(&sending, &parts) {
        stage.connection.worker.shard.inc(manager.stats.downstream_rq_ws_on_non_ws_route);
        let reply = Reply::new(StatusCode::FORBIDDEN, "upgrade_failed");
        return stage.reply(manager, &parts, reply);
    }
    if sending.upgrade.is_some() && upgrade::has_content(&parts, &incoming) {
        let reply = Reply::new(StatusCode::BAD_REQUEST, "upgrade_with_content");
        return stage.reply(manager, &parts, reply);
    }
    let config = cluster.view().config.clone();
    let policy = sending.forward.retry.clone().filter(|policy| policy.applies(&stage.head(&parts)));
    let timeout = outgoing::timeout(sending.forward, &parts);
    let Forward { idle_timeout, max_stream_duration, .. } = sending.forward;
    stage.exchange.limits.route(stage.exchange.start, timeout, *idle_timeout, *max_stream_duration);
    let head = Head::prepare(&stage, &sending, weighted, &mut parts, timeout);
    let limit = outgoing::replay_limit(&sending, &config);
    let outgoing = Outgoing::new(&mut stage.exchange, parts, head, incoming, limit, policy.is_some());
    let mut run = Run { stage, sending, cluster, policy, weighted, outgoing, tried: Vec::new(), retries: 0 };
    match run.send_until_done().await {
        Ok((response, lease)) => run.respond(response, lease),
        Err(reply) => {
            let Run { stage, outgoing, .. } = run;
            stage.reply(manager, outgoing.parts(), reply)
        }
    }
}

/// A request on its way, over one or several tries.
struct Run<'a> {
    stage: Stage,
    sending: Sending<'a>,
    cluster: Rc<ClusterState>,
    policy: Option<std::sync::Arc<RetryPolicy>>,
    weighted: Option<&'a WeightedCluster>,
    outgoing: Outgoing,
    tried: Vec<usize>,
    retries: u32,
}

/// What follows a failed try.
enum Next {
    Again,
    GiveUp(Reply),
}

impl Run<'_> {
    async fn send_until_done(&mut self) -> Result<(Response<Incoming>, Lease), Reply> {
        let mut fresh = Freshness::Any;
        let mut safe_repeats = 0;
        loop {
            let attempt = self.try_once(fresh).await;
            fresh = Freshness::Any;
            match attempt {
                Ok((response, lease)) => {
                    let outcome = record_outcome(&response);
                    self.stage.exchange.outcome(outcome);
                    if !self.retries_response(&response) {
                        return Ok((response, lease));
                    }
                    // The connection is worth more than the rest of an answer that nobody reads.
                    drop(lease);
                    Box::pin(self.back_off()).await?;
                }
                Err(Failed::Reply(reply)) => return Err(reply),
                Err(Failed::Attempt { error, reused }) => {
                    // Nothing came back on a connection that had been used before: the server closed it while
                    // the request was on its way. On a fresh connection that cannot be, so it is tried there.
                    if reused && safe_repeats < 2 && self.is_safe_to_repeat(&error) {
                        safe_repeats += 1;
                        fresh = Freshness::New;
                        continue;
                    }
                    match self.after_failure(&error) {
                        Next::Again => Box::pin(self.back_off()).await?,
                        Next::GiveUp(reply) => return Err(reply),
                    }
                }
            }
        }
    }

    async fn try_once(&mut self, fresh: Freshness) -> Result<(Response<Incoming>, Lease), Failed> {
        let avoid = match &self.policy {
            Some(policy) if policy.avoid_previous_hosts => self.tried.as_slice(),
            Some(_) | None => &[],
        };
        let Some(picked) = self.cluster.pick(avoid) else {
            let reply = Reply::new(StatusCode::SERVICE_UNAVAILABLE, "no_healthy_upstream");
            let shard = &self.stage.connection.worker.shard;
            shard.inc(self.cluster.view().config.stats.upstream_cx_none_healthy);
            return Err(reply.body("no healthy upstream").flag(ResponseFlags::NO_HEALTHY_UPSTREAM).into());
        };
        if self.policy.is_some() {
            self.tried.push(picked.index);
        }
        let view = picked.view.clone();
        let (worker, stats) = (self.stage.connection.worker.clone(), &view.config.stats);
        let breaker = match self.sending.forward.priority {
            Priority::Default => BreakerOf::Default(view.config.clone()),
            Priority::High => BreakerOf::High(view.config.clone()),
        };
        let Some(permit) = Permit::try_new(breaker, Resource::Requests) else {
            worker.shard.inc(stats.upstream_rq_pending_overflow);
            let reply = Reply::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "upstream_reset_before_response_started{overflow}",
            )
            .body("upstream connect error or disconnect/reset before headers. reset reason: overflow")
            .flag(ResponseFlags::UPSTREAM_OVERFLOW);
            let name = http::HeaderName::from_static("x-envoy-overloaded");
            return Err(reply.header(name, http::HeaderValue::from_static("true")).into());
        };
        let pool = picked.pool().clone();
        let hostname = picked.endpoint().hostname.clone();
        self.stage.exchange.assign(picked, permit);
        self.stage.exchange.attempts += 1;
        self.stage.exchange.limits.one_try(self.policy.as_ref().and_then(|policy| policy.per_try_timeout));
        let version = self.version(view.config.http.protocol);
        let leasing = pool.lease(&worker, &view.config, version, fresh);
        let mut lease = match limited(&self.stage.exchange.limits, leasing).await {
            Ok(Ok(lease)) => lease,
            Ok(Err(ConnectError::Overflow)) => return Err(attempt::overflow().into()),
            Ok(Err(error)) => return Err(Failed::fresh(AttemptError::Connect(error))),
            Err(reached) => return Err(Failed::fresh(AttemptError::TimedOut(reached))),
        };
        if let Some(upstream) = &mut self.stage.exchange.upstream {
            upstream.local = lease.connection().local;
        }
        let reused = lease.is_reused();
        let request = self.outgoing.request(
            &mut lease,
            self.stage.scheme,
            hostname.as_deref(),
            self.stage.exchange.attempts,
            reused,
        );
        match send(&mut self.stage.exchange, lease, request, &mut self.outgoing).await {
            Ok(done) => Ok(done),
            Err(error) => Err(Failed::Attempt { error, reused }),
        }
    }

    fn version(&self, protocol: UpstreamProtocol) -> Version {
        // An upgrade goes to HTTP/1.1 whatever the cluster's default, except where only h2 is spoken.
        match (protocol, self.stage.connection.protocol) {
            (UpstreamProtocol::Http1, _) => Version::Http1,
            (UpstreamProtocol::Http2, _) => Version::Http2,
            (UpstreamProtocol::Downstream, _) if self.sending.upgrade.is_some() => {
                match self.stage.connection.protocol {
                    Protocol::Http1 => Version::Http1,
                    Protocol::Http2 => Version::Http2,
                }
            }
            (UpstreamProtocol::Downstream, Protocol::Http1) => Version::Http1,
            (UpstreamProtocol::Downstream, Protocol::Http2) => Version::Http2,
            (UpstreamProtocol::Auto, _) if self.sending.upgrade.is_some() => Version::Http1,
            (UpstreamProtocol::Auto, _) => Version::Auto,
        }
    }

    /// A request that had no effect, or whose effect is the same twice, and that can still be sent whole.
    fn is_safe_to_repeat(&self, error: &AttemptError) -> bool {
        self.outgoing.is_repeatable()
            && match error {
                AttemptError::NotSent => true,
                AttemptError::Broken => self.outgoing.parts().method.is_safe(),
                AttemptError::Refused => true,
                AttemptError::Connect(_) | AttemptError::TimedOut(_) | AttemptError::Reset => false,
            }
    }

    fn retries_response(&mut self, response: &Response<Incoming>) -> bool {
        let Some(policy) = self.policy.clone() else { return false };
        if !policy.retries_response(response.status(), response.headers()) {
            return false;
        }
        self.may_retry(&policy)
    }

    fn after_failure(&mut self, error: &AttemptError) -> Next {
        // What the caller did is not held against the endpoint, and would be no better a second time.
        if matches!(error, AttemptError::TimedOut(TimedOut::Request)) {
            return Next::GiveUp(attempt::reply(&mut self.stage.exchange, error));
        }
        if self.stage.exchange.progress.as_ref().is_some_and(|progress| progress.broke.get()) {
            return Next::GiveUp(attempt::broken_request());
        }
        self.stage.exchange.outcome(match error {
            AttemptError::Connect(_) => Outcome::ConnectFailed,
            AttemptError::TimedOut(_) => Outcome::TimedOut,
            AttemptError::NotSent | AttemptError::Refused | AttemptError::Reset | AttemptError::Broken => {
                Outcome::Reset
            }
        });
        let failure = match error {
            AttemptError::Connect(_) => Some(Failure::Connect),
            AttemptError::NotSent => Some(Failure::BeforeRequest),
            AttemptError::Refused => Some(Failure::RefusedStream),
            AttemptError::Reset | AttemptError::Broken => Some(Failure::Reset),
            AttemptError::TimedOut(TimedOut::PerTry) => Some(Failure::PerTryTimeout),
            AttemptError::TimedOut(
                TimedOut::Route | TimedOut::Idle | TimedOut::Duration | TimedOut::Request,
            ) => None,
        };
        if let (Some(policy), Some(failure)) = (self.policy.clone(), failure)
            && policy.retries_failure(failure)
            && self.may_retry(&policy)
        {
            return Next::Again;
        }
        let mut reply = attempt::reply(&mut self.stage.exchange, error);
        if self.stage.exchange.retried
            && self.policy.as_ref().is_some_and(|policy| self.retries >= policy.num_retries)
        {
            reply = reply.flag(ResponseFlags::UPSTREAM_RETRY_LIMIT);
        }
        Next::GiveUp(reply)
    }

    /// Counts a retry in, when the policy, the request's body and the circuit breaker allow one more.
    fn may_retry(&mut self, policy: &RetryPolicy) -> bool {
        let worker = self.stage.connection.worker.clone();
        let view = self.cluster.view();
        let (shard, stats) = (&worker.shard, &view.config.stats);
        if self.retries >= policy.num_retries {
            shard.inc(stats.upstream_rq_retry_limit_exceeded);
            return false;
        }
        if !self.outgoing.is_repeatable() {
            return false;
        }
        if view.config.breaker.is_open(Resource::Retries) {
            shard.inc(stats.upstream_rq_retry_overflow);
            return false;
        }
        self.retries += 1;
        self.stage.exchange.retried = true;
        shard.inc(stats.upstream_rq_retry);
        shard.inc(stats.upstream_rq_retry_backoff_exponential);
        true
    }

    async fn back_off(&mut self) -> Result<(), Reply> {
        let Some(policy) = &self.policy else { return Ok(()) };
        let wait: Duration = policy.back_off(self.retries, self.stage.connection.worker.random());
        let breaker = BreakerOf::Default(self.cluster.view().config.clone());
        let _retrying = Permit::new(breaker, Resource::Retries);
        self.stage.exchange.release_failed();
        let exchange = &mut self.stage.exchange;
        let waiting = super::clock::Deadline::after(&exchange.connection.worker.deadlines, wait);
        let waited = limited(&exchange.limits, waiting.wait()).await;
        waited.map_err(|reached| attempt::reply(exchange, &AttemptError::TimedOut(reached)))
    }

    fn respond(self, response: Response<Incoming>, lease: Lease) -> Response<ResponseBody> {
        let Run { mut stage, sending, cluster, weighted, outgoing, .. } = self;
        if stage.exchange.retried && !response.status().is_server_error() {
            stage.connection.worker.shard.inc(cluster.view().config.stats.upstream_rq_retry_success);
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            || upgrade::is_extended(&outgoing, &lease, &response)
        {
            return upgrade::accept(stage, sending, &outgoing, response, lease);
        }
        if let Some(upstream) = &mut stage.exchange.upstream {
            upstream.lease = Some(lease);
        }
        attempt::respond(stage, &sending, weighted, &outgoing, response)
    }
}

fn record_outcome(response: &Response<Incoming>) -> Outcome {
    let grpc = super::body::grpc_status(response.headers()).map(crate::outlier::grpc_as_http);
    Outcome::Answered(grpc.unwrap_or(response.status().as_u16()))
}

/// Why a try has no response.
enum Failed {
    /// It was not even begun.
    Reply(Reply),
    Attempt {
        error: AttemptError,
        reused: bool,
    },
}

impl Failed {
    fn fresh(error: AttemptError) -> Self {
        Self::Attempt { error, reused: false }
    }
}

impl From<Reply> for Failed {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl From<ConnectError> for Failed {
    fn from(error: ConnectError) -> Self {
        Self::fresh(AttemptError::Connect(error))
    }
}
