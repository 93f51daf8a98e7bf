//! The trait that the three engines implement.

use std::fmt;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use futures::stream::BoxStream;

use crate::condition::StoreCondition;
use crate::error::{CommitError, LeaseError, ReadError};
use crate::record::{Batch, Entry, LeaseId, Listing, Page, Revision};
use crate::txn::{Txn, TxnLimits};

/// A stream of batches in revision order. It ends after an error.
pub type Watch = BoxStream<'static, Result<Batch, ReadError>>;

/// A lease as granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What puts and renewals name it by.
    pub lease: LeaseId,
    /// How long it lives without renewal; an engine may grant more than was asked.
    pub ttl: Duration,
}

/// Keys, bytes, revisions and leases.
///
/// Use it as `Arc<dyn Store>`; [`StoreExt`](crate::StoreExt) adds what callers mostly want: whole listings, followers,
/// leases that are kept alive, elections.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// The newest value of one key.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, ReadError>>;

    /// One page of the keys that begin with `prefix`, ordered, at one revision. An empty prefix is
    /// everything. The first page is read at the newest revision and says which that was; the
    /// pages after it ask for the same one.
    fn list<'a>(&'a self, prefix: &'a str, page: Page) -> BoxFuture<'a, Result<Listing, ReadError>>;

    /// Does what the transaction says, or nothing. Gives the revision after it, which is the newest
    /// one if nothing had to change. When it returns, the change is durable. Dropping the future does
    /// not take back what was already on its way.
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, CommitError>>;

    /// Every batch from this revision on (included) that touches the prefix, in order.
    ///
    /// [`ReadError::Compacted`] may come from the call or from the stream, also later when the
    /// watcher falls behind. [`StoreExt::follow`](crate::StoreExt::follow) deals with that.
    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> BoxFuture<'a, Result<Watch, ReadError>>;

    /// Grants a lease. Prefer [`StoreExt::lease`](crate::StoreExt::lease), which renews it.
    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Grant, LeaseError>>;

    /// Starts a lease's time anew.
    fn renew(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), LeaseError>>;

    /// Ends a lease now, and removes the keys under it in one batch. No error if it had ended.
    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), LeaseError>>;

    /// Forgets what was before this revision: the newest values stay, older listings and watches
    /// from before it answer [`ReadError::Compacted`]. No error if that was forgotten already.
    ///
    /// etcd needs this now and then, or its file fills up; the other engines bound their history themselves.
    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), ReadError>>;

    /// What one transaction may hold.
    fn limits(&self) -> TxnLimits;

    /// How often a follower lists anew, because this engine's watch is known to lose events;
    /// `None` if it does not.
    fn resync_interval(&self) -> Option<Duration>;

    /// How the server fares that keeps it; none where the store is this process's own.
    fn condition(&self) -> BoxFuture<'_, Result<Option<StoreCondition>, ReadError>> {
        ready(Ok(None)).boxed()
    }
}
