//! Exporting to a collector that may be away: that is said once, not at each export.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// Whether one collector answers; shared by what is exported to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Collector {
    endpoint: Arc<str>,
    is_away: Arc<AtomicBool>,
}

#[derive(Debug, PartialEq, Eq)]
enum CollectorChange {
    Away,
    Back,
}

/// An exporter whose failures are told by this, and not by the SDK each time.
#[derive(Debug)]
pub(super) struct ReportedExporter<E> {
    exporter: E,
    collector: Collector,
}

impl Collector {
    pub(super) fn new(endpoint: &str) -> Self {
        Self { endpoint: endpoint.into(), is_away: Arc::default() }
    }

    pub(super) fn patient<E>(&self, exporter: E) -> ReportedExporter<E> {
        ReportedExporter { exporter, collector: self.clone() }
    }

    fn turn(&self, answers: bool) -> Option<CollectorChange> {
        match (self.is_away.swap(!answers, Ordering::Relaxed), answers) {
            (false, false) => Some(CollectorChange::Away),
            (true, true) => Some(CollectorChange::Back),
            (false, true) | (true, false) => None,
        }
    }

    fn tell(&self, result: &OTelSdkResult) {
        match self.turn(result.is_ok()) {
            Some(CollectorChange::Away) => {
                let reason = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
                tracing::warn!(
                    event = "telemetry_not_exported",
                    endpoint = %self.endpoint,
                    reason,
                    "no OTLP collector answers; traces and metrics are dropped until one does"
                );
            }
            Some(CollectorChange::Back) => {
                tracing::info!(
                    event = "telemetry_exported",
                    endpoint = %self.endpoint,
                    "the OTLP collector answers"
                );
            }
            None => {}
        }
    }
}

impl<E: SpanExporter> SpanExporter for ReportedExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.collector.tell(&self.exporter.export(batch).await);
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for ReportedExporter<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.collector.tell(&self.exporter.export(metrics).await);
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collector_that_goes_and_comes_is_told_of_once_each() {
        let collector = Collector::new("http://127.0.0.1:4317");
        let turns = [true, false, false, true, true, false].map(|answers| collector.turn(answers));
        assert_eq!(
            turns,
            [
                None,
                Some(CollectorChange::Away),
                None,
                Some(CollectorChange::Back),
                None,
                Some(CollectorChange::Away)
            ]
        );
    }
}
