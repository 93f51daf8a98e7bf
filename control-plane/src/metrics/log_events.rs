//! How often each event of the log happened.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use weft_api::LOG_EVENTS;
use weft_api::log_event::place_of;

use super::log_lines::LogLines;

/// Counts events as they are logged, shows the counts to Prometheus, and keeps the newest lines. Clones are the same.
#[derive(Clone, Debug)]
pub struct EventCounts {
    counts: Arc<[AtomicU64]>,
    lines: LogLines,
}

impl Default for EventCounts {
    fn default() -> Self {
        let counts = LOG_EVENTS.iter().map(|_| AtomicU64::default()).collect();
        Self { counts, lines: LogLines::default() }
    }
}

impl EventCounts {
    #[must_use]
    pub fn lines(&self) -> &LogLines {
        &self.lines
    }
}

impl<S: tracing::Subscriber> Layer<S> for EventCounts {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut found = FoundEvent(None);
        event.record(&mut found);
        if let Some(count) = found.0.and_then(|place| self.counts.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.lines.note(event);
    }
}

/// The place of the event that a line tells of.
struct FoundEvent(Option<usize>);

impl Visit for FoundEvent {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "event" {
            self.0 = place_of(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl Collector for EventCounts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let meaning = "Events, by the names that the log has of them";
        let mut family = encoder.encode_descriptor("events", meaning, None, MetricType::Counter)?;
        for (event, count) in LOG_EVENTS.iter().zip(self.counts.iter()) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                let labels = [("event", event.name)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn events_are_counted_by_their_names() {
        let counts = EventCounts::default();
        let subscriber = tracing_subscriber::registry().with(counts.clone());
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..2 {
                tracing::info!(event = "workload_joined", workload = "shop/web-1", "joined");
            }
            tracing::info!("a line without a name");
            tracing::info!(event = "made_up", "a name of nothing");
        });
        let (mut registry, mut text) = (Registry::with_prefix("weft"), String::new());
        registry.register_collector(Box::new(counts));
        encode(&mut text, &registry).unwrap();
        assert!(text.contains("weft_events_total{event=\"workload_joined\"} 2"), "{text}");
        assert!(!text.contains("made_up"), "{text}");
    }
}
