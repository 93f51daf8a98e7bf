//! The receiving end of Envoy's metrics service.

use std::sync::Arc;

use envoy_types::pb::envoy::service::metrics::v3::metrics_service_server::MetricsService;
use envoy_types::pb::envoy::service::metrics::v3::{StreamMetricsMessage, StreamMetricsResponse};
use tonic::{Request, Response, Status, Streaming};
use weft_api::cause::clock_in_words;
use weft_api::{LogThrottle, ServiceId, WorkloadId};

use super::peer;
use super::stream_limit::StreamLimit;
use crate::clock::Clock;
use crate::edges::{EdgeTarget, Edges, Moment, read};
use crate::metrics::{Limit, Metrics};
use crate::presence::clock_offsets::{ClockOffsets, made_at};
use crate::presence::listening_applications::ListeningApplications;
use crate::reconciler::ReconcilerHandle;

/// By which instances of one service are told apart.
const VERSION_LABEL: &str = "version";
/// Streams of one workload: a proxy has one, and a second while it comes back.
const MOST_STREAMS: usize = 2;

/// Takes statistics from authenticated proxies.
#[derive(Clone, Debug)]
pub struct MetricsReceiver {
    edges: Edges,
    reconciler: ReconcilerHandle,
    metrics: Metrics,
    clock: Clock,
    clock_offsets: ClockOffsets,
    applications: ListeningApplications,
    clocks_told: Arc<LogThrottle<WorkloadId>>,
    streams: StreamLimit,
}

impl MetricsReceiver {
    /// Feeds a picture of the mesh, of the services that are published.
    #[must_use]
    pub fn new(
        edges: Edges,
        reconciler: ReconcilerHandle,
        metrics: Metrics,
        clock: Clock,
        clock_offsets: ClockOffsets,
        applications: ListeningApplications,
    ) -> Self {
        let (clocks_told, streams) = (Arc::default(), StreamLimit::new(MOST_STREAMS));
        Self { edges, reconciler, metrics, clock, clock_offsets, applications, clocks_told, streams }
    }

    fn take(&self, workload: &WorkloadId, service: &ServiceId, report: &StreamMetricsMessage) {
        self.compare_clocks(workload, report);
        self.applications.note(Moment::now(&self.clock).at, workload, &report.envoy_metrics);
        let set = Arc::clone(&self.reconciler.published().borrow().set);
        let records = self.reconciler.records();
        let declared = || records.get(workload)?.declared.labels.get(VERSION_LABEL);
        let described = set.workload(workload).and_then(|file| file.metadata.labels.get(VERSION_LABEL));
        let version = described.or_else(declared);
        let own = version.map(|version| (service, version.as_str()));
        let samples = read(&report.envoy_metrics, |measured| EdgeTarget::of(measured, &set, own));
        let excess = self.edges.record(Moment::now(&self.clock), workload, service, samples);
        let limits = [
            (excess.edges, Limit::EdgesOfAWorkload),
            (excess.histories, Limit::EdgeHistories),
            (excess.given_up, Limit::EdgeHistoryBytes),
        ];
        for (_, limit) in limits.into_iter().filter(|(count, _)| *count > 0) {
            self.metrics.limited(limit);
        }
    }

    fn compare_clocks(&self, workload: &WorkloadId, report: &StreamMetricsMessage) {
        let Some(made_at) = made_at(&report.envoy_metrics) else { return };
        let now = Moment::now(&self.clock);
        let offset = self.clock_offsets.note(now.at, workload, made_at, now.millis);
        if let Some(offset) = offset
            && let Some(more) = self.clocks_told.speaks(workload.clone())
        {
            let clock = clock_in_words(&workload.to_string(), offset);
            tracing::warn!(
                event = "clock_off",
                %workload, clock, more,
                "a clock is off: certificates are refused; set it by NTP"
            );
        }
    }
}

#[tonic::async_trait]
impl MetricsService for MetricsReceiver {
    async fn stream_metrics(
        &self,
        request: Request<Streaming<StreamMetricsMessage>>,
    ) -> Result<Response<StreamMetricsResponse>, Status> {
        // The certificate is the truth; the node in the message is a claim and is not read.
        let (workload, service) = peer::workload(&request)?;
        let permit = self.streams.enter(&workload);
        if permit.is_beyond {
            self.metrics.limited(Limit::MetricStreamsOfAWorkload);
        }
        let mut reports = request.into_inner();
        loop {
            tokio::select! {
                report = reports.message() => match report? {
                    Some(report) => self.take(&workload, &service, &report),
                    None => return Ok(Response::new(StreamMetricsResponse {})),
                },
                () = permit.replaced.cancelled() => {
                    return Err(Status::resource_exhausted("newer streams of this workload took its place"));
                }
            }
        }
    }
}
