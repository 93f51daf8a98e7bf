//! Answers preflight requests, and marks responses for origins that are allowed.

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, HeaderValue, ORIGIN,
};
use http::{HeaderMap, Method, StatusCode};

use super::super::Override;
use super::super::request::{Flow, Request, Response, levels};
use super::super::state::FilterState;
use super::{AllowedOrigin, Cors, CorsPolicy};
use crate::engine::reply::{Reply, ReplyOrigin};
use crate::route::RouteAction;

const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");
const TRUE: HeaderValue = HeaderValue::from_static("true");

impl Cors {
    pub(in super::super) fn on_request(&self, name: &str, request: &mut Request<'_>) -> Flow {
        let policies = policies(name, request);
        let Some(first) = policies.first() else { return Flow::Continue };
        let worker = request.stream.connection.worker.clone();
        let enabled = first.enabled.holds(worker.random());
        if !enabled && !first.shadow_enabled.holds(worker.random()) {
            return Flow::Continue;
        }
        let headers = &request.parts.headers;
        let Some(origin) = headers.get(ORIGIN).filter(|origin| !origin.is_empty()) else {
            return Flow::Continue;
        };
        let with_origins = policies.iter().find(|policy| !policy.origins.is_empty());
        let allowed = with_origins.is_some_and(|policy| policy.allows(origin));
        worker.shard.inc(if allowed { self.stats.origin_valid } else { self.stats.origin_invalid });
        if !enabled {
            return Flow::Continue;
        }
        let asks = headers.get(ACCESS_CONTROL_REQUEST_METHOD).is_some_and(|method| !method.is_empty());
        let is_preflight = request.parts.method == Method::OPTIONS && asks;
        let goes_on = !allowed && said(&policies, |policy| policy.forward_preflights).unwrap_or(true);
        let reply =
            (is_preflight && !goes_on).then(|| preflight(&policies, headers, allowed.then_some(origin)));
        if allowed {
            let origin = origin.clone();
            request.remember(FilterState::Cors(AllowedOrigin { origin, policies }));
        }
        reply.map_or(Flow::Continue, |reply| Flow::Reply(Box::new(reply)))
    }
}

/// What the levels of the route say, the most specific one first. As in Envoy, only of a route that forwards.
fn policies(name: &str, request: &Request<'_>) -> Vec<Arc<CorsPolicy>> {
    let Some((found, weighted)) = levels(request.view, request.stream) else { return Vec::new() };
    match &request.view.routes.route(found).effect.action {
        RouteAction::Forward(_) => {}
        RouteAction::Redirect(_) | RouteAction::Direct(_) | RouteAction::NonForwarding => return Vec::new(),
    }
    let special = request.view.routes.filter_overrides(found, weighted, name);
    special.filter_map(Override::cors).cloned().collect()
}

fn said<T>(policies: &[Arc<CorsPolicy>], what: impl Fn(&CorsPolicy) -> Option<T>) -> Option<T> {
    policies.iter().find_map(|policy| what(policy))
}

/// The answer to a browser that asks whether it may send a request.
fn preflight(policies: &[Arc<CorsPolicy>], headers: &HeaderMap, allowed: Option<&HeaderValue>) -> Reply {
    let mut reply = Reply::new(StatusCode::OK, "cors_response");
    reply.origin = ReplyOrigin::Filter;
    // A star stands for what is asked for.
    let or_asked = |value: HeaderValue, asked: HeaderName| match value.as_bytes() {
        b"*" => headers.get(asked).cloned().unwrap_or(HeaderValue::from_static("")),
        _ => value,
    };
    let methods = said(policies, |policy| policy.allow_methods.clone())
        .map(|methods| or_asked(methods, ACCESS_CONTROL_REQUEST_METHOD));
    let names = said(policies, |policy| policy.allow_headers.clone())
        .map(|names| or_asked(names, ACCESS_CONTROL_REQUEST_HEADERS));
    let to_private_network = headers.get(REQUEST_PRIVATE_NETWORK).is_some_and(|value| value == "true")
        && said(policies, |policy| policy.allow_private_network).unwrap_or(false);
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_ORIGIN, allowed.cloned()),
        (ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials(policies)),
        (ACCESS_CONTROL_ALLOW_METHODS, methods),
        (ACCESS_CONTROL_ALLOW_HEADERS, names),
        (ACCESS_CONTROL_MAX_AGE, said(policies, |policy| policy.max_age.clone())),
        (ALLOW_PRIVATE_NETWORK, to_private_network.then_some(TRUE)),
    ] {
        reply.headers.extend(value.map(|value| (name, value)));
    }
    reply
}

fn credentials(policies: &[Arc<CorsPolicy>]) -> Option<HeaderValue> {
    said(policies, |policy| policy.allow_credentials).unwrap_or(false).then_some(TRUE)
}

/// Marks the response to a page whose origin is allowed.
pub(in super::super) fn on_response(response: &mut Response<'_>) {
    let allowed = response.remembered().find_map(|state| {
        if let FilterState::Cors(AllowedOrigin { origin, policies }) = state {
            Some((origin.clone(), policies.clone()))
        } else {
            None
        }
    });
    let Some((origin, policies)) = allowed else { return };
    response.headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if let Some(value) = credentials(&policies) {
        response.headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, value);
    }
    if let Some(value) = said(&policies, |policy| policy.expose_headers.clone()) {
        response.headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, value);
    }
}
