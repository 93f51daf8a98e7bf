//! Hosts that no service of the mesh has: refused, or, where `Mesh.defaults.outbound` is Allow, forwarded as they are.
//!
//! Forwarding is Envoy's dynamic forward proxy: a filter finds the addresses of the host that a request names, and a
//! cluster connects to them. It never leads to the machine itself or to its link (which metadata services of clouds
//! answer on): what listens there trusts who is there, and a request that a stranger talked the application into would
//! come from there. Names lose such addresses when they are resolved; what is left, an address that is written out, the
//! authorization filter refuses, and with it the ports of the control planes.

use std::collections::HashMap;
use std::net::IpAddr;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CustomClusterType, DnsLookupFamily, LbPolicy,
};
use envoy_types::pb::envoy::config::core::v3::{CidrRange, TypedExtensionConfig};
use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use envoy_types::pb::envoy::config::route::v3::{RouteAction, VirtualHost};
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::{
    ClusterConfig, cluster_config,
};
use envoy_types::pb::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::{
    FilterConfig, filter_config,
};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::{Rbac, RbacPerRoute};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::extensions::rbac::matchers::upstream_ip_port::v3::UpstreamIpPortMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::AddressMatcher;
use envoy_types::pb::envoy::r#type::v3::Int64Range;
use envoy_types::pb::xds::core::v3 as xds;
use prost::Message;
use weft_api::resource::{Resource, ResourceKind};

use super::compiled::{Compiled, Origins};
use super::model::Model;
use super::overrides::FilterOverrides;
use super::scope::{Scope, Visibility};
use super::{cluster, http, route, tracing, wire};
use crate::kinds::external_service::ExternalService;
use crate::kinds::mesh::{DefaultAction, OutboundMode};
use crate::kinds::service::Protocol;
use crate::set::EffectiveTelemetry;

/// Cluster, cache of names, and what is common in the names of filters. No service's cluster is called so: those have
/// slashes.
pub(super) const DYNAMIC_FORWARD_PROXY: &str = "dynamic_forward_proxy";
const AUTHORIZATION: &str = "envoy.filters.http.rbac.unknown_hosts";
/// The rule that refuses.
const NOT_FORWARDED: &str = "an-address-that-is-not-forwarded-to";

/// What a caller of an unknown host is told where none is forwarded.
const UNKNOWN_HOST: &str =
    "no service of the mesh has this host name, and Mesh defaults.outbound is RegistryOnly";

/// The machine itself, and what answers on its link only: IPv4, IPv6, and IPv4 written as IPv6.
const OWN_ADDRESSES: [(&str, u32); 9] = [
    ("0.0.0.0", 8),
    ("127.0.0.0", 8),
    ("169.254.0.0", 16),
    ("::", 128),
    ("::1", 128),
    ("fe80::", 10),
    ("::ffff:0.0.0.0", 104),
    ("::ffff:127.0.0.0", 104),
    ("::ffff:169.254.0.0", 112),
];

/// Whether hosts that no service has are forwarded.
pub(super) fn are_forwarded(model: &Model<'_>) -> bool {
    model.set.defaults().0.outbound == OutboundMode::Allow
}

/// Whether hosts outside are looked up when requests name them.
pub(super) fn are_looked_up(model: &Model<'_>) -> bool {
    model.set.objects_of::<ExternalService>().any(|external| external.spec.is_on_demand())
}

/// What callers are told of a host name that they are told of no service for.
pub(super) fn reason(scope: &Scope, model: &Model<'_>) -> (u32, String) {
    let caller = scope.caller();
    match (&scope.sees, model.set.defaults().0.authorization) {
        (Visibility::All, _) => (502, UNKNOWN_HOST.to_owned()),
        (Visibility::Declared { .. }, DefaultAction::Allow) => (
            502,
            format!(
                "{caller} is told of no service with this host name: there is none, or it is not among the workload's \
                 upstreams and no AuthorizationPolicy allows it by name (Mesh defaults.view is Declared)"
            ),
        ),
        (Visibility::Declared { .. }, DefaultAction::Deny) => (
            403,
            format!(
                "no AuthorizationPolicy allows {caller} to call a service with this host name, or there is no such \
                 service (Mesh defaults.authorization is Deny)"
            ),
        ),
    }
}

/// The encoded virtual host without its domains, and the cluster that it needs.
pub(super) fn virtual_host(scope: &Scope, model: &Model<'_>) -> (Vec<u8>, Option<&'static str>) {
    let host = |mut routes: Vec<_>| {
        tracing::sample(&mut routes, &EffectiveTelemetry::default(), model);
        VirtualHost { name: "unknown".to_owned(), routes, ..Default::default() }
    };
    if !are_forwarded(model) {
        let (status, text) = reason(scope, model);
        let answer = |matched| route::answer(matched, status, &text);
        let refusing = host(vec![answer(route::any_tunnel()), answer(route::any_path())]);
        return (refusing.encode_to_vec(), None);
    }
    let action = RouteAction {
        cluster_specifier: Some(route::to_cluster(DYNAMIC_FORWARD_PROXY)),
        ..route::defaults()
    };
    let forwarding = host(vec![route::tunnel(&action), route::forward(route::any_path(), action)]);
    (bounded(&forwarding, model), Some(DYNAMIC_FORWARD_PROXY))
}

