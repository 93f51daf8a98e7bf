//! Which workloads have streams at which replica.
//!
//! Each replica holds one lease and writes, under it, which workloads have streams there and what their sidecars report.
//! The others follow. A replica that dies takes its keys with it, and the clocks of its workloads start everywhere.
//!
//! ```text
//! presence/REPLICA/SHARD     workloads by hash, so that one that comes or goes rewrites a small part
//! ```
//!
//! Written at most once a second, and only what differs: a thousand reconnects are one transaction. Not for the embedded
//! store, which has one owner.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use weft_api::{ServiceId, Version, WorkloadId};
use weft_policies::compile::Health;
use weft_store::{Change, Event, Lease, Store, Txn};

use crate::reconciler::{Command, Reconciling};
use crate::registry::{Elsewhere, PortHealth, Shard};

const PREFIX: &str = "presence/";
/// How long the others believe in a replica that says nothing.
const LEASE: Duration = Duration::from_secs(10);
/// What happens within this long is told at once.
const PACE: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(2);
/// Parts of what one replica says. Fewer than the operations of one transaction of any store.
const SHARDS: u64 = 64;

/// Starts telling and following; both end with the token. `replica` is new at each start.
pub fn spawn_presence(
    store: Arc<dyn Store>,
    replica: String,
    reconciling: Reconciling,
    shutdown: CancellationToken,
) {
    let follower = follow(Arc::clone(&store), replica.clone(), reconciling.clone());
    let teller = Teller { store, replica, reconciling };
    tokio::spawn(async move {
        shutdown.run_until_cancelled(async { tokio::join!(teller.tell_for_ever(), follower) }).await;
    });
}

/// A shard as it is stored.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stored(BTreeMap<WorkloadId, StoredWorkload>);

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredWorkload {
    /// By `NAMESPACE/SERVICE/PORT`; absent where no sidecar reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    health: Option<BTreeMap<String, StoredHealth>>,
    /// Version of the bundle that it took; absent where it has not asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bundle: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum StoredHealth {
    Healthy,
    Degraded,
    Unhealthy,
    Draining,
}

impl Stored {
    fn of<'a>(workloads: impl Iterator<Item = (&'a WorkloadId, &'a Elsewhere)>) -> Self {
        let ports = |health: &PortHealth| {
            health
                .iter()
                .map(|((service, port), health)| (format!("{service}/{port}"), write(*health)))
                .collect()
        };
        let workloads = workloads.map(|(id, said)| {
            let (health, bundle) = (said.health.as_ref().map(ports), said.bundle.map(|one| one.to_string()));
            (id.clone(), StoredWorkload { health, bundle })
        });
        Self(workloads.collect())
    }

    fn into_shard(self) -> Shard {
        let port = |(name, health): (String, StoredHealth)| {
            let (service, port) = name.rsplit_once('/')?;
            Some(((service.parse::<ServiceId>().ok()?, port.to_owned()), read(health)))
        };
        let said = |workload: StoredWorkload| Elsewhere {
            health: workload.health.map(|ports| ports.into_iter().filter_map(port).collect()),
            bundle: workload.bundle.as_deref().and_then(Version::parse),
        };
        self.0.into_iter().map(|(id, workload)| (id, said(workload))).collect()
    }
}

fn write(health: Health) -> StoredHealth {
    match health {
        Health::Healthy => StoredHealth::Healthy,
        Health::Degraded => StoredHealth::Degraded,
        // What speaks of a port is a check of its application: that starts nothing.
        Health::Unhealthy | Health::Starting => StoredHealth::Unhealthy,
        Health::Draining => StoredHealth::Draining,
    }
}

fn read(health: StoredHealth) -> Health {
    match health {
        StoredHealth::Healthy => Health::Healthy,
        StoredHealth::Degraded => Health::Degraded,
        StoredHealth::Unhealthy => Health::Unhealthy,
        StoredHealth::Draining => Health::Draining,
    }
}

/// Tells the other replicas what is here.
struct Teller {
    store: Arc<dyn Store>,
    replica: String,
    reconciling: Reconciling,
}

