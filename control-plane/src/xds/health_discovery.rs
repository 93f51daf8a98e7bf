//! The receiving end of Envoy's health discovery service: each sidecar is told what to check on its own application, and
//! its reports become the health in EDS.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;

use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use envoy_types::pb::envoy::service::health::v3::health_check_request_or_endpoint_health_response::RequestType;
use envoy_types::pb::envoy::service::health::v3::health_discovery_service_server::{
    HealthDiscoveryService, HealthDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::health::v3::{
    ClusterEndpointsHealth, EndpointHealthResponse, HealthCheckRequestOrEndpointHealthResponse,
    HealthCheckSpecifier,
};
use futures::Stream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weft_api::WorkloadId;
use weft_api::names::inbound_port;
use weft_policies::compile::Health;

use super::peer;
use super::stream_limit::{StreamLimit, StreamPermit};
use crate::metrics::{Limit, Metrics};
use crate::presence::registry::PortHealth;
use crate::reconciler::{ReconcilerCommand, ReconcilerHandle};

/// Streams of one workload: a proxy has one, and a second while it comes back.
const MOST_STREAMS: usize = 2;
/// The largest report; a thousand ports of a service fit.
pub const MAX_REPORT_BYTES: usize = 256 * 1024;

/// Assigns checks and takes reports.
#[derive(Clone, Debug)]
pub struct HealthReceiver {
    reconciler: ReconcilerHandle,
    metrics: Metrics,
    streams: StreamLimit,
}

impl HealthReceiver {
    /// Reports go to a reconciler, which also says what is to be checked.
    #[must_use]
    pub fn new(reconciler: ReconcilerHandle, metrics: Metrics) -> Self {
        Self { reconciler, metrics, streams: StreamLimit::new(MOST_STREAMS) }
    }

    /// The tonic service, with the limit on what it reads.
    #[must_use]
    pub fn into_server(self) -> HealthDiscoveryServiceServer<Self> {
        HealthDiscoveryServiceServer::new(self).max_decoding_message_size(MAX_REPORT_BYTES)
    }

    /// One stream: assigns at the start and after every change that concerns the workload, and takes what is reported.
    async fn converse(
        self,
        workload: WorkloadId,
        permit: StreamPermit,
        mut reports: Streaming<HealthCheckRequestOrEndpointHealthResponse>,
        assignments: mpsc::Sender<Result<HealthCheckSpecifier, Status>>,
    ) {
        let (assign, mut wanted) = watch::channel(HealthCheckSpecifier::default());
        self.reconciler.tell(ReconcilerCommand::Check { workload: workload.clone(), assign }).await;
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
                    Ok(Some(report)) => {
                        let read = self.read(&report, &wanted.borrow());
                        if let Some(health) = read {
                            let workload = workload.clone();
                            self.reconciler.tell(ReconcilerCommand::Health { workload, health }).await;
                        }
                    }
                    Ok(None) | Err(_) => break,
                },
                () = permit.replaced.cancelled() => {
                    let text = "newer streams of this workload took its place";
                    drop(assignments.try_send(Err(Status::resource_exhausted(text))));
                    break;
                }
            }
        }
        self.reconciler.tell(ReconcilerCommand::HealthEnded(workload)).await;
    }

    fn read(
        &self,
        report: &HealthCheckRequestOrEndpointHealthResponse,
        asked: &HealthCheckSpecifier,
    ) -> Option<PortHealth> {
        let Some(RequestType::EndpointHealthResponse(report)) = &report.request_type else { return None };
        let (health, others) = read(report, asked);
        if others > 0 {
            self.metrics.limited(Limit::PortsNotAsked);
        }
        Some(health)
    }
}

/// Reads a report: the worst endpoint of a cluster speaks for it. What is not known yet counts as healthy, so that a
/// control plane that comes back does not empty services before the first check. Ports that were not to be checked are
/// passed over; how many, is the second of the pair.
fn read(report: &EndpointHealthResponse, asked: &HealthCheckSpecifier) -> (PortHealth, usize) {
    let asked: BTreeSet<&str> =
        asked.cluster_health_checks.iter().map(|check| check.cluster_name.as_str()).collect();
    let (mut health, mut others) = (BTreeMap::new(), 0);
    for cluster in &report.cluster_endpoints_health {
        match inbound_port(&cluster.cluster_name).filter(|_| asked.contains(cluster.cluster_name.as_str())) {
            Some((service, port)) => drop(health.insert((service, port.into()), worst(cluster))),
            None => others += 1,
        }
    }
    (health, others)
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
        let permit = self.streams.enter(&workload);
        if permit.is_beyond {
            self.metrics.limited(Limit::HealthStreamsOfAWorkload);
        }
        tokio::spawn(self.clone().converse(workload, permit, request.into_inner(), assignments));
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
    use envoy_types::pb::envoy::service::health::v3::{
        ClusterHealthCheck, EndpointHealth, LocalityEndpointsHealth,
    };

    #[test]
    fn worst_endpoint_speaks_for_the_port() {
        let endpoint =
            |status: HealthStatus| EndpointHealth { health_status: status.into(), ..Default::default() };
        let locality = LocalityEndpointsHealth {
            endpoints_health: vec![endpoint(HealthStatus::Healthy), endpoint(HealthStatus::Timeout)],
            ..Default::default()
        };
        let of = |name: &str| ClusterEndpointsHealth {
            cluster_name: name.into(),
            locality_endpoints_health: vec![locality.clone()],
        };
        let names = ["inbound/shop/cart/http", "inbound/shop/cart/made-up", "inbound/shop/db/http", "x"];
        let report =
            EndpointHealthResponse { cluster_endpoints_health: names.map(of).into(), ..Default::default() };
        let check =
            ClusterHealthCheck { cluster_name: "inbound/shop/cart/http".into(), ..Default::default() };
        let asked = HealthCheckSpecifier { cluster_health_checks: vec![check], ..Default::default() };
        let port = ("shop/cart".parse().unwrap(), "http".to_owned());
        assert_eq!(read(&report, &asked), (BTreeMap::from([(port, Health::Unhealthy)]), 3));
    }
}
