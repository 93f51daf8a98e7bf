//! What the control plane counts, for `/metrics`.

mod listeners;
mod log_events;
mod log_lines;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use weft_xds::server::SessionEvent;
use weft_xds::transport::Excess;

pub use listeners::{Closed, HandshakeFailure, ListenerMetrics};
pub use log_events::EventMetrics;
pub use log_lines::{LogLines, LoggedEvents};

use listeners::Families;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabel {
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExcessLabel {
    bound: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApplyLabel {
    outcome: ApplyOutcome,
}

/// How an apply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "label values are lower case")]
pub enum ApplyOutcome {
    committed,
    /// Nothing had to change.
    unchanged,
    /// Invalid or in conflict.
    refused,
    failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    limit: Limit,
}

/// A bound on what others can make the control plane do or hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Joins of all together.
    Joins,
    /// Joins with one token.
    JoinsOfAToken,
    /// Renewals of all together.
    Renewals,
    /// Renewals of one workload.
    RenewalsOfAWorkload,
    /// Certificates of one instance that live.
    LeavesOfAnInstance,
    /// Certificates of one name that live.
    LeavesOfAName,
    /// Goodbyes of one workload, and returns after them.
    MarksOfAWorkload,
    /// Tokens that are none, from one source.
    BadTokensOfASource,
    /// Destinations of one workload in its statistics.
    EdgesOfAWorkload,
    /// Edges of which there is a history.
    EdgeHistories,
    /// Bytes that the histories of edges take.
    EdgeHistoryBytes,
    EdgeWatchers,
    /// Streams of statistics of one workload.
    MetricStreamsOfAWorkload,
    /// Streams of health reports of one workload.
    HealthStreamsOfAWorkload,
    /// Reports about ports that the workload was not asked to check.
    PortsNotAsked,
    /// Refusals of clients that are remembered beyond their streams.
    RefusalsRemembered,
    /// Entries of access logs of one workload.
    AccessLogEntriesOfAWorkload,
    /// Streams of access logs of one workload.
    AccessLogStreamsOfAWorkload,
    /// Streams for taps of one workload.
    TapStreamsOfAWorkload,
    /// Requests that one workload tells taps of.
    TappedRequestsOfAWorkload,
    /// Who looks on requests.
    TapViewers,
    /// Records of requests that failed.
    RequestsKept,
    /// Workloads of which other replicas are told no health, because the store takes no more.
    PresenceHealth,
    /// Tokens and codes that sign nobody in, from one source.
    BadSignInsOfASource,
    BrowserSessions,
    /// Calls of one principal.
    CallsOfAPrincipal,
    /// Records of calls, which the store did not take.
    AuditRecords,
}

impl Limit {
    /// What there are too many of.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::Joins => "joins at once",
            Self::JoinsOfAToken => "joins with this token",
            Self::Renewals => "renewals at once",
            Self::RenewalsOfAWorkload => "renewals of this workload",
            Self::LeavesOfAnInstance => "live certificates of this instance",
            Self::LeavesOfAName => "live certificates of this name",
            Self::MarksOfAWorkload => "goodbyes and returns of this workload",
            Self::BadTokensOfASource => "join tokens from this address that are not valid",
            Self::EdgesOfAWorkload => "destinations of this workload",
            Self::EdgeHistories => "edges with a history",
            Self::EdgeHistoryBytes => "points in the histories of edges",
            Self::EdgeWatchers => "watchers of edges",
            Self::MetricStreamsOfAWorkload => "streams of statistics of this workload",
            Self::HealthStreamsOfAWorkload => "streams of health reports of this workload",
            Self::PortsNotAsked => "ports that are not to be checked",
            Self::RefusalsRemembered => "refusals",
            Self::AccessLogEntriesOfAWorkload => "entries of access logs of this workload",
            Self::AccessLogStreamsOfAWorkload => "streams of access logs of this workload",
            Self::TapStreamsOfAWorkload => "streams for taps of this workload",
            Self::TappedRequestsOfAWorkload => "requests for taps of this workload",
            Self::TapViewers => "taps",
            Self::RequestsKept => "records of requests that failed",
            Self::PresenceHealth => "reports for the store",
            Self::BadSignInsOfASource => "sign-ins from this address that failed",
            Self::BrowserSessions => "sessions of browsers",
            Self::CallsOfAPrincipal => "calls of this principal",
            Self::AuditRecords => "records of calls for the store",
        }
    }
}

