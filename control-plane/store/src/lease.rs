//! A lease that looks after itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::LeaseError;
use crate::record::LeaseId;
use crate::store::{Grant, Store};

/// A lease that a task renews three times in each of its lives. Dropping it revokes it, as soon as
/// the store can be reached.
#[derive(Debug)]
pub struct Lease {
    id: LeaseId,
    ttl: Duration,
    lost: watch::Receiver<bool>,
    _stop: DropGuard,
}

impl Lease {
    pub(crate) async fn grant(store: Arc<dyn Store>, ttl: Duration) -> Result<Self, LeaseError> {
        // The store's clock starts at some time during the call; count from before it.
        let asked = Instant::now();
        let grant = store.grant(ttl).await?;
        let stop = CancellationToken::new();
        let (lose, lost) = watch::channel(false);
        tokio::spawn(keep(store, grant, asked, stop.clone(), lose));
        Ok(Self { id: grant.lease, ttl: grant.ttl, lost, _stop: stop.drop_guard() })
    }

    /// Its name, for [`Txn::put_leased`](crate::Txn::put_leased).
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// How long it outlives its holder.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Whether the lease may have ended: the store said so, or could not be reached for a whole life.
    pub fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Waits until the lease is lost.
    pub async fn lost(&self) {
        let mut lost = self.lost.clone();
        // An error means that the task ended, which it does only when lost or dropped.
        let _ = lost.wait_for(|lost| *lost).await;
    }
}

async fn keep(
    store: Arc<dyn Store>,
    grant: Grant,
    asked: Instant,
    stop: CancellationToken,
    lose: watch::Sender<bool>,
) {
    let Grant { lease, ttl } = grant;
    if stop.run_until_cancelled(renew_until_lost(&*store, grant, asked)).await.is_some() {
        lose.send_replace(true);
        // Dropped later or never: the keys are going away by themselves.
        return;
    }
    if let Err(error) = store.revoke(lease).await {
        tracing::debug!(%lease, %error, "a lease could not be revoked and will end in {ttl:?}");
    }
}

async fn renew_until_lost(store: &dyn Store, grant: Grant, asked: Instant) {
    let Grant { lease, ttl } = grant;
    let mut ends = asked + ttl;
    let mut next = asked + ttl / 3;
    loop {
        sleep_until(next).await;
        let asked = Instant::now();
        match timeout_at(ends, store.renew(lease)).await {
            Ok(Ok(())) => {
                ends = asked + ttl;
                next = asked + ttl / 3;
            }
            Ok(Err(LeaseError::Gone { .. })) => return,
            Ok(Err(LeaseError::Unavailable { reason })) => {
                tracing::debug!(%lease, reason, "a lease could not be renewed yet");
                next = Instant::now() + ttl / 20;
                if next >= ends {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
