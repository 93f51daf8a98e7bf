//! OpenTelemetry collectors as sidecars reach them, and who a sidecar tells them it is.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::cluster::DiscoveryType;
use envoy_types::pb::envoy::config::core::v3::{GrpcService, grpc_service, grpc_service::EnvoyGrpc};
use weft_api::resource::Resource;

use super::model::WorkloadState;
use super::{server, wire};
use crate::kinds::service::Protocol;
use crate::value::{CollectorHost, CollectorUrl};

/// How long a collector may take for what it is sent at once.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A resource in OpenTelemetry's sense: who it is that has something to tell.
pub(super) struct TelemetryResource {
    /// `service.name`.
    pub(super) name: String,
    /// Attributes beside the name, such as the namespace.
    pub(super) more: Vec<(&'static str, String)>,
}

/// The workload, by OpenTelemetry's conventions: a service's name, the namespace that it is unique in, its instance.
pub(super) fn resource(workload: &WorkloadState) -> TelemetryResource {
    let service = workload.identity.as_ref().map_or(&workload.id.name, |service| &service.name);
    TelemetryResource {
        name: service.to_string(),
        more: vec![
            ("service.namespace", workload.id.namespace.to_string()),
            ("service.instance.id", workload.id.name.to_string()),
        ],
    }
}

/// The collector's service, by the cluster of this name. What it is called by is the cluster's name, unless `authority` says
/// otherwise.
pub(super) fn grpc_service(cluster: &str, authority: String) -> GrpcService {
    let target = EnvoyGrpc { cluster_name: cluster.to_owned(), authority, ..Default::default() };
    GrpcService {
        target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(target)),
        timeout: Some(wire::duration(TIMEOUT)),
        ..Default::default()
    }
}

/// The cluster of a collector, of this name.
pub(super) fn cluster(name: &str, collector: &CollectorUrl) -> Arc<Resource> {
    let (discovery, host) = match &collector.host {
        CollectorHost::Address(address) => (DiscoveryType::Static, address.ip().to_string()),
        CollectorHost::Name(host) => (DiscoveryType::StrictDns, host.to_string()),
    };
    server::cluster(name, discovery, (host, collector.port), Protocol::Grpc, None)
}
