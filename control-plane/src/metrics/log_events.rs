//! How often each event of the log happened, for Prometheus.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use weft_api::log_event::EventCounts;

/// Shows counts of events as `weft_events_total`.
#[derive(Debug)]
pub struct EventMetrics(pub EventCounts);

impl Collector for EventMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let meaning = "Events, by the names that the log has of them";
        let mut family = encoder.encode_descriptor("events", meaning, None, MetricType::Counter)?;
        for (event, count) in self.0.happened() {
            let labels = [("event", event)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