impl Teller {
    async fn tell_for_ever(&self) {
        loop {
            match self.store.lease(LEASE).await {
                Ok(lease) => {
                    let reason = self.tell_under(&lease).await;
                    tracing::warn!(reason, "other replicas may not know which workloads are connected here");
                }
                Err(error) => tracing::debug!(%error, "presence waits for the store"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Tells what is here for as long as the lease lives.
    async fn tell_under(&self, lease: &Lease) -> String {
        let mut told: HashMap<u64, Stored> = HashMap::new();
        loop {
            let Some(here) = self.reconciling.here().await else {
                return "the reconciler has ended".to_owned();
            };
            if let Err(reason) = self.write(lease, &here, &mut told).await {
                return reason;
            }
            tokio::select! {
                () = lease.lost() => return "the lease is lost".to_owned(),
                () = tokio::time::sleep(PACE) => {}
            }
            tokio::select! {
                () = lease.lost() => return "the lease is lost".to_owned(),
                () = self.reconciling.presence_changed() => {}
            }
        }
    }

    /// Writes the shards that differ from what was told.
    async fn write(
        &self,
        lease: &Lease,
        here: &Shard,
        told: &mut HashMap<u64, Stored>,
    ) -> Result<(), String> {
        let mut shards: BTreeMap<u64, Vec<(&WorkloadId, &Elsewhere)>> = BTreeMap::new();
        for (id, said) in here {
            shards.entry(shard_of(id)).or_default().push((id, said));
        }
        let mut txn = Txn::new();
        let mut telling = Vec::new();
        for number in 0..SHARDS {
            let now = Stored::of(shards.remove(&number).unwrap_or_default().into_iter());
            if told.get(&number).map_or(now.0.is_empty(), |before| *before == now) {
                continue;
            }
            let key = format!("{PREFIX}{}/{number:02x}", self.replica);
            txn = if now.0.is_empty() {
                txn.delete(key)
            } else {
                let value = serde_json::to_vec(&now).expect("strings always encode");
                txn.put_leased(key, value, lease.id())
            };
            telling.push((number, now));
        }
        if telling.is_empty() {
            return Ok(());
        }
        self.store.commit(txn).await.map_err(|error| error.to_string())?;
        told.extend(telling);
        Ok(())
    }
}

fn shard_of(id: &WorkloadId) -> u64 {
    xxhash_rust::xxh3::xxh3_64(id.to_string().as_bytes()) % SHARDS
}

/// Follows what the other replicas tell.
async fn follow(store: Arc<dyn Store>, replica: String, reconciling: Reconciling) {
    let own = format!("{replica}/");
    let foreign =
        |key: &str| key.strip_prefix(PREFIX).filter(|shard| !shard.starts_with(&own)).map(str::to_owned);
    let mut changes = store.follow(PREFIX);
    while let Some(change) = changes.next().await {
        match change {
            Change::Snapshot(snapshot) => {
                let shards = snapshot.entries.iter();
                let shards = shards.filter_map(|entry| Some((foreign(&entry.key)?, decode(&entry.value))));
                reconciling.tell(Command::AllElsewhere(shards.collect())).await;
            }
            Change::Batch(batch) => {
                for event in batch.events {
                    let (shard, workloads) = match &event {
                        Event::Put(entry) => (foreign(&entry.key), Some(decode(&entry.value))),
                        Event::Delete(key) => (foreign(key), None),
                    };
                    if let Some(shard) = shard {
                        reconciling.tell(Command::Elsewhere { shard, workloads }).await;
                    }
                }
            }
        }
    }
}

fn decode(value: &[u8]) -> Shard {
    let stored = serde_json::from_slice::<Stored>(value);
    stored
        .inspect_err(
            |error| tracing::error!(%error, "what another replica says cannot be read and is passed over"),
        )
        .unwrap_or_default()
        .into_shard()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_reads_back_as_it_was_told() {
        let ports = [(("shop/web".parse().unwrap(), "http".to_owned()), Health::Unhealthy)];
        let shard = Shard::from([
            ("shop/web-1".parse().unwrap(), Elsewhere { health: Some(ports.into()), bundle: None }),
            ("shop/web-2".parse().unwrap(), Elsewhere { health: None, bundle: Some(Version::from_u64(7)) }),
            ("shop/web-3".parse().unwrap(), Elsewhere { health: Some(PortHealth::new()), bundle: None }),
        ]);
        let bytes = serde_json::to_vec(&Stored::of(shard.iter())).unwrap();
        assert_eq!(decode(&bytes), shard);
    }

    #[test]
    fn what_cannot_be_read_is_nobody() {
        assert!(decode(b"{").is_empty());
    }
}
