//! Which clusters a `RouteAction` leads to.

use envoy_types::pb::envoy::config::route::v3 as wire;
use wire::route_action::ClusterSpecifier;
use wire::weighted_cluster::ClusterWeight;

use super::super::fields::header_name;
use crate::rejection::{Notes, Rejection, Within as _, refuse};
use crate::route::{ClusterChoice, WeightedCluster};

/// Reads where requests are sent. `options` reads what else a member of `weighted_clusters` says.
///
/// # Errors
/// No cluster, or one that is found in a way that is not supported.
pub fn cluster_choice<O>(
    action: &wire::RouteAction,
    notes: &mut Notes,
    options: impl FnMut(&ClusterWeight, &mut Notes) -> Result<O, Rejection>,
) -> Result<ClusterChoice<O>, Rejection> {
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) if name.is_empty() => {
            Err(Rejection::new("cluster", "is empty"))
        }
        Some(ClusterSpecifier::Cluster(name)) => Ok(ClusterChoice::Named(name.as_str().into())),
        Some(ClusterSpecifier::ClusterHeader(name)) => {
            Ok(ClusterChoice::Header(header_name(name, "cluster_header")?))
        }
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            weighted_clusters(weighted, notes, options).within(|| "weighted_clusters")
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

fn weighted_clusters<O>(
    weighted: &wire::WeightedCluster,
    notes: &mut Notes,
    mut options: impl FnMut(&ClusterWeight, &mut Notes) -> Result<O, Rejection>,
) -> Result<ClusterChoice<O>, Rejection> {
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
            options: options(wire, notes).within(at)?,
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
