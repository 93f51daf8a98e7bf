//! Logs to standard error, and, where an endpoint is set, traces and metrics over OTLP.

mod exporter;

use std::io::IsTerminal as _;

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};
use weft_api::flags::LogFormat;

use crate::args::Args;
use crate::metrics::LoggedEvents;
use crate::reconciler::ReconcilerHandle;
use exporter::Collector;

// h2 warns of frames that a peer should not have sent; a stranger could fill the log with them.
const DEFAULT_FILTER: &str = "info,h2=error";

/// Flushes what is waiting when the process ends.
#[derive(Debug, Default)]
pub struct Telemetry {
    pub events: LoggedEvents,
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
}

/// Starts logging, and exporting if an endpoint is set.
///
/// # Errors
/// When the filter or the endpoint cannot be used.
pub fn start(args: &Args) -> anyhow::Result<Telemetry> {
    let filter = match &args.log {
        Some(filter) => EnvFilter::try_new(filter).context("--log")?,
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER)),
    };
    let terminal = std::io::stderr().is_terminal();
    let format = args.log_format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(terminal);
    let logs = match format {
        LogFormat::Text => logs.with_target(false).boxed(),
        LogFormat::Json => logs.json().flatten_event(true).boxed(),
    };
    let telemetry = match &args.otlp_endpoint {
        Some(endpoint) => exporters(endpoint)?,
        None => Telemetry::default(),
    };
    let spans = telemetry
        .traces
        .as_ref()
        .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("weft-control-plane")));
    let events = telemetry.events.clone();
    tracing_subscriber::registry()
        .with(filter)
        .with(logs)
        .with(spans)
        .with(events.counts)
        .with(events.lines)
        .init();
    Ok(telemetry)
}

fn exporters(endpoint: &str) -> anyhow::Result<Telemetry> {
    let collector = Collector::new(endpoint);
    let resource = Resource::builder().with_service_name("weft-control-plane").build();
    let spans = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .context("--otlp-endpoint")?;
    let traces = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_batch_exporter(collector.patient(spans))
        .build();
    let metrics = opentelemetry_otlp::MetricExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .context("--otlp-endpoint")?;
    let metrics = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_periodic_exporter(collector.patient(metrics))
        .build();
    Ok(Telemetry { events: LoggedEvents::default(), traces: Some(traces), metrics: Some(metrics) })
}

impl Telemetry {
    /// Exports what the mesh looks like, read whenever it is exported.
    pub fn observe(&self, reconciler: &ReconcilerHandle) {
        use opentelemetry::metrics::MeterProvider as _;
        let Some(provider) = &self.metrics else { return };
        let meter = provider.meter("weft-control-plane");
        let gauge = |name: &'static str, read: fn(&crate::reconciler::Published) -> u64| {
            let published = reconciler.published();
            meter
                .u64_observable_gauge(name)
                .with_callback(move |observer| observer.observe(read(&published.borrow()), &[]))
                .build();
        };
        gauge("weft.policy.revision", |published| published.policy_revision);
        gauge("weft.policy.count", |published| published.set.len() as u64);
        gauge("weft.publications", |published| published.revision);
        gauge("weft.workloads.held_back", |published| published.held_back as u64);
        gauge("weft.ready", |published| u64::from(published.ready));
    }

    /// Sends what is waiting.
    pub fn end(self) {
        // A collector that is away must not keep the process from ending; the exporters have time limits of their own.
        drop(self.traces.map(|provider| provider.shutdown()));
        drop(self.metrics.map(|provider| provider.shutdown()));
    }
}
