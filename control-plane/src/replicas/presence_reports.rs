//! Which workloads have streams at which replica.
//!
//! Each replica holds one lease and writes, under it, which workloads have streams there and what their sidecars report.
//! The others follow. A replica that dies takes its keys with it, and the clocks of its workloads start everywhere.
//!
//! ```text
//! presence/REPLICA/PARTITION workloads by hash, so that one that comes or goes rewrites a small part
//! ```
//!
//! Written at most once a second, and only what differs: a thousand reconnects are one transaction, or as many as the store
//! wants. What the store cannot take costs the others what sidecars report, and never who is there. Not for the embedded
//! store, which has one owner.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use weft_api::{LogThrottle, ServiceId, Version, WorkloadId};
use weft_policies::compile::Health;
use weft_store::{CommitError, Event, FollowUpdate, Lease, Store, StoreExt, Txn};

use super::telling::{LEASE_LOST, tell_under_leases};
use crate::metrics::{Limit, Metrics};
use crate::presence::registry::{PortHealth, PresenceReport, RemotePresence};
use crate::reconciler::{ReconcilerCommand, ReconcilerHandle};

const PREFIX: &str = "presence/";
/// What happens within this long is told at once.
const PACE: Duration = Duration::from_secs(1);
/// Parts of what one replica says. Fewer than the operations of one transaction of any store.
const PARTITIONS: u64 = 64;
/// What a transaction needs beside its values: keys and frames of all parts.
const TXN_OVERHEAD: usize = 64 * 128;

/// Starts writing and following; both end with the token. `replica` is new at each start.
pub fn spawn_presence(
    store: Arc<dyn Store>,
    replica: String,
    reconciler: ReconcilerHandle,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let follower = follow(Arc::clone(&store), replica.clone(), reconciler.clone());
    let writer = Writer { store, replica, metrics, left_out: LogThrottle::default() };
    let teller = ReportWriter { writer, reconciler };
    tokio::spawn(async move {
        shutdown.run_until_cancelled(async { tokio::join!(teller.tell_for_ever(), follower) }).await;
    });
}

/// A part of the report as it is stored: the workloads of one key.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredReport(BTreeMap<WorkloadId, StoredWorkload>);

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
    Starting,
}

impl StoredReport {
    fn of<'a>(workloads: impl Iterator<Item = (&'a WorkloadId, &'a RemotePresence)>) -> Self {
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

    /// As it is written, within so many bytes: reports are left out where they do not fit, the longest first, for who is
    /// there is worth more than how it does. Says how many workloads that concerns, if any.
    fn fit(&mut self, most: usize, note: impl FnOnce(usize)) -> Vec<u8> {
        let mut value = encode(self);
        let mut left_out = 0;
        while value.len() > most {
            let length = |workload: &StoredWorkload| workload.health.as_ref().map(BTreeMap::len);
            let Some(longest) = self.0.values().filter_map(length).max() else { break };
            let long = longest.div_ceil(2);
            for workload in self.0.values_mut().filter(|workload| length(workload) >= Some(long)) {
                workload.health = None;
                left_out += 1;
            }
            value = encode(self);
        }
        if left_out > 0 {
            note(left_out);
        }
        value
    }

    fn into_report(self) -> PresenceReport {
        let port = |(name, health): (String, StoredHealth)| {
            let (service, port) = name.rsplit_once('/')?;
            Some(((service.parse::<ServiceId>().ok()?, port.to_owned()), read(health)))
        };
        let said = |workload: StoredWorkload| RemotePresence {
            health: workload.health.map(|ports| ports.into_iter().filter_map(port).collect()),
            bundle: workload.bundle.as_deref().and_then(Version::parse),
        };
        self.0.into_iter().map(|(id, workload)| (id, said(workload))).collect()
    }
}

fn encode(stored: &StoredReport) -> Vec<u8> {
    serde_json::to_vec(stored).expect("strings always encode")
}

fn write(health: Health) -> StoredHealth {
    match health {
        Health::Healthy => StoredHealth::Healthy,
        Health::Degraded => StoredHealth::Degraded,
        Health::Unhealthy => StoredHealth::Unhealthy,
        Health::Draining => StoredHealth::Draining,
        Health::Starting => StoredHealth::Starting,
    }
}

fn read(health: StoredHealth) -> Health {
    match health {
        StoredHealth::Healthy => Health::Healthy,
        StoredHealth::Degraded => Health::Degraded,
        StoredHealth::Unhealthy => Health::Unhealthy,
        StoredHealth::Draining => Health::Draining,
        StoredHealth::Starting => Health::Starting,
    }
}

/// Tells the other replicas what is here.
struct ReportWriter {
    writer: Writer,
    reconciler: ReconcilerHandle,
}

impl ReportWriter {
    async fn tell_for_ever(&self) {
        let ignorant = "other replicas may not know which workloads are connected here";
        tell_under_leases(&self.writer.store, ignorant, |lease| self.tell_under(lease)).await;
    }

