//! The ledger in memory: whose certificate a serial number is, without asking the store.
//!
//! ```text
//! store: leaves/… ── follow ──▶ Issued { serial → entry, workload → serials } ◀── what this replica issues, at once
//! ```
//!
//! Every call asks whose certificate it carries, and a store that is away must not make strangers of members. About 400
//! bytes a leaf; an entry goes when the leader prunes it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;
use weft_api::WorkloadId;
use weft_store::{Entry, Event, FollowUpdate, Store, StoreExt};

use super::Serial;
use super::ledger::{LedgerEntry, PREFIX, serial_of};

/// What is known of the leaves issued. Cheap to clone.
///
/// A lock, because handlers ask and the follower writes; nothing is awaited under it.
#[derive(Debug, Clone, Default)]
pub struct Issued(Arc<RwLock<Leaves>>);

#[derive(Debug, Default)]
struct Leaves {
    by_serial: HashMap<Serial, Arc<LedgerEntry>>,
    by_workload: BTreeMap<WorkloadId, BTreeSet<Serial>>,
}

impl Issued {
    /// Follows the ledger until `shutdown`.
    #[must_use]
    pub(super) fn spawn(store: &Arc<dyn Store>, shutdown: CancellationToken) -> Self {
        let issued = Self::default();
        let mut changes = store.follow(PREFIX);
        let followed = issued.clone();
        tokio::spawn(async move {
            while let Some(Some(change)) = shutdown.run_until_cancelled(changes.next()).await {
                followed.take(change);
            }
        });
        issued
    }

    /// A leaf that was just issued or looked up.
    pub fn note(&self, entry: LedgerEntry) {
        self.write(|leaves| leaves.insert(entry));
    }

    /// The leaf of a serial number; none when it is not known here, which the store may know better.
    #[must_use]
    pub fn find(&self, serial: &Serial) -> Option<Arc<LedgerEntry>> {
        self.read(|leaves| leaves.by_serial.get(serial).cloned())
    }

    /// Which instance a serial number belongs to.
    #[must_use]
    pub fn is_of(&self, serial: &Serial, instance: &str) -> bool {
        self.find(serial).is_some_and(|entry| entry.instance == instance)
    }

    /// The leaves of a workload, of all its instances.
    #[must_use]
    pub fn of(&self, workload: &WorkloadId) -> Vec<Arc<LedgerEntry>> {
        self.read(|leaves| {
            let serials = leaves.by_workload.get(workload).into_iter().flatten();
            serials.filter_map(|serial| leaves.by_serial.get(serial).cloned()).collect()
        })
    }

    /// The instances of a workload that have leaves, and how many of each have not ended at this time, in Unix seconds.
    #[must_use]
    pub fn live(&self, workload: &WorkloadId, now: i64) -> BTreeMap<String, usize> {
        let mut live = BTreeMap::new();
        for leaf in self.of(workload).iter().filter(|leaf| leaf.expires_at > now) {
            *live.entry(leaf.instance.clone()).or_default() += 1;
        }
        live
    }

    /// How many instances have a newest leaf that lives, and of whose life less than a fifth is left at this time.
    #[must_use]
    pub fn not_renewed(&self, now: i64) -> usize {
        self.read(|leaves| {
            let mut newest: HashMap<&str, &LedgerEntry> = HashMap::new();
            for leaf in leaves.by_serial.values() {
                let kept = newest.entry(&leaf.instance).or_insert(leaf);
                if leaf.expires_at > kept.expires_at {
                    *kept = leaf;
                }
            }
            let is_overdue = |leaf: &&&LedgerEntry| {
                let (life, left) = (leaf.expires_at - leaf.issued_at, leaf.expires_at - now);
                left > 0 && left < life / 5
            };
            newest.values().filter(is_overdue).count()
        })
    }

    /// All leaves that were not pruned yet.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<LedgerEntry>> {
        self.read(|leaves| leaves.by_serial.values().cloned().collect())
    }

    fn take(&self, change: FollowUpdate) {
        match change {
            // What this replica has issued and not yet written stays: it is not in the store, and it is true.
            FollowUpdate::Snapshot(snapshot) => self.write(|leaves| {
                for entry in snapshot.entries.iter().filter_map(decode) {
                    leaves.insert(entry);
                }
            }),
            FollowUpdate::Batch(batch) => self.write(|leaves| {
                for event in batch.events {
                    match event {
                        Event::Put(entry) => {
                            if let Some(entry) = decode(&entry) {
                                leaves.insert(entry);
                            }
                        }
                        Event::Delete(key) => {
                            if let Some(serial) = serial_of(&key) {
                                leaves.remove(&serial);
                            }
                        }
                    }
                }
            }),
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Leaves) -> T) -> T {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, write: impl FnOnce(&mut Leaves)) {
        write(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Leaves {
    fn insert(&mut self, entry: LedgerEntry) {
        self.by_workload.entry(entry.workload.clone()).or_default().insert(entry.serial.clone());
        self.by_serial.insert(entry.serial.clone(), Arc::new(entry));
    }

    fn remove(&mut self, serial: &Serial) {
        let Some(entry) = self.by_serial.remove(serial) else { return };
        if let Some(serials) = self.by_workload.get_mut(&entry.workload) {
            serials.remove(serial);
            if serials.is_empty() {
                self.by_workload.remove(&entry.workload);
            }
        }
    }
}

fn decode(entry: &Entry) -> Option<LedgerEntry> {
    let decoded = serde_json::from_slice(&entry.value);
    decoded
        .inspect_err(|error| {
            tracing::error!(
                event = "ledger_entry_unreadable",
                %error, key = %entry.key,
                "an entry of the ledger cannot be read"
            );
        })
        .ok()
}