impl EncodeLabelValue for Limit {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let name = match self {
            Self::Joins => "joins",
            Self::JoinsOfAToken => "joins_of_a_token",
            Self::Renewals => "renewals",
            Self::RenewalsOfAWorkload => "renewals_of_a_workload",
            Self::LeavesOfAnInstance => "leaves_of_an_instance",
            Self::LeavesOfAName => "leaves_of_a_name",
            Self::MarksOfAWorkload => "marks_of_a_workload",
            Self::BadTokensOfASource => "bad_tokens_of_a_source",
            Self::EdgesOfAWorkload => "edges_of_a_workload",
            Self::EdgeHistories => "edge_histories",
            Self::EdgeHistoryBytes => "edge_history_bytes",
            Self::EdgeWatchers => "edge_watchers",
            Self::MetricStreamsOfAWorkload => "metric_streams_of_a_workload",
            Self::HealthStreamsOfAWorkload => "health_streams_of_a_workload",
            Self::PortsNotAsked => "ports_not_asked",
            Self::RefusalsRemembered => "refusals_remembered",
            Self::AccessLogEntriesOfAWorkload => "access_log_entries_of_a_workload",
            Self::AccessLogStreamsOfAWorkload => "access_log_streams_of_a_workload",
            Self::TapStreamsOfAWorkload => "tap_streams_of_a_workload",
            Self::TappedRequestsOfAWorkload => "tapped_requests_of_a_workload",
            Self::TapViewers => "tap_viewers",
            Self::RequestsKept => "requests_kept",
            Self::PresenceHealth => "presence_health",
            Self::BadSignInsOfASource => "bad_sign_ins_of_a_source",
            Self::BrowserSessions => "browser_sessions",
            Self::CallsOfAPrincipal => "calls_of_a_principal",
            Self::AuditRecords => "audit_records",
        };
        EncodeLabelValue::encode(&name, encoder)
    }
}

/// All of it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    streams: Gauge,
    excess: Family<ExcessLabel, Counter>,
    responses: Family<TypeLabel, Counter>,
    bytes: Family<TypeLabel, Counter>,
    acks: Family<TypeLabel, Counter>,
    nacks: Family<TypeLabel, Counter>,
    gates: Counter,
    applies: Family<ApplyLabel, Counter>,
    commit_to_ack: Histogram,
    revision: Gauge,
    held_back: Gauge,
    limited: Family<LimitLabel, Counter>,
    requests_reported: Counter,
    listeners: Families,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    fn new() -> Self {
        let mut inner = Self {
            registry: Registry::with_prefix("weft"),
            streams: Gauge::default(),
            excess: Family::default(),
            responses: Family::default(),
            bytes: Family::default(),
            acks: Family::default(),
            nacks: Family::default(),
            gates: Counter::default(),
            applies: Family::default(),
            commit_to_ack: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            revision: Gauge::default(),
            held_back: Gauge::default(),
            limited: Family::default(),
            requests_reported: Counter::default(),
            listeners: Families::default(),
        };
        let registry = &mut inner.registry;
        registry.register("xds_streams", "Open discovery streams", inner.streams.clone());
        registry.register(
            "xds_streams_refused",
            "Discovery streams refused or ended by a bound: crowd (all together), rate, streams and names (of one workload)",
            inner.excess.clone(),
        );
        registry.register("xds_responses", "Discovery responses sent", inner.responses.clone());
        registry.register("xds_response_bytes", "Bytes of discovery responses sent", inner.bytes.clone());
        registry.register("xds_acks", "Discovery responses accepted", inner.acks.clone());
        registry.register("xds_nacks", "Discovery responses refused", inner.nacks.clone());
        registry.register("xds_gate_timeouts", "Gates that opened without an answer", inner.gates.clone());
        registry.register("applies", "Applies by outcome", inner.applies.clone());
        registry.register(
            "commit_to_ack_seconds",
            "From the publication of a revision to a stream's last answer for it",
            inner.commit_to_ack.clone(),
        );
        registry.register("revision", "Revision of the store that is served", inner.revision.clone());
        registry.register(
            "workloads_held_back",
            "Workloads not drained because too many were lost at once",
            inner.held_back.clone(),
        );
        registry.register("limited", "Refused at a limit", inner.limited.clone());
        registry.register(
            "requests_reported",
            "Requests and connections that sidecars reported as failed or refused, and that were taken",
            inner.requests_reported.clone(),
        );
        inner.listeners.register(registry);
        inner
    }
}

