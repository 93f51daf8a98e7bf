//! ClusterLoadAssignments: where the members of a service port are, and how they are.

use std::collections::{BTreeMap, HashMap};

use envoy_types::pb::envoy::config::core::v3::{self as core, HealthStatus, Metadata};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};
use envoy_types::pb::google::protobuf::{Struct, Value, value};
use prost::Message;
use weft_api::names::{Name, ServiceId};
use weft_api::resource::{Resource, ResourceKind};

use super::compiled::{Compiled, Origins};
use super::model::{Health, Locality, Model, ProxyType, WorkloadState};
use super::wire;
use crate::kinds::service::Port;

/// Metadata that chooses among a cluster's `transport_socket_matches`.
const SOCKET_MATCH: &str = "envoy.transport_socket_match";

/// Compiles the endpoints of a port, and those of each subset.
pub(super) fn compile(service: &ServiceId, port: &Name, model: &Model<'_>) -> Vec<Compiled> {
    let Some(object) = model.set.service(service) else { return Vec::new() };
    let spec = &object.spec;
    let Some(port) = spec.port(port) else { return Vec::new() };
    let origins = Origins::of_service(service).into_vec();
    let compiled = spec.names_of_clusters(service, port).map(|(name, subset)| {
        let members = model
            .members(service, spec)
            .filter(|member| subset.is_none_or(|subset| member.is_in_subset(service, subset)));
        let body = assignment(&name, service, port, members).encode_to_vec();
        Compiled::new(Resource::new(ResourceKind::Endpoint, name, body, vec![]), origins.clone())
    });
    compiled.collect()
}

/// The members' addresses, by locality, in a fixed order. One whose sidecar does not listen yet is left out, and so is
/// one that leaves while others stay: listed, it would count as an endpoint that fails, and a service that is renewed
/// instance by instance would seem to panic. The last ones stay listed, for somebody may still be there.
fn assignment<'a>(
    name: &str,
    service: &ServiceId,
    port: &Port,
    members: impl Iterator<Item = &'a WorkloadState>,
) -> ClusterLoadAssignment {
    let here: Vec<&WorkloadState> = members.filter(|member| member.health != Health::Starting).collect();
    let someone_stays = here.iter().any(|member| member.health != Health::Draining);
    let mut by_locality: BTreeMap<&Locality, Vec<LbEndpoint>> = BTreeMap::new();
    for member in here.into_iter().filter(|member| !someone_stays || member.health != Health::Draining) {
        by_locality.entry(&member.locality).or_default().push(endpoint(service, port, member));
    }
    let endpoints = by_locality.into_iter().map(|(locality, lb_endpoints)| LocalityLbEndpoints {
        locality: (!locality.is_empty()).then(|| core::Locality {
            region: locality.region.clone(),
            zone: locality.zone.clone(),
            sub_zone: locality.sub_zone.clone(),
        }),
        lb_endpoints,
        ..Default::default()
    });
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: endpoints.collect(),
        ..Default::default()
    }
}

/// What an endpoint's metadata must hold to be called in plain text.
pub(super) fn plaintext_match() -> Struct {
    let text = Value { kind: Some(value::Kind::StringValue("plaintext".to_owned())) };
    Struct { fields: [("weft".to_owned(), text)].into() }
}

fn endpoint(service: &ServiceId, port: &Port, member: &WorkloadState) -> LbEndpoint {
    let address = if member.has_sidecar() {
        wire::socket(member.reached_at())
    } else {
        wire::address(member.address.ip(), member.app_port(port))
    };
    let plaintext = member.proxy == ProxyType::None;
    LbEndpoint {
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint {
            address: Some(address),
            ..Default::default()
        })),
        health_status: status(member.health_of(service, port.name.as_str())) as i32,
        // One entry, so the order of the map cannot show.
        metadata: plaintext.then(|| Metadata {
            filter_metadata: HashMap::from([(SOCKET_MATCH.to_owned(), plaintext_match())]),
            ..Default::default()
        }),
        load_balancing_weight: Some(wire::uint32(member.weight.max(1))),
    }
}

fn status(health: Health) -> HealthStatus {
    match health {
        Health::Healthy => HealthStatus::Healthy,
        Health::Degraded => HealthStatus::Degraded,
        // One whose sidecar does not listen yet is left out: this application is what has not answered yet.
        Health::Unhealthy | Health::Starting => HealthStatus::Unhealthy,
        Health::Draining => HealthStatus::Draining,
    }
}
