//! One leader at a time, and writes that only it can make.
//!
//! The leader is who created the election's key, under a lease. The revision of that creation is the
//! fencing token: a leader's write carries a guard that the key still has it ([`Leadership::guard`]). A leader
//! that was paused, or cut off, while another took over finds its writes refused by the store,
//! whatever it believes itself to be.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::{sleep, timeout};

use crate::error::{CommitError, LeaseError, ReadError};
use crate::lease::Lease;
use crate::listing::list_all;
use crate::pause::Pauses;
use crate::record::{Entry, Event, Key, Revision};
use crate::store::Store;
use crate::txn::{Guard, Txn};

/// Even a watch that says nothing is not trusted for longer.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The proof of having been elected. Dropping it resigns.
#[derive(Debug)]
pub struct Leadership {
    key: Key,
    fence: Revision,
    lease: Lease,
}

enum LeadershipLoss {
    Taken,
    Unavailable(String),
}

impl Leadership {
    /// The fencing token: grows with every leader.
    pub fn fence(&self) -> Revision {
        self.fence
    }

    /// What each of the leader's transactions must carry ([`Txn::guard`]): it goes through only while this leadership stands.
    pub fn guard(&self) -> Guard {
        Guard { key: self.key.clone(), expected: Some(self.fence) }
    }

    /// Whether the leadership may have ended. The guard is what decides; this is for stopping early.
    pub fn is_lost(&self) -> bool {
        self.lease.is_lost()
    }

    /// Waits until the leadership may have ended.
    pub async fn lost(&self) {
        self.lease.lost().await;
    }
}

pub(crate) async fn campaign(store: Arc<dyn Store>, key: &str, candidate: &str, ttl: Duration) -> Leadership {
    let key = Key::from(key);
    let mut pauses = Pauses::new();
    loop {
        let reason = match stand(&store, &key, candidate, ttl).await {
            Ok(leadership) => return leadership,
            Err(LeadershipLoss::Taken) => match await_vacancy(&*store, &key).await {
                Ok(()) => {
                    pauses.reset();
                    continue;
                }
                Err(ReadError::Compacted { .. } | ReadError::Ahead { .. }) => continue,
                Err(ReadError::Unavailable { reason }) => reason,
            },
            Err(LeadershipLoss::Unavailable(reason)) => reason,
        };
        tracing::debug!(%key, reason, "an election waits for the store");
        sleep(pauses.next()).await;
    }
}

/// Tries once to become the leader.
async fn stand(
    store: &Arc<dyn Store>,
    key: &Key,
    candidate: &str,
    ttl: Duration,
) -> Result<Leadership, LeadershipLoss> {
    // Look first: a lease for each try against a sitting leader would be a write for nothing.
    if store.get(key).await?.is_some() {
        return Err(LeadershipLoss::Taken);
    }
    let lease = Lease::grant(Arc::clone(store), ttl).await?;
    let txn = Txn::new().expect_absent(key).put_leased(key, candidate.to_owned(), lease.id());
    let fence = match store.commit(txn).await {
        Ok(revision) => revision,
        Err(CommitError::Conflict { .. }) => return Err(LeadershipLoss::Taken),
        Err(CommitError::Uncertain { .. }) => match store.get(key).await? {
            Some(Entry { mod_revision, lease: Some(owner), .. }) if owner == lease.id() => mod_revision,
            _ => return Err(LeadershipLoss::Taken),
        },
        Err(error) => return Err(LeadershipLoss::Unavailable(error.to_string())),
    };
    Ok(Leadership { key: key.clone(), fence, lease })
}

async fn await_vacancy(store: &dyn Store, key: &Key) -> Result<(), ReadError> {
    let seen = list_all(store, key).await?;
    if !seen.entries.iter().any(|entry| entry.key == *key) {
        return Ok(());
    }
    let mut watch = store.watch(key, seen.revision.next()).await?;
    let vacant = async {
        while let Some(batch) = watch.next().await {
            if batch?.events.iter().any(|event| matches!(event, Event::Delete(gone) if gone == key)) {
                break;
            }
        }
        Ok(())
    };
    timeout(LOOK_AGAIN, vacant).await.unwrap_or(Ok(()))
}

impl From<ReadError> for LeadershipLoss {
    fn from(error: ReadError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<LeaseError> for LeadershipLoss {
    fn from(error: LeaseError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