impl Metrics {
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner::new()))
    }

    /// The same, beside what others count.
    #[must_use]
    pub fn beside(others: Vec<Box<dyn Collector>>) -> Self {
        let mut inner = Inner::new();
        others.into_iter().for_each(|other| inner.registry.register_collector(other));
        Self(Arc::new(inner))
    }

    /// A discovery stream opened.
    pub fn stream_opened(&self) {
        self.0.streams.inc();
    }

    /// A discovery stream closed.
    pub fn stream_closed(&self) {
        self.0.streams.dec();
    }

    /// A discovery stream was refused or ended because its client asked for more than its share.
    pub fn stream_refused(&self, excess: Excess) {
        let bound = match excess {
            Excess::Crowd(_) => "crowd",
            Excess::Rate(_) => "rate",
            Excess::Streams(_) => "streams",
            Excess::Names => "names",
        };
        self.0.excess.get_or_create(&ExcessLabel { bound }).inc();
    }

    /// Something happened on a discovery stream.
    pub fn session_event(&self, event: &SessionEvent) {
        let label = |kind: &weft_api::ResourceKind| TypeLabel { r#type: kind.short() };
        match event {
            SessionEvent::Sent { kind, bytes, .. } => {
                self.0.responses.get_or_create(&label(kind)).inc();
                self.0.bytes.get_or_create(&label(kind)).inc_by(*bytes as u64);
            }
            SessionEvent::Acked { kind, .. } => drop(self.0.acks.get_or_create(&label(kind)).inc()),
            SessionEvent::Nacked { kind, .. } => drop(self.0.nacks.get_or_create(&label(kind)).inc()),
            SessionEvent::GateTimedOut { .. } | SessionEvent::AckOverdue { .. } => drop(self.0.gates.inc()),
            SessionEvent::Resumed { .. }
            | SessionEvent::Quarantined { .. }
            | SessionEvent::Synced { .. }
            | SessionEvent::UnknownType { .. } => {}
        }
    }

    /// A stream has answered for everything of a revision, so long after it was published.
    pub fn synced(&self, after: std::time::Duration) {
        self.0.commit_to_ack.observe(after.as_secs_f64());
    }

    /// Something was refused at a limit.
    pub fn limited(&self, limit: Limit) {
        self.0.limited.get_or_create(&LimitLabel { limit }).inc();
    }

    /// Things were refused at a limit.
    pub fn limited_by(&self, limit: Limit, count: u64) {
        if count > 0 {
            self.0.limited.get_or_create(&LimitLabel { limit }).inc_by(count);
        }
    }

    /// Sidecars reported requests or connections that failed or were refused.
    pub fn requests_reported(&self, count: u64) {
        self.0.requests_reported.inc_by(count);
    }

    /// The counters of one listener.
    #[must_use]
    pub fn listener(&self, name: &'static str) -> ListenerMetrics {
        self.0.listeners.of(name)
    }

    pub fn applied(&self, outcome: ApplyOutcome) {
        self.0.applies.get_or_create(&ApplyLabel { outcome }).inc();
    }

    /// The text that Prometheus reads.
    #[must_use]
    pub fn render(&self, revision: u64, held_back: usize) -> String {
        self.0.revision.set(revision.cast_signed());
        self.0.held_back.set(i64::try_from(held_back).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.0.registry).expect("writing to a string cannot fail");
        text
    }
}
