//! Connections of workloads, while they last: who is connected with which certificate, whether anybody answers there,
//! and the end of those whose certificate is no longer believed.
//!
//! ```text
//! Listener ──enters──▶ Connections ◀──cut, answers── reconciler, join
//!     ▲                    │
//!     └── cut ─── Link ◀───┘  one for each connection
//! ```
//!
//! Whether a certificate is believed is decided elsewhere; nothing here reads the ledger.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;
use weft_api::WorkloadId;

use super::calls::Activity;
use super::keepalive::Keepalive;
use crate::ca::Serial;

/// Connections that one workload may have to one replica. A proxy has one or two; the rest is for those that linger, and for
/// more than there may be discovery streams, which are refused with a word.
pub const CONNECTIONS_OF_A_WORKLOAD: usize = 32;

/// All connections of workloads to this replica, on all its listeners. Cheap to clone; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Connections {
    // A lock because connections come and go in their own tasks; held for a look at the map, never while waiting. As
    // large as the listeners let connections be open.
    open: Arc<Mutex<HashMap<WorkloadId, Vec<Arc<Link>>>>>,
}

/// One connection, as others reach it.
#[derive(Debug)]
pub(super) struct Link {
    serial: Serial,
    activity: Arc<Activity>,
    keepalive: Arc<Keepalive>,
    cut: CancellationToken,
}

impl Connections {
    /// Ends at once all connections of a workload but those with a certificate that it `keeps`; says how many.
    ///
    /// What is under way there has a moment to be sent, a status on its streams for example; new calls are refused.
    pub fn cut(&self, workload: &WorkloadId, keeps: impl Fn(&Serial) -> bool) -> usize {
        let links = self.of(workload);
        let cut = links.iter().filter(|link| !keeps(&link.serial) && !link.cut.is_cancelled());
        cut.inspect(|link| link.cut.cancel()).count()
    }

    /// Whether a workload has a connection with a certificate that `counts`.
    pub fn has(&self, workload: &WorkloadId, counts: impl Fn(&Serial) -> bool) -> bool {
        self.of(workload).iter().any(|link| counts(&link.serial))
    }

    /// Pings a workload's connections with a certificate that `counts` now, and says whether any of them answers in time.
    ///
    /// A stopped or unreachable client does not, though its connection is open; a live one does in milliseconds.
    pub async fn answers(
        &self,
        workload: &WorkloadId,
        within: Duration,
        counts: impl Fn(&Serial) -> bool,
    ) -> bool {
        let links = self.of(workload);
        let counted = links.iter().filter(|link| counts(&link.serial));
        let beats: FuturesUnordered<_> = counted.map(|link| link.keepalive.beat()).collect();
        let any = beats.any(|beat| async move { beat });
        tokio::time::timeout(within, any).await.unwrap_or(false)
    }

    /// Enters a connection for as long as what is returned lives.
    ///
    /// When the workload has too many, the oldest on which no call runs is cut for it: one whose calls are all refused is
    /// such a one, so that a replaced instance does not keep its successor out. None when calls run on all of them.
    pub(crate) fn enter(
        &self,
        workload: &WorkloadId,
        serial: &Serial,
        activity: &Arc<Activity>,
    ) -> Option<ConnectionGuard> {
        let mut open = self.lock();
        let links = open.entry(workload.clone()).or_default();
        if links.len() >= CONNECTIONS_OF_A_WORKLOAD {
            let oldest = links.iter().position(|link| link.activity.is_idle())?;
            links.remove(oldest).cut.cancel();
        }
        let link = Arc::new(Link {
            serial: serial.clone(),
            activity: Arc::clone(activity),
            keepalive: Arc::new(Keepalive::default()),
            cut: CancellationToken::new(),
        });
        links.push(Arc::clone(&link));
        drop(open);
        Some(ConnectionGuard { connections: self.clone(), workload: workload.clone(), link })
    }

    fn of(&self, workload: &WorkloadId) -> Vec<Arc<Link>> {
        self.lock().get(workload).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkloadId, Vec<Arc<Link>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that has entered; it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    connections: Connections,
    workload: WorkloadId,
    link: Arc<Link>,
}

impl ConnectionGuard {
    pub(crate) fn keepalive(&self) -> Arc<Keepalive> {
        Arc::clone(&self.link.keepalive)
    }

    /// Cancelled when the connection is to end at once.
    pub(crate) fn cut(&self) -> CancellationToken {
        self.link.cut.clone()
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.link.keepalive.end();
        let mut open = self.connections.lock();
        if let Some(links) = open.get_mut(&self.workload) {
            links.retain(|link| !Arc::ptr_eq(link, &self.link));
            if links.is_empty() {
                open.remove(&self.workload);
            }
        }
    }
}
