//! The ledger: one record for each leaf issued, kept until a day after it has expired.
//!
//! ```text
//! leaves/EXPIRY-SERIAL     EXPIRY is 12 digits of Unix seconds, so that pruning reads what is over and nothing else
//! ```
//!
//! Renewals write through one task that puts many entries into one transaction. A store that is away does not stop
//! them: entries wait in a bounded queue and are written when it is back; when the queue is full, nothing is issued.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use weft_api::{Backoff, ServiceId, WorkloadId};
use weft_store::{CommitError, Leadership, Page, ReadError, Store, StoreExt, Txn};

use super::issued::Issued;
use super::{IssuedLeaf, Serial};
use crate::clock::Clock;

pub(super) const PREFIX: &str = "leaves/";
// etcd takes 128 operations in one transaction.
const BATCH: usize = 100;
// About two minutes of renewals at full rate on two cores; 16 MiB at most.
const WAITING: usize = 16_384;
/// Kept a while after its end, so that a workload that nobody renews is seen to have expired, and when.
const KEPT_AFTER_END: time::Duration = time::Duration::hours(24);
const CONFIRM: Duration = Duration::from_secs(2);
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MOST: Duration = Duration::from_secs(30);

/// Where a leaf's key was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyOrigin {
    /// Where it is used; the control plane saw a request only.
    Workload,
    /// In the control plane, which delivered it by SDS.
    ControlPlane,
}

/// What is kept of a leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    pub serial: Serial,
    /// Serial number of its issuer.
    pub issuer: Serial,
    pub service: ServiceId,
    pub workload: WorkloadId,
    /// Which joining of the workload it belongs to.
    pub instance: String,
    /// Where its key was made.
    pub key_origin: KeyOrigin,
    /// Unix seconds.
    pub issued_at: i64,
    /// Unix seconds.
    pub expires_at: i64,
}

impl LedgerEntry {
    /// The entry of a leaf.
    #[must_use]
    pub fn new(leaf: &IssuedLeaf, instance: &str, key_origin: KeyOrigin) -> Self {
        Self {
            serial: leaf.serial.clone(),
            issuer: leaf.issuer.clone(),
            service: leaf.service.clone(),
            workload: leaf.workload.clone(),
            instance: instance.to_owned(),
            key_origin,
            issued_at: leaf.issued_at.unix_timestamp(),
            expires_at: leaf.not_after.unix_timestamp(),
        }
    }

    /// Adds the entry to a transaction.
    #[must_use]
    pub fn put(&self, txn: Txn) -> Txn {
        let value = serde_json::to_vec(self).expect("strings and numbers always encode");
        txn.put(key(self.expires_at, &self.serial), value)
    }
}

/// The entry cannot even wait.
#[derive(Debug, thiserror::Error)]
#[error("{WAITING} certificates wait to be written down; no more are issued until the store takes writes")]
pub struct LedgerFull;

/// Writes entries, many at a time.
#[derive(Debug, Clone)]
pub struct Ledger {
    store: Arc<dyn Store>,
    queue: mpsc::Sender<PendingEntry>,
    issued: Issued,
}

#[derive(Debug)]
struct PendingEntry {
    entry: LedgerEntry,
    written: oneshot::Sender<()>,
}

impl Ledger {
    /// Starts the writing task. After `shutdown` it writes what waits, if the store takes it, and ends.
    #[must_use]
    pub fn spawn(store: Arc<dyn Store>, shutdown: CancellationToken) -> Self {
        let (queue, entries) = mpsc::channel(WAITING);
        let issued = Issued::spawn(&store, shutdown.clone());
        tokio::spawn(write(Arc::clone(&store), entries, shutdown));
        Self { store, queue, issued }
    }

    /// Writes an entry down. Returns when it is durable, or after 2 s when the store does not answer: then the entry
    /// waits here and is written later.
    ///
    /// # Errors
    /// When too many wait already.
    pub async fn append(&self, entry: LedgerEntry) -> Result<(), LedgerFull> {
        let confirmed = self.enqueue(entry)?;
        if tokio::time::timeout(CONFIRM, confirmed).await.is_err() {
            tracing::warn!(
                event = "ledger_entry_waits",
                "the store does not take the ledger's entry; it waits in memory"
            );
        }
        Ok(())
    }

