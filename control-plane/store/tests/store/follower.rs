//! Followers: nothing lost, nothing twice, never an empty world in between.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use weft_store::{
    CommitError, Entry, FollowUpdate, Grant, LeaseError, LeaseId, Listing, MemoryStore, Page, ReadError,
    Retention, Revision, Store, StoreExt, Txn, TxnLimits, Watch,
};

use crate::bench::{Content, change, content, of_snapshot, on_every_engine, until};

on_every_engine![
    a_follower_starts_with_a_snapshot_and_sees_each_change,
    followers_agree_with_the_store_while_it_is_written_and_compacted,
];

async fn a_follower_starts_with_a_snapshot_and_sees_each_change(store: &Arc<dyn Store>) {
    store.commit(Txn::new().put("p/a", "1").put("q/a", "1")).await.unwrap();
    let mut follow = store.follow("p/");
    let FollowUpdate::Snapshot(snapshot) = change(&mut follow).await else {
        panic!("a snapshot comes first")
    };
    assert_eq!(of_snapshot(&snapshot), content([("p/a", "1")]));
    store.commit(Txn::new().put("q/a", "2")).await.unwrap();
    let at = store.commit(Txn::new().put("p/b", "2").delete("p/a")).await.unwrap();
    let FollowUpdate::Batch(batch) = change(&mut follow).await else { panic!("then only batches") };
    assert_eq!((batch.revision, batch.events.len()), (at, 2));
}

async fn followers_agree_with_the_store_while_it_is_written_and_compacted(store: &Arc<dyn Store>) {
    let mut follow = store.follow("k/");
    let writers = (0..4).map(|writer| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for n in 0..50 {
                let txn = Txn::new()
                    .put(format!("k/{writer}/{}", n % 7), format!("{n}"))
                    .delete(format!("k/{writer}/{}", (n + 3) % 7));
                let at = store.commit(txn).await.unwrap();
                if n % 10 == 9 {
                    store.compact(at).await.unwrap();
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut seen = Content::new();
    for writer in writers {
        writer.await.unwrap();
    }
    let wanted = of_snapshot(&store.list_all("k/").await.unwrap());
    until(&mut follow, &mut seen, &wanted).await;
}

#[tokio::test]
async fn a_follower_that_falls_behind_the_history_catches_up_by_difference() {
    let retention = Retention { batches: 2, bytes: usize::MAX };
    let store: Arc<dyn Store> = Arc::new(MemoryStore::with(TxnLimits::default(), retention));
    store.commit(Txn::new().put("kept", "1").put("gone", "1").put("changed", "1")).await.unwrap();
    let mut follow = store.follow("");
    let mut seen = Content::new();
    until(&mut follow, &mut seen, &content([("kept", "1"), ("gone", "1"), ("changed", "1")])).await;
    // On this runtime of one thread the follower gets no turn before the history is full.
    for n in 0..10 {
        store.commit(Txn::new().put("changed", format!("{n}"))).now_or_never().unwrap().unwrap();
    }
    store.commit(Txn::new().delete("gone").put("new", "1")).now_or_never().unwrap().unwrap();
    let wanted = content([("kept", "1"), ("changed", "9"), ("new", "1")]);
    let changes = until(&mut follow, &mut seen, &wanted).await;
    assert_eq!(changes, 1, "one batch holds the difference");
}

#[tokio::test(start_paused = true)]
async fn events_that_a_watch_loses_are_found_by_the_next_resync() {
    let store: Arc<dyn Store> = Arc::new(Forgetful(MemoryStore::new()));
    store.commit(Txn::new().put("a", "1").put("b", "1")).await.unwrap();
    let mut follow = store.follow("");
    let mut seen = Content::new();
    until(&mut follow, &mut seen, &content([("a", "1"), ("b", "1")])).await;
    store.commit(Txn::new().put("a", "2")).await.unwrap();
    store.commit(Txn::new().delete("b").put("c", "1")).await.unwrap();
    let changes = until(&mut follow, &mut seen, &content([("a", "2"), ("c", "1")])).await;
    assert_eq!(changes, 1);
}

/// A store whose watch loses everything.
#[derive(Debug)]
struct Forgetful(MemoryStore);

impl Store for Forgetful {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, ReadError>> {
        self.0.get(key)
    }
    fn list<'a>(&'a self, prefix: &'a str, page: Page) -> BoxFuture<'a, Result<Listing, ReadError>> {
        self.0.list(prefix, page)
    }
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, CommitError>> {
        self.0.commit(txn)
    }
    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> BoxFuture<'a, Result<Watch, ReadError>> {
        let lossy = |watch: Watch| watch.filter(|_| std::future::ready(false)).boxed();
        async move { self.0.watch(prefix, from).await.map(lossy) }.boxed()
    }
    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Grant, LeaseError>> {
        self.0.grant(ttl)
    }
    fn renew(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), LeaseError>> {
        self.0.renew(lease)
    }
    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), LeaseError>> {
        self.0.revoke(lease)
    }
    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), ReadError>> {
        self.0.compact(before)
    }
    fn limits(&self) -> TxnLimits {
        self.0.limits()
    }
    fn resync_interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(20))
    }
}
