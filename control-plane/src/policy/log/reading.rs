//! Reading the log: all of it, what is new, what was.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use weft_api::Backoff;
use weft_store::{Key, Page, Revision, StoreExt};

use super::record::{
    CHECKPOINTS, ChangesetInfo, CheckpointInfo, HEAD, HISTORY, HeadRecord, StoredRecord, checkpoint_key,
    history_key,
};
use super::{DocumentChange, Documents, LogError, LogHead, LogSnapshot, PolicyLog, changeset};

// The log may be pruned while it is read; what is read next is then newer.
const LOAD_ATTEMPTS: usize = 5;
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(10);

/// One changeset that a reader had not seen.
#[derive(Clone, Debug)]
pub struct UnreadChangeset {
    pub info: ChangesetInfo,
    pub changes: Vec<DocumentChange>,
}

/// What happened since a snapshot.
#[derive(Clone, Debug)]
pub enum Advance {
    Unchanged,
    /// These changesets, in order, lead to the snapshot.
    Steps(LogSnapshot, Vec<UnreadChangeset>),
    /// The log is not a continuation of what was read, or the way was pruned: compare with all of it.
    Reloaded(LogSnapshot),
}

impl Advance {
    /// Where it leads; none where nothing happened.
    #[must_use]
    pub fn snapshot(&self) -> Option<&LogSnapshot> {
        match self {
            Self::Unchanged => None,
            Self::Steps(snapshot, _) | Self::Reloaded(snapshot) => Some(snapshot),
        }
    }
}

impl PolicyLog {
    /// All documents at the head.
    ///
    /// # Errors
    /// When the store fails or a record is unreadable.
    pub async fn load(&self) -> Result<LogSnapshot, LogError> {
        for _ in 0..LOAD_ATTEMPTS {
            let Some((head, revision)) = self.head().await? else { return Ok(LogSnapshot::default()) };
            if let Some(snapshot) = self.load_at(&head, revision).await? {
                return Ok(snapshot);
            }
        }
        Err(LogError::corrupt(HEAD, "changesets or chunks below it are missing".to_owned()))
    }

    /// What happened since `snapshot`.
    ///
    /// # Errors
    /// When the store fails or a record is unreadable.
    pub async fn advance(&self, snapshot: &LogSnapshot) -> Result<Advance, LogError> {
        let Some((head, revision)) = self.head().await? else {
            let is_empty = snapshot.head.is_none();
            return Ok(if is_empty { Advance::Unchanged } else { Advance::Reloaded(LogSnapshot::default()) });
        };
        if snapshot.head.as_ref().is_some_and(|ours| *ours.id == *head.id) {
            return Ok(Advance::Unchanged);
        }
        if head.sequence > snapshot.sequence()
            && let Some(steps) = self.steps(snapshot, &head).await?
        {
            return Ok(Advance::Steps(after(snapshot, &steps, &head, revision), steps));
        }
        self.load().await.map(Advance::Reloaded)
    }

    /// Every advance from `snapshot` on, for as long as the stream is held. A store that is away delays it.
    pub fn follow(&self, snapshot: LogSnapshot) -> impl Stream<Item = Advance> + Send + use<> {
        let state = (self.clone(), self.store.follow(HEAD), snapshot, false);
        futures::stream::unfold(state, |(log, mut moves, mut snapshot, mut is_behind)| async move {
            let mut retry = Backoff::new(RETRY_FIRST, RETRY_MOST);
            loop {
                if !is_behind {
                    moves.next().await?;
                }
                is_behind = true;
                match log.advance(&snapshot).await {
                    Ok(Advance::Unchanged) => is_behind = false,
                    Ok(advance) => {
                        if let Some(newest) = advance.snapshot() {
                            snapshot = newest.clone();
                        }
                        return Some((advance, (log, moves, snapshot, false)));
                    }
                    Err(error) => {
                        tracing::warn!(
                            event = "policies_not_read",
                            %error,
                            "cannot read new changesets; the last ones stay in force"
                        );
                        tokio::time::sleep(retry.next_wait()).await;
                    }
                }
            }
        })
    }

