//! A store to test against, and what the tests share.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tempfile::TempDir;
use tokio::time::timeout;
use weft_store::{
    Batch, EmbeddedStore, EtcdStore, Event, Follow, FollowUpdate, Key, MemoryStore, Snapshot, Store, Watch,
};

use crate::etcd_server::EtcdServer;

/// How long anything may take that should happen soon.
pub const SOON: Duration = Duration::from_secs(30);

/// The plain content of a store: what a consumer builds from it.
pub type Content = BTreeMap<Key, Bytes>;

/// A store, with what keeps it alive.
pub struct Bench {
    pub store: Arc<dyn Store>,
    _keeps: Box<dyn Any + Send>,
}

impl Bench {
    pub async fn memory() -> Self {
        Self { store: Arc::new(MemoryStore::new()), _keeps: Box::new(()) }
    }

    pub async fn embedded() -> Self {
        let directory = TempDir::new().unwrap();
        let store = EmbeddedStore::open(directory.path().join("store")).await.unwrap();
        Self { store: Arc::new(store), _keeps: Box::new(directory) }
    }

    pub async fn etcd() -> Self {
        let server = EtcdServer::start().await;
        let store = EtcdStore::connect(server.config()).await.unwrap();
        Self { store: Arc::new(store), _keeps: Box::new(server) }
    }
}

/// Runs each of these tests against each engine.
macro_rules! on_every_engine {
    ($($test:ident),* $(,)?) => {
        mod on_memory { $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() { super::$test(&crate::bench::Bench::memory().await.store).await; }
        )* }
        mod on_embedded { $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() { super::$test(&crate::bench::Bench::embedded().await.store).await; }
        )* }
        mod on_etcd { $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() { super::$test(&crate::bench::Bench::etcd().await.store).await; }
        )* }
    };
}
pub(crate) use on_every_engine;

/// The next batch of a watch.
pub async fn next(watch: &mut Watch) -> Batch {
    timeout(SOON, watch.next()).await.expect("a batch in time").expect("the watch goes on").unwrap()
}

/// The next change of a follower.
pub async fn change(follow: &mut Follow) -> FollowUpdate {
    timeout(SOON, follow.next()).await.expect("a change in time").expect("the follower goes on")
}

/// Applies changes until the follower shows this content; gives how many changes that took.
pub async fn until(follow: &mut Follow, content: &mut Content, wanted: &Content) -> usize {
    let mut changes = 0;
    while content != wanted {
        let seen = timeout(SOON, follow.next()).await;
        let seen = seen.unwrap_or_else(|_| panic!("stuck at {content:?}, wanted {wanted:?}"));
        match seen.expect("the follower goes on") {
            FollowUpdate::Snapshot(snapshot) => *content = of_snapshot(&snapshot),
            FollowUpdate::Batch(batch) => absorb(content, &batch),
        }
        changes += 1;
    }
    changes
}

pub fn of_snapshot(snapshot: &Snapshot) -> Content {
    snapshot.entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect()
}

pub fn absorb(content: &mut Content, batch: &Batch) {
    for event in &batch.events {
        match event {
            Event::Put(entry) => {
                assert!(entry.mod_revision <= batch.revision);
                content.insert(entry.key.clone(), entry.value.clone());
            }
            Event::Delete(key) => assert!(content.remove(key).is_some(), "{key} was deleted but never seen"),
        }
    }
}

pub fn content<const N: usize>(pairs: [(&str, &str); N]) -> Content {
    pairs.into_iter().map(|(key, value)| (key.into(), Bytes::copy_from_slice(value.as_bytes()))).collect()
}

/// Whether long counts were asked for.
pub fn soak() -> bool {
    std::env::var_os("WEFT_SOAK").is_some()
}
