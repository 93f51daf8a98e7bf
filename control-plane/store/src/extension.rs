//! What every store can do by means of its trait: whole listings, followers, leases that are renewed, elections.

use std::sync::Arc;
use std::time::Duration;

use crate::election::{self, Leadership};
use crate::error::{LeaseError, ReadError};
use crate::follow::Follow;
use crate::lease::Lease;
use crate::listing;
use crate::record::Snapshot;
use crate::store::Store;

/// The methods that are the same for every engine.
pub trait StoreExt {
    /// Everything below a prefix at one revision, however many pages it takes.
    fn list_all(&self, prefix: &str) -> impl Future<Output = Result<Snapshot, ReadError>> + Send;

    /// The whole state below a prefix, then every change of it, for as long as the result is held.
    fn follow(self: &Arc<Self>, prefix: &str) -> Follow;

    /// A lease that is renewed in the background until it is dropped, which revokes it.
    fn lease(self: &Arc<Self>, ttl: Duration) -> impl Future<Output = Result<Lease, LeaseError>> + Send;

    /// Waits to become the one leader of `key`; the entry there names the leader as `candidate`.
    ///
    /// Waits as long as it takes, also through outages of the store; drop the future to give up. A leader
    /// that stops without resigning is succeeded after `ttl`.
    fn elect(
        self: &Arc<Self>,
        key: &str,
        candidate: &str,
        ttl: Duration,
    ) -> impl Future<Output = Leadership> + Send;
}

impl StoreExt for dyn Store {
    async fn list_all(&self, prefix: &str) -> Result<Snapshot, ReadError> {
        listing::list_all(self, prefix).await
    }

    fn follow(self: &Arc<Self>, prefix: &str) -> Follow {
        Follow::spawn(Arc::clone(self), prefix)
    }

    async fn lease(self: &Arc<Self>, ttl: Duration) -> Result<Lease, LeaseError> {
        Lease::grant(Arc::clone(self), ttl).await
    }

    async fn elect(self: &Arc<Self>, key: &str, candidate: &str, ttl: Duration) -> Leadership {
        election::campaign(Arc::clone(self), key, candidate, ttl).await
    }
}