    /// The newest changesets before `before` (or of all), newest first.
    ///
    /// # Errors
    /// When the store fails or a record is unreadable.
    pub async fn history(&self, before: Option<u64>, limit: usize) -> Result<Vec<ChangesetInfo>, LogError> {
        let newest = self.newest().await?;
        let end = before.map_or(newest, |before| before.saturating_sub(1).min(newest));
        let start = end.saturating_sub(limit as u64);
        let records = self.changesets(start, end).await?;
        Ok(records.into_iter().rev().map(|record| record.info).collect())
    }

    /// The sequence of the newest changeset; 0 before the first.
    ///
    /// # Errors
    /// When the store fails or the record is unreadable.
    pub async fn newest(&self) -> Result<u64, LogError> {
        Ok(self.head().await?.map_or(0, |(head, _)| head.sequence))
    }

    /// The oldest changeset of which all documents can still be had; 0 before the first.
    ///
    /// # Errors
    /// When the store fails or a record is unreadable.
    pub async fn oldest(&self) -> Result<u64, LogError> {
        let first = self.store.list(HISTORY, Page { limit: 1, ..Page::default() }).await?;
        let first: Option<StoredRecord<ChangesetInfo>> =
            first.entries.first().map(StoredRecord::decode).transpose()?;
        let checkpoint = self.checkpoints().await?.first().map(|checkpoint| checkpoint.info.sequence);
        let first = first.map(|record| record.info.sequence);
        Ok(first.into_iter().chain(checkpoint).min().unwrap_or(0))
    }

    /// One changeset.
    ///
    /// # Errors
    /// [`LogError::Unknown`] when it is not kept.
    pub async fn changeset(&self, sequence: u64) -> Result<UnreadChangeset, LogError> {
        let unknown = || LogError::Unknown(sequence);
        let entry = self.store.get(&history_key(sequence)).await?.ok_or_else(unknown)?;
        self.step(StoredRecord::decode(&entry)?).await?.ok_or_else(unknown)
    }

    /// All documents after one changeset; 0 is before the first.
    ///
    /// # Errors
    /// [`LogError::Unknown`] when it is not kept.
    pub async fn at(&self, sequence: u64) -> Result<Documents, LogError> {
        if sequence == 0 {
            return Ok(Documents::new());
        }
        let unknown = || LogError::Unknown(sequence);
        // Held by a checkpoint, or reached by changesets that are all kept.
        let checkpoints = self.checkpoints().await?;
        if !checkpoints.iter().any(|checkpoint| checkpoint.info.sequence == sequence) {
            self.changeset(sequence).await?;
        }
        let (documents, _) = self.documents_at(sequence).await?.ok_or_else(unknown)?;
        Ok(documents)
    }

    async fn load_at(&self, head: &HeadRecord, revision: Revision) -> Result<Option<LogSnapshot>, LogError> {
        let Some((documents, id)) = self.documents_at(head.sequence).await? else { return Ok(None) };
        if id != head.id {
            return Ok(None);
        }
        let head = LogHead { sequence: head.sequence, id: id.into(), revision };
        Ok(Some(LogSnapshot { head: Some(head), documents }))
    }

