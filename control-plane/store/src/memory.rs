//! A store in this process: for tests and trials, and the plainest reading of the contract.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};

use crate::deadlines::LeaseDeadlines;
use crate::error::{CommitError, LeaseError, ReadError};
use crate::history::{History, Retention};
use crate::record::{Batch, Entry, LeaseId, Listing, Page, Revision};
use crate::state::{Entries, StoreState};
use crate::store::{Grant, Store, Watch};
use crate::txn::{Txn, TxnLimits};

/// A store that ends with the process.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    state: Arc<MemoryState>,
    limits: TxnLimits,
}

#[derive(Debug)]
struct MemoryState {
    // A lock because it is the writer: commits are serialised by it. Never held across an await.
    state: Mutex<StoreState>,
    history: Arc<History>,
    deadlines: LeaseDeadlines,
}

impl MemoryStore {
    /// An empty store with the default limits.
    pub fn new() -> Self {
        Self::with(TxnLimits::default(), Retention::default())
    }

    /// An empty store with limits as another engine has them, and as much history as asked: for
    /// tests of what callers do at either end.
    pub fn with(limits: TxnLimits, retention: Retention) -> Self {
        let state = MemoryState {
            state: Mutex::default(),
            history: History::starting_at(Revision(0), Entries::new(), retention),
            deadlines: LeaseDeadlines::default(),
        };
        Self { state: Arc::new(state), limits }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryState {
    fn commit(&self, txn: &Txn, limits: &TxnLimits) -> Result<Revision, CommitError> {
        txn.check(limits)?;
        let mut state = self.state();
        let batch = state.apply(txn, |lease| self.deadlines.alive(lease))?;
        Ok(self.publish(&state, batch))
    }

    fn end(&self, lease: LeaseId) {
        self.deadlines.end(lease);
        let mut state = self.state();
        let batch = state.expire(lease);
        self.publish(&state, batch);
    }

    fn publish(&self, state: &StoreState, batch: Option<Batch>) -> Revision {
        if let Some(batch) = batch {
            self.history.publish(batch, state.entries.clone());
        }
        state.revision
    }

    fn state(&self) -> MutexGuard<'_, StoreState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, ReadError>> {
        ready(Ok(self.state.history.get(key))).boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str, page: Page) -> BoxFuture<'a, Result<Listing, ReadError>> {
        ready(self.state.history.list(prefix, &page)).boxed()
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, CommitError>> {
        async move { self.state.commit(&txn, &self.limits) }.boxed()
    }

    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> BoxFuture<'a, Result<Watch, ReadError>> {
        ready(self.state.history.watch(prefix, from)).boxed()
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Grant, LeaseError>> {
        async move {
            let lease = self.state.deadlines.grant(ttl);
            let state = Arc::clone(&self.state);
            tokio::spawn(async move {
                state.deadlines.overdue(lease).await;
                state.end(lease);
            });
            Ok(Grant { lease, ttl })
        }
        .boxed()
    }

    fn renew(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), LeaseError>> {
        let renewed = self.state.deadlines.renew(lease);
        ready(if renewed { Ok(()) } else { Err(LeaseError::Gone { lease }) }).boxed()
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), LeaseError>> {
        async move {
            self.state.end(lease);
            Ok(())
        }
        .boxed()
    }

    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), ReadError>> {
        ready(self.state.history.compact(before)).boxed()
    }

    fn limits(&self) -> TxnLimits {
        self.limits
    }

    fn resync_interval(&self) -> Option<Duration> {
        None
    }
}