    /// Tells what is here for as long as the lease lives.
    async fn tell_under(&self, lease: Lease) -> String {
        let mut written: HashMap<u64, StoredReport> = HashMap::new();
        loop {
            let Some(here) = self.reconciler.local_presence().await else {
                return "the reconciler has ended".to_owned();
            };
            if let Err(reason) = self.writer.write(&lease, &here, &mut written).await {
                return reason;
            }
            tokio::select! {
                () = lease.lost() => return LEASE_LOST.to_owned(),
                () = tokio::time::sleep(PACE) => {}
            }
            tokio::select! {
                () = lease.lost() => return LEASE_LOST.to_owned(),
                () = self.reconciler.presence_changed() => {}
            }
        }
    }
}

/// Writes what is to be told.
struct Writer {
    store: Arc<dyn Store>,
    replica: String,
    metrics: Metrics,
    left_out: LogThrottle<u64>,
}

impl Writer {
    /// Writes the partitions that differ from what was written last.
    async fn write(
        &self,
        lease: &Lease,
        here: &PresenceReport,
        written: &mut HashMap<u64, StoredReport>,
    ) -> Result<(), String> {
        let mut partitions: BTreeMap<u64, Vec<(&WorkloadId, &RemotePresence)>> = BTreeMap::new();
        for (id, said) in here {
            partitions.entry(partition_of(id)).or_default().push((id, said));
        }
        let limits = self.store.limits();
        let most = limits.max_value.min(limits.max_txn_bytes).saturating_sub(TXN_OVERHEAD);
        let mut part = ReportPart::default();
        for number in 0..PARTITIONS {
            let mut now = StoredReport::of(partitions.remove(&number).unwrap_or_default().into_iter());
            let value = now.fit(most, |left_out| self.note_left_out(number, left_out));
            if written.get(&number).map_or(now.0.is_empty(), |before| *before == now) {
                continue;
            }
            if part.txn.bytes() + value.len() > most {
                self.commit(std::mem::take(&mut part), written).await?;
            }
            let key = format!("{PREFIX}{}/{number:02x}", self.replica);
            part.txn = if now.0.is_empty() {
                part.txn.delete(key)
            } else {
                part.txn.put_leased(key, value, lease.id())
            };
            part.reports.push((number, now));
        }
        self.commit(part, written).await
    }

    async fn commit(&self, part: ReportPart, written: &mut HashMap<u64, StoredReport>) -> Result<(), String> {
        if part.reports.is_empty() {
            return Ok(());
        }
        match self.store.commit(part.txn).await {
            Ok(_) => {}
            // To ask again would not help, and to give up the lease would take all workloads here for lost.
            Err(error @ (CommitError::TooLarge { .. } | CommitError::Invalid { .. })) => {
                tracing::error!(
                    event = "presence_incomplete",
                    %error, partitions = part.reports.len(),
                    "other replicas are not told of a part of the mesh"
                );
            }
            Err(error) => return Err(error.to_string()),
        }
        written.extend(part.reports);
        Ok(())
    }

    fn note_left_out(&self, partition: u64, workloads: usize) {
        self.metrics.limited(Limit::PresenceHealth);
        if self.left_out.speaks(partition).is_some() {
            tracing::warn!(
                event = "presence_incomplete",
                partition,
                workloads,
                "the store cannot take what sidecars report of so many ports; other replicas are not told of these"
            );
        }
    }
}

/// Keys that are written in one transaction.
#[derive(Default)]
struct ReportPart {
    txn: Txn,
    reports: Vec<(u64, StoredReport)>,
}

fn partition_of(id: &WorkloadId) -> u64 {
    xxhash_rust::xxh3::xxh3_64(id.to_string().as_bytes()) % PARTITIONS
}

/// Follows what the other replicas tell.
async fn follow(store: Arc<dyn Store>, replica: String, reconciler: ReconcilerHandle) {
    let own = format!("{replica}/");
    let foreign = |key: &str| {
        key.strip_prefix(PREFIX).filter(|partition| !partition.starts_with(&own)).map(str::to_owned)
    };
    let mut changes = store.follow(PREFIX);
    while let Some(change) = changes.next().await {
        match change {
            FollowUpdate::Snapshot(snapshot) => {
                let partitions = snapshot.entries.iter();
                let partitions =
                    partitions.filter_map(|entry| Some((foreign(&entry.key)?, decode(&entry.value))));
                reconciler.tell(ReconcilerCommand::AllRemotePresence(partitions.collect())).await;
            }
            FollowUpdate::Batch(batch) => {
                for event in batch.events {
                    let (partition, workloads) = match &event {
                        Event::Put(entry) => (foreign(&entry.key), Some(decode(&entry.value))),
                        Event::Delete(key) => (foreign(key), None),
                    };
                    if let Some(partition) = partition {
                        reconciler.tell(ReconcilerCommand::RemotePresence { partition, workloads }).await;
                    }
                }
            }
        }
    }
}

fn decode(value: &[u8]) -> PresenceReport {
    let stored = serde_json::from_slice::<StoredReport>(value);
    stored
        .inspect_err(|error| {
            tracing::error!(
                event = "presence_unreadable",
                %error,
                "what another replica says cannot be read and is passed over"
            );
        })
        .unwrap_or_default()
        .into_report()
}

#[cfg(test)]
mod tests;
