//! Leases and elections, the same on every engine.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use weft_store::{CommitError, Event, LeaseError, Store, StoreExt, Txn};

use crate::bench::{SOON, next, on_every_engine};

/// The shortest that etcd grants.
const SHORT: Duration = Duration::from_secs(2);

on_every_engine![
    keys_go_away_together_when_their_lease_is_not_renewed,
    a_revoked_lease_takes_its_keys_and_cannot_be_used,
    a_held_lease_outlives_its_time_and_a_dropped_one_ends_at_once,
    there_is_one_leader_at_a_time_and_a_successor_when_it_resigns,
    a_deposed_leader_cannot_write,
];

async fn keys_go_away_together_when_their_lease_is_not_renewed(store: &Arc<dyn Store>) {
    let grant = store.grant(SHORT).await.unwrap();
    let txn = Txn::new().put_leased("a", "1", grant.lease).put_leased("b", "1", grant.lease).put("c", "1");
    let at = store.commit(txn).await.unwrap();
    assert_eq!(store.get("a").await.unwrap().unwrap().lease, Some(grant.lease));
    // Kept by a put without the lease.
    let kept = store.commit(Txn::new().put("b", "2")).await.unwrap();
    assert!(kept > at);
    let mut watch = store.watch("", kept.next()).await.unwrap();
    let batch = next(&mut watch).await;
    assert_eq!(batch.events, [Event::Delete("a".into())]);
    let left = store.list_all("").await.unwrap();
    assert_eq!(left.entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(store.renew(grant.lease).await, Err(LeaseError::Gone { lease: grant.lease }));
}

async fn a_revoked_lease_takes_its_keys_and_cannot_be_used(store: &Arc<dyn Store>) {
    let grant = store.grant(Duration::from_secs(60)).await.unwrap();
    let txn = Txn::new().put_leased("a", "1", grant.lease).put_leased("b", "1", grant.lease);
    let at = store.commit(txn).await.unwrap();
    let mut watch = store.watch("", at.next()).await.unwrap();
    store.renew(grant.lease).await.unwrap();
    store.revoke(grant.lease).await.unwrap();
    assert_eq!(store.list_all("").await.unwrap().entries, []);
    assert_eq!(next(&mut watch).await.events.len(), 2);
    store.revoke(grant.lease).await.expect("revoking twice is no error");
    let late = store.commit(Txn::new().put_leased("a", "2", grant.lease)).await;
    assert_eq!(late, Err(CommitError::LeaseGone { lease: grant.lease }));
}

async fn a_held_lease_outlives_its_time_and_a_dropped_one_ends_at_once(store: &Arc<dyn Store>) {
    let lease = store.lease(SHORT).await.unwrap();
    let at = store.commit(Txn::new().put_leased("a", "1", lease.id())).await.unwrap();
    let mut watch = store.watch("", at.next()).await.unwrap();
    let gone = timeout(3 * lease.ttl(), next(&mut watch)).await;
    assert!(gone.is_err(), "{gone:?}");
    assert!(!lease.is_lost());
    drop(lease);
    assert_eq!(next(&mut watch).await.events, [Event::Delete("a".into())]);
}

async fn there_is_one_leader_at_a_time_and_a_successor_when_it_resigns(store: &Arc<dyn Store>) {
    let ttl = Duration::from_secs(30);
    let first = store.elect("leader", "one", ttl).await;
    assert_eq!(&*store.get("leader").await.unwrap().unwrap().value, b"one");
    let successor = tokio::spawn({
        let store = Arc::clone(store);
        async move { store.elect("leader", "two", ttl).await }
    });
    // While it waits, the first still leads.
    let written = store.commit(Txn::new().guard(first.guard()).put("work", "1")).await.unwrap();
    assert!(!successor.is_finished());
    let before = Instant::now();
    let fence = first.fence();
    drop(first);
    let second = timeout(SOON, successor).await.unwrap().unwrap();
    assert!(before.elapsed() < ttl / 2, "resigning hands over at once");
    assert!(second.fence() > fence && second.fence() > written);
    store.commit(Txn::new().guard(second.guard()).put("work", "2")).await.unwrap();
}

async fn a_deposed_leader_cannot_write(store: &Arc<dyn Store>) {
    let deposed = store.elect("leader", "one", SHORT).await;
    store.commit(Txn::new().guard(deposed.guard()).put("work", "1")).await.unwrap();
    // As when the process was paused for longer than its lease lives.
    let lease = store.get("leader").await.unwrap().unwrap().lease.unwrap();
    store.revoke(lease).await.unwrap();
    let vacant = store.commit(Txn::new().guard(deposed.guard()).put("work", "late")).await;
    assert!(matches!(vacant, Err(CommitError::Conflict { actual: None, .. })), "{vacant:?}");
    let leader = timeout(SOON, store.elect("leader", "two", SHORT)).await.unwrap();
    let late = store.commit(Txn::new().guard(deposed.guard()).put("work", "late")).await;
    assert!(matches!(late, Err(CommitError::Conflict { actual: Some(_), .. })), "{late:?}");
    store.commit(Txn::new().guard(leader.guard()).put("work", "2")).await.unwrap();
    assert_eq!(&*store.get("work").await.unwrap().unwrap().value, b"2");
    timeout(SOON, deposed.lost()).await.expect("the deposed leader is told");
}
