//! What the store says, as commands.

use std::sync::Arc;

use futures::StreamExt as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weft_store::{Event, FollowHealth, FollowUpdate, Store, StoreExt};

use super::{ReconcilerCommand, ReconcilerHandle};
use crate::policy::repository::{Policies, PolicyUpdate};
use crate::presence::workloads::{self, WorkloadRecord};

/// Follows the records of workloads until the token ends it. Says how fresh what it follows is.
pub fn spawn_workloads(
    store: &Arc<dyn Store>,
    reconciler: ReconcilerHandle,
    shutdown: CancellationToken,
) -> watch::Receiver<FollowHealth> {
    let mut changes = store.follow(workloads::PREFIX);
    let health = changes.health();
    tokio::spawn(async move {
        while let Some(Some(change)) = shutdown.run_until_cancelled(changes.next()).await {
            match change {
                FollowUpdate::Snapshot(snapshot) => {
                    let records = snapshot.entries.iter().filter_map(readable).collect();
                    reconciler.tell(ReconcilerCommand::Records(records)).await;
                }
                FollowUpdate::Batch(batch) => {
                    for event in batch.events {
                        if let Some(command) = of_event(&event) {
                            reconciler.tell(command).await;
                        }
                    }
                }
            }
        }
    });
    health
}

fn of_event(event: &Event) -> Option<ReconcilerCommand> {
    match event {
        Event::Put(entry) => {
            let record = readable(entry)?;
            Some(ReconcilerCommand::Record { id: record.id.clone(), record: Some(Box::new(record)) })
        }
        Event::Delete(key) => Some(ReconcilerCommand::Record { id: workloads::id_of(key)?, record: None }),
    }
}

fn readable(entry: &weft_store::Entry) -> Option<WorkloadRecord> {
    let record = WorkloadRecord::decode(entry);
    if record.is_none() {
        tracing::error!(
            event = "workload_unreadable",
            key = %entry.key,
            "the record of a workload cannot be read and is passed over"
        );
    }
    record
}

/// Follows the policies until the token ends it.
pub fn spawn_policies(
    policies: &Policies,
    reconciler: ReconcilerHandle,
    shutdown: CancellationToken,
) -> JoinHandle<()> {
    let updates = policies.follow();
    tokio::spawn(async move {
        let mut updates = std::pin::pin!(updates);
        while let Some(Some(update)) = shutdown.run_until_cancelled(updates.next()).await {
            let PolicyUpdate { revision, set, changed } = update;
            reconciler.tell(ReconcilerCommand::Policies { revision, set, changed }).await;
        }
    })
}
