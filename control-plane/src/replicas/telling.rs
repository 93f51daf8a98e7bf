//! What a replica tells the others for as long as it lives: under a lease, so that what a dead one said goes with it.

use std::sync::Arc;
use std::time::Duration;

use weft_api::Backoff;
use weft_store::{Lease, Store, StoreExt};

/// How long the others believe in a replica that says nothing.
const LEASE: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(4);

/// Why telling ended, where the lease did.
pub(super) const LEASE_LOST: &str = "the lease is lost";

/// Tells without end: under one lease, and when that ends for the reason that `tell` gives, under the next one.
/// `meanwhile` says what the others lack between the two.
pub(super) async fn tell_under_leases<T>(store: &Arc<dyn Store>, meanwhile: &str, tell: impl Fn(Lease) -> T)
where
    T: Future<Output = String>,
{
    let mut retry = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
    loop {
        match store.lease(LEASE).await {
            Ok(lease) => {
                retry.reset();
                let reason = tell(lease).await;
                tracing::warn!(event = "presence_not_told", reason, "{meanwhile}");
            }
            Err(error) => tracing::debug!(%error, "the store gives no lease: {meanwhile}"),
        }
        tokio::time::sleep(retry.next_wait()).await;
    }
}