    /// The documents after a changeset and its id, from the nearest checkpoint on; `None` when something is missing.
    async fn documents_at(&self, sequence: u64) -> Result<Option<(Documents, String)>, LogError> {
        let mut checkpoints = self.checkpoints().await?;
        checkpoints.retain(|checkpoint| checkpoint.info.sequence <= sequence);
        let mut documents = Documents::new();
        let (mut at, mut id) = (0, None);
        if let Some(checkpoint) = checkpoints.last() {
            let Some(changes) = self.body(checkpoint, &checkpoint_key(checkpoint.info.sequence)).await?
            else {
                return Ok(None);
            };
            changeset::apply(&mut documents, &changes);
            (at, id) = (checkpoint.info.sequence, Some(checkpoint.info.id.clone()));
        }
        for record in self.changesets(at, sequence).await? {
            if record.info.sequence != at + 1 || record.info.parent != id {
                return Ok(None);
            }
            (at, id) = (record.info.sequence, Some(record.info.id.clone()));
            let Some(step) = self.step(record).await? else { return Ok(None) };
            changeset::apply(&mut documents, &step.changes);
        }
        Ok(id.filter(|_| at == sequence).map(|id| (documents, id)))
    }

    /// The changesets from a snapshot to a head; `None` when they do not continue it.
    async fn steps(
        &self,
        snapshot: &LogSnapshot,
        head: &HeadRecord,
    ) -> Result<Option<Vec<UnreadChangeset>>, LogError> {
        let mut steps = Vec::new();
        let mut parent = snapshot.head.as_ref().map(|head| head.id.to_string());
        for record in self.changesets(snapshot.sequence(), head.sequence).await? {
            let continues = record.info.parent == parent;
            parent = Some(record.info.id.clone());
            match self.step(record).await? {
                Some(step) if continues => steps.push(step),
                Some(_) | None => return Ok(None),
            }
        }
        Ok((parent.as_deref() == Some(&head.id)).then_some(steps))
    }

    pub(super) async fn checkpoints(&self) -> Result<Vec<StoredRecord<CheckpointInfo>>, LogError> {
        // Only records: the documents of all but the smallest meshes are in blobs.
        let entries = self.store.list_all(CHECKPOINTS).await?.entries;
        entries.iter().map(StoredRecord::decode).collect()
    }

    /// The records of the changesets after `start`, up to and with `end`.
    pub(super) async fn changesets(
        &self,
        start: u64,
        end: u64,
    ) -> Result<Vec<StoredRecord<ChangesetInfo>>, LogError> {
        let mut page = Page { after: Some(Key::from(history_key(start))), limit: 16, ..Page::default() };
        let mut records = Vec::new();
        if start >= end {
            return Ok(records);
        }
        loop {
            let listing = self.store.list(HISTORY, page.clone()).await?;
            for entry in &listing.entries {
                let record: StoredRecord<ChangesetInfo> = StoredRecord::decode(entry)?;
                if record.info.sequence > end {
                    return Ok(records);
                }
                records.push(record);
            }
            page.after = listing.entries.last().map(|entry| entry.key.clone());
            if !listing.more {
                return Ok(records);
            }
        }
    }

    async fn step(&self, record: StoredRecord<ChangesetInfo>) -> Result<Option<UnreadChangeset>, LogError> {
        let changes = self.body(&record, &history_key(record.info.sequence)).await?;
        Ok(changes.map(|changes| UnreadChangeset { info: record.info, changes }))
    }

    async fn body<T: for<'de> serde::Deserialize<'de>>(
        &self,
        record: &StoredRecord<T>,
        key: &str,
    ) -> Result<Option<Vec<DocumentChange>>, LogError> {
        let Some(body) = record.read_body(self.store.as_ref()).await? else { return Ok(None) };
        let changes = changeset::decode(body);
        changes.map(Some).ok_or_else(|| LogError::corrupt(key, "its body is not a changeset".to_owned()))
    }
}

fn after(
    snapshot: &LogSnapshot,
    steps: &[UnreadChangeset],
    head: &HeadRecord,
    revision: Revision,
) -> LogSnapshot {
    let mut documents = snapshot.documents.clone();
    for step in steps {
        changeset::apply(&mut documents, &step.changes);
    }
    let head = LogHead { sequence: head.sequence, id: Arc::from(head.id.as_str()), revision };
    LogSnapshot { head: Some(head), documents }
}
