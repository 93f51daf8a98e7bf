//! The receiving end of Envoy's access log service: what failed, or was refused, at each sidecar; and what stock Envoys tell
//! of all requests while somebody looks on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::accesslog::v3::access_log_service_server::{
    AccessLogService, AccessLogServiceServer,
};
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::LogEntries;
use envoy_types::pb::envoy::service::accesslog::v3::{StreamAccessLogsMessage, StreamAccessLogsResponse};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};
use weft_api::names::{INBOUND_ACCESS_LOG, TAP_ACCESS_LOGS};
use weft_api::rest::Hop;
use weft_api::{TrustDomain, WorkloadId};
use weft_xds::transport::buckets::{Buckets, Rate};

use super::peer;
use super::stream_limit::StreamLimit;
use crate::metrics::{Limit, Metrics};
use crate::presence::clock_offsets::ClockOffsets;
use crate::reconciler::Published;
use crate::requests::{self, Reporter, Requests};
use crate::taps::{Taps, read_tapped};

/// Streams of one workload. Each worker thread of an Envoy has up to four: of requests and of connections, of either side.
const MOST_STREAMS: usize = 512;
/// The largest report. Envoy sends what is 16 KiB or more; one request's entry stays below 100 KiB.
pub const MAX_REPORT_BYTES: usize = 1 << 20;
/// Entries that are taken of one workload; more are counted.
const RATE: Rate = Rate { per_second: 200.0, burst: 1000.0 };
/// The same for requests that somebody looks on. What an Envoy is to tell falls when it tells more than is shown.
const TAP_RATE: Rate = Rate { per_second: 1000.0, burst: 2000.0 };
/// A stream without reports ends, and its connection with it: a sidecar opens another one when it has something to say.
const SILENCE: Duration = Duration::from_secs(60);

/// Takes access logs from authenticated proxies.
#[derive(Clone, Debug)]
pub struct AccessLogReceiver {
    requests: Requests,
    taps: Taps,
    metrics: Metrics,
    trust_domain: TrustDomain,
    published: watch::Receiver<Published>,
    clock_offsets: ClockOffsets,
    streams: StreamLimit,
    // A lock because streams come in tasks of their own; held for a look at one bucket.
    rates: Arc<Mutex<Buckets<WorkloadId>>>,
    tap_rates: Arc<Mutex<Buckets<WorkloadId>>>,
}

impl AccessLogReceiver {
    #[must_use]
    pub fn new(
        requests: Requests,
        taps: Taps,
        metrics: Metrics,
        trust_domain: TrustDomain,
        published: watch::Receiver<Published>,
        clock_offsets: ClockOffsets,
    ) -> Self {
        let [rates, tap_rates] =
            [RATE, TAP_RATE].map(|rate| Arc::new(Mutex::new(Buckets::new(rate, Instant::now()))));
        let streams = StreamLimit::new(MOST_STREAMS);
        Self { requests, taps, metrics, trust_domain, published, clock_offsets, streams, rates, tap_rates }
    }

    /// The tonic service, with the limit on what it reads.
    #[must_use]
    pub fn into_server(self) -> AccessLogServiceServer<Self> {
        AccessLogServiceServer::new(self).max_decoding_message_size(MAX_REPORT_BYTES)
    }

    fn take(&self, reporter: &Reporter, entries: LogEntries) {
        let (now, reported) = (Instant::now(), requests::count(&entries));
        let taken = admitted(&self.rates, &reporter.workload, reported, now);
        let records = requests::read(reporter, entries, taken);
        let gone = self.requests.record(now, &reporter.workload, records);
        let refused = (reported - taken) as u64;
        self.requests.note_dropped(now, refused);
        self.metrics.requests_reported(taken as u64);
        self.metrics.limited_by(Limit::AccessLogEntriesOfAWorkload, refused);
        self.metrics.limited_by(Limit::RequestsKept, gone);
    }

    /// Requests of an Envoy that somebody looks on.
    fn show(&self, reporter: &Reporter, entries: LogEntries) {
        let LogEntries::HttpLogs(logs) = entries else { return };
        let reported = logs.log_entry.len();
        let read = admitted(&self.tap_rates, &reporter.workload, reported, Instant::now());
        let (refused, workload) = ((reported - read) as u64, &reporter.workload);
        let weight = self.taps.with_sampling(|sampling| sampling.told(workload, reported as u64));
        for entry in logs.log_entry.iter().take(read) {
            self.taps.tell(&read_tapped(reporter, entry), weight);
        }
        if refused > 0 {
            self.metrics.limited_by(Limit::TappedRequestsOfAWorkload, refused);
            let refused = f64::from(u32::try_from(refused).unwrap_or(u32::MAX));
            self.taps.not_read(reporter.hop, weight * refused);
        }
    }
}

