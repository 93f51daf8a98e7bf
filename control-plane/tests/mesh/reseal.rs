//! The key that seals the authority's keys is replaced, and records that somebody puts back are refused: two replicas on one etcd,
//! and somebody who can write there and has no key.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use weft_api::client::ClientError;
use weft_api::rest::CheckFinding;
use weft_control_plane::clock::Clock;
use weft_store::{Entry, EtcdConfig, Location, Store, StoreExt as _, Txn};

use crate::etcd_server::EtcdServer;
use crate::peer::{declared, join};
use crate::plane::{Plane, service};

const NEW: &str = "a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7\n";

/// Each with a key file of its own, as on two machines.
async fn two() -> (EtcdServer, Plane, Plane) {
    let etcd = EtcdServer::start().await;
    let endpoint = etcd.endpoint();
    let a = Plane::start_with(&["--etcd", &endpoint]).await;
    let directory = Arc::new(TempDir::new().unwrap());
    std::fs::copy(a.seal_key(), directory.path().join("seal.key")).unwrap();
    let b = Plane::start_in(directory, &["--etcd", &endpoint]).await;
    (etcd, a, b)
}

async fn writer(etcd: &EtcdServer) -> Arc<dyn Store> {
    let config = EtcdConfig { prefix: "/weft/".to_owned(), ..etcd.config() };
    weft_store::open(Location::Etcd(Box::new(config))).await.unwrap()
}

async fn records(store: &dyn Store) -> Vec<Entry> {
    store.list_all("mesh/").await.unwrap().entries
}

async fn put(store: &dyn Store, entries: &[Entry]) {
    let txn = entries.iter().fold(Txn::new(), |txn, entry| txn.put(entry.key.as_str(), entry.value.clone()));
    store.commit(txn).await.unwrap();
}

fn add_key(file: &Path) {
    let old = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, format!("{NEW}{old}")).unwrap();
}

async fn finding(plane: &Plane, code: &str) -> Option<CheckFinding> {
    plane.client.check().await.unwrap().findings.into_iter().find(|finding| finding.code == code)
}

async fn until_found(plane: &Plane, code: &str, is_there: bool) -> Option<CheckFinding> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = finding(plane, code).await;
        if found.is_some() == is_there {
            return found;
        }
        assert!(Instant::now() < deadline, "{code}: {:#?}", plane.client.check().await.unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_is_replaced_once_every_replica_has_it_and_records_of_the_old_one_come_back_for_nobody() {
    let (etcd, a, b) = two().await;
    a.apply(&service("web")).await;
    let store = writer(&etcd).await;
    let before = records(store.as_ref()).await;

    add_key(&a.seal_key());
    let ClientError::Refused(problem) = a.client.reseal().await.unwrap_err() else { panic!("not refused") };
    assert_eq!(problem.code, "seal_key_missing", "{problem}");
    assert_eq!(records(store.as_ref()).await, before, "nothing is written that a replica cannot read");
    add_key(&b.seal_key());
    let due = until_found(&a, "seal_key", true).await.unwrap();
    assert_eq!(due.remedy.as_deref(), Some("weft ca reseal"), "{due:?}");
    let done = a.client.reseal().await.unwrap();
    assert_eq!(done.records, 3, "root, issuer and head");
    assert_eq!(b.client.reseal().await.unwrap().records, 0, "again, at the other one");
    for plane in [&a, &b] {
        let seal = plane.client.ca().await.unwrap().seal.unwrap();
        let needed: Vec<_> = seal.keys.iter().filter(|key| key.records > 0).map(|key| &key.id).collect();
        assert_eq!((needed, seal.problem), (vec![&done.key], None));
        let over = until_found(plane, "seal_key", true).await.unwrap();
        assert!(over.what.starts_with("no record needs the seal key"), "{over:?}");
        std::fs::write(plane.seal_key(), NEW).unwrap();
        until_found(plane, "seal_key", false).await;
    }

    // One record of before, then all of them.
    let after = records(store.as_ref()).await;
    let issuer: Vec<_> = before.iter().filter(|entry| entry.key.as_str() == "mesh/issuer").cloned().collect();
    for (old, said) in
        [(&issuer, "mesh/issuer is not as it was"), (&before, "which the seal key's file does not have")]
    {
        put(store.as_ref(), old).await;
        for plane in [&a, &b] {
            let problem = plane.client.ca().await.unwrap().seal.unwrap().problem.expect("it is noticed");
            assert!(problem.contains(said), "{problem}");
            let joined = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await;
            joined.expect("certificates are issued on, from memory");
        }
        let directory = Arc::new(TempDir::new().unwrap());
        std::fs::copy(a.seal_key(), directory.path().join("seal.key")).unwrap();
        let started = Plane::start_by(directory, &["--etcd", &etcd.endpoint()], Clock::system()).await;
        let error = format!("{:#}", started.err().expect("none starts on it"));
        assert!(error.contains(said), "{error}");
        put(store.as_ref(), &after).await;
    }
    until_found(&a, "authority_records", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_state_is_refused_whole_by_replicas_that_have_seen_a_newer_one() {
    let (etcd, a, b) = two().await;
    let store = writer(&etcd).await;
    let before = records(store.as_ref()).await;
    a.client.rotate_root(&weft_api::rest::RotationRequest::default()).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while b.client.ca().await.unwrap().rotation.is_none() {
        assert!(Instant::now() < deadline, "the other one follows");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let now = records(store.as_ref()).await;
    let mut txn = Txn::new();
    for gone in now.iter().filter(|now| before.iter().all(|old| old.key != now.key)) {
        txn = txn.delete(gone.key.as_str());
    }
    let txn = before.iter().fold(txn, |txn, old| txn.put(old.key.as_str(), old.value.clone()));
    store.commit(txn).await.unwrap();
    for plane in [&a, &b] {
        let found = until_found(plane, "authority_records", true).await.unwrap();
        assert!(found.what.contains("an older state was put back"), "{found:?}");
        let status = plane.client.ca().await.unwrap();
        assert_eq!((status.roots.len(), status.rotation.is_some()), (2, true), "it stays with what it has");
    }
    let (directory, endpoint) = (a.directory(), etcd.endpoint());
    a.running.end().await;
    let flags = ["--etcd", endpoint.as_str()];
    let started = Plane::start_by(Arc::clone(&directory), &flags, Clock::system()).await;
    let error = format!("{:#}", started.err().expect("nor does it start again"));
    let file = directory.path().join("seal.key.version");
    assert!(error.contains(&format!("remove {}", file.display())), "{error}");
    // An operator who restored a backup says so.
    std::fs::remove_file(file).unwrap();
    assert_eq!(Plane::start_in(directory, &flags).await.client.ca().await.unwrap().roots.len(), 1);
}
