//! What weft-proxies tell of requests that somebody looks on: each has a stream, is told what is wanted, and tells of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::data::accesslog::v3::HttpAccessLogEntry;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weft_api::rest::Hop;
use weft_api::tapping::tap_service_server::{TapService, TapServiceServer};
use weft_api::tapping::{NotShown, Tap, TapOrder, TapReport, TappedRequest};
use weft_api::{ServiceId, SpiffeId, TrustDomain};
use weft_policies::PolicySet;
use weft_xds::transport::buckets::{Bucket, Rate};

use super::peer;
use super::stream_limit::{StreamLimit, StreamPermit};
use crate::metrics::{Limit, Metrics};
use crate::reconciler::Published;
use crate::requests::Reporter;
use crate::taps::{LEASE, Sides, Taps, TellingSidecar, WantedTap, WantedTaps, read_tapped};

/// Streams of one workload: a proxy has one, and a second while it comes back.
const MOST_STREAMS: usize = 2;
/// The largest report: 64 requests of a few texts of 1 KiB.
const MAX_REPORT_BYTES: usize = 4 << 20;
/// Taps are renewed this often.
const RENEWAL: Duration = Duration::from_secs(3);
/// Requests that are read of one stream; a proxy that keeps to the bounds of each tap tells no more.
const RATE: Rate = Rate { per_second: 2000.0, burst: 4000.0 };
/// Orders that wait for a proxy. One that does not take them loses its taps, as their lease ends.
const ORDERS: usize = 2;

/// Takes requests from authenticated weft-proxies.
#[derive(Clone, Debug)]
pub struct TapReceiver {
    taps: Taps,
    metrics: Metrics,
    trust_domain: TrustDomain,
    published: watch::Receiver<Published>,
    streams: StreamLimit,
}

impl TapReceiver {
    #[must_use]
    pub fn new(
        taps: Taps,
        metrics: Metrics,
        trust_domain: TrustDomain,
        published: watch::Receiver<Published>,
    ) -> Self {
        Self { taps, metrics, trust_domain, published, streams: StreamLimit::new(MOST_STREAMS) }
    }

    /// The tonic service, with the limit on what it reads.
    #[must_use]
    pub fn into_server(self) -> TapServiceServer<Self> {
        TapServiceServer::new(self).max_decoding_message_size(MAX_REPORT_BYTES)
    }
}

#[tonic::async_trait]
impl TapService for TapReceiver {
    type TapStream = ReceiverStream<Result<TapOrder, Status>>;

    async fn tap(&self, request: Request<Streaming<TapReport>>) -> Result<Response<Self::TapStream>, Status> {
        let (workload, service) = peer::workload(&request)?;
        let permit = self.streams.enter(&workload);
        if permit.is_beyond {
            self.metrics.limited(Limit::TapStreamsOfAWorkload);
        }
        let (orders, outgoing) = mpsc::channel(ORDERS);
        let stream = TapStream {
            _telling: self.taps.telling(&workload),
            receiver: self.clone(),
            reporter: Reporter {
                workload,
                service,
                hop: Hop::Outbound,
                trust_domain: self.trust_domain.clone(),
                set: Arc::default(),
                clock_offset: None,
            },
            bucket: Bucket::full(RATE, Instant::now()),
            orders,
        };
        tokio::spawn(stream.serve(request.into_inner(), permit));
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

#[derive(Debug)]
struct TapStream {
    _telling: TellingSidecar,
    receiver: TapReceiver,
    reporter: Reporter,
    bucket: Bucket,
    orders: mpsc::Sender<Result<TapOrder, Status>>,
}

impl TapStream {
    async fn serve(mut self, mut reports: Streaming<TapReport>, permit: StreamPermit) {
        let mut wanted = self.receiver.taps.wanted();
        let mut renewals = tokio::time::interval(RENEWAL);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = false;
        loop {
            tokio::select! {
                report = reports.message() => match report {
                    Ok(Some(report)) => self.take(report),
                    Ok(None) | Err(_) => return,
                },
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let taps = Arc::clone(&wanted.borrow_and_update());
                    told = self.order(&taps, told);
                }
                _ = renewals.tick() => {
                    let taps = Arc::clone(&wanted.borrow_and_update());
                    told = self.order(&taps, told);
                }
                () = permit.replaced.cancelled() => {
                    let status = Status::resource_exhausted("newer streams of this workload took its place");
                    // Whoever has a full queue sees the end of the stream.
                    let _ = self.orders.try_send(Err(status));
                    return;
                }
                () = self.orders.closed() => return,
            }
        }
    }

    /// Says what is wanted now. Where nothing is, that is said once. Whether something is.
    fn order(&self, wanted: &WantedTaps, was_told: bool) -> bool {
        let set = Arc::clone(&self.receiver.published.borrow().set);
        let taps: Vec<Tap> = wanted.iter().filter_map(|tap| order(tap, &self.reporter, &set)).collect();
        let wants = !taps.is_empty();
        if wants || was_told {
            let lease_ms = u32::try_from(LEASE.as_millis()).unwrap_or(u32::MAX);
            // Where there is no room the next renewal comes in time, or the lease ends.
            let _ = self.orders.try_send(Ok(TapOrder { taps, lease_ms }));
        }
        wants
    }

    fn take(&mut self, report: TapReport) {
        self.reporter.set = Arc::clone(&self.receiver.published.borrow().set);
        let (now, taps) = (Instant::now(), &self.receiver.taps);
        let mut unread = [0_u32; 2];
        for TappedRequest { inbound, entry } in report.requests {
            self.reporter.hop = hop(inbound);
            if self.bucket.take(RATE, now).is_err() {
                unread[usize::from(inbound)] += 1;
                continue;
            }
            if let Ok(entry) = HttpAccessLogEntry::decode(&*entry) {
                taps.tell(&read_tapped(&self.reporter, &entry), 1.0);
            }
        }
        for (count, inbound) in unread.into_iter().zip([false, true]).filter(|(count, _)| *count > 0) {
            self.receiver.metrics.limited_by(Limit::TappedRequestsOfAWorkload, count.into());
            taps.not_read(hop(inbound), count.into());
        }
        for NotShown { tap, inbound, requests } in report.not_shown {
            if let Ok(id) = tap.parse() {
                // No proxy serves more than so many within a report's time; what is more is no count.
                taps.not_shown(id, hop(inbound), f64::from(u32::try_from(requests).unwrap_or(u32::MAX)));
            }
        }
    }
}

fn hop(inbound: bool) -> Hop {
    if inbound { Hop::Inbound } else { Hop::Outbound }
}

/// What a sidecar is told of a tap; nothing where it has nothing to tell.
fn order(WantedTap { id, filter }: &WantedTap, sidecar: &Reporter, set: &PolicySet) -> Option<Tap> {
    let sides = Sides::of(filter, &sidecar.workload, &sidecar.service, set);
    let (least, most) = filter.status.unwrap_or_default();
    let identity = |source: &ServiceId| SpiffeId::service(&sidecar.trust_domain, source).to_string();
    sides.any().then(|| Tap {
        id: id.to_string(),
        outbound: sides.outbound,
        inbound: sides.inbound,
        destination: filter.destination.as_ref().map(ToString::to_string).unwrap_or_default(),
        source_identity: filter.source.as_ref().map(identity).unwrap_or_default(),
        method: filter.method.clone().unwrap_or_default(),
        path_prefix: filter.path.clone().unwrap_or_default(),
        least_status: least.into(),
        most_status: most.into(),
        only_failures: filter.only_failures,
        headers: filter.headers.clone(),
    })
}