/// How many of so many entries the workload may have taken now.
fn admitted(
    rates: &Mutex<Buckets<WorkloadId>>,
    workload: &WorkloadId,
    reported: usize,
    now: Instant,
) -> usize {
    let mut rates = rates.lock().unwrap_or_else(PoisonError::into_inner);
    (0..reported).take_while(|_| rates.take(workload.clone(), now).is_ok()).count()
}

#[tonic::async_trait]
impl AccessLogService for AccessLogReceiver {
    async fn stream_access_logs(
        &self,
        request: Request<Streaming<StreamAccessLogsMessage>>,
    ) -> Result<Response<StreamAccessLogsResponse>, Status> {
        // The certificate is the truth; the node in the message is a claim and is not read.
        let (workload, service) = peer::workload(&request)?;
        let permit = self.streams.enter(&workload);
        if permit.is_beyond {
            self.metrics.limited(Limit::AccessLogStreamsOfAWorkload);
        }
        let trust_domain = self.trust_domain.clone();
        let set = Arc::default();
        let hop = Hop::Outbound;
        let mut reporter = Reporter { workload, service, hop, trust_domain, set, clock_offset: None };
        let (mut reports, mut is_tap) = (request.into_inner(), false);
        loop {
            let report = tokio::time::timeout(SILENCE, reports.message());
            tokio::select! {
                report = report => {
                    let Ok(report) = report else { break };
                    let Some(report) = report? else { break };
                    if let Some(identifier) = &report.identifier {
                        (reporter.hop, is_tap) = log_of(&identifier.log_name);
                    }
                    reporter.set = Arc::clone(&self.published.borrow().set);
                    reporter.clock_offset = self.clock_offsets.of(Instant::now(), &reporter.workload);
                    match report.log_entries {
                        Some(entries) if is_tap => self.show(&reporter, entries),
                        Some(entries) => self.take(&reporter, entries),
                        None => {}
                    }
                }
                () = permit.replaced.cancelled() => {
                    return Err(Status::resource_exhausted("newer streams of this workload took its place"));
                }
            }
        }
        Ok(Response::new(StreamAccessLogsResponse {}))
    }
}

/// Which side of a sidecar a log is of, and whether it is one for who looks on.
fn log_of(name: &str) -> (Hop, bool) {
    let is_inbound = [INBOUND_ACCESS_LOG, TAP_ACCESS_LOGS[0]].contains(&name);
    (if is_inbound { Hop::Inbound } else { Hop::Outbound }, TAP_ACCESS_LOGS.contains(&name))
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::data::accesslog::v3::TcpAccessLogEntry;
    use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::TcpAccessLogEntries;

    use super::*;
    use crate::requests::Wanted;

    fn entries(count: usize) -> LogEntries {
        LogEntries::TcpLogs(TcpAccessLogEntries { log_entry: vec![TcpAccessLogEntry::default(); count] })
    }

    #[test]
    fn what_one_workload_says_too_much_is_counted_and_others_are_heard() {
        let (requests, metrics) = (Requests::default(), Metrics::new());
        let trust_domain = TrustDomain::try_new("mesh.local").unwrap();
        let (_publish, published) = watch::channel(Published::default());
        let receiver = AccessLogReceiver::new(
            requests.clone(),
            Taps::default(),
            metrics.clone(),
            trust_domain.clone(),
            published,
            ClockOffsets::default(),
        );
        let reporter = |workload: &str| Reporter {
            workload: workload.parse().unwrap(),
            service: "shop/cart".parse().unwrap(),
            hop: log_of("inbound").0,
            trust_domain: trust_domain.clone(),
            set: Arc::default(),
            clock_offset: None,
        };
        receiver.take(&reporter("shop/loud"), entries(1200));
        receiver.take(&reporter("shop/quiet"), entries(1));
        let list = requests.list(Instant::now(), &Wanted { limit: 5000, ..Wanted::default() });
        let quiet = list.items.iter().filter(|record| record.workload == "shop/quiet").count();
        assert_eq!((quiet, list.items.len() as u64 + list.dropped), (1, 1201));
        assert!(list.dropped > 150, "{}", list.dropped);
        let text = metrics.render(0, 0);
        let line =
            format!("weft_limited_total{{limit=\"access_log_entries_of_a_workload\"}} {}", list.dropped);
        assert!(text.contains(&line), "{text}");
        assert!(text.contains(&format!("weft_requests_reported_total {}", list.items.len())), "{text}");
    }
}
