//! Taking a workload out of the mesh before its certificate ends.
//!
//! ```text
//! weft proxy revoke, delete ─▶ revoked/INSTANCE   its leaves are not to be believed
//!                           ─▶ its record goes    streams are cut, renewals refused, endpoints withdrawn
//!                           ─▶ mesh/crls/…        its serials, in the bundle of every proxy a moment later
//! ```
//!
//! What stands on the lists follows from the ledger and from `revoked/`: whatever was missed, because a leaf was written
//! down at the same moment or a replica died half-way, the leader finds and lists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_api::WorkloadId;
use weft_store::{CommitError, Leadership, ReadError, Store, StoreExt, Txn};

use crate::StoreError;
use crate::ca::{Authority, CaError, Ledger, LedgerEntry, Serial};
use crate::clock::Clock;
use crate::presence::workloads::{Stored, WorkloadStore};

const PREFIX: &str = "revoked/";
/// Others revoke at the same moment; more often is no accident.
const ATTEMPTS: usize = 16;
/// etcd takes 128 operations in one transaction.
const BATCH: usize = 100;

/// An instance whose leaves are not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RevokedInstance {
    workload: WorkloadId,
    instance: String,
    /// Unix seconds.
    revoked_at: i64,
    /// Unix seconds of the end of its last leaf: then it is forgotten.
    until: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Revoked {
    /// Instances of the name, the one on record and those before it whose leaves live.
    pub instances: usize,
    /// Leaves that stand on a revocation list now.
    pub leaves: usize,
}

/// Why nothing was revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A list could not be signed.
    #[error(transparent)]
    Authority(#[from] CaError),
    /// Others were always faster.
    #[error("others revoke at the same moment; try again")]
    Contended,
    /// The control plane does not take it any more; its peers were not told.
    #[error("{0} is out of the mesh, but no list tells its peers yet, which the leader goes on trying: {1}")]
    Unlisted(WorkloadId, #[source] Box<RevocationError>),
}

/// Revokes workloads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Revocations {
    store: Arc<dyn Store>,
    authority: Arc<Authority>,
    ledger: Ledger,
    workloads: WorkloadStore,
    clock: Clock,
}

