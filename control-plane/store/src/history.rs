//! The recent past, for readers: snapshots by revision, and batches for watchers.
//!
//! Writers publish, readers look; nobody waits for a reader. A watcher keeps only its position, so a
//! slow one costs nothing and finds [`ReadError::Compacted`] when the past it wants is gone.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::stream::{self, StreamExt};
use tokio::sync::watch;

use crate::error::ReadError;
use crate::record::{Batch, Entry, Event, Listing, Page, Revision};
use crate::state::Entries;
use crate::store::Watch;

/// How much of the past the memory and embedded engines keep for watchers that lag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// At most so many batches.
    pub batches: usize,
    /// At most so many bytes of keys and values in them.
    pub bytes: usize,
}

/// The published state and its recent past.
#[derive(Debug)]
pub(crate) struct History {
    // A lock because listings, watchers and the writer meet here; held for map lookups and clones of
    // shared pointers only, never across an await or a file operation.
    past: Mutex<PastRevisions>,
    newest: watch::Sender<Revision>,
}

#[derive(Debug)]
struct PastRevisions {
    /// The oldest revision that can be listed, and its entries.
    floor: (Revision, Entries),
    /// One for each revision after the floor, without gaps.
    versions: VecDeque<PastRevision>,
    bytes: usize,
    retention: Retention,
}

#[derive(Debug)]
struct PastRevision {
    batch: Batch,
    bytes: usize,
    after: Entries,
}

struct Cursor {
    history: Weak<History>,
    newest: watch::Receiver<Revision>,
    prefix: String,
    next: Revision,
    failed: bool,
}

impl History {
    /// A history that begins with this state.
    pub(crate) fn starting_at(revision: Revision, entries: Entries, retention: Retention) -> Arc<Self> {
        let past =
            PastRevisions { floor: (revision, entries), versions: VecDeque::new(), bytes: 0, retention };
        Arc::new(Self { past: Mutex::new(past), newest: watch::Sender::new(revision) })
    }

    /// Adds the next revision and wakes the watchers.
    pub(crate) fn publish(&self, batch: Batch, after: Entries) {
        let revision = batch.revision;
        self.past().push(batch, after);
        self.newest.send_replace(revision);
    }

    /// The newest value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<Entry> {
        self.past().newest().1.get(key).cloned()
    }

    /// One page at one revision.
    pub(crate) fn list(&self, prefix: &str, page: &Page) -> Result<Listing, ReadError> {
        let (revision, entries) = self.past().at(page.at)?;
        let from = match &page.after {
            Some(key) => Bound::Excluded(key.as_str()),
            None => Bound::Included(prefix),
        };
        let limit = page.limit.max(1);
        let mut found = entries
            .range::<_, str>((from, Bound::Unbounded))
            .map(|(_, entry)| entry)
            .take_while(|entry| entry.key.starts_with(prefix));
        let entries = found.by_ref().take(limit).cloned().collect();
        Ok(Listing { revision, entries, more: found.next().is_some() })
    }

    /// Batches from this revision on.
    pub(crate) fn watch(self: &Arc<Self>, prefix: &str, from: Revision) -> Result<Watch, ReadError> {
        self.past().batch_from(from, "")?;
        let cursor = Cursor {
            history: Arc::downgrade(self),
            newest: self.newest.subscribe(),
            prefix: prefix.into(),
            next: from,
            failed: false,
        };
        Ok(stream::unfold(cursor, |mut cursor| async {
            if cursor.failed {
                return None;
            }
            let item = cursor.advance().await;
            cursor.failed = item.is_err();
            Some((item, cursor))
        })
        .boxed())
    }

    /// Forgets what was before this revision.
    pub(crate) fn compact(&self, before: Revision) -> Result<(), ReadError> {
        let mut past = self.past();
        if before > past.newest().0 {
            return Err(ReadError::Ahead { asked: before });
        }
        while past.floor.0 < before {
            past.drop_oldest();
        }
        Ok(())
    }

    fn past(&self) -> MutexGuard<'_, PastRevisions> {
        // Nothing panics half way through a change of the past, so a poisoned lock guards a whole one.
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PastRevisions {
    fn newest(&self) -> (Revision, &Entries) {
        match self.versions.back() {
            Some(version) => (version.batch.revision, &version.after),
            None => (self.floor.0, &self.floor.1),
        }
    }

    fn push(&mut self, batch: Batch, after: Entries) {
        let bytes = batch.events.iter().map(Event::bytes).sum();
        self.bytes += bytes;
        self.versions.push_back(PastRevision { batch, bytes, after });
        // The newest batch always stays, or a watcher that is up to date would miss it.
        while self.versions.len() > 1
            && (self.versions.len() > self.retention.batches || self.bytes > self.retention.bytes)
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(version) = self.versions.pop_front() {
            self.bytes -= version.bytes;
            self.floor = (version.batch.revision, version.after);
        }
    }

    fn at(&self, revision: Option<Revision>) -> Result<(Revision, Entries), ReadError> {
        let (newest, entries) = self.newest();
        let Some(asked) = revision else { return Ok((newest, entries.clone())) };
        if asked > newest {
            return Err(ReadError::Ahead { asked });
        }
        let Some(steps) = asked.0.checked_sub(self.floor.0.0) else {
            return Err(ReadError::Compacted { oldest: self.floor.0 });
        };
        Ok(match steps {
            0 => self.floor.clone(),
            steps => (asked, self.versions[steps as usize - 1].after.clone()),
        })
    }

    /// The first batch from a revision on that touches the prefix, or `None` if there is none yet.
    fn batch_from(&self, from: Revision, prefix: &str) -> Result<Option<Batch>, ReadError> {
        let Some(skip) = from.0.checked_sub(self.floor.0.next().0) else {
            return Err(ReadError::Compacted { oldest: self.floor.0 });
        };
        let touching = self.versions.iter().skip(skip as usize).find_map(|version| {
            let matches = |event: &&Event| event.key().starts_with(prefix);
            let events: Vec<Event> = version.batch.events.iter().filter(matches).cloned().collect();
            (!events.is_empty()).then_some(Batch { revision: version.batch.revision, events })
        });
        Ok(touching)
    }
}

