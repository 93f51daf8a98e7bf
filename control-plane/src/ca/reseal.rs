//! Putting another key in the place of the one that seals: all records at once, in one transaction that a crash cannot halve.

use std::collections::BTreeMap;

use weft_store::{CommitError, Guard, Store};

use super::records::{CaRecords, resealed};
use super::seal::SealKeyId;
use super::seen_version::FIRST;
use super::{Authority, CaError};

/// How often it is tried when others write meanwhile.
const ATTEMPTS: usize = 8;

/// What the records in the store need of the seal key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealUse {
    /// Version of the records; none in a store of an earlier release that was not taken over yet.
    pub version: Option<u64>,
    /// The key that seals, in this replica's file.
    pub sealing: SealKeyId,
    /// The keys of this replica's file and those that a record needs, with the number of those records.
    pub keys: BTreeMap<SealKeyId, usize>,
}

impl Authority {
    /// The keys that this replica's file has, the one that seals first. The file is read again: one that cannot be read changes
    /// nothing, and `weft check` says so.
    #[must_use]
    pub fn seal_keys(&self) -> Vec<SealKeyId> {
        if let Err(error) = self.seal.reread() {
            tracing::debug!(%error, "the seal key's file is not read again");
        }
        self.seal.ids()
    }

    /// What the records in the store need of the seal key.
    ///
    /// # Errors
    /// When the store fails, or its records are not the newest or do not open.
    pub async fn seal_use(&self, store: &dyn Store) -> Result<SealUse, CaError> {
        let ids = self.seal_keys();
        let records = self.records(store).await?;
        let mut keys: BTreeMap<_, _> = ids.iter().map(|id| (id.clone(), 0)).collect();
        for (_, key) in records.needed_keys(&self.seal)? {
            *keys.entry(key).or_default() += 1;
        }
        let sealing = ids.into_iter().next().expect("a seal key has a line");
        Ok(SealUse { version: records.version(), sealing, keys })
    }

    /// Seals all records with the first key of the file, and says how many there were that another one had sealed. Records of an
    /// earlier release get their version by it. All are written in one transaction, or none.
    ///
    /// # Errors
    /// When the store fails, leadership was lost, or a record does not open.
    pub async fn reseal(&self, store: &dyn Store, guard: Option<&Guard>) -> Result<usize, CaError> {
        self.seal.reread()?;
        let sealing = self.seal.ids().into_iter().next().expect("a seal key has a line");
        for attempt in 1.. {
            let records = self.records(store).await?;
            let is_first = records.version().is_none();
            let needed = records.needed_keys(&self.seal)?;
            let others = needed.iter().filter(|(_, key)| *key != sealing).count();
            if others == 0 && !is_first {
                return Ok(0);
            }
            match self.commit_resealed(store, &records, guard).await {
                Ok(()) => {}
                Err(CommitError::Conflict { .. } | CommitError::Uncertain { .. }) if attempt < ATTEMPTS => {
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            self.reload(store).await?;
            let rewritten = if is_first { needed.len() } else { others };
            tracing::info!(event = "authority_resealed", records = rewritten, key = %sealing, "the authority's records are sealed anew");
            return Ok(rewritten);
        }
        unreachable!("the last attempt returns")
    }

    async fn commit_resealed(
        &self,
        store: &dyn Store,
        records: &CaRecords,
        guard: Option<&Guard>,
    ) -> Result<(), CommitError> {
        let is_first = records.version().is_none();
        if is_first {
            self.seal.seal_at(FIRST);
        }
        let mut txn = guard.cloned().into_iter().fold(records.guarded(), weft_store::Txn::guard);
        let invalid = |error: CaError| CommitError::Invalid { reason: error.to_string() };
        for (entry, key) in records.sealed().map_err(invalid)? {
            let record = resealed(entry, &key, &self.seal).map_err(invalid)?;
            txn = txn.expect_at(entry.key.as_str(), entry.mod_revision).put(entry.key.as_str(), record);
        }
        let txn =
            if is_first { records.first_headed(txn, &self.seal) } else { records.headed(txn, &self.seal) };
        let done = store.commit(txn).await;
        if is_first && matches!(done, Err(CommitError::Conflict { .. })) {
            self.seal.seal_without_version();
        }
        done.map(|_| ())
    }
}

#[cfg(test)]
mod tests;
