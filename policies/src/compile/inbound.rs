//! What a sidecar does with the requests of other workloads: the inbound listener and the clusters of its own
//! application.
//!
//! One listener takes everything by mTLS; the server name chooses the filter chain, one for each port of each
//! service that the workload belongs to.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};
use envoy_types::pb::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, listener_filter,
};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::{Route, RouteAction, RouteConfiguration, VirtualHost};
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use prost::Message;
use weft_api::names::{INBOUND_LISTENER, ServiceId, inbound_cluster_name, sni};
use weft_api::resource::{Resource, ResourceKind, ResourceRef};

use super::access_log::{self, LogDirection};
use super::compiled::{Compiled, Origins};
use super::jwt::PortJwt;
use super::model::{Model, WorkloadState};
use super::overrides::FilterOverrides;
use super::rbac::PortRbac;
use super::{cluster, http, rbac, request_log, route, tls, tracing, wire};
use crate::kinds::service::{Port, Protocol};
use crate::object::PolicyKey;

/// Field `virtual_hosts` of a route configuration.
const VIRTUAL_HOSTS: u32 = 2;

/// Compiles the inbound listener, and the routes and clusters behind it. Nothing for a workload that belongs to no
/// service.
pub(super) fn compile(workload: &WorkloadState, model: &Model<'_>) -> Vec<Compiled> {
    let mut compiled = Vec::new();
    let mut origins = Origins::default();
    let mut ports = Vec::new();
    let mut chains = Vec::new();
    let mut telemetry = Vec::new();
    let (mut key_clusters, mut outside) = (Vec::new(), Vec::new());
    for (service, spec) in model.services_of(workload) {
        origins.add(PolicyKey::of_service(&service));
        for port in &spec.ports {
            compiled.push(application_cluster(workload, &service, port));
            let authorization = PortRbac::of(&service, port, model);
            let jwt = PortJwt::of(&service, port, model);
            if port.protocol.is_http() {
                compiled.push(routes(&service, port, &authorization, &jwt, model));
                outside.extend(jwt.clusters());
                key_clusters.extend(jwt.refs(model));
                origins.extend(jwt.origin());
                telemetry.push(model.set.telemetry_for(&service, &port.name));
            } else {
                origins.extend(authorization.origins());
            }
            chains.push(chain(workload, &service, port, model, &authorization, &jwt));
            ports.push(port);
        }
    }
    origins.extend(tracing::origin(model));
    origins.extend(telemetry.iter().filter_map(request_log::origin));
    compiled.extend(request_log::clusters(&telemetry));
    // Several ports may have the same keys.
    let mut named = BTreeSet::new();
    outside.retain(|one: &Compiled| named.insert(one.resource.name.clone()));
    compiled.extend(outside);
    if !chains.is_empty() {
        let behind = compiled.iter().map(|compiled| compiled.resource.key());
        let mut behind: Vec<ResourceRef> = behind.chain(tracing::refs(model)).chain(key_clusters).collect();
        let mut seen = BTreeSet::new();
        behind.retain(|one| seen.insert(one.clone()));
        compiled.push(listener(workload, &ports, chains, behind, origins));
    }
    compiled
}

/// Where the application listens: loopback of the family that the workload's address has.
#[must_use]
pub fn application_ip(workload: &WorkloadState) -> IpAddr {
    // A workload whose sidecar has an address of its own on loopback (several on one machine) shares 127.0.0.1 too.
    match workload.address.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
    }
}

fn listener(
    workload: &WorkloadState,
    ports: &[&Port],
    chains: Vec<FilterChain>,
    mut refs: Vec<ResourceRef>,
    origins: Origins,
) -> Compiled {
    let listener = Listener {
        name: INBOUND_LISTENER.to_owned(),
        stat_prefix: INBOUND_LISTENER.to_owned(),
        address: Some(wire::socket(workload.inbound)),
        traffic_direction: TrafficDirection::Inbound as i32,
        listener_filters: vec![ListenerFilter {
            name: "envoy.filters.listener.tls_inspector".to_owned(),
            config_type: Some(listener_filter::ConfigType::TypedConfig(wire::any(&TlsInspector::default()))),
            ..Default::default()
        }],
        access_log: vec![access_log::of_connections(LogDirection::Inbound)],
        default_filter_chain: default_chain(ports, &chains),
        filter_chains: chains,
        ..Default::default()
    };
    refs.extend(tls::refs());
    let resource = Resource::new(ResourceKind::Listener, INBOUND_LISTENER, listener.encode_to_vec(), refs);
    Compiled::new(resource, origins.into_vec())
}

