//! What was logged, as statistics: `event.NAME`, and `weft_events_total` for Prometheus, as the control plane has them.

use weft_api::log_event::EventCounts;

use super::registry::{SeriesReading, StatValue};

/// A counter for each event that happened.
pub fn event_readings(events: &EventCounts) -> impl Iterator<Item = SeriesReading<'_>> {
    events.happened().map(|(event, count)| SeriesReading {
        name: format!("event.{event}").into(),
        family: "weft_events_total".into(),
        labels: vec![("event", event.into())],
        value: StatValue::Counter(count),
    })
}
