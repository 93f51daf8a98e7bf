//! The stream of one log, and what waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::accesslog::v3::StreamAccessLogsMessage;
use envoy_types::pb::envoy::service::accesslog::v3::access_log_service_client::AccessLogServiceClient;
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::{
    HttpAccessLogEntries, Identifier, LogEntries, TcpAccessLogEntries,
};
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use weft_api::Backoff;

use super::entry::LogEntry;
use crate::bootstrap::link::Links;
use crate::control::ControlHandle;
use crate::runtime::LogService;
use crate::stats::CounterId;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Messages that wait for the connection. More than that means that the service does not keep up.
const WAITING: usize = 4;
/// So many times what is sent at once may wait for a stream that is not there.
const BUFFERS: usize = 4;

/// A stream that is open, or was until now.
#[derive(Debug)]
struct OpenStream {
    sender: mpsc::Sender<StreamAccessLogsMessage>,
    /// Entries that were given to it and are not on their way yet: they are lost when it is.
    waiting: Arc<AtomicU64>,
}

/// What is kept of one log, and where it goes.
#[derive(Debug)]
pub(super) struct LogStream {
    /// None where the bootstrap has no such cluster.
    channel: Option<Channel>,
    identifier: Identifier,
    stream: Option<OpenStream>,
    handle: ControlHandle,
    backoff: Backoff,
    opened: Instant,
    /// No stream is opened before.
    not_before: Instant,
    buffer_bytes: usize,
    dropped: CounterId,
    entries: Vec<LogEntry>,
    bytes: usize,
    /// When what waits is sent.
    due: Option<Instant>,
}

impl LogStream {
    pub(super) fn new(links: &Links, node: &Node, service: &LogService, handle: &ControlHandle) -> Self {
        let channel = links.to_cluster_named(&service.cluster);
        if channel.is_none() {
            let (cluster, log) = (&service.cluster, &service.log_name);
            tracing::warn!(
                event = "access_log_without_cluster",
                %cluster, %log,
                "the bootstrap has no such cluster: entries of this access log are dropped"
            );
        }
        let now = Instant::now();
        Self {
            channel,
            identifier: Identifier { node: Some(node.clone()), log_name: service.log_name.to_string() },
            stream: None,
            handle: handle.clone(),
            backoff: Backoff::new(FIRST_RETRY, LONGEST_RETRY),
            opened: now,
            not_before: now,
            buffer_bytes: service.buffer_bytes.max(1),
            dropped: service.stats.logs_dropped,
            entries: Vec::new(),
            bytes: 0,
            due: None,
        }
    }

    /// Takes an entry; false where there is no room for it.
    pub(super) fn add(&mut self, service: &Arc<LogService>, entry: LogEntry) -> bool {
        if self.channel.is_none() || self.bytes >= BUFFERS * self.buffer_bytes {
            return false;
        }
        let bytes = entry.encoded_len();
        self.bytes += bytes;
        self.entries.push(entry);
        self.due.get_or_insert_with(|| Instant::now() + service.flush_interval);
        true
    }

    /// When [`Self::flush`] has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = self.due?;
        Some(if self.is_open() { due } else { due.max(self.not_before) })
    }

    /// Sends what waits, if it is time for that or enough.
    pub(super) fn flush(&mut self, now: Instant) {
        if self.due().is_some_and(|due| due <= now) || self.bytes >= self.buffer_bytes {
            self.send(now);
        }
    }

    pub(super) fn flush_all(&mut self) {
        self.send(Instant::now());
    }

    fn is_open(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| !stream.sender.is_closed())
    }

    fn send(&mut self, now: Instant) {
        if self.entries.is_empty() || !(self.is_open() || self.open(now)) {
            return;
        }
        let Some(stream) = &self.stream else { return };
        let Ok(place) = stream.sender.try_reserve() else {
            // It does not keep up: what waits goes with what comes.
            self.due = Some(now + FIRST_RETRY);
            return;
        };
        stream.waiting.fetch_add(self.entries.len() as u64, Ordering::Relaxed);
        place.send(message(&self.identifier, std::mem::take(&mut self.entries)));
        (self.bytes, self.due) = (0, None);
    }

    /// Opens a stream where it may be tried again.
    fn open(&mut self, now: Instant) -> bool {
        let Some(channel) = self.channel.clone().filter(|_| now >= self.not_before) else { return false };
        if now.saturating_duration_since(self.opened) > LONGEST_RETRY {
            self.backoff.reset();
        }
        self.opened = now;
        self.not_before = now + self.backoff.next_wait();
        let (sender, outgoing) = mpsc::channel(WAITING);
        let waiting = Arc::new(AtomicU64::new(0));
        self.stream = Some(OpenStream { sender, waiting: Arc::clone(&waiting) });
        let leaving = Arc::clone(&waiting);
        let outgoing = ReceiverStream::new(outgoing).inspect(move |message| {
            leaving.fetch_sub(count(message), Ordering::Relaxed);
        });
        let (handle, dropped) = (self.handle.clone(), self.dropped);
        tokio::spawn(async move {
            let mut client = AccessLogServiceClient::new(channel);
            if let Err(status) = client.stream_access_logs(outgoing).await {
                tracing::debug!(code = ?status.code(), message = status.message(), "access log stream lost");
            }
            handle.count(dropped, waiting.load(Ordering::Relaxed)).await;
        });
        true
    }
}

fn message(identifier: &Identifier, entries: Vec<LogEntry>) -> StreamAccessLogsMessage {
    let (mut requests, mut connections) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry {
            LogEntry::Request(entry) => requests.push(*entry),
            LogEntry::Connection(entry) => connections.push(*entry),
        }
    }
    // A log has entries of one kind.
    let log_entries = if connections.is_empty() {
        LogEntries::HttpLogs(HttpAccessLogEntries { log_entry: requests })
    } else {
        LogEntries::TcpLogs(TcpAccessLogEntries { log_entry: connections })
    };
    StreamAccessLogsMessage { identifier: Some(identifier.clone()), log_entries: Some(log_entries) }
}

fn count(message: &StreamAccessLogsMessage) -> u64 {
    match &message.log_entries {
        Some(LogEntries::HttpLogs(logs)) => logs.log_entry.len() as u64,
        Some(LogEntries::TcpLogs(logs)) => logs.log_entry.len() as u64,
        None => 0,
    }
}
