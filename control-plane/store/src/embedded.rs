//! A store in one file, for one process: durable, with nothing else to install.
//!
//! ```text
//!   commit ──> queue ──> writer thread: apply to the state, write the file, fsync ──> publish ──> watchers
//!   get, list, watch <── history (in memory, shared snapshots) <────────────────────────┘
//! ```
//!
//! The file is the truth, memory is the copy that is read: a mesh's whole state is small, every
//! control plane keeps all of it at hand anyway, and so no reader ever waits for a disk. Commits that
//! arrive while another one is being synced share the next sync.
//!
//! What it deliberately does not do: keep history or leases across a restart. The file lock proves
//! that every watcher and lease holder of the earlier process is gone, so opening removes the keys
//! that they had leased, and a watch from before the start answers `Compacted`.

mod file;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tokio::sync::{mpsc, oneshot};

use crate::deadlines::LeaseDeadlines;
use crate::error::{CommitError, LeaseError, OpenError, ReadError};
use crate::history::{History, Retention};
use crate::record::{Batch, Entry, Event, LeaseId, Listing, Page, Revision, Snapshot};
use crate::store::{Grant, Store, Watch};
use crate::txn::{Txn, TxnLimits};

use file::StoreFile;
use writer::{StoreWriter, WriterCommand};

/// Commits that may wait for the writer: enough to fill a sync with, few enough that a caller
/// feels a slow disk.
const QUEUE: usize = 256;

/// How long an open waits for a file that is in use: a handle that was just dropped, or a process that
/// is just ending, releases it a moment later.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// A store in one file. The file is released when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    history: Arc<History>,
    deadlines: Arc<LeaseDeadlines>,
    commands: mpsc::Sender<WriterCommand>,
}

impl EmbeddedStore {
    /// Opens the file, or creates it; its directory must exist.
    ///
    /// Refuses a file that another process has, that a newer version wrote, or that is damaged.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(path, Retention::default()).await
    }

    /// As [`open`](Self::open), with this much history for watchers.
    pub async fn open_with(path: impl AsRef<Path>, retention: Retention) -> Result<Self, OpenError> {
        let path: PathBuf = path.as_ref().into();
        let deadlines = Arc::new(LeaseDeadlines::default());
        let (commands, queue) = mpsc::channel(QUEUE);
        let (opened, ready) = oneshot::channel();
        let spawned = std::thread::Builder::new().name("store-writer".into()).spawn({
            let (path, deadlines) = (path.clone(), Arc::clone(&deadlines));
            move || match open_patiently(&path, &deadlines, retention) {
                Ok(writer) => {
                    // Whoever asked may have given up; then the queue is closed too, and this ends.
                    let _ = opened.send(Ok(writer.history()));
                    writer.run(queue);
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        });
        let failed = |reason: String| OpenError::Io { path: path.clone(), reason };
        spawned.map_err(|error| failed(format!("cannot start its writer thread: {error}")))?;
        let history = ready.await.map_err(|_| failed("its writer thread ended".into()))??;
        Ok(Self { history, deadlines, commands })
    }

    /// Everything in a file that no process has open, leased entries included. The file is held while it is read.
    ///
    /// Refuses a file that is not there, and what [`open`](Self::open) refuses; waits for nobody.
    pub async fn read_at_rest(path: impl AsRef<Path>) -> Result<Snapshot, OpenError> {
        let path: PathBuf = path.as_ref().into();
        let failed = |reason| OpenError::Io { path: path.clone(), reason };
        let reading = tokio::task::spawn_blocking({
            let path = path.clone();
            move || StoreFile::open_existing(&path).map(|(_, state)| state)
        });
        let state = reading.await.map_err(|error| failed(error.to_string()))??;
        let entries = state.entries.values().cloned().collect();
        Ok(Snapshot { revision: state.revision, entries })
    }
}

/// Makes a file with this state in it, whole or not at all; `false` if there is one.
pub(crate) fn fill(path: &Path, state: Snapshot) -> Result<bool, OpenError> {
    if path.exists() {
        return Ok(false);
    }
    let events = state.entries.into_iter().map(Event::Put).collect();
    file::create(path, Some(&Batch { revision: state.revision, events }))
}

fn open_patiently(
    path: &Path,
    deadlines: &Arc<LeaseDeadlines>,
    retention: Retention,
) -> Result<StoreWriter, OpenError> {
    let since = Instant::now();
    loop {
        match StoreWriter::open(path.into(), Arc::clone(deadlines), retention) {
            Err(OpenError::InUse { .. }) if since.elapsed() < LOCK_TIMEOUT => sleep(LOCK_TIMEOUT / 100),
            opened => return opened,
        }
    }
}

impl Store for EmbeddedStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, ReadError>> {
        ready(Ok(self.history.get(key))).boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str, page: Page) -> BoxFuture<'a, Result<Listing, ReadError>> {
        ready(self.history.list(prefix, &page)).boxed()
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, CommitError>> {
        async move {
            txn.check(&self.limits())?;
            let (reply, answer) = oneshot::channel();
            let gone = || "the writer thread ended: restart the process".to_string();
            let sent = self.commands.send(WriterCommand::Commit { txn, reply }).await;
            sent.map_err(|_| CommitError::Unavailable { reason: gone() })?;
            answer.await.map_err(|_| CommitError::Uncertain { reason: gone() })?
        }
        .boxed()
    }

    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> BoxFuture<'a, Result<Watch, ReadError>> {
        ready(self.history.watch(prefix, from)).boxed()
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Grant, LeaseError>> {
        async move {
            let lease = self.deadlines.grant(ttl);
            let deadlines = Arc::clone(&self.deadlines);
            let commands = self.commands.downgrade();
            tokio::spawn(async move {
                deadlines.overdue(lease).await;
                if let Some(commands) = commands.upgrade() {
                    // If the writer is gone, so is the process soon; opening again removes the keys.
                    let _ = commands.send(WriterCommand::Expire { lease, done: None }).await;
                }
            });
            Ok(Grant { lease, ttl })
        }
        .boxed()
    }

    fn renew(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), LeaseError>> {
        let renewed = self.deadlines.renew(lease);
        ready(if renewed { Ok(()) } else { Err(LeaseError::Gone { lease }) }).boxed()
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), LeaseError>> {
        async move {
            self.deadlines.end(lease);
            let (done, answer) = oneshot::channel();
            let gone = || LeaseError::Unavailable { reason: "the writer thread ended".into() };
            let sent = self.commands.send(WriterCommand::Expire { lease, done: Some(done) }).await;
            sent.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?.map_err(|reason| LeaseError::Unavailable { reason })
        }
        .boxed()
    }

    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), ReadError>> {
        ready(self.history.compact(before)).boxed()
    }

    fn limits(&self) -> TxnLimits {
        TxnLimits::default()
    }

    fn resync_interval(&self) -> Option<Duration> {
        None
    }
}
