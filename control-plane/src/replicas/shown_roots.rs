//! Which root each replica shows and which it believes, and which seal keys it has: a root leaves when none needs it any more, and
//! a key seals when all have it.
//!
//! ```text
//! shown-roots/REPLICA     under a lease: one that dies is gone after ten seconds
//! ```
//!
//! A replica of a version that does not tell this stands in the directory and not here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use weft_api::HostPort;
use weft_store::{Lease, ReadError, Store, StoreExt, Txn};

use super::directory;
use super::telling::{LEASE_LOST, tell_under_leases};
use crate::ca::{Authority, SealKeyId, Serial};

const PREFIX: &str = "shown-roots/";
/// How often the file of the seal key is read again.
const READS_KEYS: Duration = Duration::from_secs(5);

/// What a replica tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShownRoots {
    /// Its id, by which it tells this.
    #[serde(skip)]
    pub replica: String,
    /// Where the others reach it.
    pub address: HostPort,
    /// The root that its own certificate is signed under.
    pub shows: Serial,
    /// The roots in the bundle that it gives members.
    pub bundle: BTreeSet<Serial>,
    /// The seal keys that it has; none where it does not tell.
    #[serde(default)]
    pub seal_keys: Option<Vec<SealKeyId>>,
}

/// All replicas that live.
#[derive(Debug, Clone, Default)]
pub struct LivingReplicas {
    pub shown: Vec<ShownRoots>,
    /// Where those are reached that tell nothing of roots.
    pub silent: Vec<String>,
}

/// Tells what this replica shows, until the shutdown.
pub fn spawn_shown_roots(
    store: Arc<dyn Store>,
    replica: &str,
    address: HostPort,
    authority: Arc<Authority>,
    shutdown: CancellationToken,
) {
    let key = format!("{PREFIX}{replica}");
    tokio::spawn(shutdown.run_until_cancelled_owned(async move {
        let (store, key, address, authority) = (&store, &key, &address, &authority);
        let tell = move |lease: Lease| async move {
            let mut changes = authority.subscribe();
            let mut told = None;
            loop {
                let shown = shown(authority, address);
                let value = serde_json::to_vec(&shown).expect("strings always encode");
                if told.as_ref() != Some(&shown) {
                    let txn = Txn::new().put_leased(key.clone(), value, lease.id());
                    if let Err(error) = store.commit(txn).await {
                        return error.to_string();
                    }
                    told = Some(shown);
                }
                tokio::select! {
                    () = lease.lost() => return LEASE_LOST.to_owned(),
                    Ok(()) = changes.changed() => {}
                    () = tokio::time::sleep(READS_KEYS) => {}
                }
            }
        };
        tell_under_leases(store, "a rotation of the root waits for this replica", tell).await;
    }));
}

fn shown(authority: &Authority, address: &HostPort) -> ShownRoots {
    let state = authority.state();
    ShownRoots {
        replica: String::new(),
        address: address.clone(),
        shows: state.own.root.serial.clone(),
        bundle: state.bundle.iter().map(|root| root.serial.clone()).collect(),
        seal_keys: Some(authority.seal_keys()),
    }
}

/// The replicas that live, as the store has them.
///
/// # Errors
/// When the store fails.
pub async fn living(store: &dyn Store) -> Result<LivingReplicas, ReadError> {
    let (shown, all) = tokio::try_join!(store.list_all(PREFIX), store.list_all(directory::PREFIX))?;
    let mut living = LivingReplicas::default();
    let mut telling = BTreeSet::new();
    for entry in &shown.entries {
        if let Ok(read) = serde_json::from_slice::<ShownRoots>(&entry.value) {
            let replica = entry.key.trim_start_matches(PREFIX);
            telling.insert(replica);
            living.shown.push(ShownRoots { replica: replica.to_owned(), ..read });
        }
    }
    for entry in &all.entries {
        if !telling.contains(entry.key.trim_start_matches(directory::PREFIX)) {
            living.silent.push(String::from_utf8_lossy(&entry.value).into_owned());
        }
    }
    Ok(living)
}
