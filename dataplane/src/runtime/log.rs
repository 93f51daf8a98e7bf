//! Access logs as data.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use http::HeaderName;
use opentelemetry_proto::tonic::logs::v1::LogRecord;

use crate::format::{AccessLogFilter, Format, FormatContext, LogNeeds};
use crate::otlp::{self, OtlpCollector};
use crate::stats::AccessLogStats;

/// The access logs of one place, and what has to be kept of a request for them.
#[derive(Debug, Clone, Default)]
pub struct AccessLogs {
    logs: Vec<AccessLog>,
    needs: LogNeeds,
}

impl AccessLogs {
    #[must_use]
    pub fn new(logs: Vec<AccessLog>) -> Self {
        let needs = logs.iter().map(AccessLog::needs).fold(LogNeeds::default(), LogNeeds::and);
        Self { logs, needs }
    }

    /// Whether nothing is logged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, AccessLog> {
        self.logs.iter()
    }

    /// What is kept for them.
    pub(crate) fn needs(&self) -> LogNeeds {
        self.needs
    }
}

/// One access log: what is told, to whom, and of which requests.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// Who is told, and in which form.
    pub to: LogTarget,
    /// Which requests or connections are logged; all without one.
    pub filter: Option<AccessLogFilter>,
}

impl AccessLog {
    fn needs(&self) -> LogNeeds {
        let of_filter = self.filter.as_ref().map(AccessLogFilter::needs).unwrap_or_default();
        of_filter.and(match &self.to {
            LogTarget::Lines { format, .. } => format.needs(),
            LogTarget::Service(service) => LogNeeds {
                request_headers: !service.request_headers.is_empty(),
                response_headers: !service.response_headers.is_empty(),
                response_trailers: !service.response_trailers.is_empty(),
            },
            LogTarget::Otlp(log) => {
                let formats = log.body.iter().chain(log.attributes.iter().map(|(_, format)| format));
                formats.map(Format::needs).fold(LogNeeds::default(), LogNeeds::and)
            }
        })
    }
}

#[derive(Debug, Clone)]
pub enum LogTarget {
    Lines {
        sink: LogSink,
        /// How a line looks.
        format: Arc<Format>,
    },
    /// Envoy's access log service: an entry each.
    Service(Arc<LogService>),
    /// An OpenTelemetry collector: a log record each.
    Otlp(Arc<OtlpLog>),
}

/// `CommonGrpcAccessLogConfig`, and what is told beside.
#[derive(Debug)]
pub struct LogService {
    /// Which of the service's two kinds of entries.
    pub entries: EntryKind,
    /// The bootstrap's cluster that takes them.
    pub cluster: Arc<str>,
    /// By which the service tells its logs apart.
    pub log_name: Arc<str>,
    /// An entry waits so long at most for others.
    pub flush_interval: Duration,
    /// So many bytes of entries are sent at once.
    pub buffer_bytes: usize,
    /// Headers that are told beside what is always told.
    pub request_headers: Vec<HeaderName>,
    /// The same of responses.
    pub response_headers: Vec<HeaderName>,
    /// The same of their trailers.
    pub response_trailers: Vec<HeaderName>,
    /// Where what is written and dropped is counted.
    pub stats: AccessLogStats,
}

/// `OpenTelemetryAccessLogConfig`.
#[derive(Debug)]
pub struct OtlpLog {
    pub(crate) collector: Arc<OtlpCollector>,
    /// The record's body; none where the attributes tell all.
    pub(crate) body: Option<Format>,
    pub(crate) attributes: Vec<(Box<str>, Format)>,
}

impl OtlpLog {
    /// What is told of these facts.
    pub(crate) fn record(&self, at: &FormatContext<'_>) -> LogRecord {
        let text = |format: &Format| {
            let mut text = String::new();
            format.render(at, &mut text);
            text
        };
        let began = at.start.and_then(|start| start.duration_since(SystemTime::UNIX_EPOCH).ok());
        LogRecord {
            time_unix_nano: began.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or_default(),
            body: self.body.as_ref().map(|format| otlp::text(text(format))),
            attributes: self
                .attributes
                .iter()
                .map(|(name, format)| otlp::attribute(&**name, text(format)))
                .collect(),
            trace_id: HEXLOWER.decode(at.trace_id.as_bytes()).unwrap_or_default(),
            ..Default::default()
        }
    }
}

/// The kinds of entries of an access log service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// `http_grpc`.
    Requests,
    /// `tcp_grpc`.
    Connections,
}

/// Where an access log's lines go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogSink {
    /// A file, opened for append. Lines are dropped and counted where it cannot keep up.
    File(PathBuf),
    Stdout,
    Stderr,
}
