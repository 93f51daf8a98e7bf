//! The router: a request is sent to an endpoint of a cluster, again if that fails and may be repeated.

mod attempt;
mod hop_by_hop;
mod outgoing;
mod response;
mod routed;
mod upgrade;

use std::rc::Rc;
use std::time::Duration;

use http::request::Parts;
use http::{Method, Response, StatusCode};

use super::body::{RequestContent, RequestInterrupted};
use super::cluster::ClusterState;
use super::cluster_info::BreakerOf;
use super::connect::ConnectError;
use super::grpc;
use super::http_connection::CodecType;
use super::limits::{TimedOut, limited};
use super::pool::{ConnectionLease, Content, Freshness, HttpChoice};
use super::reply::Reply;
use super::request_context::RequestContext;
use super::response_body::ResponseBody;
use super::round_trip::Reset;
use crate::balance::PreviousHosts;
use crate::breaker::{BreakerResource, Permit};
use crate::format::ResponseFlags;
use crate::outlier::AttemptOutcome;
use crate::route::{Failure, Forward, Priority, RetryPolicy, WeightedCluster};
use crate::runtime::UpstreamProtocol;

use attempt::{AttemptError, send};
pub(super) use outgoing::wanted_upgrade;
use outgoing::{HeadPlan, RepeatableRequest};
pub(super) use routed::Routed;
use weft_routing::route::Chosen;

/// Sends a request to the route's cluster and answers with what comes back.
pub(super) async fn forward(
    mut context: RequestContext,
    routed: Routed<'_>,
    mut parts: Parts,
    content: RequestContent,
) -> Response<ResponseBody> {
    let manager = routed.manager;
    let choice = &routed.forward.cluster;
    let random = context.connection.worker.random();
    let chosen = match context.stream.member.and_then(|member| choice.member(member)) {
        Some(member) => Some(Chosen { name: &member.name, weighted: Some(member) }),
        None => choice.choose(&context.head(&parts), random),
    };
    let weighted = chosen.and_then(|chosen| chosen.weighted);
    let Some(cluster) = chosen.and_then(|chosen| context.snapshot.cluster(chosen.name)).cloned() else {
        context.connection.worker.shard.inc(manager.stats.no_cluster);
        let reply = Reply::new(routed.forward.cluster_not_found, "cluster_not_found");
        return context.reply(&parts, reply.flag(ResponseFlags::NO_CLUSTER));
    };
    // A host that the request names stands for the cluster from here on.
    let cluster = context.stream.host.as_ref().map_or(cluster, |host| Rc::clone(&host.cluster));
    if parts.method == Method::CONNECT && parts.extensions.get::<hyper::ext::Protocol>().is_none() {
        return Box::pin(upgrade::connect(context, routed, parts, &cluster)).await;
    }
    if routed.upgrade.is_some() && !upgrade::is_allowed(&routed, &parts) {
        context.connection.worker.shard.inc(manager.stats.downstream_rq_ws_on_non_ws_route);
        let reply = Reply::new(StatusCode::FORBIDDEN, "upgrade_failed");
        return context.reply(&parts, reply);
    }
    if routed.upgrade.is_some() && upgrade::has_content(&parts, &content) {
        let reply = Reply::new(StatusCode::BAD_REQUEST, "upgrade_with_content");
        return context.reply(&parts, reply);
    }
    let config = cluster.view().config.clone();
    let policy = routed.forward.retry.clone().filter(|policy| policy.applies(&context.head(&parts)));
    let timeout = outgoing::timeout(routed.forward, &parts);
    let Forward { idle_timeout, max_stream_duration, .. } = routed.forward;
    context.stream.limits.route(context.stream.start, timeout, *idle_timeout, *max_stream_duration);
    let hash = routed.hash(&mut context, &config, &parts);
    let head = HeadPlan::prepare(&context, &routed, weighted, &mut parts, timeout);
    let limit = outgoing::replay_limit(&routed, &config);
    let outgoing = RepeatableRequest::new(&mut context.stream, parts, head, content, limit, policy.is_some());
    let tried = Vec::new();
    let mut run =
        RoutedRequest { context, routed, cluster, policy, weighted, outgoing, hash, tried, retries: 0 };
    match run.send_until_done().await {
        Ok((response, lease)) => run.respond(response, lease),
        Err(reply) => {
            let RoutedRequest { context, outgoing, cluster, .. } = run;
            fail(context, outgoing.parts(), &cluster, reply)
        }
    }
}

