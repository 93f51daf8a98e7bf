//! Tokens as this replica last heard of them, to tell a good one from a bad one without a question to the store.
//!
//! It only says whom a limit need not hold up. Whether a token may be used is decided by the store, each time.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use weft_store::{Entry, Event, FollowUpdate, Store, StoreExt};

use super::{PREFIX, TokenRecord};

/// Ids and hashes of all tokens. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct KnownTokens {
    // A lock because handlers ask while the follower writes; held for a map look-up. As many as operators have made.
    hashes: Arc<RwLock<HashMap<String, [u8; 32]>>>,
}

impl KnownTokens {
    /// Follows a store until the token ends it.
    #[must_use]
    pub fn follow(store: &Arc<dyn Store>, shutdown: CancellationToken) -> Self {
        let known = Self::default();
        let (follower, mut changes) = (known.clone(), store.follow(PREFIX));
        tokio::spawn(async move {
            while let Some(Some(change)) = shutdown.run_until_cancelled(changes.next()).await {
                follower.take(change);
            }
        });
        known
    }

    /// Whether there is such a token, and this is its secret.
    #[must_use]
    pub fn is_good(&self, id: &str, secret: &[u8]) -> bool {
        let hashes = self.hashes.read().unwrap_or_else(PoisonError::into_inner);
        let given: [u8; 32] = Sha256::digest(secret).into();
        hashes.get(id).is_some_and(|kept| verify_slices_are_equal(&given, kept).is_ok())
    }

    fn take(&self, change: FollowUpdate) {
        let mut hashes = self.hashes.write().unwrap_or_else(PoisonError::into_inner);
        match change {
            FollowUpdate::Snapshot(snapshot) => *hashes = snapshot.entries.iter().filter_map(read).collect(),
            FollowUpdate::Batch(batch) => {
                for event in batch.events {
                    match &event {
                        Event::Put(entry) => hashes.extend(read(entry)),
                        Event::Delete(key) => {
                            if let Some(id) = key.strip_prefix(PREFIX) {
                                hashes.remove(id);
                            }
                        }
                    }
                }
            }
        }
    }
}

fn read(entry: &Entry) -> Option<(String, [u8; 32])> {
    let record: TokenRecord = serde_json::from_slice(&entry.value).ok()?;
    Some((record.id, record.secret_sha256))
}
