//! How names are looked up: `dns_lookup_family`, and `DnsCacheConfig` for hosts that only requests name.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::cluster::DnsLookupFamily;
use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::ClusterConfig;
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::cluster_config::ClusterImplementationSpecifier;
use envoy_types::pb::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::FilterConfig;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::filter_config::ImplementationSpecifier;
use weft_routing::network::IpPrefix;
use weft_routing::rejection::{Notes, Rejection, Within as _, refuse};

use super::fields::{self, number};
use crate::dns::LookupFamily;
use crate::runtime::DnsCache;

/// Reads the configuration of `envoy.clusters.dynamic_forward_proxy`.
pub(super) fn of_cluster(given: &ClusterConfig, notes: &mut Notes) -> Result<DnsCache, Rejection> {
    notes.ignored(given.allow_coalesced_connections, "cluster_type.allow_coalesced_connections");
    match &given.cluster_implementation_specifier {
        Some(ClusterImplementationSpecifier::DnsCacheConfig(config)) => {
            decode(config, notes).within(|| "dns_cache_config")
        }
        Some(ClusterImplementationSpecifier::SubClustersConfig(_)) => {
            Err(Rejection::unsupported("sub_clusters_config"))
        }
        None => Err(Rejection::new("dns_cache_config", "is needed")),
    }
}

/// Checks the configuration of `envoy.filters.http.dynamic_forward_proxy`. What it says of the cache stands in the
/// cluster too, which is asked.
pub(crate) fn of_filter(given: &FilterConfig, notes: &mut Notes) -> Result<(), Rejection> {
    refuse(given.allow_dynamic_host_from_filter_state, "allow_dynamic_host_from_filter_state")?;
    match &given.implementation_specifier {
        Some(ImplementationSpecifier::DnsCacheConfig(config)) => {
            decode(config, notes).within(|| "dns_cache_config").map(|_| ())
        }
        Some(ImplementationSpecifier::SubClusterConfig(_)) => {
            Err(Rejection::unsupported("sub_cluster_config"))
        }
        None => Err(Rejection::new("dns_cache_config", "is needed")),
    }
}

fn decode(given: &DnsCacheConfig, notes: &mut Notes) -> Result<DnsCache, Rejection> {
    if given.name.is_empty() {
        return Err(Rejection::new("name", "must not be empty"));
    }
    refuse(&given.preresolve_hostnames, "preresolve_hostnames")?;
    refuse(&given.key_value_config, "key_value_config")?;
    notes.ignored(&given.dns_min_refresh_rate, "dns_cache_config.dns_min_refresh_rate");
    notes.ignored(&given.dns_failure_refresh_rate, "dns_cache_config.dns_failure_refresh_rate");
    notes.ignored(given.disable_dns_refresh_on_failure, "dns_cache_config.disable_dns_refresh_on_failure");
    notes.ignored(given.use_tcp_for_dns_lookups, "dns_cache_config.use_tcp_for_dns_lookups");
    notes.ignored(&given.dns_resolution_config, "dns_cache_config.dns_resolution_config");
    notes.ignored(&given.typed_dns_resolver_config, "dns_cache_config.typed_dns_resolver_config");
    let seconds = Duration::from_secs;
    let default = |span: Option<Duration>, default| span.filter(|span| !span.is_zero()).unwrap_or(default);
    let pending = given.dns_cache_circuit_breaker.as_ref();
    let pending = pending.and_then(|breaker| number(breaker.max_pending_requests.as_ref()));
    Ok(DnsCache {
        name: given.name.as_str().into(),
        family: lookup_family(given.dns_lookup_family)?,
        refresh: default(fields::duration(given.dns_refresh_rate.as_ref(), "dns_refresh_rate")?, seconds(60)),
        host_ttl: default(fields::duration(given.host_ttl.as_ref(), "host_ttl")?, seconds(300)),
        query_timeout: default(
            fields::duration(given.dns_query_timeout.as_ref(), "dns_query_timeout")?,
            seconds(5),
        ),
        max_hosts: number(given.max_hosts.as_ref()).unwrap_or(1024) as usize,
        max_pending: pending.unwrap_or(1024) as usize,
        denied: denied(given)?,
    })
}

/// Reads a `dns_lookup_family`.
pub(super) fn lookup_family(given: i32) -> Result<LookupFamily, Rejection> {
    Ok(match DnsLookupFamily::try_from(given) {
        Ok(DnsLookupFamily::Auto) => LookupFamily::Auto,
        Ok(DnsLookupFamily::V4Only) => LookupFamily::V4Only,
        Ok(DnsLookupFamily::V6Only) => LookupFamily::V6Only,
        Ok(DnsLookupFamily::V4Preferred) => LookupFamily::V4Preferred,
        Ok(DnsLookupFamily::All) => LookupFamily::All,
        Err(_) => return Err(Rejection::new("dns_lookup_family", "unknown value")),
    })
}

fn denied(given: &DnsCacheConfig) -> Result<Vec<IpPrefix>, Rejection> {
    let Some(filter) = &given.resolved_address_filter else { return Ok(Vec::new()) };
    let at = || "resolved_address_filter";
    refuse(filter.invert_match, "invert_match").within(at)?;
    let range = |(index, range): (usize, &envoy_types::pb::xds::core::v3::CidrRange)| {
        let range = CidrRange { address_prefix: range.address_prefix.clone(), prefix_len: range.prefix_len };
        fields::prefix(&range).within(|| format!("ranges[{index}]"))
    };
    filter.ranges.iter().enumerate().map(range).collect::<Result<_, _>>().within(at)
}
