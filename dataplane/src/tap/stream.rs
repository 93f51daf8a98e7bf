//! The stream to the control plane: orders come, requests that ended go.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};
use weft_api::Backoff;
use weft_api::tapping::tap_service_client::TapServiceClient;
use weft_api::tapping::{TapOrder, TapReport, TappedRequest};

use super::filter::is_inbound;
use super::set::{PER_SECOND, TapSet};
use crate::access_log_service::entry::LogEntry;
use crate::engine::tap_point::EndedRequest;
use crate::engine::tapping::Tapping;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// A control plane that knows no taps may be upgraded.
const UNKNOWN_THERE: Duration = Duration::from_secs(300);
/// The longest lease that is taken.
const LONGEST_LEASE: Duration = Duration::from_secs(60);
/// How often there is more room, and what had none is told.
const TICK: Duration = Duration::from_millis(250);
/// Requests in one report.
const BATCH: usize = 64;
/// Reports that wait for the connection. More means that it does not keep up: what comes then is counted only.
const REPORTS: usize = 4;

/// Tells of requests as long as the proxy runs.
pub async fn serve(channel: Channel, mut tapping: Tapping, stop: CancellationToken) {
    let mut retry = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
    while !stop.is_cancelled() {
        let begun = Instant::now();
        let session = TapSession::new(&mut tapping).run(channel.clone());
        let Some(ended) = stop.run_until_cancelled(session).await else { return };
        tapping.set(&Arc::default()).await;
        let wait = match ended {
            Err(status) if status.code() == Code::Unimplemented => UNKNOWN_THERE,
            ended => {
                if let Err(status) = ended {
                    tracing::debug!(code = ?status.code(), message = status.message(), "tap stream lost");
                }
                if begun.elapsed() > LONGEST_RETRY {
                    retry.reset();
                }
                retry.next_wait()
            }
        };
        stop.run_until_cancelled(tokio::time::sleep(wait)).await;
    }
}

struct TapSession<'a> {
    tapping: &'a mut Tapping,
    set: Arc<TapSet>,
    /// When the taps end, unless another order comes.
    end: Instant,
}

impl<'a> TapSession<'a> {
    fn new(tapping: &'a mut Tapping) -> Self {
        Self { tapping, set: Arc::default(), end: Instant::now() }
    }

    async fn run(mut self, channel: Channel) -> Result<(), Status> {
        let (reports, outgoing) = mpsc::channel(REPORTS);
        let mut client = TapServiceClient::new(channel);
        let mut orders = client.tap(ReceiverStream::new(outgoing)).await?.into_inner();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ended = Vec::with_capacity(BATCH);
        loop {
            let is_on = !self.set.is_empty();
            tokio::select! {
                order = orders.message() => match order? {
                    Some(order) => self.take(order).await,
                    None => return Ok(()),
                },
                workers = self.tapping.take(&mut ended, BATCH) => {
                    if !workers {
                        return Ok(());
                    }
                    self.tell(&reports, &mut ended);
                }
                _ = ticks.tick(), if is_on => self.tick(&reports).await,
            }
        }
    }

    async fn take(&mut self, order: TapOrder) {
        let lease = Duration::from_millis(order.lease_ms.into()).min(LONGEST_LEASE);
        self.end = Instant::now() + lease;
        if !self.set.is_of(&order.taps) {
            self.set = Arc::new(TapSet::of(order.taps, &self.set));
            self.tapping.set(&self.set).await;
        }
    }

    fn tell(&self, reports: &mpsc::Sender<TapReport>, ended: &mut Vec<EndedRequest>) {
        match reports.try_reserve() {
            Ok(place) => {
                let requests = ended.drain(..).filter_map(told).collect();
                place.send(TapReport { requests, ..TapReport::default() });
            }
            Err(_) => ended.drain(..).for_each(|ended| self.set.lost(ended.direction, 1)),
        }
    }

    async fn tick(&mut self, reports: &mpsc::Sender<TapReport>) {
        // A place first: counts that are taken out are sent.
        if let Ok(place) = reports.try_reserve() {
            let not_shown = self.set.take_beyond();
            if !not_shown.is_empty() {
                place.send(TapReport { not_shown, ..TapReport::default() });
            }
        }
        if Instant::now() >= self.end {
            tracing::debug!("taps end: they were not renewed");
            self.set = Arc::default();
            self.tapping.set(&self.set).await;
        }
        let part = u64::try_from(TICK.as_millis()).unwrap_or_default();
        self.set.refill(PER_SECOND * part / 1000);
    }
}

fn told(EndedRequest { direction, entry }: EndedRequest) -> Option<TappedRequest> {
    let inbound = is_inbound(direction);
    match entry {
        LogEntry::Request(entry) => Some(TappedRequest { inbound, entry: entry.encode_to_vec() }),
        LogEntry::Connection(_) => None,
    }
}
