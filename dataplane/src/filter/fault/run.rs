//! Delays a request, answers it with an error, or first the one and then the other.

use std::str::FromStr;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use weft_routing::matcher::UndecidedAs;

use super::super::Override;
use super::super::request::{Flow, Request};
use super::super::state::FilterState;
use super::active::ActiveFault;
use super::{Abort, AbortStatus, Fault, FaultSettings, Given};
use crate::engine::clock::Deadline;
use crate::engine::limits::limited;
use crate::engine::reply::Reply;
use crate::format::ResponseFlags;
use crate::fraction::Fraction;

impl Fault {
    /// What is to be done with a request; `None` lets it go on at once.
    pub(in super::super) fn on_request<'a>(
        &'a self,
        request: &mut Request<'_>,
        special: Option<&'a Override>,
    ) -> Option<Injection<'a>> {
        let settings = special.and_then(Override::fault).unwrap_or(&self.settings);
        if !settings.means(request) {
            return None;
        }
        let worker = request.stream.connection.worker.clone();
        let headers = &request.parts.headers;
        let delay = settings.delay(headers, worker.random());
        // Faults of one stream count as one.
        let mut active = None;
        let mut begin = || {
            active = active.take().or_else(|| ActiveFault::try_new(self, settings.max_active, &worker));
            active.is_some()
        };
        let delay = delay.filter(|_| begin());
        if delay.is_some() {
            worker.shard.inc(self.stats.delays_injected);
            request.stream.flags.insert(ResponseFlags::DELAY_INJECTED);
        }
        let abort = settings.abort(headers, worker.random());
        if delay.is_none() && abort.is_none() {
            return None;
        }
        let is_active = active.is_some();
        if let Some(active) = active {
            request.remember(FilterState::Fault(active));
        }
        Some(Injection { fault: self, settings, delay, abort, is_active })
    }
}

/// What happens to one request.
pub(in super::super) struct Injection<'a> {
    fault: &'a Fault,
    settings: &'a FaultSettings,
    delay: Option<Duration>,
    abort: Option<(&'a Abort, AbortStatus)>,
    /// The stream counts among those with a fault.
    is_active: bool,
}

impl Injection<'_> {
    pub(in super::super) async fn run(self, request: &mut Request<'_>) -> Flow {
        let worker = request.stream.connection.worker.clone();
        if let Some(span) = self.delay {
            request.stream.limits.watch();
            let waiting = Deadline::after(&worker.deadlines, span);
            if let Err(reached) = limited(&request.stream.limits, waiting.wait()).await {
                return Flow::Reply(request.timed_out(reached));
            }
        }
        let Some((abort, status)) = self.abort else { return Flow::Continue };
        if !self.is_active {
            let Some(active) = ActiveFault::try_new(self.fault, self.settings.max_active, &worker) else {
                return Flow::Continue;
            };
            request.remember(FilterState::Fault(active));
        }
        worker.shard.inc(self.fault.stats.aborts_injected);
        let (http, grpc) = match status {
            AbortStatus::Http(status) => (status, None),
            AbortStatus::Grpc(status) => (StatusCode::OK, Some(status)),
        };
        let reply = Reply::new(http, "fault_filter_abort").body(abort.body.to_string());
        Flow::Reply(Box::new(reply.grpc_status(grpc).flag(ResponseFlags::FAULT_INJECTED)))
    }
}

impl FaultSettings {
    /// Whether a request is one of those that faults are for.
    fn means(&self, request: &Request<'_>) -> bool {
        if !self.upstream_cluster.is_empty() && request.cluster_name() != Some(&*self.upstream_cluster) {
            return false;
        }
        let headers = &request.parts.headers;
        let node = headers.get("x-envoy-downstream-service-node").and_then(|node| node.to_str().ok());
        let from_node = |node: &str| self.downstream_nodes.iter().any(|known| **known == *node);
        if !self.downstream_nodes.is_empty() && !node.is_some_and(from_node) {
            return false;
        }
        self.headers.iter().all(|header| header.matches(&request.head(), UndecidedAs::Miss))
    }

    fn delay(&self, headers: &HeaderMap, random: u64) -> Option<Duration> {
        let delay = self.delay.as_ref()?;
        let span = match delay.span {
            Given::Fixed(span) => span,
            Given::ByHeader => Duration::from_millis(number(headers, "x-envoy-fault-delay-request")?),
        };
        let share = match delay.span {
            Given::Fixed(_) => delay.share,
            Given::ByHeader => limited_by(headers, "x-envoy-fault-delay-request-percentage", delay.share),
        };
        (share.holds(random) && !span.is_zero()).then_some(span)
    }

    fn abort(&self, headers: &HeaderMap, random: u64) -> Option<(&Abort, AbortStatus)> {
        let abort = self.abort.as_ref()?;
        let (status, share) = match abort.status {
            Given::Fixed(status) => (status, abort.share),
            Given::ByHeader => {
                let share = limited_by(headers, "x-envoy-fault-abort-request-percentage", abort.share);
                (status_by_header(headers)?, share)
            }
        };
        share.holds(random).then_some((abort, status))
    }
}

/// A gRPC status goes before an HTTP one.
fn status_by_header(headers: &HeaderMap) -> Option<AbortStatus> {
    if let Some(status) = number(headers, "x-envoy-fault-abort-grpc-request") {
        return Some(AbortStatus::Grpc(status));
    }
    let status: u16 = number(headers, "x-envoy-fault-abort-request")?;
    let status = StatusCode::from_u16(status).ok().filter(|status| (200..600).contains(&status.as_u16()))?;
    Some(AbortStatus::Http(status))
}

/// The caller may make the share smaller, not larger.
fn limited_by(headers: &HeaderMap, name: &str, share: Fraction) -> Fraction {
    number(headers, name).map_or(share, |most| share.at_most(most))
}

fn number<N: FromStr>(headers: &HeaderMap, name: &str) -> Option<N> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}
