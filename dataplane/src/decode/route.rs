//! `RouteConfiguration`, and `VirtualHost` in it or as a resource of its own.

mod forward;
mod hash;
mod headers;
mod level_config;
mod retry;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::route::v3 as wire;
use http::StatusCode;
use weft_routing::decode::route as routing;
use weft_routing::rejection::{Notes, Rejection, Within as _, refuse};
use weft_routing::route::RouteMatch;

pub(crate) use headers::header_ops;

use self::level_config::level_config;
use super::{ConfigSource, ResourceReference, fields, format};
use crate::route::{
    DirectResponse, HostOptions, RetryPolicy, RouteAction, RouteConfig, RouteCounts, RouteEffect, Vhds,
    VirtualHost,
};
use crate::tracer;

const LARGEST_DIRECT_BODY: usize = 4096;

/// Reads a route configuration that stands alone or in a connection manager.
///
/// # Errors
/// A field that is wrong, or not supported and not cosmetic, with its path.
pub fn route_config(config: &wire::RouteConfiguration) -> Result<RouteConfig, Rejection> {
    refuse(&config.internal_only_headers, "internal_only_headers")?;
    refuse(&config.cluster_specifier_plugins, "cluster_specifier_plugins")?;
    refuse(&config.request_mirror_policies, "request_mirror_policies")?;
    let mut notes = Notes::default();
    notes.ignored(&config.metadata, "metadata");
    let body_limit = config.max_direct_response_body_size_bytes.as_ref();
    let body_limit = body_limit.map_or(LARGEST_DIRECT_BODY, |limit| limit.value as usize);
    let table = routing::table(config, |wire| virtual_host(wire, body_limit, &mut notes))?;
    let vhds = config.vhds.as_ref().map(vhds).transpose()?;
    if vhds.is_some() {
        let field = "max_direct_response_body_size_bytes of hosts by vhds";
        notes.ignored(&config.max_direct_response_body_size_bytes, field);
    }
    Ok(RouteConfig {
        name: config.name.as_str().into(),
        table,
        vhds,
        common: level_config(
            &config.request_headers_to_add,
            &config.request_headers_to_remove,
            (&config.response_headers_to_add, &config.response_headers_to_remove),
            &config.typed_per_filter_config,
            &mut notes,
        )?
        .into(),
        specific_wins: config.most_specific_header_mutations_wins,
        notes,
    })
}

/// Reads a virtual host that is a resource of its own (VHDS). What the route configuration says of the size of direct
/// responses does not reach it: Envoy's default holds.
///
/// # Errors
/// As those of [`route_config`].
pub fn lone_virtual_host(wire: &wire::VirtualHost, notes: &mut Notes) -> Result<VirtualHost, Rejection> {
    let host = virtual_host(wire, LARGEST_DIRECT_BODY, notes)?;
    routing::check_alone(&host)?;
    Ok(host)
}

/// Where the virtual hosts come from that the configuration does not have itself.
fn vhds(given: &wire::Vhds) -> Result<Vhds, Rejection> {
    let field = "vhds.config_source";
    let ResourceReference { source, fetch_timeout, .. } =
        ResourceReference::decode("", given.config_source.as_ref(), field)?;
    match source {
        ConfigSource::Ads => Ok(Vhds { fetch_timeout }),
        ConfigSource::File(path) => {
            let reason = format!("virtual hosts come by ads only, not by the file {}", path.display());
            Err(Rejection::new(field, reason))
        }
    }
}

