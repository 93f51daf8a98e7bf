//! Whether the instance that has a name is there: asked when another one wants to join under it.
//!
//! ```text
//! join ─▶ InstanceProbes::shown_by ─┬ connections at this replica: a PING, answered within 2 s
//!                                └ where presence says that it has a stream at another:
//!                                    pings/ID ─▶ the others: a PING ─┬ answered ─▶ deletes pings/ID
//!                                                                    └ silence  ─▶ writes pings/ID/silent
//! ```
//!
//! A stream alone shows nothing: one to a machine that was unplugged stays open for a while. A name is given away only when
//! who is connected was asked and kept silent; a store that is slow, or a replica that does not know how to answer, gives
//! nothing away. A question stands in the store under a lease, and so does silence: they go by themselves.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use weft_api::WorkloadId;
use weft_store::{CommitError, Entry, Event, FollowUpdate, Key, LeaseError, Store, StoreExt, Txn};

use crate::ca::{Issued, Serial};
use crate::listener::Connections;
use crate::presence::workloads::WorkloadRecord;
use crate::reconciler::ReconcilerHandle;

const PREFIX: &str = "pings/";
const SILENT: &str = "/silent";
/// How long an instance may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// What the store may take beside, to bring a question to another replica and the answer back.
const DELIVERY: Duration = Duration::from_secs(1);
/// How long a question outlives a replica that dies while it asks.
const LEASE: Duration = Duration::from_secs(10);

/// Asks for them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct InstanceProbes {
    store: Arc<dyn Store>,
    /// New at each start.
    replica: Arc<str>,
    connections: Connections,
    issued: Issued,
    reconciler: ReconcilerHandle,
}

/// A question, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct StoredQuestion {
    workload: WorkloadId,
    instance: String,
    /// Who asks, and does not have to answer.
    replica: String,
}

#[derive(Debug, thiserror::Error)]
enum InstanceProbeError {
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl InstanceProbes {
    /// Over the connections of this replica, and the store that it shares with the others.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        replica: &str,
        connections: Connections,
        issued: Issued,
        reconciler: ReconcilerHandle,
    ) -> Self {
        Self { store, replica: replica.into(), connections, issued, reconciler }
    }

    /// Whether the instance of a record is there and answers. One that cannot be asked counts as there.
    pub async fn shown_by(&self, record: &WorkloadRecord) -> bool {
        if self.shown_here(&record.id, &record.instance).await {
            return true;
        }
        if !self.reconciler.is_on_another_replica(&record.id).await {
            return false;
        }
        self.shown_on_another_replica(record).await.unwrap_or_else(|error| {
            tracing::warn!(
                event = "instance_probe_failed",
                %error, workload = %record.id,
                "cannot ask the other replicas whether it answers"
            );
            true
        })
    }

    /// Answers what other replicas ask, until the shutdown.
    pub async fn answer(self, shutdown: CancellationToken) {
        let mut changes = self.store.follow(PREFIX);
        while let Some(Some(change)) = shutdown.run_until_cancelled(changes.next()).await {
            let asked: Vec<Entry> = match change {
                FollowUpdate::Snapshot(snapshot) => snapshot.entries,
                FollowUpdate::Batch(batch) => {
                    let put = |event| if let Event::Put(entry) = event { Some(entry) } else { None };
                    batch.events.into_iter().filter_map(put).collect()
                }
            };
            let is_question = |entry: &Entry| !entry.key.trim_start_matches(PREFIX).contains('/');
            for entry in asked.into_iter().filter(is_question) {
                // Joins are limited, and each ends within the time of an answer: so are these.
                tokio::spawn(self.clone().answer_one(entry));
            }
        }
    }

    async fn answer_one(self, entry: Entry) {
        let question = match serde_json::from_slice::<StoredQuestion>(&entry.value) {
            Ok(question) => question,
            Err(error) => {
                tracing::warn!(
                    event = "instance_probe_unreadable",
                    %error, key = %entry.key,
                    "what another replica asks cannot be read"
                );
                return;
            }
        };
        let is_its = |serial: &Serial| self.issued.is_of(serial, &question.instance);
        if *question.replica == *self.replica || !self.connections.has(&question.workload, is_its) {
            return;
        }
        let answered = if self.shown_here(&question.workload, &question.instance).await {
            self.store.commit(Txn::new().delete(entry.key)).await.map(drop).map_err(InstanceProbeError::from)
        } else {
            self.tell_silence(&entry.key).await
        };
        if let Err(error) = answered {
            tracing::warn!(
                event = "instance_probe_not_answered",
                %error, workload = %question.workload,
                "cannot tell another replica whether it answers"
            );
        }
    }

    async fn tell_silence(&self, question: &str) -> Result<(), InstanceProbeError> {
        let lease = self.store.lease(LEASE).await?;
        self.store.commit(Txn::new().put_leased(format!("{question}{SILENT}"), "", lease.id())).await?;
        tokio::time::sleep(ANSWER + DELIVERY).await;
        Ok(())
    }

    async fn shown_here(&self, workload: &WorkloadId, instance: &str) -> bool {
        let is_its = |serial: &Serial| self.issued.is_of(serial, instance);
        self.connections.answers(workload, ANSWER, is_its).await
    }

    async fn shown_on_another_replica(&self, record: &WorkloadRecord) -> Result<bool, InstanceProbeError> {
        let lease = self.store.lease(LEASE).await?;
        let key = Key::from(format!("{PREFIX}{:016x}", rand::random::<u64>()));
        let question = StoredQuestion {
            workload: record.id.clone(),
            instance: record.instance.clone(),
            replica: self.replica.to_string(),
        };
        let value = serde_json::to_vec(&question).expect("strings always encode");
        self.store.commit(Txn::new().put_leased(key.clone(), value, lease.id())).await?;
        let mut changes = self.store.follow(&key);
        let mut is_silent = false;
        let answered = async {
            while let Some(change) = changes.next().await {
                let (there, gone): (Vec<_>, bool) = match change {
                    FollowUpdate::Snapshot(snapshot) => {
                        let there: Vec<_> = snapshot.entries.into_iter().map(|entry| entry.key).collect();
                        let gone = !there.contains(&key);
                        (there, gone)
                    }
                    FollowUpdate::Batch(batch) => {
                        let gone = batch
                            .events
                            .iter()
                            .any(|event| matches!(event, Event::Delete(gone) if *gone == key));
                        let put = |event| if let Event::Put(entry) = event { Some(entry.key) } else { None };
                        (batch.events.into_iter().filter_map(put).collect(), gone)
                    }
                };
                is_silent |= there.iter().any(|key| key.ends_with(SILENT));
                if gone {
                    return;
                }
            }
        };
        // Another replica may have a connection that does answer: silence is waited for to the end.
        let is_shown = tokio::time::timeout(ANSWER + DELIVERY, answered).await.is_ok();
        Ok(is_shown || !is_silent)
    }
}