    /// Has an entry written down soon, for those who cannot wait. The receiver hears when it is durable.
    ///
    /// # Errors
    /// When too many wait already.
    pub fn enqueue(&self, entry: LedgerEntry) -> Result<oneshot::Receiver<()>, LedgerFull> {
        let (written, confirmed) = oneshot::channel();
        let noted = entry.clone();
        self.queue.try_send(PendingEntry { entry, written }).map_err(|_| LedgerFull)?;
        self.issued.note(noted);
        Ok(confirmed)
    }

    /// The leaves as they are known in memory.
    #[must_use]
    pub fn issued(&self) -> &Issued {
        &self.issued
    }

    /// The entry of one leaf: from memory, and from the store where another replica issued it a moment ago.
    ///
    /// # Errors
    /// When it is not known here and the store fails. An unreadable entry counts as none.
    pub async fn find(
        &self,
        serial: &Serial,
        not_after: OffsetDateTime,
    ) -> Result<Option<Arc<LedgerEntry>>, ReadError> {
        if let Some(entry) = self.issued.find(serial) {
            return Ok(Some(entry));
        }
        let entry = self.store.get(&key(not_after.unix_timestamp(), serial)).await?;
        let entry: Option<LedgerEntry> = entry.and_then(|entry| serde_json::from_slice(&entry.value).ok());
        Ok(entry.map(|entry| {
            self.issued.note(entry.clone());
            Arc::new(entry)
        }))
    }

    /// All leaves that have not been pruned.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<LedgerEntry>, ReadError> {
        let entries = self.store.list_all(PREFIX).await?.entries;
        Ok(entries.iter().filter_map(|entry| serde_json::from_slice(&entry.value).ok()).collect())
    }

    /// Removes the entries of leaves that ended a day ago and says how many. The leader calls this; the writes are fenced.
    ///
    /// # Errors
    /// When the store fails or leadership was lost.
    pub async fn prune(&self, clock: &Clock, leader: &Leadership) -> Result<usize, crate::StoreError> {
        let before = clock.unix_seconds() - KEPT_AFTER_END.whole_seconds();
        let mut pruned = 0;
        loop {
            let page = Page { limit: BATCH, ..Page::default() };
            let expired: Vec<_> = self
                .store
                .list(PREFIX, page)
                .await?
                .entries
                .into_iter()
                .filter(|entry| expiry(&entry.key).is_some_and(|at| at < before))
                .collect();
            if expired.is_empty() {
                return Ok(pruned);
            }
            let txn = Txn::new().guard(leader.guard());
            let txn = expired.iter().fold(txn, |txn, entry| txn.delete(&entry.key));
            self.store.commit(txn).await?;
            pruned += expired.len();
        }
    }
}

async fn write(
    store: Arc<dyn Store>,
    mut entries: mpsc::Receiver<PendingEntry>,
    shutdown: CancellationToken,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        batch.clear();
        let received = tokio::select! {
            biased;
            received = entries.recv_many(&mut batch, BATCH) => received,
            () = shutdown.cancelled() => return,
        };
        if received == 0 {
            return;
        }
        let mut retry = Backoff::new(RETRY_FIRST, RETRY_MOST);
        while let Err(error) = put_all(store.as_ref(), &batch).await {
            tracing::warn!(
                event = "ledger_not_written",
                %error, entries = batch.len(),
                "cannot write the ledger of issued certificates"
            );
            tokio::select! {
                () = tokio::time::sleep(retry.next_wait()) => {}
                () = shutdown.cancelled() => return,
            }
        }
        for pending in batch.drain(..) {
            let _ = pending.written.send(());
        }
    }
}

// Without guards, so that repeating it after an uncertain answer is harmless.
async fn put_all(store: &dyn Store, batch: &[PendingEntry]) -> Result<(), CommitError> {
    let txn = batch.iter().fold(Txn::new(), |txn, pending| pending.entry.put(txn));
    store.commit(txn).await.map(|_| ())
}

fn key(expires_at: i64, serial: &Serial) -> String {
    format!("{PREFIX}{expires_at:012}-{serial}")
}

/// Which leaf a key is of.
pub(super) fn serial_of(key: &str) -> Option<Serial> {
    let (_, digits) = key.strip_prefix(PREFIX)?.split_once('-')?;
    Serial::try_from_digits(digits)
}

fn expiry(key: &str) -> Option<i64> {
    key.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}
