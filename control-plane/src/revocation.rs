//! Taking a workload out of the mesh before its certificate ends.
//!
//! ```text
//! weft proxy revoke, delete ─▶ one transaction ─┬ its record goes: streams are cut, renewals refused, endpoints withdrawn
//!                                               ├ revoked/INSTANCE: its leaves are not to be believed
//!                                               └ mesh/crls/…: its serials, in the bundle of every proxy a moment later
//! ```
//!
//! What stands on the lists follows from the ledger and from `revoked/`: whatever was missed, because a leaf was written
//! down at the same moment or a replica died half-way, the leader finds and lists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_api::WorkloadId;
use weft_store::{CommitError, Leadership, ReadError, Store, Txn};

use crate::StoreError;
use crate::ca::{Authority, CaError, Ledger, LedgerEntry, Serial};
use crate::clock::Clock;
use crate::workloads::{Stored, Workloads};

const PREFIX: &str = "revoked/";
/// Others revoke at the same moment; more often is no accident.
const ATTEMPTS: usize = 16;
/// etcd takes 128 operations in one transaction.
const PRUNE_BATCH: usize = 100;

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

/// What was revoked.
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
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A list could not be signed.
    #[error(transparent)]
    Authority(#[from] CaError),
    /// Others were always faster.
    #[error("others revoke at the same moment; try again")]
    Contended,
}

/// Revokes workloads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Revocations {
    store: Arc<dyn Store>,
    authority: Arc<Authority>,
    ledger: Ledger,
    workloads: Workloads,
    clock: Clock,
}

impl Revocations {
    /// Over these parts.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        authority: Arc<Authority>,
        ledger: Ledger,
        workloads: Workloads,
        clock: Clock,
    ) -> Self {
        Self { store, authority, ledger, workloads, clock }
    }

    /// Revokes a workload: its record goes, and all leaves of its name that live stand on a list. `None` when there is
    /// neither. It may join again with a new token.
    ///
    /// # Errors
    /// When the store fails or a list cannot be signed; then nothing was done.
    pub async fn revoke(&self, id: &WorkloadId) -> Result<Option<Revoked>, RevocationError> {
        for _ in 0..ATTEMPTS {
            let stored = self.workloads.find(id).await.map_err(StoreError::from)?;
            let leaves = self.live().await?;
            let own: Vec<&LedgerEntry> = leaves.iter().filter(|leaf| leaf.workload == *id).collect();
            if stored.is_none() && own.is_empty() {
                return Ok(None);
            }
            let mut revoked = revoked_instances(self.store.as_ref()).await.map_err(StoreError::from)?;
            let instances = self.instances(id, stored.as_ref(), &own);
            let told = Revoked { instances: instances.len(), leaves: own.len() };
            let txn = match &stored {
                Some(stored) => stored.record.remove(Txn::new(), stored.revision),
                None => Txn::new(),
            };
            let new: Vec<_> = instances.iter().filter(|one| !revoked.contains(&one.instance)).collect();
            let txn = new.iter().fold(txn, |txn, one| {
                txn.put(
                    key(&one.instance),
                    serde_json::to_vec(one).expect("strings and numbers always encode"),
                )
            });
            revoked.extend(instances.iter().map(|one| one.instance.clone()));
            let (txn, is_changed) =
                self.authority.listing(self.store.as_ref(), txn, &listed(&leaves, &revoked)).await?;
            if stored.is_none() && new.is_empty() && !is_changed {
                return Ok(Some(told));
            }
            match self.store.commit(txn).await {
                Ok(_) => {
                    tracing::info!(workload = %id, leaves = own.len(), "revoked");
                    self.catch_up(None).await?;
                    self.authority.reload(self.store.as_ref()).await?;
                    return Ok(Some(told));
                }
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(StoreError::from(error).into()),
            }
        }
        Err(RevocationError::Contended)
    }

    /// Lists what ought to stand on a list and does not: a leaf that was written down while its workload was revoked. Says
    /// whether there was any. A leader's write is fenced.
    ///
    /// # Errors
    /// When the store fails, a list cannot be signed, or leadership was lost.
    pub async fn catch_up(&self, leader: Option<&Leadership>) -> Result<bool, RevocationError> {
        for _ in 0..ATTEMPTS {
            let revoked = revoked_instances(self.store.as_ref()).await.map_err(StoreError::from)?;
            if revoked.is_empty() {
                return Ok(false);
            }
            let txn = leader.map_or_else(Txn::new, |leader| Txn::new().fenced_by(leader));
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
        for batch in ended.chunks(PRUNE_BATCH) {
            let txn = Txn::new().fenced_by(leader);
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