/// Answers in the server's place. It counts as the cluster's answer, unless the caller was why.
fn fail(
    context: RequestContext,
    parts: &Parts,
    cluster: &ClusterState,
    reply: Reply,
) -> Response<ResponseBody> {
    if reply.flags.contains(ResponseFlags::UPSTREAM) {
        let (shard, status) = (&context.connection.worker.shard, reply.status.as_u16());
        cluster.view().config.stats.answered(shard, status);
        context.stream.count_route(|stats| stats.answered(shard, status));
    }
    context.reply(parts, reply)
}

/// A request on its way, over one or several tries.
struct RoutedRequest<'a> {
    context: RequestContext,
    routed: Routed<'a>,
    cluster: Rc<ClusterState>,
    policy: Option<std::sync::Arc<RetryPolicy>>,
    weighted: Option<&'a WeightedCluster>,
    outgoing: RepeatableRequest,
    /// What the request is hashed to, where the cluster balances by that.
    hash: Option<u64>,
    tried: Vec<usize>,
    retries: u32,
}

/// What follows a failed try.
enum Next {
    Again,
    GiveUp(Reply),
}

impl RoutedRequest<'_> {
    async fn send_until_done(&mut self) -> Result<(Response<Content>, ConnectionLease), Reply> {
        let mut fresh = Freshness::Any;
        let mut safe_repeats = 0;
        loop {
            let attempt = self.try_once(fresh).await;
            fresh = Freshness::Any;
            match attempt {
                Ok((response, lease)) => {
                    let outcome = record_outcome(&response);
                    self.context.stream.outcome(outcome);
                    if !self.retries_response(&response) {
                        return Ok((response, lease));
                    }
                    // The connection is worth more than the rest of an answer that nobody reads.
                    drop(lease);
                    Box::pin(self.back_off()).await?;
                }
                Err(TryFailure::Reply(reply)) => return Err(reply),
                // The connection sees it too, and drops this request.
                Err(TryFailure::Attempt { .. }) if self.interrupted() == Some(RequestInterrupted::Gone) => {
                    return std::future::pending().await;
                }
                Err(TryFailure::Attempt { error, reused }) => {
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

    /// How the caller ended its request before its end, if it did.
    fn interrupted(&self) -> Option<RequestInterrupted> {
        self.context.stream.progress.as_ref()?.interrupted.get()
    }

    async fn try_once(
        &mut self,
        fresh: Freshness,
    ) -> Result<(Response<Content>, ConnectionLease), TryFailure> {
        let avoid = match &self.policy {
            Some(policy) if policy.avoid_previous_hosts => {
                PreviousHosts { tried: &self.tried, attempts: policy.host_attempts }
            }
            Some(_) | None => PreviousHosts::default(),
        };
        let Some(picked) = self.cluster.pick(self.hash, avoid) else {
            let config = self.cluster.view().config.clone();
            self.context.connection.worker.shard.inc(config.stats.upstream_cx_none_healthy);
            self.context.stream.unreached = Some(config.name.clone());
            return Err(attempt::no_healthy().into());
        };
        if self.policy.is_some() {
            self.tried.push(picked.index);
        }
        let view = picked.view.clone();
        let (worker, stats) = (self.context.connection.worker.clone(), &view.config.stats);
        let breaker = match self.routed.forward.priority {
            Priority::Default => BreakerOf::Default(view.config.clone()),
            Priority::High => BreakerOf::High(view.config.clone()),
        };
        let Some(permit) = Permit::try_new(breaker, BreakerResource::Requests) else {
            worker.shard.inc(stats.upstream_rq_pending_overflow);
            self.context.stream.unreached = Some(view.config.name.clone());
            return Err(attempt::overflow().into());
        };
        let pool = picked.pool().clone();
        let hostname = picked.endpoint().hostname.clone();
        self.context.stream.assign(picked, permit);
        self.context.stream.attempts += 1;
        self.context.stream.limits.one_try(self.policy.as_ref().and_then(|policy| policy.per_try_timeout));
        let version = self.version(view.config.http.protocol);
        let leasing = pool.lease(&worker, &view.config, version, fresh);
        let lease = match limited(&self.context.stream.limits, leasing).await {
            Ok(Ok(lease)) => lease,
            Ok(Err(ConnectError::Overflow)) => return Err(attempt::overflow().into()),
            Ok(Err(error)) => return Err(TryFailure::fresh(AttemptError::Connect(error))),
            Err(reached) => return Err(TryFailure::fresh(AttemptError::TimedOut(reached))),
        };
        if let Some(upstream) = &mut self.context.stream.upstream {
            upstream.local = lease.connection().local;
        }
        let reused = lease.is_reused();
        let request = self.outgoing.request(
            &lease,
            self.context.scheme,
            hostname.as_deref(),
            self.context.stream.attempts,
            reused,
        );
        match send(&mut self.context.stream, lease, request, &mut self.outgoing).await {
            Ok(done) => Ok(done),
            Err(error) => Err(TryFailure::Attempt { error, reused }),
        }
    }

    fn version(&self, protocol: UpstreamProtocol) -> HttpChoice {
        // An upgrade goes to HTTP/1.1 whatever the cluster's default, except where only h2 is spoken.
        match (protocol, self.context.connection.protocol) {
            (UpstreamProtocol::Http1, _) => HttpChoice::Http1,
            (UpstreamProtocol::Http2, _) => HttpChoice::Http2,
            (UpstreamProtocol::Downstream, _) if self.routed.upgrade.is_some() => {
                match self.context.connection.protocol {
                    CodecType::Http1 => HttpChoice::Http1,
                    CodecType::Http2 => HttpChoice::Http2,
                }
            }
            (UpstreamProtocol::Downstream, CodecType::Http1) => HttpChoice::Http1,
            (UpstreamProtocol::Downstream, CodecType::Http2) => HttpChoice::Http2,
            (UpstreamProtocol::Auto, _) if self.routed.upgrade.is_some() => HttpChoice::Http1,
            (UpstreamProtocol::Auto, _) => HttpChoice::Auto,
        }
    }

    /// A request that had no effect, or whose effect is the same twice, and that can still be sent whole.
    fn is_safe_to_repeat(&self, error: &AttemptError) -> bool {
        self.outgoing.is_repeatable()
            && match error {
                AttemptError::Reset(reset) => reset.had_no_effect(&self.outgoing.parts().method),
                AttemptError::Connect(_) | AttemptError::TimedOut(_) => false,
            }
    }

    fn retries_response(&mut self, response: &Response<Content>) -> bool {
        let Some(policy) = self.policy.clone() else { return false };
        if !policy.retries_response(response.status(), response.headers()) {
            return false;
        }
        self.may_retry(&policy)
    }

    fn after_failure(&mut self, error: &AttemptError) -> Next {
        // What the caller did is not held against the endpoint, and would be no better a second time.
        if matches!(error, AttemptError::TimedOut(TimedOut::Request)) {
            return Next::GiveUp(attempt::reply(&mut self.context.stream, error));
        }
        if self.interrupted().is_some() {
            return Next::GiveUp(Reply::malformed_request());
        }
        self.context.stream.outcome(match error {
            AttemptError::Connect(_) => AttemptOutcome::ConnectFailed,
            AttemptError::TimedOut(_) => AttemptOutcome::TimedOut,
            AttemptError::Reset(_) => AttemptOutcome::Reset,
        });
        let failure = match error {
            AttemptError::Connect(_) => Some(Failure::Connect),
            AttemptError::Reset(Reset::NotSent) => Some(Failure::BeforeRequest),
            AttemptError::Reset(Reset::Refused) => Some(Failure::RefusedStream),
            AttemptError::Reset(Reset::Stream | Reset::Malformed | Reset::Broken) => Some(Failure::Reset),
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
        let mut reply = attempt::reply(&mut self.context.stream, error);
        if self.context.stream.retried
            && self.policy.as_ref().is_some_and(|policy| self.retries >= policy.num_retries)
        {
            reply = reply.flag(ResponseFlags::UPSTREAM_RETRY_LIMIT);
        }
        Next::GiveUp(reply)
    }

    /// Counts a retry in, when the policy, the request's body and the circuit breaker allow one more.
    fn may_retry(&mut self, policy: &RetryPolicy) -> bool {
        let worker = self.context.connection.worker.clone();
        let view = self.cluster.view();
        let (shard, stats) = (&worker.shard, &view.config.stats);
        if self.retries >= policy.num_retries {
            shard.inc(stats.upstream_rq_retry_limit_exceeded);
            self.context.stream.count_route(|stats| shard.inc(stats.upstream_rq_retry_limit_exceeded));
            return false;
        }
        if !self.outgoing.is_repeatable() {
            return false;
        }
        if view.config.breaker.is_open(BreakerResource::Retries) {
            shard.inc(stats.upstream_rq_retry_overflow);
            self.context.stream.count_route(|stats| shard.inc(stats.upstream_rq_retry_overflow));
            return false;
        }
        self.retries += 1;
        self.context.stream.retried = true;
        shard.inc(stats.upstream_rq_retry);
        self.context.stream.count_route(|stats| shard.inc(stats.upstream_rq_retry));
        shard.inc(stats.upstream_rq_retry_backoff_exponential);
        true
    }

    async fn back_off(&mut self) -> Result<(), Reply> {
        let Some(policy) = &self.policy else { return Ok(()) };
        let wait: Duration = policy.back_off(self.retries, self.context.connection.worker.random());
        let breaker = BreakerOf::Default(self.cluster.view().config.clone());
        let _retrying = Permit::new(breaker, BreakerResource::Retries);
        self.context.stream.release_failed();
        let stream = &mut self.context.stream;
        let waiting = super::clock::Deadline::after(&stream.connection.worker.deadlines, wait);
        let waited = limited(&stream.limits, waiting.wait()).await;
        waited.map_err(|reached| attempt::reply(stream, &AttemptError::TimedOut(reached)))
    }

    fn respond(self, response: Response<Content>, lease: ConnectionLease) -> Response<ResponseBody> {
        let RoutedRequest { mut context, routed, cluster, weighted, outgoing, .. } = self;
        if context.stream.retried && !response.status().is_server_error() {
            let shard = &context.connection.worker.shard;
            shard.inc(cluster.view().config.stats.upstream_rq_retry_success);
            context.stream.count_route(|stats| shard.inc(stats.upstream_rq_retry_success));
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            || upgrade::is_extended(&outgoing, &lease, &response)
        {
            return upgrade::accept(context, routed, &outgoing, response, lease);
        }
        if let Some(upstream) = &mut context.stream.upstream {
            upstream.lease = Some(lease);
        }
        response::respond(context, &routed, weighted, &outgoing, response)
    }
}

fn record_outcome(response: &Response<Content>) -> AttemptOutcome {
    let grpc = grpc::status(response.headers()).map(crate::outlier::grpc_as_http);
    AttemptOutcome::Answered(grpc.unwrap_or(response.status().as_u16()))
}

/// Why a try has no response.
enum TryFailure {
    /// It was not even begun.
    Reply(Reply),
    Attempt {
        error: AttemptError,
        reused: bool,
    },
}

impl TryFailure {
    fn fresh(error: AttemptError) -> Self {
        Self::Attempt { error, reused: false }
    }
}

impl From<Reply> for TryFailure {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl From<ConnectError> for TryFailure {
    fn from(error: ConnectError) -> Self {
        Self::fresh(AttemptError::Connect(error))
    }
}
