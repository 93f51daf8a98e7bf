//! A resource of any type, from its bytes.

use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::service::runtime::v3::Runtime;
use prost::Message;
use weft_api::ResourceKind;
use weft_routing::rejection::{Notes, Rejection};

use super::route::{lone_virtual_host, route_config};
use super::{ClusterPlan, DecodeContext, EndpointHost, EndpointsPlan, ListenerPlan, SecretPlan};
use crate::filter;
use crate::route;
use crate::stats::StatsRegistry;

#[derive(Debug)]
pub enum DecodedResource {
    /// CDS.
    Cluster(Arc<ClusterPlan>),
    /// EDS.
    Endpoints(Arc<EndpointsPlan>),
    /// LDS.
    Listener(Arc<ListenerPlan>),
    /// RDS.
    Route(Arc<route::RouteConfig>),
    /// VHDS.
    VirtualHost(Arc<route::VirtualHost>),
    /// SDS.
    Secret(SecretPlan),
}

/// Reads a resource, with the fields that were accepted and have no effect.
///
/// # Errors
/// When the bytes are not such a message, or a field is wrong or not supported.
pub fn decode(
    kind: ResourceKind,
    body: &[u8],
    registry: &mut StatsRegistry,
) -> Result<(DecodedResource, Notes), Rejection> {
    let mut context = DecodeContext { notes: Notes::default(), registry };
    let decoded = match kind {
        ResourceKind::Cluster => DecodedResource::Cluster(Arc::new(ClusterPlan::decode(
            &message::<Cluster>(body)?,
            &mut context.notes,
        )?)),
        ResourceKind::Endpoint => {
            let plan = EndpointsPlan::decode(&message::<ClusterLoadAssignment>(body)?, &mut context.notes)?;
            if let Some(named) = plan.list.iter().find(|one| matches!(one.host, EndpointHost::Name(..))) {
                let reason = format!("{:?} is not an IP address, which EDS needs", named.host);
                return Err(Rejection::new("endpoints", reason));
            }
            DecodedResource::Endpoints(Arc::new(plan))
        }
        ResourceKind::Listener => DecodedResource::Listener(Arc::new(ListenerPlan::decode(
            &message::<Listener>(body)?,
            &mut context,
        )?)),
        ResourceKind::Route => {
            let config = route_config(&message::<RouteConfiguration>(body)?)?;
            filter::decode::register(config.all_filter_overrides(), context.registry);
            config.register(context.registry);
            context.notes = config.notes.clone();
            DecodedResource::Route(Arc::new(config))
        }
        ResourceKind::Secret => {
            DecodedResource::Secret(SecretPlan::decode(&message::<Secret>(body)?, &mut context.notes)?)
        }
        ResourceKind::VirtualHost => {
            let host = lone_virtual_host(&message::<VirtualHost>(body)?, &mut context.notes)?;
            filter::decode::register(route::filter_overrides(&host), context.registry);
            route::register(&host, context.registry);
            DecodedResource::VirtualHost(Arc::new(host))
        }
        ResourceKind::Runtime => {
            return Err(Rejection::new("", "this proxy has no runtime layers, and asks for none".to_owned()));
        }
    };
    Ok((decoded, context.notes))
}

fn message<M: Message + Default>(body: &[u8]) -> Result<M, Rejection> {
    M::decode(body).map_err(|error| Rejection::new("", error.to_string()))
}

/// The name inside a resource's bytes, for transports that give none.
#[must_use]
pub fn name_of(kind: ResourceKind, body: &[u8]) -> Option<String> {
    match kind {
        ResourceKind::Cluster => Cluster::decode(body).ok().map(|message| message.name),
        ResourceKind::Endpoint => {
            ClusterLoadAssignment::decode(body).ok().map(|message| message.cluster_name)
        }
        ResourceKind::Listener => Listener::decode(body).ok().map(|message| message.name),
        ResourceKind::Route => RouteConfiguration::decode(body).ok().map(|message| message.name),
        ResourceKind::VirtualHost => VirtualHost::decode(body).ok().map(|message| message.name),
        ResourceKind::Secret => Secret::decode(body).ok().map(|message| message.name),
        ResourceKind::Runtime => Runtime::decode(body).ok().map(|message| message.name),
    }
}
