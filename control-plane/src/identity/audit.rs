//! Who did what with the API: a record for each call that changed something, and for refusals of those who have a token.
//!
//! What a change was, document by document, the history of policies tells; a record names its revision. No record holds a
//! secret: it is made of names alone.

use std::sync::Arc;
use std::time::Duration;

use weft_api::rest::{AuditList, AuditRecord};
use weft_store::{Leadership, ReadError, Store, StoreExt, Txn};

use crate::StoreError;
use crate::clock::Clock;

/// How long records are kept.
pub const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// How many, the newest.
pub const MOST: usize = 10_000;

const PREFIX: &str = "audit/";
const PRUNE_BATCH: usize = 100;

/// The records in a store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AuditLog {
    store: Arc<dyn Store>,
    clock: Clock,
}

/// Which records are wanted.
#[derive(Clone, Debug, Default)]
pub struct AuditSelection {
    /// At most so many.
    pub limit: usize,
    /// Only those before this moment, in milliseconds since 1970.
    pub before: Option<u64>,
    /// Only those of this one.
    pub who: Option<String>,
}

impl AuditLog {
    /// Those in a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Writes a record; its moment is now.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn write(&self, record: AuditRecord) -> Result<(), StoreError> {
        let record = AuditRecord { at: self.clock.unix_millis(), ..record };
        let value = serde_json::to_vec(&record).expect("strings and numbers always encode");
        // Two of one millisecond are told apart by chance.
        let key = format!("{}-{:08x}", key(record.at), rand::random::<u32>());
        self.store.commit(Txn::new().put(key, value)).await?;
        Ok(())
    }

    /// The newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, wanted: &AuditSelection) -> Result<AuditList, ReadError> {
        let entries = self.store.list_all(PREFIX).await?.entries;
        let is_wanted = |record: &AuditRecord| {
            wanted.before.is_none_or(|before| record.at < before)
                && wanted.who.as_ref().is_none_or(|who| *who == record.who)
        };
        let records = entries.iter().rev().filter_map(|entry| serde_json::from_slice(&entry.value).ok());
        let mut records = records.filter(is_wanted).peekable();
        let mut items: Vec<AuditRecord> = records.by_ref().take(wanted.limit).collect();
        // Those of one moment stay on one page, or the next page would begin behind some of them.
        while let Some(more) = records.next_if(|next| items.last().is_some_and(|last| last.at == next.at)) {
            items.push(more);
        }
        let before = records.peek().and_then(|_| items.last()).map(|last| last.at);
        Ok(AuditList { items, before })
    }

    /// Removes what is too old or too much, and says how many. The leader calls this; the writes are fenced.
    ///
    /// # Errors
    /// When the store fails or leadership was lost.
    pub async fn prune(&self, leader: &Leadership) -> Result<usize, StoreError> {
        let oldest =
            self.clock.unix_millis().saturating_sub(u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX));
        let oldest = key(oldest);
        let entries = self.store.list_all(PREFIX).await?.entries;
        let too_many = entries.len().saturating_sub(MOST);
        let gone = entries
            .iter()
            .enumerate()
            .take_while(|(at, entry)| *at < too_many || entry.key.as_str() < oldest.as_str());
        let gone: Vec<_> = gone.map(|(_, entry)| &entry.key).collect();
        for batch in gone.chunks(PRUNE_BATCH) {
            let txn = Txn::new().guard(leader.guard());
            self.store.commit(batch.iter().fold(txn, |txn, key| txn.delete(*key))).await?;
        }
        Ok(gone.len())
    }
}

/// Keys are in the order of their moments.
fn key(at: u64) -> String {
    format!("{PREFIX}{at:016}")
}

#[cfg(test)]
mod tests {
    use weft_store::Location;

    use super::*;

    fn record(who: &str) -> AuditRecord {
        AuditRecord {
            who: who.to_owned(),
            call: "POST /v1/tokens".to_owned(),
            count: 1,
            ..AuditRecord::default()
        }
    }

    #[tokio::test]
    async fn newest_come_first_and_pages_leave_none_out() {
        let log = AuditLog::new(weft_store::open(Location::Memory).await.unwrap(), Clock::system());
        for who in ["ann", "bob", "ann", "cid", "ann"] {
            log.write(record(who)).await.unwrap();
        }
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let page = log.list(&AuditSelection { limit: 2, before, who: None }).await.unwrap();
            assert!(page.items.is_sorted_by(|one, other| one.at >= other.at));
            seen.extend(page.items);
            before = page.before;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), 5);
        let of_ann = AuditSelection { limit: 9, who: Some("ann".to_owned()), ..AuditSelection::default() };
        assert_eq!(log.list(&of_ann).await.unwrap().items.len(), 3);
    }
}
