//! `ClusterLoadAssignment`: the endpoints of a cluster.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::{HealthStatus, Metadata};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints, cluster_load_assignment,
};
use envoy_types::pb::google::protobuf::Struct;
use envoy_types::pb::google::protobuf::value::Kind;
use weft_routing::rejection::{Notes, Rejection, Within as _, refuse};

use super::fields::{self, EndpointHost};
use crate::runtime::{Health, Locality};

/// The endpoints as the resource says them.
#[derive(Debug, Clone, Default)]
pub struct EndpointsPlan {
    pub list: Vec<EndpointPlan>,
    /// `overprovisioning_factor` in percent.
    pub overprovisioning: u32,
}

/// An endpoint of an assignment; its host may still be a name.
#[derive(Debug, Clone)]
pub struct EndpointPlan {
    pub host: EndpointHost,
    /// `hostname`.
    pub hostname: Option<Arc<str>>,
    /// `load_balancing_weight`.
    pub weight: u32,
    /// `health_status`.
    pub health: Health,
    /// `priority` of its locality.
    pub priority: u32,
    pub locality: Arc<Locality>,
    /// `load_balancing_weight` of its locality, 0 where it has none.
    pub locality_weight: u32,
    /// Metadata that a hash finds it by.
    pub hash_key: Option<Arc<str>>,
    /// Metadata that picks its transport socket.
    pub socket_match: Option<Struct>,
}

impl EndpointsPlan {
    /// Reads an assignment.
    ///
    /// # Errors
    /// When a field is wrong or not supported; the rejection names it.
    pub fn decode(resource: &ClusterLoadAssignment, notes: &mut Notes) -> Result<Self, Rejection> {
        refuse(!resource.named_endpoints.is_empty(), "named_endpoints")?;
        let overprovisioning = match &resource.policy {
            Some(policy) => policy_of(policy, notes)?,
            None => 140,
        };
        let mut list = Vec::new();
        for (index, group) in resource.endpoints.iter().enumerate() {
            decode_group(group, &mut list, notes).within(|| format!("endpoints[{index}]"))?;
        }
        Ok(Self { list, overprovisioning })
    }
}

fn policy_of(policy: &cluster_load_assignment::Policy, notes: &mut Notes) -> Result<u32, Rejection> {
    refuse(&policy.drop_overloads, "policy.drop_overloads")?;
    refuse(policy.weighted_priority_health, "policy.weighted_priority_health")?;
    notes.ignored(&policy.endpoint_stale_after, "policy.endpoint_stale_after");
    match fields::number(policy.overprovisioning_factor.as_ref()) {
        None => Ok(140),
        Some(0) => Err(Rejection::new("policy.overprovisioning_factor", "must be greater than 0")),
        Some(factor) => Ok(factor),
    }
}

fn decode_group(
    group: &LocalityLbEndpoints,
    list: &mut Vec<EndpointPlan>,
    notes: &mut Notes,
) -> Result<(), Rejection> {
    refuse(&group.lb_config, "lb_config")?;
    notes.ignored(&group.proximity, "endpoints.proximity");
    let locality = group.locality.as_ref().map_or_else(Locality::default, |given| Locality {
        region: given.region.clone(),
        zone: given.zone.clone(),
        sub_zone: given.sub_zone.clone(),
    });
    let locality = Arc::new(locality);
    for (index, endpoint) in group.lb_endpoints.iter().enumerate() {
        let decoded = decode_endpoint(endpoint, group, &locality, notes);
        list.push(decoded.within(|| format!("lb_endpoints[{index}]"))?);
    }
    Ok(())
}

fn decode_endpoint(
    given: &LbEndpoint,
    group: &LocalityLbEndpoints,
    locality: &Arc<Locality>,
    notes: &mut Notes,
) -> Result<EndpointPlan, Rejection> {
    let endpoint = match &given.host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
        Some(HostIdentifier::EndpointName(_)) => return Err(Rejection::unsupported("endpoint_name")),
        None => return Err(Rejection::new("endpoint", "an endpoint is needed")),
    };
    notes.ignored(&endpoint.additional_addresses, "endpoint.additional_addresses");
    notes.ignored(&endpoint.health_check_config, "endpoint.health_check_config");
    let weight = match fields::number(given.load_balancing_weight.as_ref()) {
        None => 1,
        Some(0) => return Err(Rejection::new("load_balancing_weight", "must be at least 1")),
        Some(weight) => weight,
    };
    let status = HealthStatus::try_from(given.health_status)
        .map_err(|_| Rejection::new("health_status", "unknown value"))?;
    let health = match status {
        HealthStatus::Unknown | HealthStatus::Healthy => Health::Healthy,
        HealthStatus::Degraded => Health::Degraded,
        HealthStatus::Draining => Health::Draining,
        HealthStatus::Unhealthy | HealthStatus::Timeout => Health::Unhealthy,
    };
    Ok(EndpointPlan {
        host: fields::host(endpoint.address.as_ref(), "endpoint.address")?,
        hostname: (!endpoint.hostname.is_empty()).then(|| endpoint.hostname.as_str().into()),
        weight,
        health,
        priority: group.priority,
        locality: Arc::clone(locality),
        locality_weight: fields::number(group.load_balancing_weight.as_ref()).unwrap_or(0),
        hash_key: hash_key(given.metadata.as_ref()),
        socket_match: socket_match(given.metadata.as_ref())
            .or_else(|| socket_match(group.metadata.as_ref()))
            .cloned(),
    })
}

fn hash_key(metadata: Option<&Metadata>) -> Option<Arc<str>> {
    match &metadata?.filter_metadata.get("envoy.lb")?.fields.get("hash_key")?.kind {
        Some(Kind::StringValue(key)) if !key.is_empty() => Some(key.as_str().into()),
        _ => None,
    }
}

fn socket_match(metadata: Option<&Metadata>) -> Option<&Struct> {
    metadata?.filter_metadata.get("envoy.transport_socket_match")
}
