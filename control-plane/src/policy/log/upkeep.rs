//! What the leader does for the log: checkpoints that bound loading, and pruning by age.
//!
//! Pruning ends at a checkpoint: below it nothing is kept, above it every state can be had again.

use time::Duration;
use weft_store::{CommitError, Leadership, Txn};

use super::record::{CheckpointInfo, RecordBody, checkpoint_key, history_key, write_body};
use super::{DocumentChange, LogError, PolicyLog, blob, changeset};

// Two operations each, and 128 is etcd's limit.
const BATCH: usize = 50;

/// How much of the log is kept.
#[derive(Clone, Debug)]
pub struct LogRetention {
    /// Changesets between two checkpoints, at most.
    pub checkpoint_every: u64,
    /// Bytes of changesets between two checkpoints, roughly.
    pub checkpoint_bytes: u64,
    /// Changesets younger than this are kept.
    pub keep_for: Duration,
    /// So many are kept however old they are.
    pub keep_at_least: u64,
    /// A body that nothing refers to after so long never will be.
    pub abandon_after: Duration,
}

impl Default for LogRetention {
    fn default() -> Self {
        Self {
            checkpoint_every: 64,
            checkpoint_bytes: 16 << 20,
            keep_for: Duration::days(30),
            keep_at_least: 100,
            abandon_after: Duration::hours(1),
        }
    }
}

/// What one round of upkeep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Sequence of the checkpoint made, if one was due.
    pub checkpoint: Option<u64>,
    /// Changesets that were pruned.
    pub pruned: usize,
    /// Bodies that were deleted.
    pub swept: usize,
}

impl PolicyLog {
    /// One round: a checkpoint when one is due, then pruning. The leader calls this now and then; writes are fenced.
    ///
    /// # Errors
    /// When the store fails or leadership was lost.
    pub async fn upkeep(&self, retention: &LogRetention, leader: &Leadership) -> Result<Upkeep, LogError> {
        let checkpoint = self.checkpoint(retention, leader).await?;
        let pruned = self.prune(retention, leader).await?;
        let swept =
            blob::sweep(self.store.as_ref(), self.millis_before(retention.abandon_after), leader).await?;
        Ok(Upkeep { checkpoint, pruned, swept })
    }

    async fn checkpoint(
        &self,
        retention: &LogRetention,
        leader: &Leadership,
    ) -> Result<Option<u64>, LogError> {
        let Some((head, _)) = self.head().await? else { return Ok(None) };
        let last = self.checkpoints().await?.last().map_or(0, |checkpoint| checkpoint.info.sequence);
        let since = self.changesets(last, head.sequence).await?;
        let bytes: u64 = since.iter().map(super::record::StoredRecord::body_len).sum();
        let is_due = head.sequence.saturating_sub(last) >= retention.checkpoint_every
            || bytes >= retention.checkpoint_bytes;
        if !is_due || since.is_empty() {
            return Ok(None);
        }
        let snapshot = self.load().await?;
        let Some(head) = snapshot.head() else { return Ok(None) };
        let documents = snapshot.documents().iter();
        let all: Vec<DocumentChange> =
            documents.map(|(key, document)| DocumentChange::put(key.clone(), document.clone())).collect();
        let body = changeset::encode(&all).ok_or(LogError::TooLarge(all.len()))?;
        let body = write_body(self.store.as_ref(), body, self.clock.unix_millis()).await?;
        let key = checkpoint_key(head.sequence);
        let txn = Txn::new().guard(leader.guard()).expect_absent(key.as_str());
        let info = CheckpointInfo { sequence: head.sequence, id: head.id.to_string() };
        match self.store.commit(body.put(txn, key.clone(), &info)).await {
            Ok(_) => Ok(Some(head.sequence)),
            // Made already, perhaps by ourselves in a try that was not answered.
            Err(CommitError::Conflict { key: at, .. }) if at.as_str() == key => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn prune(&self, retention: &LogRetention, leader: &Leadership) -> Result<usize, LogError> {
        let Some((head, _)) = self.head().await? else { return Ok(0) };
        let cutoff = self.millis_before(retention.keep_for);
        let most = head.sequence.saturating_sub(retention.keep_at_least);
        let old = self.changesets(0, most).await?;
        let is_old = |sequence: u64| {
            let record = old.iter().rfind(|record| record.info.sequence <= sequence);
            record.is_some_and(|record| record.info.at_millis < cutoff)
        };
        let checkpoints = self.checkpoints().await?;
        let mut below = checkpoints.iter().map(|checkpoint| checkpoint.info.sequence);
        let Some(floor) = below.rfind(|sequence| *sequence <= most && is_old(*sequence)) else {
            return Ok(0);
        };
        let doomed: Vec<_> = old.iter().filter(|record| record.info.sequence <= floor).collect();
        for batch in doomed.chunks(BATCH) {
            let dropped = batch.iter().map(|record| (history_key(record.info.sequence), &record.body));
            self.drop_records(dropped, leader).await?;
        }
        let older: Vec<_> =
            checkpoints.iter().filter(|checkpoint| checkpoint.info.sequence < floor).collect();
        for batch in older.chunks(BATCH) {
            let dropped = batch.iter().map(|record| (checkpoint_key(record.info.sequence), &record.body));
            self.drop_records(dropped, leader).await?;
        }
        Ok(doomed.len())
    }

    async fn drop_records<'a>(
        &self,
        records: impl Iterator<Item = (String, &'a RecordBody)>,
        leader: &Leadership,
    ) -> Result<(), LogError> {
        let txn = records.fold(Txn::new().guard(leader.guard()), |txn, (key, body)| {
            let txn = txn.delete(key);
            match body {
                RecordBody::Inline => txn,
                RecordBody::Blob(blob) => blob.disown(txn),
            }
        });
        self.store.commit(txn).await?;
        Ok(())
    }

    fn millis_before(&self, age: Duration) -> u64 {
        let age = u64::try_from(age.whole_milliseconds()).unwrap_or(0);
        self.clock.unix_millis().saturating_sub(age)
    }
}
