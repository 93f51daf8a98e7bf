//! Clusters of one server that a document names by host and port: a collector, or who publishes keys.

use std::collections::HashMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, DnsLookupFamily,
};
use envoy_types::pb::envoy::config::core::v3::{
    Address, SocketAddress, TransportSocket, address, socket_address,
};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};
use prost::Message;
use weft_api::resource::{Resource, ResourceKind};

use super::{cluster, wire};
use crate::kinds::service::Protocol;

/// The cluster of this name. `discovery` says whether the host is an address, or a name that proxies look up; without a
/// transport socket it is called in plain text.
pub(super) fn cluster(
    name: &str,
    discovery: DiscoveryType,
    (host, port): (String, u16),
    protocol: Protocol,
    transport_socket: Option<TransportSocket>,
) -> Arc<Resource> {
    let socket = SocketAddress {
        address: host,
        port_specifier: Some(socket_address::PortSpecifier::PortValue(port.into())),
        ..Default::default()
    };
    let endpoint = Endpoint {
        address: Some(Address { address: Some(address::Address::SocketAddress(socket)) }),
        ..Default::default()
    };
    let endpoint = LbEndpoint {
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    };
    let cluster = Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery as i32)),
        dns_lookup_family: DnsLookupFamily::V4Preferred as i32,
        connect_timeout: Some(wire::duration(cluster::CONNECT_TIMEOUT)),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..Default::default() }],
            ..Default::default()
        }),
        // One entry, so the order of the map cannot show.
        typed_extension_protocol_options: HashMap::from_iter(cluster::protocol_options(
            protocol,
            Some(cluster::IDLE_TIMEOUT),
        )),
        transport_socket,
        ..Default::default()
    };
    Resource::new(ResourceKind::Cluster, name, cluster.encode_to_vec(), vec![])
}