impl Revocations {
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        authority: Arc<Authority>,
        ledger: Ledger,
        workloads: WorkloadStore,
        clock: Clock,
    ) -> Self {
        Self { store, authority, ledger, workloads, clock }
    }

    /// Revokes a workload: its record goes, and all leaves of its name that live stand on a list. `None` when there is
    /// neither. It may join again with a new token.
    ///
    /// Three writes, in this order, so that nothing that a member does at the same moment undoes one: its instances are
    /// not to be believed any more; its record goes; its leaves are listed. Whatever of it is missing after a crash, the
    /// leader makes up for.
    ///
    /// # Errors
    /// When the store fails or a list cannot be signed. [`RevocationError::Unlisted`] means that the rest was done.
    pub async fn revoke(&self, id: &WorkloadId) -> Result<Option<Revoked>, RevocationError> {
        let stored = self.workloads.find(id).await.map_err(StoreError::from)?;
        let leaves = self.live().await?;
        let own: Vec<&LedgerEntry> = leaves.iter().filter(|leaf| leaf.workload == *id).collect();
        if stored.is_none() && own.is_empty() {
            return Ok(None);
        }
        let instances = self.instances(id, stored.as_ref(), &own);
        for batch in instances.chunks(BATCH) {
            let put = |txn: Txn, one: &RevokedInstance| {
                txn.put(
                    key(&one.instance),
                    serde_json::to_vec(one).expect("strings and numbers always encode"),
                )
            };
            self.store.commit(batch.iter().fold(Txn::new(), put)).await.map_err(StoreError::from)?;
        }
        let revoked = instances.iter().map(|one| one.instance.clone()).collect();
        self.remove_record(id, &revoked, None).await?;
        tracing::info!(event = "workload_revoked", workload = %id, leaves = own.len(), "revoked");
        let listed = async {
            self.catch_up(None).await?;
            self.authority.reload(self.store.as_ref()).await.map_err(RevocationError::from)
        };
        listed.await.map_err(|error| RevocationError::Unlisted(id.clone(), Box::new(error)))?;
        Ok(Some(Revoked { instances: instances.len(), leaves: own.len() }))
    }

    /// Removes the record of a name, if it is one of these instances.
    async fn remove_record(
        &self,
        id: &WorkloadId,
        revoked: &BTreeSet<String>,
        leader: Option<&Leadership>,
    ) -> Result<(), RevocationError> {
        for _ in 0..ATTEMPTS {
            let stored = self.workloads.find(id).await.map_err(StoreError::from)?;
            let Some(stored) = stored.filter(|stored| revoked.contains(&stored.record.instance)) else {
                return Ok(());
            };
            let txn = leader.map_or_else(Txn::new, |leader| Txn::new().guard(leader.guard()));
            match self.store.commit(stored.record.remove(txn, stored.revision)).await {
                Ok(_) => return Ok(()),
                // It said goodbye, or came back; how often it may is limited.
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(StoreError::from(error).into()),
            }
        }
        Err(RevocationError::Contended)
    }

    /// Makes up for what is missing of revocations: a record that is there still, and leaves that ought to stand on a list
    /// and do not, because they were written down at the same moment. Says whether a list changed. A leader's writes are
    /// fenced.
    ///
    /// # Errors
    /// When the store fails, a list cannot be signed, or leadership was lost.
    pub async fn catch_up(&self, leader: Option<&Leadership>) -> Result<bool, RevocationError> {
        let all = read(self.store.as_ref()).await.map_err(StoreError::from)?;
        if all.is_empty() {
            return Ok(false);
        }
        let revoked: BTreeSet<String> = all.iter().map(|one| one.instance.clone()).collect();
        for id in all.into_iter().map(|one| one.workload).collect::<BTreeSet<_>>() {
            self.remove_record(&id, &revoked, leader).await?;
        }
        for _ in 0..ATTEMPTS {
            let txn = leader.map_or_else(Txn::new, |leader| Txn::new().guard(leader.guard()));
            let leaves = listed(&self.live().await?, &revoked);
            let (txn, is_changed) = self.authority.listing(self.store.as_ref(), txn, &leaves).await?;
            if !is_changed {
                return Ok(false);
            }
            match self.store.commit(txn).await {
                Ok(_) => return Ok(true),
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(StoreError::from(error).into()),
            }
        }
        Err(RevocationError::Contended)
    }

    /// Forgets instances whose last leaf has ended, and says how many. The leader calls this; the writes are fenced.
    ///
    /// # Errors
    /// When the store fails or leadership was lost.
    pub async fn prune(&self, leader: &Leadership) -> Result<usize, StoreError> {
        let now = self.clock.unix_seconds();
        let all = read(self.store.as_ref()).await?;
        let ended: Vec<_> = all.iter().filter(|one| one.until < now).collect();
        for batch in ended.chunks(BATCH) {
            let txn = Txn::new().guard(leader.guard());
            self.store.commit(batch.iter().fold(txn, |txn, one| txn.delete(key(&one.instance)))).await?;
        }
        Ok(ended.len())
    }

    /// The instance on record and those whose leaves live.
    fn instances(
        &self,
        id: &WorkloadId,
        stored: Option<&Stored>,
        leaves: &[&LedgerEntry],
    ) -> Vec<RevokedInstance> {
        let mut until: BTreeMap<String, i64> = BTreeMap::new();
        let now = self.clock.unix_seconds();
        if let Some(stored) = stored {
            // One that is being issued to it at this moment ends no later than the longest life from now.
            let longest = now + crate::ca::MAX_LEAF_LIFE.whole_seconds();
            until.insert(stored.record.instance.clone(), longest);
        }
        for leaf in leaves {
            let end = until.entry(leaf.instance.clone()).or_default();
            *end = (*end).max(leaf.expires_at);
        }
        let one =
            |(instance, until)| RevokedInstance { workload: id.clone(), instance, revoked_at: now, until };
        until.into_iter().map(one).collect()
    }

    /// Leaves that have not ended: those written down, and those that wait here to be.
    async fn live(&self) -> Result<Vec<LedgerEntry>, StoreError> {
        let now = self.clock.unix_seconds();
        let mut leaves: BTreeMap<Serial, LedgerEntry> = BTreeMap::new();
        for leaf in self.ledger.list().await? {
            leaves.insert(leaf.serial.clone(), leaf);
        }
        for leaf in self.ledger.issued().all() {
            leaves.entry(leaf.serial.clone()).or_insert_with(|| (*leaf).clone());
        }
        Ok(leaves.into_values().filter(|leaf| leaf.expires_at > now).collect())
    }
}

/// The instances that were revoked and whose leaves may live.
///
/// # Errors
/// When the store cannot be read.
pub async fn revoked_instances(store: &dyn Store) -> Result<BTreeSet<String>, ReadError> {
    Ok(read(store).await?.into_iter().map(|one| one.instance).collect())
}

async fn read(store: &dyn Store) -> Result<Vec<RevokedInstance>, ReadError> {
    let entries = store.list_all(PREFIX).await?.entries;
    Ok(entries.iter().filter_map(|entry| serde_json::from_slice(&entry.value).ok()).collect())
}

/// Issuer and serial of each leaf of these instances.
fn listed(leaves: &[LedgerEntry], revoked: &BTreeSet<String>) -> Vec<(Serial, Serial)> {
    let leaves = leaves.iter().filter(|leaf| revoked.contains(&leaf.instance));
    leaves.map(|leaf| (leaf.issuer.clone(), leaf.serial.clone())).collect()
}

fn key(instance: &str) -> String {
    format!("{PREFIX}{instance}")
}
