//! Traces and metrics leave by OTLP when an endpoint is set. Alone in its file: the subscriber is the process's.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use clap::Parser as _;
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
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};
use weft_api::client::{ApiClient, ApplyOptions};
use weft_api::log_event::EventCounts;
use weft_control_plane::args::Args;
use weft_control_plane::clock::Clock;
use weft_control_plane::server::{self, telemetry};

/// A collector: tells the names of what it is sent.
#[derive(Clone)]
struct Collector(mpsc::UnboundedSender<(String, String)>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let of = service_name(resource.resource.as_ref());
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let _ = self.0.send((of.clone(), format!("span {}", span.name)));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        for resource in request.into_inner().resource_metrics {
            let of = service_name(resource.resource.as_ref());
            for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                let _ = self.0.send((of.clone(), format!("metric {}", metric.name)));
            }
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn service_name(resource: Option<&opentelemetry_proto::tonic::resource::v1::Resource>) -> String {
    let attributes = resource.into_iter().flat_map(|resource| &resource.attributes);
    let mut named = attributes.filter(|attribute| attribute.key == "service.name");
    format!("{:?}", named.next().and_then(|attribute| attribute.value.clone()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collector_is_sent_spans_and_metrics() {
    let (sender, mut exported) = mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collector = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(Collector(sender.clone())))
        .add_service(MetricsServiceServer::new(Collector(sender)))
        .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
    tokio::spawn(collector);

    let directory = tempfile::tempdir().unwrap();
    let args = Args::try_parse_from([
        "weft-control-plane",
        "--data-dir",
        directory.path().to_str().unwrap(),
        "--api-listen",
        "127.0.0.1:0",
        "--xds-listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--otlp-endpoint",
        &endpoint,
    ])
    .unwrap();
    let telemetry = telemetry::start(&args).unwrap();
    let running = server::start(&args, Clock::system(), EventCounts::default()).await.unwrap();
    telemetry.observe(&running.reconciler);
    let token = std::fs::read_to_string(directory.path().join("operator.token")).unwrap();
    let client = ApiClient::try_new(&format!("http://{}", running.api), token.trim(), &[]).unwrap();
    let service = "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n\
                   spec: {ports: [{name: http, port: 80, protocol: HTTP}]}\n";
    client
        .apply(service, &ApplyOptions { wait: Some("10s".into()), ..ApplyOptions::default() })
        .await
        .unwrap();
    running.end().await;
    // What is waiting is sent at the end.
    tokio::task::spawn_blocking(move || telemetry.end()).await.unwrap();

    let mut missing = vec!["span apply", "span compile", "metric weft.policy.revision", "metric weft.ready"];
    while !missing.is_empty() {
        let next = tokio::time::timeout(Duration::from_secs(20), exported.recv());
        let (of, what) = next.await.unwrap_or_else(|_| panic!("{missing:?} in time")).unwrap();
        assert!(of.contains("weft-control-plane"), "{of}");
        missing.retain(|wanted| *wanted != what);
    }
}
