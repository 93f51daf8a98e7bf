//! The receiving end of Envoy's health discovery service: each sidecar is told what to check on its own application, and
//! its reports become the health in EDS.

use std::collections::BTreeMap;
use std::pin::Pin;

use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use envoy_types::pb::envoy::service::health::v3::health_check_request_or_endpoint_health_response::RequestType;
use envoy_types::pb::envoy::service::health::v3::health_discovery_service_server::HealthDiscoveryService;
use envoy_types::pb::envoy::service::health::v3::{
    ClusterEndpointsHealth, EndpointHealthResponse, HealthCheckRequestOrEndpointHealthResponse,
    HealthCheckSpecifier,
};
use futures::Stream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weft_api::{ServiceId, WorkloadId};
use weft_policies::compile::Health;

use crate::peer;
use crate::reconciler::{Command, Reconciling};
use crate::registry::PortHealth;

/// Assigns checks and takes reports.
#[derive(Clone, Debug)]
pub struct HealthReceiver {
    reconciling: Reconciling,
}

impl HealthReceiver {
    /// Reports go to a reconciler, which also says what is to be checked.
    #[must_use]
    pub fn new(reconciling: Reconciling) -> Self {
        Self { reconciling }
    }

    /// One stream: assigns at the start and after every change that concerns the workload, and takes what is reported.
    async fn converse(
        self,
        workload: WorkloadId,
        mut reports: Streaming<HealthCheckRequestOrEndpointHealthResponse>,
        assignments: mpsc::Sender<Result<HealthCheckSpecifier, Status>>,
    ) {
        let (assign, mut wanted) = watch::channel(HealthCheckSpecifier::default());
        self.reconciling.tell(Command::Check { workload: workload.clone(), assign }).await;
        let (mut pending, mut is_assigned) = (None, false);
        loop {
            tokio::select! {
                changed = wanted.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    // Where nothing is to be checked and nothing ever was, nothing is said.
                    let now = wanted.borrow_and_update().clone();
                    pending = (is_assigned || !now.cluster_health_checks.is_empty()).then_some(now);
                }
                // One that was not taken yet is replaced, not followed by others.
                room = assignments.reserve(), if pending.is_some() => {
                    let (Ok(room), Some(checks)) = (room, pending.take()) else { break };
                    room.send(Ok(checks));
                    is_assigned = true;
                }
                report = reports.message() => match report {
                    Ok(Some(report)) => self.take(&workload, report).await,
                    Ok(None) | Err(_) => break,
                },
            }
        }
        self.reconciling.tell(Command::HealthEnded(workload)).await;
    }

    async fn take(&self, workload: &WorkloadId, report: HealthCheckRequestOrEndpointHealthResponse) {
        if let Some(RequestType::EndpointHealthResponse(report)) = report.request_type {
            let health = read(&report);
            self.reconciling.tell(Command::Health { workload: workload.clone(), health }).await;
        }
    }
}

/// Reads a report: the worst endpoint of a cluster speaks for it. What is not known yet counts as healthy, so that a
/// control plane that comes back does not empty services before the first check.
fn read(report: &EndpointHealthResponse) -> PortHealth {
    let mut health = BTreeMap::new();
    for cluster in &report.cluster_endpoints_health {
        if let Some(port) = port_of(&cluster.cluster_name) {
            health.insert(port, worst(cluster));
        }
    }
    health
}

fn worst(cluster: &ClusterEndpointsHealth) -> Health {
    let endpoints = cluster.locality_endpoints_health.iter().flat_map(|locality| &locality.endpoints_health);
    let health = endpoints.map(|endpoint| match endpoint.health_status() {
        HealthStatus::Unhealthy | HealthStatus::Timeout => Health::Unhealthy,
        HealthStatus::Draining => Health::Draining,
        HealthStatus::Degraded => Health::Degraded,
        HealthStatus::Healthy | HealthStatus::Unknown => Health::Healthy,
    });
    health.max().unwrap_or_default()
}

/// The reverse of [`weft_api::names::inbound_cluster_name`].
fn port_of(cluster: &str) -> Option<(ServiceId, String)> {
    let mut parts = cluster.strip_prefix("inbound/")?.splitn(3, '/');
    let (namespace, service, port) = (parts.next()?, parts.next()?, parts.next()?);
    Some((ServiceId::try_new(namespace, service).ok()?, port.to_owned()))
}

#[tonic::async_trait]
impl HealthDiscoveryService for HealthReceiver {
    type StreamHealthCheckStream = Pin<Box<dyn Stream<Item = Result<HealthCheckSpecifier, Status>> + Send>>;

    async fn stream_health_check(
        &self,
        request: Request<Streaming<HealthCheckRequestOrEndpointHealthResponse>>,
    ) -> Result<Response<Self::StreamHealthCheckStream>, Status> {
        let (workload, _) = peer::workload(&request)?;
        // One: an assignment that was not taken yet must not be followed by others.
        let (assignments, outgoing) = mpsc::channel(1);
        tokio::spawn(self.clone().converse(workload, request.into_inner(), assignments));
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn fetch_health_check(
        &self,
        _: Request<HealthCheckRequestOrEndpointHealthResponse>,
    ) -> Result<Response<HealthCheckSpecifier>, Status> {
        Err(Status::unimplemented("health checks are assigned on streams"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::service::health::v3::{EndpointHealth, LocalityEndpointsHealth};

    #[test]
    fn worst_endpoint_speaks_for_the_port() {
        let endpoint =
            |status: HealthStatus| EndpointHealth { health_status: status.into(), ..Default::default() };
        let locality = LocalityEndpointsHealth {
            endpoints_health: vec![endpoint(HealthStatus::Healthy), endpoint(HealthStatus::Timeout)],
            ..Default::default()
        };
        let report = EndpointHealthResponse {
            cluster_endpoints_health: vec![ClusterEndpointsHealth {
                cluster_name: "inbound/shop/cart/http".into(),
                locality_endpoints_health: vec![locality],
            }],
            ..Default::default()
        };
        let port = ("shop/cart".parse().unwrap(), "http".to_owned());
        assert_eq!(read(&report), BTreeMap::from([(port, Health::Unhealthy)]));
    }
}
