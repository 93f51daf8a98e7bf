//! Requests and connections that failed or were refused, of the last ten minutes, as the sidecars on their way report them.
//!
//! ```text
//! StreamAccessLogs (a few a proxy) -> xds::access_log_service -> entry::read -> Requests { workload -> records }
//!                                                                                  -> GET /v1/requests[/ID]
//! ```
//!
//! Nothing is stored. What is kept is bounded by number and bytes; where there is no room, the workload that holds most loses
//! its oldest record, so that one that fails all the time takes nothing from the others. What is not kept is counted.

mod entry;
mod kept;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use weft_api::WorkloadId;
use weft_api::rest::{RequestList, RequestRecord, in_order};

pub use entry::{Reporter, count, read};
use kept::Kept;

/// Records are found for this long.
const LIFE: Duration = Duration::from_secs(600);
/// How many records there are at most, of all workloads.
const MOST: usize = 50_000;
/// How many bytes they take at most, of all workloads.
const MOST_BYTES: usize = 32 << 20;
/// Records in one answer, where it is not said.
pub const USUAL_ANSWER: usize = 100;
/// Records in one answer at most.
pub const LONGEST_ANSWER: usize = 1000;

/// Which records are asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Wanted {
    /// Of calls from this service, `NAMESPACE/SERVICE`.
    pub source: Option<String>,
    /// Of calls to this service.
    pub destination: Option<String>,
    /// How many at most.
    pub limit: usize,
}

impl Wanted {
    fn takes(&self, record: &RequestRecord) -> bool {
        let fits = |wanted: &Option<String>, is: &Option<String>| wanted.is_none() || wanted == is;
        fits(&self.source, &record.source) && fits(&self.destination, &record.destination)
    }
}

/// The records of this replica. Cheap to clone; clones are the same.
///
/// A lock rather than a task: reports and questions are short, and nothing is awaited or sent under it.
#[derive(Debug, Clone)]
pub struct Requests(Arc<Mutex<Kept>>);

impl Default for Requests {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Kept::new(LIFE, MOST, MOST_BYTES))))
    }
}

impl Requests {
    /// Keeps what a sidecar reported. Says how many records had to go for it.
    pub fn record(&self, now: Instant, workload: &WorkloadId, records: Vec<RequestRecord>) -> u64 {
        let mut kept = self.lock();
        records.into_iter().map(|record| kept.insert(now, workload, record)).sum()
    }

    /// Counts records that a sidecar reported and that are not kept.
    pub fn note_dropped(&self, now: Instant, count: u64) {
        self.lock().note_dropped(now, count);
    }

    /// The hops of one request, in their order.
    #[must_use]
    pub fn of(&self, now: Instant, id: &str) -> RequestList {
        let kept = self.lock();
        let found = kept.newest_first(now).filter(|record| record.id == id).take(LONGEST_ANSWER).cloned();
        RequestList { items: in_order(found.collect()), dropped: kept.dropped(now), unheard: 0 }
    }

    /// What is asked for, the newest first.
    #[must_use]
    pub fn list(&self, now: Instant, wanted: &Wanted) -> RequestList {
        let kept = self.lock();
        let found = kept.newest_first(now).filter(|record| wanted.takes(record)).take(wanted.limit).cloned();
        RequestList { items: found.collect(), dropped: kept.dropped(now), unheard: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
