//! The state below a prefix, and then every change of it, whatever happens to the store.
//!
//! ```text
//!   list ──> Snapshot ──> watch ──> Batch, Batch, …
//!     ^                     │ Compacted, disconnected, or time for a resync
//!     └─────────────────────┘ list again; the difference, if any, is one more Batch
//! ```
//!
//! A follower never sees an empty world in between, and never the same change twice. It keeps the
//! revision and a digest of each value to find differences with, not the values.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::error::ReadError;
use crate::listing::list_all;
use crate::pause::Pauses;
use crate::record::{Batch, Entry, Event, Key, Revision, Snapshot};
use crate::store::Store;

/// Changes that wait for the consumer before the follower stops reading: a few, so that a slow
/// consumer is felt by the watch (which can relist) and not by memory.
const QUEUE: usize = 16;

/// What a follower gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FollowUpdate {
    /// Everything below the prefix. First, and then only if the store went back in time because
    /// someone restored it from a backup: what was known before is void.
    Snapshot(Snapshot),
    /// What changed since. Several revisions may arrive as one batch after a relist.
    Batch(Batch),
}

/// How fresh a follower is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FollowHealth {
    /// Watching: everything up to now is, or is about to be, in the stream.
    Live,
    /// The store has not been readable since this moment; the last state stands.
    Stale {
        /// When that was first seen.
        since: Instant,
        /// What was seen last.
        reason: String,
    },
}

/// A stream of [`FollowUpdate`]s in revision order. It ends only when the runtime does.
#[derive(Debug)]
pub struct Follow {
    changes: mpsc::Receiver<FollowUpdate>,
    health: watch::Receiver<FollowHealth>,
    _task: AbortOnDropHandle<()>,
}

impl Follow {
    pub(crate) fn spawn(store: Arc<dyn Store>, prefix: &str) -> Self {
        let (changes, receiver) = mpsc::channel(QUEUE);
        let since = Instant::now();
        let (health, health_receiver) =
            watch::channel(FollowHealth::Stale { since, reason: "not read yet".into() });
        let follower = Follower { store, prefix: prefix.into(), mirror: None, changes, health };
        let task = AbortOnDropHandle::new(tokio::spawn(follower.run()));
        Self { changes: receiver, health: health_receiver, _task: task }
    }

    /// How fresh the stream is, for showing the age of what is served.
    pub fn health(&self) -> watch::Receiver<FollowHealth> {
        self.health.clone()
    }
}

impl Stream for Follow {
    type Item = FollowUpdate;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<FollowUpdate>> {
        self.changes.poll_recv(context)
    }
}

struct Follower {
    store: Arc<dyn Store>,
    prefix: String,
    mirror: Option<KnownEntries>,
    changes: mpsc::Sender<FollowUpdate>,
    health: watch::Sender<FollowHealth>,
}

/// What the consumer knows.
struct KnownEntries {
    revision: Revision,
    known: BTreeMap<Key, EntryMark>,
}

/// Enough of an entry to see that it differs.
#[derive(Clone, Copy, PartialEq, Eq)]
struct EntryMark {
    revision: Revision,
    digest: u64,
}

/// Why a round of list and watch ended.
enum RoundEnd {
    /// The consumer is gone.
    Dropped,
    /// List again at once.
    Relist,
    /// The store does not answer.
    Unavailable(String),
}

impl Follower {
    async fn run(mut self) {
        let mut pauses = Pauses::new();
        loop {
            match self.round(&mut pauses).await {
                RoundEnd::Dropped => return,
                RoundEnd::Relist => {}
                RoundEnd::Unavailable(reason) => {
                    tracing::warn!(
                        event = "store_not_followed",
                        prefix = self.prefix,
                        reason,
                        "cannot follow the store, trying again"
                    );
                    self.mark_stale(reason);
                    sleep(pauses.next()).await;
                }
            }
        }
    }

