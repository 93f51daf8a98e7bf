//! What a worker has to tell OpenTelemetry collectors and has not sent yet: bounded by number and bytes.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use super::clock::now;
use crate::otlp::{OtlpCollector, OtlpRecord};

/// So many records are sent as soon as they are there.
const BATCH: usize = 512;
/// Their bytes. Less than the 4 MiB that a server of gRPC takes at once by default.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes that may wait.
const WAITING_BYTES: usize = 2 * BATCH_BYTES;

/// All collectors of one worker that something waits for.
#[derive(Debug, Default)]
pub(crate) struct OtlpBuffers {
    all: RefCell<Vec<CollectorBuffer>>,
    /// The exporter has something to look at.
    pub(super) changed: Notify,
}

#[derive(Debug)]
struct CollectorBuffer {
    to: Arc<OtlpCollector>,
    records: Vec<OtlpRecord>,
    bytes: usize,
    /// When what waits is sent; none while nothing does.
    due: Option<Instant>,
    /// A batch is on its way: the next one waits, so that a collector that is slow has one at a time.
    is_sending: bool,
    /// The last batch was not taken.
    is_failing: bool,
}

/// What is sent at once.
#[derive(Debug)]
pub(super) struct OtlpBatch {
    pub(super) to: Arc<OtlpCollector>,
    pub(super) records: Vec<OtlpRecord>,
    /// It was time for it, and it was not full.
    pub(super) by_timer: bool,
}

/// How a collector does, where that changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CollectorTurn {
    Failing,
    Recovered,
}

impl CollectorBuffer {
    fn is_full(&self) -> bool {
        self.records.len() >= BATCH.min(self.to.most) || self.bytes >= BATCH_BYTES
    }
}

impl OtlpBuffers {
    /// Takes a record for a collector; false where there is no room for it.
    pub(crate) fn offer(&self, to: &Arc<OtlpCollector>, record: OtlpRecord) -> bool {
        let mut all = self.all.borrow_mut();
        let found = all.iter().position(|buffer| Arc::ptr_eq(&buffer.to, to) || buffer.to.is_like(to));
        let index = found.unwrap_or_else(|| {
            all.push(CollectorBuffer::new(Arc::clone(to)));
            all.len() - 1
        });
        let buffer = &mut all[index];
        let bytes = record.encoded_len();
        if buffer.records.len() >= to.most || buffer.bytes + bytes > WAITING_BYTES {
            return false;
        }
        let was_full = buffer.is_full();
        buffer.records.push(record);
        buffer.bytes += bytes;
        let is_first = buffer.due.is_none();
        let due = *buffer.due.get_or_insert_with(|| now() + to.flush);
        let fills = buffer.is_full() && !was_full;
        if fills {
            buffer.due = Some(due.min(now()));
        }
        if is_first || fills {
            self.changed.notify_one();
        }
        true
    }

    /// When the next batch is to be sent.
    pub(super) fn due(&self) -> Option<Instant> {
        self.all.borrow().iter().filter(|buffer| !buffer.is_sending).filter_map(|buffer| buffer.due).min()
    }

    /// The batches that are to be sent by then.
    pub(super) fn take(&self, until: Instant) -> Vec<OtlpBatch> {
        let mut all = self.all.borrow_mut();
        let due =
            all.iter_mut().filter(|buffer| !buffer.is_sending && buffer.due.is_some_and(|due| due <= until));
        due.map(CollectorBuffer::take).collect()
    }

    /// A batch was sent, and was taken or not.
    pub(super) fn sent(&self, to: &Arc<OtlpCollector>, is_taken: bool) -> Option<CollectorTurn> {
        let mut all = self.all.borrow_mut();
        let index = all.iter().position(|buffer| buffer.is_sending && Arc::ptr_eq(&buffer.to, to))?;
        let buffer = &mut all[index];
        buffer.is_sending = false;
        let was_failing = std::mem::replace(&mut buffer.is_failing, !is_taken);
        // How it does is remembered as long as a configuration names it.
        if buffer.records.is_empty() && (is_taken || Arc::strong_count(to) <= 2) {
            all.swap_remove(index);
        }
        self.changed.notify_one();
        match (was_failing, is_taken) {
            (false, false) => Some(CollectorTurn::Failing),
            (true, true) => Some(CollectorTurn::Recovered),
            (false, true) | (true, false) => None,
        }
    }
}

impl CollectorBuffer {
    fn new(to: Arc<OtlpCollector>) -> Self {
        Self { to, records: Vec::new(), bytes: 0, due: None, is_sending: false, is_failing: false }
    }

    fn take(&mut self) -> OtlpBatch {
        let by_timer = !self.is_full();
        (self.bytes, self.due, self.is_sending) = (0, None, true);
        OtlpBatch { to: Arc::clone(&self.to), records: std::mem::take(&mut self.records), by_timer }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::Span;

    use super::*;
    use crate::stats::{OtlpStats, StatsRegistry};

    fn collector(most: usize) -> Arc<OtlpCollector> {
        Arc::new(OtlpCollector {
            cluster: "collector".into(),
            authority: "collector".parse().unwrap(),
            timeout: None,
            resource: Resource::default(),
            most,
            flush: Duration::from_secs(1),
            stats: OtlpStats::of_spans(&mut StatsRegistry::new()),
        })
    }

    fn span(name_bytes: usize) -> OtlpRecord {
        OtlpRecord::Span(Box::new(Span { name: "n".repeat(name_bytes), ..Default::default() }))
    }

    fn later(seconds: u64) -> Instant {
        now() + Duration::from_secs(seconds)
    }

    #[test]
    fn records_wait_for_others_and_no_longer_than_they_may() {
        let (buffers, to) = (OtlpBuffers::default(), collector(10));
        assert!(buffers.offer(&to, span(1)) && buffers.offer(&collector(10), span(1)));
        assert!(buffers.take(now()).is_empty());
        let batches = buffers.take(later(2));
        assert_eq!((batches.len(), batches[0].records.len(), batches[0].by_timer), (1, 2, true));
        assert_eq!(buffers.due(), None);
    }

    #[test]
    fn what_finds_no_room_is_not_taken() {
        let (buffers, to) = (OtlpBuffers::default(), collector(3));
        assert_eq!((0..5).filter(|_| buffers.offer(&to, span(1))).count(), 3);
        assert!(!buffers.take(now())[0].by_timer, "a full batch waits for no timer");
        let large = collector(1000);
        assert_eq!((0..9).filter(|_| buffers.offer(&large, span(WAITING_BYTES / 4))).count(), 3);
    }

    #[test]
    fn a_collector_has_one_batch_at_a_time_and_says_once_how_it_does() {
        let (buffers, to) = (OtlpBuffers::default(), collector(10));
        let send = |is_taken| {
            assert!(buffers.offer(&to, span(1)));
            let batch = buffers.take(later(2)).remove(0);
            assert!(buffers.offer(&to, span(1)));
            assert!(buffers.take(later(9)).is_empty(), "one is on its way");
            let turn = buffers.sent(&batch.to, is_taken);
            for batch in buffers.take(later(9)) {
                assert_eq!(buffers.sent(&batch.to, is_taken), None, "it was said");
            }
            turn
        };
        assert_eq!(send(true), None);
        assert_eq!((send(false), send(false)), (Some(CollectorTurn::Failing), None));
        assert_eq!((send(true), send(true)), (Some(CollectorTurn::Recovered), None));
        assert!(buffers.all.borrow().is_empty(), "nothing is kept of a collector that does well");
    }
}
