//! A real OpenTelemetry collector, and what it passes on.
//!
//! ```text
//! sidecars --OTLP--> Rotel --OTLP--> what the test looks at
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use super::{Mesh, Process, free_port, program, until};

const START: Duration = Duration::from_secs(30);
const END: Duration = Duration::from_secs(15);

/// A collector that runs.
#[derive(Debug)]
pub struct OtelCollector {
    process: Option<Process>,
    dir: PathBuf,
    otlp: SocketAddr,
    http: SocketAddr,
    sink: SocketAddr,
    received: Received,
}

/// A span, and who made it.
#[derive(Clone, Debug)]
pub struct ReceivedSpan {
    /// `service.namespace/service.name`.
    pub service: String,
    /// `telemetry.sdk.name`: which proxy.
    pub sdk: String,
    /// The span.
    pub span: Span,
}

/// An entry of a log, and whose it is.
#[derive(Clone, Debug)]
pub struct ReceivedLog {
    /// `service.namespace/service.name`.
    pub service: String,
    /// The entry.
    pub record: LogRecord,
}

#[derive(Clone, Debug, Default)]
struct Received {
    spans: Arc<Mutex<Vec<ReceivedSpan>>>,
    logs: Arc<Mutex<Vec<ReceivedLog>>>,
}

impl ReceivedSpan {
    /// An attribute's text.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<&str> {
        text(&self.span.attributes, key)
    }
}

impl ReceivedLog {
    /// An attribute's text.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<&str> {
        text(&self.record.attributes, key)
    }
}

impl OtelCollector {
    /// Starts it beside a mesh.
    ///
    /// # Errors
    /// When the program is missing or does not become ready.
    pub async fn start(mesh: &mut Mesh) -> anyhow::Result<Self> {
        let sink = TcpListener::bind("127.0.0.1:0").await?;
        let received = Received::default();
        let address = mesh.next_address();
        let mut collector = Self {
            process: None,
            dir: mesh.dir().to_owned(),
            otlp: (address, 4317).into(),
            http: (address, free_port()?).into(),
            sink: sink.local_addr()?,
            received: received.clone(),
        };
        let server = tonic::transport::Server::builder()
            .add_service(
                TraceServiceServer::new(received.clone()).accept_compressed(CompressionEncoding::Gzip),
            )
            .add_service(LogsServiceServer::new(received).accept_compressed(CompressionEncoding::Gzip))
            .serve_with_incoming(TcpListenerStream::new(sink));
        tokio::spawn(server);
        collector.start_again().await?;
        Ok(collector)
    }

    /// Starts it where it was.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let mut process = run(&self.dir, self.otlp, self.http, self.sink)?;
        until("the collector is ready", START, async || {
            process.check()?;
            Ok(TcpStream::connect(self.otlp).await?)
        })
        .await?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it; what it has not passed on is lost.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn end(&mut self) -> anyhow::Result<()> {
        if let Some(process) = self.process.take() {
            process.end(END).await?;
        }
        Ok(())
    }

    /// `http://…` of its OTLP over gRPC.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.otlp)
    }

    /// All spans so far.
    #[must_use]
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        self.received.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All entries of logs so far.
    #[must_use]
    pub fn logs(&self) -> Vec<ReceivedLog> {
        self.received.logs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn run(dir: &Path, otlp: SocketAddr, http: SocketAddr, sink: SocketAddr) -> anyhow::Result<Process> {
    Process::start(dir, "collector", &program::collector()?, |command| {
        command.args(["start", "--exporter", "otlp", "--batch-timeout", "50ms"]);
        command.arg(format!("--otlp-grpc-endpoint={otlp}"));
        command.arg(format!("--otlp-http-endpoint={http}"));
        command.arg(format!("--otlp-exporter-endpoint=http://{sink}"));
    })
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        for of_resource in request.into_inner().resource_spans {
            let (service, sdk) = who(of_resource.resource.as_ref());
            for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                spans.push(ReceivedSpan { service: service.clone(), sdk: sdk.clone(), span });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Received {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        for of_resource in request.into_inner().resource_logs {
            let (service, _) = who(of_resource.resource.as_ref());
            for record in of_resource.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                logs.push(ReceivedLog { service: service.clone(), record });
            }
        }
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

fn who(resource: Option<&Resource>) -> (String, String) {
    let attributes = resource.map(|resource| &resource.attributes[..]).unwrap_or_default();
    let of = |key| text(attributes, key).unwrap_or_default();
    (format!("{}/{}", of("service.namespace"), of("service.name")), of("telemetry.sdk.name").to_owned())
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}