impl Cursor {
    async fn advance(&mut self) -> Result<Batch, ReadError> {
        let closed = || ReadError::Unavailable { reason: "the store was closed".into() };
        loop {
            self.newest.borrow_and_update();
            if let Some(batch) = self.look(closed)? {
                self.next = batch.revision.next();
                return Ok(batch);
            }
            self.newest.changed().await.map_err(|_| closed())?;
        }
    }

    fn look(&mut self, closed: impl Fn() -> ReadError) -> Result<Option<Batch>, ReadError> {
        let history = self.history.upgrade().ok_or_else(closed)?;
        let past = history.past();
        let found = past.batch_from(self.next, &self.prefix)?;
        if found.is_none() {
            self.next = self.next.max(past.newest().0.next());
        }
        Ok(found)
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { batches: 4096, bytes: 32 << 20 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::StoreState;
    use crate::txn::Txn;

    fn history(batches: usize, commits: u64) -> Arc<History> {
        let mut state = StoreState::default();
        let retention = Retention { batches, bytes: usize::MAX };
        let history = History::starting_at(Revision(0), Entries::new(), retention);
        for n in 1..=commits {
            let batch = state.apply(&Txn::new().put(format!("k/{n}"), "v"), |_| true).unwrap().unwrap();
            history.publish(batch, state.entries.clone());
        }
        history
    }

    #[test]
    fn keeps_only_as_many_batches_as_asked() {
        let history = history(3, 10);
        assert_eq!(
            history.list("", &Page { at: Some(Revision(7)), ..Page::default() }).unwrap().entries.len(),
            7
        );
        let older = history.list("", &Page { at: Some(Revision(6)), ..Page::default() });
        assert_eq!(older, Err(ReadError::Compacted { oldest: Revision(7) }));
        assert!(history.watch("", Revision(8)).is_ok());
        assert!(history.watch("", Revision(7)).is_err());
    }

    #[tokio::test]
    async fn a_watcher_that_falls_behind_is_told() {
        let history = history(100, 1);
        let mut watch = history.watch("k/", Revision(1)).unwrap();
        assert_eq!(watch.next().await.unwrap().unwrap().revision, Revision(1));
        let mut state = StoreState::restored(Revision(1), Entries::new());
        for n in 0..200 {
            let batch = state.apply(&Txn::new().put(format!("k/{n}"), "v"), |_| true).unwrap().unwrap();
            history.publish(batch, state.entries.clone());
        }
        assert!(matches!(watch.next().await, Some(Err(ReadError::Compacted { .. }))));
        assert!(watch.next().await.is_none());
    }

    #[tokio::test]
    async fn a_watch_ends_when_the_store_is_closed() {
        let history = history(1, 1);
        let mut watch = history.watch("", Revision(2)).unwrap();
        drop(history);
        assert!(matches!(watch.next().await, Some(Err(ReadError::Unavailable { .. }))));
    }
}
