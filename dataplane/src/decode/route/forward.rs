//! `RouteAction`.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::RoutingPriority;
use envoy_types::pb::envoy::config::route::v3 as wire;
use envoy_types::pb::google::protobuf::Duration as PbDuration;
use http::StatusCode;
use weft_routing::decode::fields::header_name;
use weft_routing::decode::route::{cluster_choice, path_rewrite, substitution};
use weft_routing::rejection::{Notes, Rejection, Within as _, refuse};
use weft_routing::route::RouteMatch;
use wire::route_action::{ClusterNotFoundResponseCode, HostRewriteSpecifier};
use wire::weighted_cluster::{ClusterWeight, cluster_weight};

use super::super::fields;
use super::hash::hash_policies;
use super::level_config::level_config;
use super::retry::retry_policy;
use crate::route::{Forward, HostRewrite, MemberOptions, Priority, RetryPolicy, RouteUpgrade};

const ROUTE_TIMEOUT: Duration = Duration::from_secs(15);

/// Reads how a request is sent on.
pub(super) fn forward(
    action: &wire::RouteAction,
    matches: &RouteMatch,
    retry: Option<&Arc<RetryPolicy>>,
    notes: &mut Notes,
) -> Result<Forward, Rejection> {
    refuse(&action.path_rewrite_policy, "path_rewrite_policy")?;
    refuse(&action.path_rewrite, "path_rewrite")?;
    refuse(&action.retry_policy_typed_config, "retry_policy_typed_config")?;
    refuse(&action.request_mirror_policies, "request_mirror_policies")?;
    refuse(&action.rate_limits, "rate_limits")?;
    refuse(&action.cors, "cors")?;
    refuse(&action.internal_redirect_policy, "internal_redirect_policy")?;
    refuse(action.internal_redirect_action != 0, "internal_redirect_action")?;
    refuse(&action.hedge_policy, "hedge_policy")?;
    notes.ignored(&action.metadata_match, "routes.route.metadata_match");
    notes.ignored(&action.early_data_policy, "routes.route.early_data_policy");
    notes.ignored(&action.flush_timeout, "routes.route.flush_timeout");
    notes.ignored(&action.max_internal_redirects, "routes.route.max_internal_redirects");
    notes.ignored(&action.include_vh_rate_limits, "routes.route.include_vh_rate_limits");
    let own_retry = action.retry_policy.as_ref().map(|policy| retry_policy(policy, notes).map(Arc::new));
    let own_retry = own_retry.transpose().within(|| "retry_policy")?;
    let idle = fields::duration(action.idle_timeout.as_ref(), "idle_timeout")?;
    let streams = stream_limits(action)?;
    let priority = match RoutingPriority::try_from(action.priority) {
        Ok(RoutingPriority::Default) => Priority::Default,
        Ok(RoutingPriority::High) => Priority::High,
        Err(_) => return Err(Rejection::new("priority", "is unknown")),
    };
    Ok(Forward {
        cluster: cluster_choice(action, notes, member_options)?,
        cluster_not_found: match ClusterNotFoundResponseCode::try_from(action.cluster_not_found_response_code)
        {
            Ok(ClusterNotFoundResponseCode::ServiceUnavailable) => StatusCode::SERVICE_UNAVAILABLE,
            Ok(ClusterNotFoundResponseCode::NotFound) => StatusCode::NOT_FOUND,
            Ok(ClusterNotFoundResponseCode::InternalServerError) => StatusCode::INTERNAL_SERVER_ERROR,
            Err(_) => return Err(Rejection::new("cluster_not_found_response_code", "is unknown")),
        },
        timeout: fields::timeout(action.timeout.as_ref(), Some(ROUTE_TIMEOUT), "timeout")?,
        idle_timeout: idle.map(non_zero),
        max_stream_duration: streams.max,
        grpc_timeout_max: streams.grpc_max,
        grpc_timeout_offset: streams.grpc_offset,
        retry: own_retry.or_else(|| retry.cloned()),
        hash: hash_policies(&action.hash_policy)?,
        path_rewrite: path_rewrite(action, matches)?,
        host_rewrite: host_rewrite(action)?,
        append_forwarded_host: action.append_x_forwarded_host,
        priority,
        upgrades: upgrades(action)?,
    })
}