/// One port of one service, chosen by its server name.
fn chain(
    workload: &WorkloadState,
    service: &ServiceId,
    port: &Port,
    model: &Model<'_>,
    authorization: &PortRbac,
    jwt: &PortJwt,
) -> FilterChain {
    let name = inbound_cluster_name(service, port.name.as_str());
    let (filters, alpn) = if port.protocol.is_http() {
        let called = format!("{service} port {}", port.name);
        let logs = request_log::of_port(workload, service, port, model);
        let by_rds = http::by_rds(name.clone());
        let filters = jwt.http_filter(model).into_iter().chain(rbac::http_filters()).collect();
        let filter = http::inbound(workload, &name, &called, by_rds, filters, logs, model);
        (vec![filter], &tls::HTTP_ALPN[..])
    } else {
        (tcp_filters(&name, authorization), &[][..])
    };
    FilterChain {
        name: format!("{service}/{}", port.name),
        filter_chain_match: Some(FilterChainMatch {
            server_names: vec![sni(port.name.as_str(), service, model.trust_domain)],
            transport_protocol: "tls".to_owned(),
            ..Default::default()
        }),
        transport_socket: Some(tls::downstream(alpn)),
        filters,
        ..Default::default()
    }
}

/// The routes of a port: everything to the application, and who may call it. Equal for all members of the service.
fn routes(
    service: &ServiceId,
    port: &Port,
    authorization: &PortRbac,
    jwt: &PortJwt,
    model: &Model<'_>,
) -> Compiled {
    let name = inbound_cluster_name(service, port.name.as_str());
    let action = RouteAction { cluster_specifier: Some(route::to_cluster(&name)), ..route::defaults() };
    let mut routes = vec![Route {
        name: authorization.posture(),
        r#match: Some(route::any_path()),
        action: Some(Action::Route(action)),
        ..Default::default()
    }];
    let telemetry = model.set.telemetry_for(service, &port.name);
    tracing::sample(&mut routes, &telemetry, model);
    let host = VirtualHost {
        name: "application".to_owned(),
        domains: vec!["*".to_owned()],
        routes,
        ..Default::default()
    };
    let mut overrides = FilterOverrides::default();
    authorization.per_route(&mut overrides);
    jwt.per_route(&mut overrides);
    let mut body = RouteConfiguration { name: name.clone(), ..Default::default() }.encode_to_vec();
    wire::append_message(&mut body, VIRTUAL_HOSTS, &overrides.encode(&host));
    let mut origins = Origins::of_service(service);
    origins.extend(authorization.origins());
    origins.extend(jwt.origin());
    origins.extend(tracing::origins(&telemetry, model));
    let refs = vec![ResourceRef::new(ResourceKind::Cluster, name.as_str())];
    Compiled::new(Resource::new(ResourceKind::Route, name, body, refs), origins.into_vec())
}

fn tcp_filters(cluster: &str, authorization: &PortRbac) -> Vec<Filter> {
    let mut filters = authorization.network_filters(cluster);
    let proxy = TcpProxy {
        stat_prefix: cluster.to_owned(),
        cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster(cluster.to_owned())),
        ..Default::default()
    };
    filters.push(http::network_filter("envoy.filters.network.tcp_proxy", wire::any(&proxy)));
    filters
}

/// Some gRPC clients send no server name. Where exactly one port can be meant, they get that; its own authorization
/// holds, since it is the same chain.
fn default_chain(ports: &[&Port], chains: &[FilterChain]) -> Option<FilterChain> {
    let fits = |port: &Port| matches!(port.protocol, Protocol::Grpc | Protocol::Http2);
    let mut fitting = ports.iter().zip(chains).filter(|(port, _)| fits(port));
    let (_, chain) = fitting.next()?;
    if fitting.next().is_some() {
        return None;
    }
    let name = format!("{}/no-server-name", chain.name);
    Some(FilterChain { name, filter_chain_match: None, ..chain.clone() })
}

/// The application's port on loopback.
fn application_cluster(workload: &WorkloadState, service: &ServiceId, port: &Port) -> Compiled {
    let name = inbound_cluster_name(service, port.name.as_str());
    let endpoint = Endpoint {
        address: Some(wire::address(application_ip(workload), workload.app_port(port))),
        ..Default::default()
    };
    let cluster = Cluster {
        name: name.clone(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.clone(),
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![LbEndpoint {
                    host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(endpoint)),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        }),
        // One entry, so the order of the map cannot show.
        typed_extension_protocol_options: HashMap::from_iter(cluster::protocol_options(port.protocol, None)),
        circuit_breakers: Some(cluster::generous()),
        ..Default::default()
    };
    let resource =
        Resource::new(ResourceKind::Cluster, Arc::<str>::from(name), cluster.encode_to_vec(), vec![]);
    Compiled::new(resource, Origins::of_service(service).into_vec())
}
