//! A stand-in for the OpenTelemetry collector: it takes OTLP over gRPC and counts, under the collector's own names, and
//! that is all.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use clap::Args;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::serve::told_to_end;

/// `weft-demo collect`.
#[derive(Debug, Args)]
pub struct CollectArgs {
    /// OTLP over gRPC
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:4317")]
    pub otlp: SocketAddr,
    /// `/metrics`: what was taken
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:8888")]
    pub metrics: SocketAddr,
    /// The collector's own flag: taken, and not read
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Clone, Debug, Default)]
struct Collected {
    spans: Arc<AtomicUsize>,
    points: Arc<AtomicUsize>,
}

/// Takes what comes, until the process is told to end.
///
/// # Errors
/// When an address cannot be bound.
pub async fn run(args: CollectArgs) -> anyhow::Result<()> {
    let taken = Collected::default();
    let otlp = TcpListener::bind(args.otlp).await.with_context(|| args.otlp.to_string())?;
    let metrics = TcpListener::bind(args.metrics).await.with_context(|| args.metrics.to_string())?;
    let shown = taken.clone();
    let page =
        axum::Router::new().route("/metrics", axum::routing::get(move || std::future::ready(shown.page())));
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(taken.clone()))
        .add_service(MetricsServiceServer::new(taken))
        .serve_with_incoming(TcpListenerStream::new(otlp));
    tokio::select! {
        ended = server => ended.context("OTLP"),
        ended = axum::serve(metrics, page).into_future() => ended.context("metrics"),
        () = told_to_end() => Ok(()),
    }
}

impl Collected {
    fn page(&self) -> String {
        let counter = |what: &str, count: &AtomicUsize| {
            let name = format!("otelcol_receiver_accepted_{what}");
            format!("# TYPE {name} counter\n{name}{{receiver=\"otlp\"}} {}\n", count.load(Ordering::Relaxed))
        };
        counter("spans", &self.spans) + &counter("metric_points", &self.points)
    }
}

#[tonic::async_trait]
impl TraceService for Collected {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.get_ref().resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        self.spans.fetch_add(scopes.map(|scope| scope.spans.len()).sum(), Ordering::Relaxed);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collected {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let scopes = request.get_ref().resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        let data = scopes.flat_map(|scope| &scope.metrics).filter_map(|metric| metric.data.as_ref());
        self.points.fetch_add(data.map(points).sum(), Ordering::Relaxed);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn points(data: &Data) -> usize {
    match data {
        Data::Gauge(data) => data.data_points.len(),
        Data::Sum(data) => data.data_points.len(),
        Data::Histogram(data) => data.data_points.len(),
        Data::ExponentialHistogram(data) => data.data_points.len(),
        Data::Summary(data) => data.data_points.len(),
    }
}