/// Encodes a virtual host whose requests name what is looked up, with what is refused of it.
pub(super) fn bounded(host: &VirtualHost, model: &Model<'_>) -> Vec<u8> {
    let mut overrides = FilterOverrides::default();
    overrides.insert(AUTHORIZATION, wire::any(&refusal(model)));
    overrides.encode(host)
}

/// The filters of a listener for the application's requests, before the router. The rules stand in the virtual host:
/// other requests have no address to be judged by.
pub(super) fn http_filters(model: &Model<'_>) -> Vec<HttpFilter> {
    if !are_forwarded(model) && !are_looked_up(model) {
        return Vec::new();
    }
    let look_up = FilterConfig {
        save_upstream_address: true,
        implementation_specifier: Some(filter_config::ImplementationSpecifier::DnsCacheConfig(dns_cache())),
        ..Default::default()
    };
    vec![
        http::http_filter("envoy.filters.http.dynamic_forward_proxy", wire::any(&look_up)),
        http::http_filter(AUTHORIZATION, wire::any(&Rbac::default())),
    ]
}

/// The cluster; nothing where no host is forwarded.
pub(super) fn compile(model: &Model<'_>) -> Option<Compiled> {
    if !are_forwarded(model) {
        return None;
    }
    let cluster = Cluster {
        name: DYNAMIC_FORWARD_PROXY.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::ClusterType(looked_up())),
        lb_policy: LbPolicy::ClusterProvided as i32,
        connect_timeout: Some(wire::duration(cluster::CONNECT_TIMEOUT)),
        circuit_breakers: Some(cluster::generous()),
        // One entry, so the order of the map cannot show.
        typed_extension_protocol_options: HashMap::from_iter(cluster::protocol_options(
            Protocol::Http,
            Some(cluster::IDLE_TIMEOUT),
        )),
        ..Default::default()
    };
    let resource =
        Resource::new(ResourceKind::Cluster, DYNAMIC_FORWARD_PROXY, cluster.encode_to_vec(), vec![]);
    let mut origins = Origins::default();
    origins.extend(model.set.defaults().1);
    Some(Compiled::new(resource, origins.into_vec()))
}

/// How a cluster finds the hosts that requests name. All share one cache.
pub(super) fn looked_up() -> CustomClusterType {
    let config = ClusterConfig {
        // It is about TLS to the hosts, and these connections have none: what the application encrypts goes through
        // a tunnel.
        allow_insecure_cluster_options: true,
        cluster_implementation_specifier: Some(
            cluster_config::ClusterImplementationSpecifier::DnsCacheConfig(dns_cache()),
        ),
        ..Default::default()
    };
    CustomClusterType {
        name: "envoy.clusters.dynamic_forward_proxy".to_owned(),
        typed_config: Some(wire::any(&config)),
    }
}

/// Equal in the filter and in the cluster, which share the cache.
fn dns_cache() -> DnsCacheConfig {
    let ranges = OWN_ADDRESSES.map(|(prefix, length)| xds::CidrRange {
        address_prefix: prefix.to_owned(),
        prefix_len: Some(wire::uint32(length)),
    });
    DnsCacheConfig {
        name: DYNAMIC_FORWARD_PROXY.to_owned(),
        dns_lookup_family: DnsLookupFamily::V4Preferred as i32,
        // An Envoy before 1.40 does not know it and judges by the first address, in the authorization filter.
        resolved_address_filter: Some(AddressMatcher { ranges: ranges.into(), ..Default::default() }),
        ..Default::default()
    }
}

/// Refuses what would lead to the machine itself or to a control plane. One rule, since the order of a map of several
/// would differ from time to time.
fn refusal(model: &Model<'_>) -> RbacPerRoute {
    let own = OWN_ADDRESSES.iter().map(|(prefix, length)| upstream(prefix, *length, None));
    let control_planes = model.control_planes.iter().flat_map(|address| {
        let (ip, port) = (address.ip(), Some(address.port()));
        let written_as_ipv6 = match ip {
            IpAddr::V4(ip) => Some(upstream(&ip.to_ipv6_mapped().to_string(), 128, port)),
            IpAddr::V6(_) => None,
        };
        let length = if ip.is_ipv4() { 32 } else { 128 };
        [upstream(&ip.to_string(), length, port)].into_iter().chain(written_as_ipv6)
    });
    let policy = rbac::Policy {
        permissions: own.chain(control_planes).collect(),
        principals: vec![rbac::Principal { identifier: Some(rbac::principal::Identifier::Any(true)) }],
        ..Default::default()
    };
    let rules = rbac::Rbac {
        action: rbac::rbac::Action::Deny as i32,
        policies: HashMap::from([(NOT_FORWARDED.to_owned(), policy)]),
        ..Default::default()
    };
    RbacPerRoute { rbac: Some(Rbac { rules: Some(rules), ..Default::default() }) }
}

/// Permission for a range of addresses that a request would be forwarded to, at one port or at all.
fn upstream(prefix: &str, length: u32, port: Option<u16>) -> rbac::Permission {
    let matcher = UpstreamIpPortMatcher {
        upstream_ip: Some(CidrRange {
            address_prefix: prefix.to_owned(),
            prefix_len: Some(wire::uint32(length)),
        }),
        upstream_port_range: port.map(i64::from).map(|port| Int64Range { start: port, end: port + 1 }),
    };
    let extension = TypedExtensionConfig {
        name: "envoy.rbac.matchers.upstream_ip_port".to_owned(),
        typed_config: Some(wire::any(&matcher)),
    };
    rbac::Permission { rule: Some(rbac::permission::Rule::Matcher(extension)) }
}
