//! Which replicas there are, and where each is reached by the others.
//!
//! ```text
//! replicas/ID     `HOST:PORT`, under a lease: one that dies is gone after ten seconds
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_api::HostPort;
use weft_store::{Entry, Event, FollowUpdate, Lease, Store, StoreExt, Txn};

use super::telling::{LEASE_LOST, tell_under_leases};

pub(super) const PREFIX: &str = "replicas/";

/// The other replicas, by their ids, which are new at each start.
pub type Others = BTreeMap<String, HostPort>;

/// Says where this replica is reached, and follows the others until the shutdown.
pub fn spawn_directory(
    store: Arc<dyn Store>,
    replica: &str,
    address: HostPort,
    shutdown: CancellationToken,
) -> watch::Receiver<Others> {
    let (sender, receiver) = watch::channel(Others::new());
    let telling = tell(Arc::clone(&store), format!("{PREFIX}{replica}"), address);
    let following = follow(store, format!("{PREFIX}{replica}"), sender);
    tokio::spawn(async move {
        shutdown.run_until_cancelled(async { tokio::join!(telling, following) }).await;
    });
    receiver
}

async fn tell(store: Arc<dyn Store>, key: String, address: HostPort) {
    let (store, key, address) = (&store, &key, &address);
    let write = move |lease: Lease| async move {
        let told = Txn::new().put_leased(key.clone(), address.to_string(), lease.id());
        match store.commit(told).await {
            Ok(_) => {
                lease.lost().await;
                LEASE_LOST.to_owned()
            }
            Err(error) => error.to_string(),
        }
    };
    tell_under_leases(store, "other replicas may not ask this one for traffic", write).await;
}

async fn follow(store: Arc<dyn Store>, own: String, others: watch::Sender<Others>) {
    let mut changes = store.follow(PREFIX);
    let read = |entry: &Entry| {
        let id = entry.key.strip_prefix(PREFIX).filter(|_| *entry.key != own)?.to_owned();
        let address = std::str::from_utf8(&entry.value).ok()?.parse().ok()?;
        Some((id, address))
    };
    while let Some(change) = changes.next().await {
        match change {
            FollowUpdate::Snapshot(snapshot) => {
                others.send_replace(snapshot.entries.iter().filter_map(read).collect());
            }
            FollowUpdate::Batch(batch) => others.send_modify(|others| {
                for event in &batch.events {
                    match event {
                        Event::Put(entry) => others.extend(read(entry)),
                        Event::Delete(key) => drop(others.remove(key.trim_start_matches(PREFIX))),
                    }
                }
            }),
        }
    }
}