fn virtual_host(host: &wire::VirtualHost, limit: usize, notes: &mut Notes) -> Result<VirtualHost, Rejection> {
    refuse(&host.rate_limits, "rate_limits")?;
    refuse(&host.cors, "cors")?;
    refuse(&host.retry_policy_typed_config, "retry_policy_typed_config")?;
    refuse(&host.hedge_policy, "hedge_policy")?;
    refuse(&host.request_mirror_policies, "request_mirror_policies")?;
    notes.ignored(&host.virtual_clusters, "virtual_hosts.virtual_clusters");
    notes.ignored(&host.metadata, "virtual_hosts.metadata");
    notes.ignored(host.include_is_timeout_retry_header, "virtual_hosts.include_is_timeout_retry_header");
    let retry = host.retry_policy.as_ref().map(|policy| retry::retry_policy(policy, notes).map(Arc::new));
    let retry = retry.transpose().within(|| "retry_policy")?;
    let buffer =
        buffer(host.per_request_buffer_limit_bytes.as_ref(), host.request_body_buffer_limit.as_ref());
    let options = |notes: &mut Notes| {
        Ok(HostOptions {
            attempt_count_in_request: host.include_request_attempt_count,
            attempt_count_in_response: host.include_attempt_count_in_response,
            common: level_config(
                &host.request_headers_to_add,
                &host.request_headers_to_remove,
                (&host.response_headers_to_add, &host.response_headers_to_remove),
                &host.typed_per_filter_config,
                notes,
            )?,
        })
    };
    let effect = |wire: &wire::Route, matches: &RouteMatch, notes: &mut Notes| {
        let decoded = effect(wire, matches, retry.as_ref(), limit, notes)?;
        Ok(RouteEffect { buffer_limit: decoded.buffer_limit.or(buffer), ..decoded })
    };
    routing::virtual_host(host, notes, options, effect)
}

fn buffer(
    small: Option<&envoy_types::pb::google::protobuf::UInt32Value>,
    large: Option<&envoy_types::pb::google::protobuf::UInt64Value>,
) -> Option<u64> {
    large.map(|limit| limit.value).or(small.map(|limit| u64::from(limit.value)))
}

fn effect(
    route: &wire::Route,
    matches: &RouteMatch,
    retry: Option<&Arc<RetryPolicy>>,
    body_limit: usize,
    notes: &mut Notes,
) -> Result<RouteEffect, Rejection> {
    notes.ignored(&route.metadata, "routes.metadata");
    notes.ignored(&route.decorator, "routes.decorator");
    let action = match &route.action {
        Some(wire::route::Action::Route(action)) => RouteAction::Forward(Box::new(
            forward::forward(action, matches, retry, notes).within(|| "route")?,
        )),
        Some(wire::route::Action::Redirect(redirect)) => {
            RouteAction::Redirect(Box::new(routing::redirect(redirect).within(|| "redirect")?))
        }
        Some(wire::route::Action::DirectResponse(direct)) => {
            RouteAction::Direct(direct_response(direct, body_limit).within(|| "direct_response")?)
        }
        Some(wire::route::Action::NonForwardingAction(_)) => RouteAction::NonForwarding,
        Some(wire::route::Action::FilterAction(_)) => return Err(Rejection::unsupported("filter_action")),
        None => return Err(Rejection::new("action", "is missing")),
    };
    let tracing = route.tracing.as_ref().map(|tracing| tracer::decode::of_route(tracing, notes));
    Ok(RouteEffect {
        action,
        buffer_limit: buffer(
            route.per_request_buffer_limit_bytes.as_ref(),
            route.request_body_buffer_limit.as_ref(),
        ),
        counts: RouteCounts::of_prefix(&route.stat_prefix),
        tracing: tracing.transpose().within(|| "tracing")?.map(Box::new),
        common: level_config(
            &route.request_headers_to_add,
            &route.request_headers_to_remove,
            (&route.response_headers_to_add, &route.response_headers_to_remove),
            &route.typed_per_filter_config,
            notes,
        )?,
    })
}

fn direct_response(direct: &wire::DirectResponseAction, limit: usize) -> Result<DirectResponse, Rejection> {
    let status = u16::try_from(direct.status).ok().filter(|status| (200..600).contains(status));
    let status = status
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or_else(|| Rejection::new("status", format!("{} is not 200 to 599", direct.status)))?;
    let body =
        direct.body.as_ref().map(fields::content).transpose().within(|| "body")?.unwrap_or_else(Bytes::new);
    if body.len() > limit {
        let reason =
            format!("has {} bytes, more than max_direct_response_body_size_bytes, {limit}", body.len());
        return Err(Rejection::new("body", reason));
    }
    let format =
        direct.body_format.as_ref().map(format::substitution).transpose().within(|| "body_format")?;
    Ok(DirectResponse { status, body, format: format.map(Arc::new) })
}