    /// Lists, tells the difference, then watches until something ends that.
    async fn round(&mut self, pauses: &mut Pauses) -> RoundEnd {
        let snapshot = match list_all(&*self.store, &self.prefix).await {
            Ok(snapshot) => snapshot,
            Err(error) => return error.into(),
        };
        let from = snapshot.revision.next();
        if let Some(change) = self.reconcile(snapshot)
            && self.changes.send(change).await.is_err()
        {
            return RoundEnd::Dropped;
        }
        let mut batches = match self.store.watch(&self.prefix, from).await {
            Ok(batches) => batches,
            Err(error) => return error.into(),
        };
        pauses.reset();
        self.health
            .send_if_modified(|health| std::mem::replace(health, FollowHealth::Live) != FollowHealth::Live);
        let resync = async {
            match self.store.resync_interval() {
                Some(interval) => sleep(interval).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(resync);
        loop {
            let item = tokio::select! {
                item = batches.next() => item,
                () = &mut resync => return RoundEnd::Relist,
                () = self.changes.closed() => return RoundEnd::Dropped,
            };
            let batch = match item {
                Some(Ok(batch)) => batch,
                Some(Err(error)) => return error.into(),
                None => return RoundEnd::Unavailable("the watch ended".into()),
            };
            if let Some(mirror) = &mut self.mirror
                && mirror.absorb(&batch)
                && self.changes.send(FollowUpdate::Batch(batch)).await.is_err()
            {
                return RoundEnd::Dropped;
            }
        }
    }

    fn reconcile(&mut self, snapshot: Snapshot) -> Option<FollowUpdate> {
        match &mut self.mirror {
            Some(mirror) if mirror.revision <= snapshot.revision => {
                mirror.catch_up(snapshot).map(FollowUpdate::Batch)
            }
            Some(mirror) => {
                tracing::warn!(
                    event = "store_went_back",
                    prefix = self.prefix, before = %mirror.revision, now = %snapshot.revision,
                    "the store went back in time: was it restored from a backup?"
                );
                self.mirror = Some(KnownEntries::of(&snapshot));
                Some(FollowUpdate::Snapshot(snapshot))
            }
            None => {
                self.mirror = Some(KnownEntries::of(&snapshot));
                Some(FollowUpdate::Snapshot(snapshot))
            }
        }
    }

    fn mark_stale(&self, reason: String) {
        self.health.send_modify(|health| {
            let since = match health {
                FollowHealth::Live => Instant::now(),
                FollowHealth::Stale { since, .. } => *since,
            };
            *health = FollowHealth::Stale { since, reason };
        });
    }
}

impl KnownEntries {
    fn of(snapshot: &Snapshot) -> Self {
        let known = snapshot.entries.iter().map(|entry| (entry.key.clone(), EntryMark::of(entry))).collect();
        Self { revision: snapshot.revision, known }
    }

    /// Takes a batch in; false if it was known already.
    fn absorb(&mut self, batch: &Batch) -> bool {
        if batch.revision <= self.revision {
            return false;
        }
        self.revision = batch.revision;
        for event in &batch.events {
            match event {
                Event::Put(entry) => drop(self.known.insert(entry.key.clone(), EntryMark::of(entry))),
                Event::Delete(key) => drop(self.known.remove(key)),
            }
        }
        true
    }

    /// Becomes equal to the snapshot; gives what that changed.
    fn catch_up(&mut self, snapshot: Snapshot) -> Option<Batch> {
        self.revision = snapshot.revision;
        let mut gone = std::mem::take(&mut self.known);
        let mut events = Vec::new();
        for entry in snapshot.entries {
            let mark = EntryMark::of(&entry);
            if gone.remove(&entry.key) != Some(mark) {
                events.push(Event::Put(entry.clone()));
            }
            self.known.insert(entry.key, mark);
        }
        events.extend(gone.into_keys().map(Event::Delete));
        (!events.is_empty()).then_some(Batch { revision: snapshot.revision, events })
    }
}

impl EntryMark {
    fn of(entry: &Entry) -> Self {
        let mut hasher = DefaultHasher::new();
        entry.value.hash(&mut hasher);
        Self { revision: entry.mod_revision, digest: hasher.finish() }
    }
}

impl From<ReadError> for RoundEnd {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Compacted { .. } | ReadError::Ahead { .. } => Self::Relist,
            ReadError::Unavailable { reason } => Self::Unavailable(reason),
        }
    }
}
