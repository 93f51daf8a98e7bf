//! The receiving end of Envoy's metrics service.

use std::time::Instant;

use envoy_types::pb::envoy::service::metrics::v3::metrics_service_server::MetricsService;
use envoy_types::pb::envoy::service::metrics::v3::{StreamMetricsMessage, StreamMetricsResponse};
use tonic::{Request, Response, Status, Streaming};
use weft_api::WorkloadId;

use super::{Edges, read};
use crate::peer;

/// Takes statistics from authenticated proxies.
#[derive(Clone, Debug)]
pub struct MetricsReceiver {
    edges: Edges,
}

impl MetricsReceiver {
    /// Feeds a picture of the mesh.
    #[must_use]
    pub fn new(edges: Edges) -> Self {
        Self { edges }
    }
}

#[tonic::async_trait]
impl MetricsService for MetricsReceiver {
    async fn stream_metrics(
        &self,
        request: Request<Streaming<StreamMetricsMessage>>,
    ) -> Result<Response<StreamMetricsResponse>, Status> {
        // The certificate is the truth; the node in the message is a claim and is not read.
        let (workload, service): (WorkloadId, _) = peer::workload(&request)?;
        let mut reports = request.into_inner();
        while let Some(report) = reports.message().await? {
            self.edges.record(Instant::now(), &workload, &service, read(&report.envoy_metrics));
        }
        Ok(Response::new(StreamMetricsResponse {}))
    }
}
