//! The fields of TelemetryPolicies that are merged by level.

use super::{RequestLog, SpanTag, TelemetryPolicy};
use crate::kinds::kind::Level;
use crate::kinds::merge::{Effective, Merged, merged_fields};
use crate::kinds::mesh::TraceShare;
use crate::object::PolicyKey;

merged_fields! {
    /// What holds for the requests to a port. A field that no policy sets is `None`: the default holds.
    EffectiveTelemetry of TelemetryPolicy {
        /// Where requests are written down.
        access_logs: Vec<RequestLog> = "spec.accessLogs", |p| p.access_logs.clone();
        /// How many begin a trace.
        sampling: TraceShare = "spec.tracing.sampling",
            |p| p.tracing.as_ref().and_then(|t| t.sampling).map(TraceShare::of_percent);
        /// What their spans tell besides.
        tags: Vec<SpanTag> = "spec.tracing.tags", |p| p.tracing.as_ref().and_then(|t| t.tags.clone());
    }
}
