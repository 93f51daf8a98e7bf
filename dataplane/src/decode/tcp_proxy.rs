//! `tcp_proxy`.

use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy as PbTcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use envoy_types::pb::envoy::r#type::v3::HashPolicy;
use envoy_types::pb::envoy::r#type::v3::hash_policy::PolicySpecifier;
use weft_routing::rejection::{Rejection, Within as _, refuse};

use super::{DecodeContext, access_log, fields};
use crate::runtime::{TcpClusterWeight, TcpProxy, TcpTarget};
use crate::stats::{StatsScope, TcpStats};

const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn decode(given: &PbTcpProxy, context: &mut DecodeContext<'_>) -> Result<TcpProxy, Rejection> {
    refuse(&given.on_demand, "on_demand")?;
    refuse(&given.metadata_match, "metadata_match")?;
    refuse(&given.tunneling_config, "tunneling_config")?;
    refuse(&given.proxy_protocol_tlvs, "proxy_protocol_tlvs")?;
    refuse(given.upstream_connect_mode != 0, "upstream_connect_mode")?;
    context.notes.ignored(&given.backoff_options, "tcp_proxy.backoff_options");
    context.notes.ignored(&given.downstream_idle_timeout, "tcp_proxy.downstream_idle_timeout");
    context.notes.ignored(&given.upstream_idle_timeout, "tcp_proxy.upstream_idle_timeout");
    context.notes.ignored(&given.access_log_options, "tcp_proxy.access_log_options");
    let target = match &given.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) if !name.is_empty() => TcpTarget::Cluster(name.as_str().into()),
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let mut all = Vec::new();
            for (index, cluster) in weighted.clusters.iter().enumerate() {
                refuse(&cluster.metadata_match, "metadata_match")
                    .within(|| format!("weighted_clusters.clusters[{index}]"))?;
                all.push(TcpClusterWeight { name: cluster.name.as_str().into(), weight: cluster.weight });
            }
            if all.iter().all(|cluster| cluster.weight == 0) {
                return Err(Rejection::new("weighted_clusters", "the weights must not sum to 0"));
            }
            TcpTarget::Weighted(all)
        }
        Some(ClusterSpecifier::Cluster(_)) | None => {
            return Err(Rejection::new("cluster", "a cluster is needed"));
        }
    };
    if given.stat_prefix.is_empty() {
        return Err(Rejection::new("stat_prefix", "must not be empty"));
    }
    Ok(TcpProxy {
        stat_prefix: given.stat_prefix.as_str().into(),
        stats: TcpStats::register(context.registry, &StatsScope::tcp(&given.stat_prefix)),
        target,
        idle_timeout: fields::timeout(given.idle_timeout.as_ref(), Some(HOUR), "idle_timeout")?,
        hash_source: hash_source(&given.hash_policy)?,
        connect_attempts: fields::number(given.max_connect_attempts.as_ref()).unwrap_or(1).max(1),
        max_duration: fields::timeout(
            given.max_downstream_connection_duration.as_ref(),
            None,
            "max_downstream_connection_duration",
        )?,
        access_log: access_log::decode(&given.access_log, context)?,
    })
}

/// Whether the caller's address is hashed; Envoy takes one entry at most.
fn hash_source(given: &[HashPolicy]) -> Result<bool, Rejection> {
    match given {
        [] => Ok(false),
        [HashPolicy { policy_specifier: Some(PolicySpecifier::SourceIp(_)) }] => Ok(true),
        [HashPolicy { policy_specifier: Some(PolicySpecifier::FilterState(_)) }] => {
            Err(Rejection::unsupported("hash_policy[0].filter_state"))
        }
        [HashPolicy { policy_specifier: None }] => Err(Rejection::new("hash_policy[0]", "says nothing")),
        [_, _, ..] => Err(Rejection::new("hash_policy", "has at most one entry")),
    }
}
