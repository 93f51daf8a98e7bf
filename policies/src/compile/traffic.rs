//! Timeouts and retries as Envoy's routes have them, with the defaults of a mesh that has no TrafficPolicy.

use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3::retry_policy::{
    RetryBackOff, RetryHostPredicate, retry_host_predicate,
};
use envoy_types::pb::envoy::config::route::v3::{RetryPolicy, RouteAction};
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use serde_json::{Value, json};

use super::wire;
use crate::kinds::traffic_policy::RetryOn;
use crate::set::EffectiveTraffic;
use crate::value::StatusRange;

/// How many tries follow the first where no policy says it.
const ATTEMPTS: u32 = 2;
/// What is tried again where no policy says it: failures after which no server has worked on the request.
const RETRY_ON: [RetryOn; 3] = [RetryOn::ConnectFailure, RetryOn::RefusedStream, RetryOn::ResetBeforeRequest];
/// How often another endpoint is sought for a second try before the same one is taken.
const HOST_ATTEMPTS: i64 = 5;
/// The longest back-off, in shortest ones. Envoy's own default.
const BACKOFF_GROWTH: u32 = 10;

/// What holds for the requests of a route where no policy says otherwise, by the fields of [`EffectiveTraffic`].
#[must_use]
pub fn built_in_of_requests() -> Vec<(&'static str, Value)> {
    vec![("request_timeout", json!("0s")), ("retry_attempts", json!(ATTEMPTS)), ("retry_on", json!(RETRY_ON))]
}

/// A forwarding route without its backends. No limit of time unless one is set, since it would cut streams.
pub(super) fn action(traffic: &EffectiveTraffic) -> RouteAction {
    RouteAction {
        timeout: Some(wire::duration(request_timeout(traffic))),
        idle_timeout: traffic.stream_idle_timeout.as_ref().map(|limit| wire::duration(limit.value.get())),
        retry_policy: retry_policy(traffic),
        ..Default::default()
    }
}

fn request_timeout(traffic: &EffectiveTraffic) -> Duration {
    let request = traffic.request_timeout.as_ref().map_or(Duration::ZERO, |limit| limit.value.get());
    // Without second tries, the limit of one try is a limit of the request.
    match try_timeout(traffic) {
        Some(one) if attempts(traffic) == 0 && (request.is_zero() || one < request) => one,
        _ => request,
    }
}

fn retry_policy(traffic: &EffectiveTraffic) -> Option<RetryPolicy> {
    if attempts(traffic) == 0 {
        return None;
    }
    let on = traffic.retry_on.as_ref().map_or(&RETRY_ON[..], |on| &on.value);
    let mut on: Vec<&str> = on.iter().map(|&failure| condition(failure)).collect();
    let codes: Vec<u32> =
        traffic.retry_codes.iter().flat_map(|codes| &codes.value).flat_map(statuses).collect();
    if !codes.is_empty() {
        on.push("retriable-status-codes");
    }
    Some(RetryPolicy {
        retry_on: on.join(","),
        num_retries: Some(wire::uint32(attempts(traffic))),
        // An endpoint that has just gone is the least loaded of all: without this, tries would go there again.
        retry_host_predicate: vec![RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
            config_type: Some(retry_host_predicate::ConfigType::TypedConfig(wire::any(
                &PreviousHostsPredicate::default(),
            ))),
        }],
        host_selection_retry_max_attempts: HOST_ATTEMPTS,
        per_try_timeout: try_timeout(traffic).map(wire::duration),
        retriable_status_codes: codes,
        retry_back_off: traffic.retry_backoff.as_ref().map(|least| RetryBackOff {
            base_interval: Some(wire::duration(least.value.get())),
            max_interval: Some(wire::duration(least.value.get().saturating_mul(BACKOFF_GROWTH))),
        }),
        ..Default::default()
    })
}

fn attempts(traffic: &EffectiveTraffic) -> u32 {
    traffic.retry_attempts.as_ref().map_or(ATTEMPTS, |attempts| attempts.value)
}

fn try_timeout(traffic: &EffectiveTraffic) -> Option<Duration> {
    traffic.backend_request_timeout.as_ref().map(|limit| limit.value.get()).filter(|limit| !limit.is_zero())
}

fn statuses(range: &StatusRange) -> impl Iterator<Item = u32> + use<> {
    u32::from(range.first)..=u32::from(range.last)
}

/// Envoy's word for a failure.
fn condition(failure: RetryOn) -> &'static str {
    match failure {
        RetryOn::ConnectFailure => "connect-failure",
        RetryOn::RefusedStream => "refused-stream",
        RetryOn::Reset => "reset",
        RetryOn::ResetBeforeRequest => "reset-before-request",
        RetryOn::ServerError => "5xx",
        RetryOn::GatewayError => "gateway-error",
        RetryOn::Retriable4xx => "retriable-4xx",
        RetryOn::GrpcCancelled => "cancelled",
        RetryOn::GrpcDeadlineExceeded => "deadline-exceeded",
        RetryOn::GrpcInternal => "internal",
        RetryOn::GrpcResourceExhausted => "resource-exhausted",
        RetryOn::GrpcUnavailable => "unavailable",
    }
}
