//! The trait that the three engines implement, and how to open one.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::election::{self, Leadership};
use crate::embedded::EmbeddedStore;
use crate::error::{CommitError, LeaseError, OpenError, ReadError};
use crate::etcd::{EtcdConfig, EtcdStore};
use crate::filling::MARK;
use crate::follow::Follow;
use crate::lease::Lease;
use crate::memory::MemoryStore;
use crate::record::{Batch, Entry, LeaseId, Listing, Page, Revision, Snapshot};
use crate::txn::{Limits, Txn};

/// What a page of [`list_all`](trait.Store.html#method.list_all) aims at, in bytes.
const PAGE_BYTES: usize = 4 << 20;

/// Where a store is kept.
#[derive(Clone, Debug)]
pub enum Location {
    /// In this process, gone when it ends: tests and trials.
    Memory,
    /// In one file, owned by one process.
    Embedded(PathBuf),
    /// In an etcd cluster, shared by any number of processes.
    Etcd(Box<EtcdConfig>),
}

/// A stream of batches in revision order. It ends after an error.
pub type Watch = BoxStream<'static, Result<Batch, ReadError>>;

/// A lease as granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its name.
    pub lease: LeaseId,
    /// How long it lives without renewal; an engine may grant more than was asked.
    pub ttl: Duration,
}

/// Opens the store at a location. The paved path: everything else is a method of what it returns.
pub async fn open(location: Location) -> Result<Arc<dyn Store>, OpenError> {
    Ok(match location {
        Location::Memory => Arc::new(MemoryStore::new()),
        Location::Embedded(path) => Arc::new(EmbeddedStore::open(path).await?),
        Location::Etcd(config) => {
            let place = format!("etcd at {}, prefix {:?}", config.endpoints.join(", "), config.prefix);
            let store = EtcdStore::connect(*config).await?;
            match store.get(MARK).await {
                Ok(None) => Arc::new(store),
                Ok(Some(_)) => return Err(OpenError::Unfinished { place }),
                Err(error) => {
                    return Err(OpenError::Unreachable { endpoints: place, reason: error.to_string() });
                }
            }
        }
    })
}

/// Keys, bytes, revisions and leases.
///
/// Use it as `Arc<dyn Store>`, which also has [`follow`](#method.follow), [`list_all`](#method.list_all),
/// [`lease`](#method.lease) and [`elect`](#method.elect).
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
    /// watcher falls behind. [`follow`](#method.follow) deals with that.
    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> BoxFuture<'a, Result<Watch, ReadError>>;

    /// Grants a lease. Prefer [`lease`](#method.lease), which renews it.
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
    fn limits(&self) -> Limits;

    /// How often a follower lists anew, because this engine's watch is known to lose events;
    /// `None` if it does not.
    fn resync_interval(&self) -> Option<Duration>;
}

impl dyn Store {
    /// Everything below a prefix at one revision, however many pages it takes.
    pub async fn list_all(&self, prefix: &str) -> Result<Snapshot, ReadError> {
        loop {
            match self.list_once(prefix).await {
                // Compacted between two pages: begin again at a newer revision.
                Err(ReadError::Compacted { .. }) => tokio::task::yield_now().await,
                done => return done,
            }
        }
    }

    async fn list_once(&self, prefix: &str) -> Result<Snapshot, ReadError> {
        let mut page = Page { limit: 64, ..Page::default() };
        let mut snapshot = Snapshot::default();
        loop {
            let listing = self.list(prefix, page.clone()).await?;
            let bytes: usize = listing.entries.iter().map(|entry| entry.key.len() + entry.value.len()).sum();
            let mean = bytes / listing.entries.len().max(1);
            page.limit = (PAGE_BYTES / (mean + 1)).clamp(8, 8192);
            page.at = Some(listing.revision);
            page.after = listing.entries.last().map(|entry| entry.key.clone());
            snapshot.revision = listing.revision;
            snapshot.entries.extend(listing.entries);
            if !listing.more {
                return Ok(snapshot);
            }
        }
    }

    /// The whole state below a prefix, then every change of it, for as long as the result is held.
    pub fn follow(self: &Arc<Self>, prefix: &str) -> Follow {
        Follow::spawn(Arc::clone(self), prefix)
    }

    /// A lease that is renewed in the background until it is dropped, which revokes it.
    pub async fn lease(self: &Arc<Self>, ttl: Duration) -> Result<Lease, LeaseError> {
        Lease::grant(Arc::clone(self), ttl).await
    }

    /// Waits to become the one leader of `key`; the entry there names the leader as `candidate`.
    ///
    /// Waits as long as it takes, also through outages of the store; drop the future to give up. A leader
    /// that stops without resigning is succeeded after `ttl`.
    pub async fn elect(self: &Arc<Self>, key: &str, candidate: &str, ttl: Duration) -> Leadership {
        election::campaign(Arc::clone(self), key, candidate, ttl).await
    }
}
