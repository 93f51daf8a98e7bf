//! `RouteAction`.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::RoutingPriority;
use envoy_types::pb::envoy::config::route::v3 as wire;
use envoy_types::pb::google::protobuf::Duration as PbDuration;
use http::{HeaderName, StatusCode};
use wire::route_action::{ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier};
use wire::weighted_cluster::cluster_weight;

use super::super::fields;
use super::level_config::level_config;
use super::retry::retry_policy;
use super::rewrite::{check_prefix_rewrite, substitution};
use crate::rejection::{Notes, Rejection, Within as _, refuse};
use crate::route::{
    ClusterChoice, Forward, HostRewrite, PathRewrite, Priority, RetryPolicy, RouteMatch, RouteUpgrade,
    WeightedCluster,
};

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
    notes.ignored(&action.hash_policy, "routes.route.hash_policy");
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
        cluster: cluster_choice(action, notes)?,
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

fn path_rewrite(action: &wire::RouteAction, matches: &RouteMatch) -> Result<Option<PathRewrite>, Rejection> {
    match (&action.prefix_rewrite, &action.regex_rewrite) {
        (prefix, Some(_)) if !prefix.is_empty() => {
            Err(Rejection::new("regex_rewrite", "may not stand beside prefix_rewrite"))
        }
        (_, Some(regex)) => Ok(Some(PathRewrite::Regex(substitution(regex).within(|| "regex_rewrite")?))),
        (prefix, None) if !prefix.is_empty() => {
            check_prefix_rewrite(matches)?;
            Ok(Some(PathRewrite::Prefix(prefix.as_str().into())))
        }
        _ => Ok(None),
    }
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

fn header_name(name: &str, field: &str) -> Result<HeaderName, Rejection> {
    HeaderName::try_from(name)
        .map_err(|_| Rejection::new(field, format!("{name:?} is not the name of a header")))
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

fn cluster_choice(action: &wire::RouteAction, notes: &mut Notes) -> Result<ClusterChoice, Rejection> {
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) if name.is_empty() => {
            Err(Rejection::new("cluster", "is empty"))
        }
        Some(ClusterSpecifier::Cluster(name)) => Ok(ClusterChoice::Named(name.as_str().into())),
        Some(ClusterSpecifier::ClusterHeader(name)) => {
            Ok(ClusterChoice::Header(header_name(name, "cluster_header")?))
        }
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            weighted_clusters(weighted, notes).within(|| "weighted_clusters")
        }
        Some(ClusterSpecifier::ClusterSpecifierPlugin(_)) => {
            Err(Rejection::unsupported("cluster_specifier_plugin"))
        }
        Some(ClusterSpecifier::InlineClusterSpecifierPlugin(_)) => {
            Err(Rejection::unsupported("inline_cluster_specifier_plugin"))
        }
        None => Err(Rejection::new("cluster_specifier", "is missing")),
    }
}

fn weighted_clusters(
    weighted: &wire::WeightedCluster,
    notes: &mut Notes,
) -> Result<ClusterChoice, Rejection> {
    refuse(&weighted.random_value_specifier, "random_value_specifier")?;
    notes.ignored(&weighted.runtime_key_prefix, "routes.route.weighted_clusters.runtime_key_prefix");
    let mut clusters = Vec::with_capacity(weighted.clusters.len());
    for wire in &weighted.clusters {
        let at = || format!("clusters[{}]", wire.name);
        refuse(&wire.cluster_header, "cluster_header").within(at)?;
        notes.ignored(&wire.metadata_match, "routes.route.weighted_clusters.clusters.metadata_match");
        if wire.name.is_empty() {
            return Err(Rejection::new("clusters.name", "is empty"));
        }
        clusters.push(WeightedCluster {
            name: wire.name.as_str().into(),
            weight: wire.weight.as_ref().map_or(0, |weight| weight.value),
            host_rewrite: wire.host_rewrite_specifier.as_ref().map(|rewrite| match rewrite {
                cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host) => host.as_str().into(),
            }),
            common: level_config(
                &wire.request_headers_to_add,
                &wire.request_headers_to_remove,
                (&wire.response_headers_to_add, &wire.response_headers_to_remove),
                &wire.typed_per_filter_config,
                notes,
            )
            .within(at)?,
        });
    }
    let total: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
    if total == 0 || total > u64::from(u32::MAX) {
        return Err(Rejection::new(
            "clusters",
            format!("the sum of the weights is {total}, it must be 1 to 2^32-1"),
        ));
    }
    Ok(ClusterChoice::Weighted { clusters, total })
}