fn non_zero(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

#[derive(Default)]
struct StreamLimits {
    max: Option<Option<Duration>>,
    grpc_max: Option<Option<Duration>>,
    grpc_offset: Duration,
}

impl StreamLimits {
    fn read_grpc(&mut self, given: &Option<PbDuration>, field: &str) -> Result<(), Rejection> {
        if let Some(max) = fields::duration(given.as_ref(), field)? {
            self.grpc_max = Some(non_zero(max));
        }
        Ok(())
    }

    fn read_offset(&mut self, given: &Option<PbDuration>, field: &str) -> Result<(), Rejection> {
        if let Some(offset) = fields::duration(given.as_ref(), field)? {
            self.grpc_offset = offset;
        }
        Ok(())
    }
}

fn stream_limits(action: &wire::RouteAction) -> Result<StreamLimits, Rejection> {
    let mut limits = StreamLimits::default();
    // The deprecated fields first; the message replaces them.
    limits.read_grpc(&action.max_grpc_timeout, "max_grpc_timeout")?;
    limits.read_offset(&action.grpc_timeout_offset, "grpc_timeout_offset")?;
    let Some(streams) = &action.max_stream_duration else { return Ok(limits) };
    let at = || "max_stream_duration";
    let max = fields::duration(streams.max_stream_duration.as_ref(), "max_stream_duration")?;
    limits.max = max.map(non_zero);
    limits.read_grpc(&streams.grpc_timeout_header_max, "grpc_timeout_header_max").within(at)?;
    limits.read_offset(&streams.grpc_timeout_header_offset, "grpc_timeout_header_offset").within(at)?;
    Ok(limits)
}

fn host_rewrite(action: &wire::RouteAction) -> Result<Option<HostRewrite>, Rejection> {
    Ok(match &action.host_rewrite_specifier {
        None => None,
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
            Some(HostRewrite::Literal(host.as_str().into()))
        }
        Some(HostRewriteSpecifier::AutoHostRewrite(auto)) => auto.value.then_some(HostRewrite::Auto),
        Some(HostRewriteSpecifier::HostRewriteHeader(name)) => {
            Some(HostRewrite::Header(header_name(name, "host_rewrite_header")?))
        }
        Some(HostRewriteSpecifier::HostRewritePathRegex(regex)) => {
            Some(HostRewrite::Path(substitution(regex).within(|| "host_rewrite_path_regex")?))
        }
        Some(HostRewriteSpecifier::HostRewrite(_)) => return Err(Rejection::unsupported("host_rewrite")),
    })
}

fn upgrades(action: &wire::RouteAction) -> Result<Vec<RouteUpgrade>, Rejection> {
    let mut upgrades = Vec::with_capacity(action.upgrade_configs.len());
    for upgrade in &action.upgrade_configs {
        let connect = upgrade.connect_config.as_ref();
        if let Some(connect) = connect {
            refuse(&connect.proxy_protocol_config, "upgrade_configs.connect_config.proxy_protocol_config")?;
            refuse(connect.allow_post, "upgrade_configs.connect_config.allow_post")?;
        }
        upgrades.push(RouteUpgrade {
            kind: upgrade.upgrade_type.as_str().into(),
            enabled: upgrade.enabled.as_ref().is_none_or(|enabled| enabled.value),
            terminates_connect: connect.is_some(),
        });
    }
    Ok(upgrades)
}

fn member_options(member: &ClusterWeight, notes: &mut Notes) -> Result<MemberOptions, Rejection> {
    Ok(MemberOptions {
        host_rewrite: member.host_rewrite_specifier.as_ref().map(|rewrite| match rewrite {
            cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host) => host.as_str().into(),
        }),
        common: level_config(
            &member.request_headers_to_add,
            &member.request_headers_to_remove,
            (&member.response_headers_to_add, &member.response_headers_to_remove),
            &member.typed_per_filter_config,
            notes,
        )?,
    })
}
