//! What is outside of the mesh: the clusters of ExternalServices, and the routes of those who may call them.
//!
//! A cluster names addresses, or names that each proxy looks up. Where requests themselves say which host is meant, of
//! several or below a wildcard, it is a dynamic forward proxy, with the bounds that [`unknown_hosts`] sets: never to the
//! machine itself, its link or a control plane. An address that an ExternalService writes out is its author's word.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, LbPolicy,
};
use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress, address, socket_address};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};
use envoy_types::pb::envoy::config::route::v3::RouteAction;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::HostRewriteSpecifier;
use prost::Message;
use weft_api::names::{Name, cluster_name};
use weft_api::resource::{Resource, ResourceKind};

use super::compiled::{Compiled, Origins};
use super::model::Model;
use super::route::{self, Routes};
use super::{cluster, tls, traffic, unknown_hosts, wire};
use crate::kinds::external_service::{ExternalService, HostResolution};
use crate::kinds::port::Port;
use crate::object::Object;
use crate::set::EffectiveTraffic;
use crate::value::HostAddress;

/// Compiles the cluster of a port.
pub(super) fn cluster(object: &Object<ExternalService>, port: &Name, model: &Model<'_>) -> Option<Compiled> {
    let port = object.spec.ports.iter().find(|known| known.name == *port)?;
    let traffic = model.set.traffic_for(&object.id(), &port.name, None);
    let mut origins = Origins::of(object.key());
    origins.extend(traffic.origins());
    let name = cluster_name(&object.id(), port.name.as_str(), None);
    Some(Compiled::new(one(&name, &object.spec, port, &traffic), origins.into_vec()))
}

fn one(name: &str, external: &ExternalService, port: &Port, traffic: &EffectiveTraffic) -> Arc<Resource> {
    let idle = cluster::idle_timeout(traffic);
    let mut one = Cluster {
        // One entry, so the order of the map cannot show.
        typed_extension_protocol_options: HashMap::from_iter(cluster::protocol_options_outside(
            port.protocol,
            idle,
        )),
        ..cluster::called(name, traffic)
    };
    if external.is_on_demand() {
        one.cluster_discovery_type = Some(ClusterDiscoveryType::ClusterType(unknown_hosts::looked_up()));
        one.lb_policy = LbPolicy::ClusterProvided as i32;
        one.lb_config = None;
    } else {
        let kind = match external.resolution {
            HostResolution::Static => DiscoveryType::Static,
            HostResolution::Dns => {
                one.dns_lookup_family = DnsLookupFamily::V4Preferred as i32;
                DiscoveryType::StrictDns
            }
        };
        one.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind as i32));
        one.load_assignment = Some(assignment(name, external, port));
        let secured = external.originates(port.protocol);
        let named = secured.and_then(|tls| Some((tls, external.server_name(tls)?)));
        one.transport_socket = named.map(|(tls, server)| tls::outside(tls, server));
    }
    Resource::new(ResourceKind::Cluster, name.to_owned(), one.encode_to_vec(), Vec::new())
}

fn assignment(name: &str, external: &ExternalService, port: &Port) -> ClusterLoadAssignment {
    let target = port.app_port();
    let written = external.endpoints.iter().map(|endpoint| {
        let port = endpoint.port.unwrap_or(target);
        match &endpoint.address {
            HostAddress::Ip(address) => wire::address(address.ip(), port),
            HostAddress::Name(name) => named(name.as_str(), port),
        }
    });
    let hosts = external.hosts.iter().filter(|_| external.endpoints.is_empty());
    let all = written.chain(hosts.map(|host| named(host.as_str(), target)));
    let endpoint = |address| LbEndpoint {
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint {
            address: Some(address),
            ..Default::default()
        })),
        ..Default::default()
    };
    let lb_endpoints = all.map(endpoint).collect();
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![LocalityLbEndpoints { lb_endpoints, ..Default::default() }],
        ..Default::default()
    }
}

fn named(host: &str, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    }
}

/// The routes of a port for the callers of a namespace: those who are not among its clients are told so.
pub(super) fn routes(
    external: &Object<ExternalService>,
    port: &Port,
    caller: &Name,
    model: &Model<'_>,
) -> Routes {
    if !external.spec.is_for(caller) {
        return refusal(external, &not_for(external, caller));
    }
    if port.protocol.is_http() {
        return Routes::compile(&external.id(), port, &[], caller, model);
    }
    let of_port = model.set.traffic_for(&external.id(), &port.name, None);
    let cluster = cluster_name(&external.id(), port.name.as_str(), None);
    let action =
        RouteAction { cluster_specifier: Some(route::to_cluster(&cluster)), ..traffic::action(&of_port) };
    let told = format!(
        "port {} of {} takes connections and no requests: call it by CONNECT, or by a port of your own (--upstream)",
        port.port,
        external.key()
    );
    Routes {
        routes: vec![route::tunnel(&action), route::answer(route::any_path(), 404, &told)],
        clusters: BTreeSet::from([cluster]),
        origins: Origins::of(external.key()),
    }
}

/// The routes of a port that is the workload's own: whatever host the caller writes, the server is asked for its own.
pub(super) fn routes_of_upstream(
    external: &Object<ExternalService>,
    port: &Port,
    caller: &Name,
    model: &Model<'_>,
) -> Routes {
    let mut compiled = routes(external, port, caller, model);
    for one in &mut compiled.routes {
        if let (Some(Action::Route(action)), Some(host)) = (&mut one.action, external.spec.host()) {
            action.host_rewrite_specifier =
                Some(HostRewriteSpecifier::HostRewriteLiteral(host.as_str().to_owned()));
        }
    }
    compiled
}

/// Answers all requests with why.
pub(super) fn refusal(external: &Object<ExternalService>, text: &str) -> Routes {
    let answer = |matched| route::answer(matched, 403, text);
    Routes {
        routes: vec![answer(route::any_tunnel()), answer(route::any_path())],
        clusters: BTreeSet::new(),
        origins: Origins::of(external.key()),
    }
}

fn not_for(external: &Object<ExternalService>, caller: &Name) -> String {
    let clients: Vec<&str> = external.spec.clients.iter().map(|client| client.name.as_str()).collect();
    format!("{} is for callers of {} (its clients), not of {caller}", external.key(), clients.join(", "))
}
