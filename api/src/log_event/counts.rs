//! How often each event of the log happened.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::{LOG_EVENTS, place_of};

/// Counts events as they are logged. Clones are the same.
#[derive(Clone, Debug)]
pub struct EventCounts(Arc<[AtomicU64]>);

impl EventCounts {
    /// Those that happened, by name, and how often.
    pub fn happened(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        LOG_EVENTS.iter().map(|event| event.name).zip(counts).filter(|(_, count)| *count > 0)
    }
}

impl Default for EventCounts {
    fn default() -> Self {
        Self(LOG_EVENTS.iter().map(|_| AtomicU64::default()).collect())
    }
}

impl<S: tracing::Subscriber> Layer<S> for EventCounts {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut found = FoundEvent(None);
        event.record(&mut found);
        if let Some(count) = found.0.and_then(|place| self.0.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
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

#[cfg(test)]
mod tests {
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
        assert_eq!(counts.happened().collect::<Vec<_>>(), [("workload_joined", 2)]);
    }
}
