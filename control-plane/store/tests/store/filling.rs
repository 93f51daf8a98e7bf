//! A state out of one engine and into another: whole, or not at all.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tempfile::TempDir;
use weft_store::{
    Backup, CommitError, EmbeddedStore, Entry, EtcdConfig, EtcdStore, FillError, Location, OpenError,
    Revision, Snapshot, Store, StoreExt, Txn, fill, fill_file, open,
};

use crate::bench::{Bench, Content, content, of_snapshot, on_every_engine, soak};
use crate::etcd_server::EtcdServer;

const FILE: &str = "WEFT_FILL_FILE";
const ETCD: &str = "WEFT_FILL_ETCD";

on_every_engine![
    a_state_of_many_transactions_goes_into_an_empty_store,
    a_store_that_holds_anything_is_left_as_it_is,
    a_value_that_does_not_fit_is_named_before_anything_is_written,
];

/// Of several transactions on any engine, some of them because of their size.
fn large() -> Snapshot {
    let entry = |n: u64| Entry {
        key: format!("k/{n:05}").into(),
        value: vec![n as u8; if n.is_multiple_of(40) { 900_000 } else { 40 }].into(),
        mod_revision: Revision(1 + n % 300),
        lease: None,
    };
    Snapshot { revision: Revision(300), entries: (0..450).map(entry).collect() }
}

async fn a_state_of_many_transactions_goes_into_an_empty_store(store: &Arc<dyn Store>) {
    let at = fill(&**store, &large()).await.unwrap();
    let filled = store.list_all("").await.unwrap();
    assert_eq!(of_snapshot(&filled), of_snapshot(&large()));
    assert_eq!(filled.revision, at);
    store.commit(Txn::new().put("more", "1")).await.unwrap();
}

async fn a_store_that_holds_anything_is_left_as_it_is(store: &Arc<dyn Store>) {
    store.commit(Txn::new().put("a", "1")).await.unwrap();
    let refused = fill(&**store, &large()).await;
    assert!(matches!(refused, Err(FillError::NotEmpty)), "{refused:?}");
    assert_eq!(of_snapshot(&store.list_all("").await.unwrap()), content([("a", "1")]));
}

async fn a_value_that_does_not_fit_is_named_before_anything_is_written(store: &Arc<dyn Store>) {
    let limit = store.limits().max_value;
    let mut state = large();
    state.entries[7].value = vec![0; limit + 1].into();
    let refused = fill(&**store, &state).await;
    assert!(matches!(&refused, Err(FillError::TooLarge { key, .. }) if key == "k/00007"), "{refused:?}");
    assert!(store.list_all("").await.unwrap().entries.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_on_with_the_revisions_that_it_had_and_without_what_was_leased() {
    let bench = Bench::embedded().await;
    let lease = bench.store.grant(Duration::from_secs(600)).await.unwrap().lease;
    let first = bench.store.commit(Txn::new().put("a", "1").put_leased("held", "1", lease)).await.unwrap();
    bench.store.commit(Txn::new().put("b", "1")).await.unwrap();
    let taken = bench.store.list_all("").await.unwrap();
    let bytes: Vec<u8> = Backup::new("mesh", 0, taken.clone()).encode().flatten().collect();

    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    let backup = Backup::decode(&*bytes).unwrap();
    fill_file(&path, backup.snapshot.clone()).await.unwrap();
    let again = fill_file(&path, backup.snapshot).await;
    assert!(matches!(again, Err(FillError::NotEmpty)), "{again:?}");
    let store = open(Location::Embedded(path)).await.unwrap();
    let found = store.list_all("").await.unwrap();
    assert_eq!(of_snapshot(&found), content([("a", "1"), ("b", "1")]));
    assert_eq!(found.revision, taken.revision);
    let next = store.commit(Txn::new().expect_at("a", first).put("a", "2")).await.unwrap();
    assert_eq!(next, taken.revision.next());
}

#[tokio::test]
async fn a_file_at_rest_is_read_with_what_was_leased_and_stays_as_it_is() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    let missing = EmbeddedStore::read_at_rest(&path).await;
    assert!(matches!(missing, Err(OpenError::Io { .. })) && !path.exists(), "{missing:?}");
    let store = open(Location::Embedded(path.clone())).await.unwrap();
    let lease = store.grant(Duration::from_secs(600)).await.unwrap().lease;
    store.commit(Txn::new().put_leased("held", "1", lease)).await.unwrap();
    let in_use = EmbeddedStore::read_at_rest(&path).await;
    assert!(matches!(in_use, Err(OpenError::InUse { .. })), "{in_use:?}");
    let whole = store.list_all("").await.unwrap();
    drop(store);
    let found = loop {
        match EmbeddedStore::read_at_rest(&path).await {
            Err(OpenError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            read => break read.unwrap(),
        }
    };
    assert_eq!(found, whole);
    assert_eq!(EmbeddedStore::read_at_rest(&path).await.unwrap(), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_writes_into_a_store_that_is_filled_is_not_overwritten() {
    let server = EtcdServer::start().await;
    let config = server.config();
    let store = EtcdStore::connect(config.clone()).await.unwrap();
    let other = EtcdStore::connect(config.clone()).await.unwrap();
    let mut state = large();
    state.entries.push(Entry { key: "mesh".into(), ..state.entries[1].clone() });
    let meddling = async {
        // As soon as the mark is there; `mesh` comes last.
        while other.get("filling").await.unwrap().is_none() {}
        other.commit(Txn::new().put("mesh", "theirs")).await.unwrap();
    };
    let (refused, ()) = tokio::join!(fill(&store, &state), meddling);
    assert!(matches!(refused, Err(FillError::Commit(CommitError::Conflict { .. }))), "{refused:?}");
    assert_eq!(other.get("mesh").await.unwrap().unwrap().value, "theirs");
    assert_unfinished(config).await;
}

async fn assert_unfinished(config: EtcdConfig) {
    let error = open(Location::Etcd(Box::new(config.clone()))).await.unwrap_err();
    assert!(matches!(error, OpenError::Unfinished { .. }), "{error:?}");
    assert!(error.to_string().contains("etcdctl del --prefix"), "{error}");
    let again = fill(&EtcdStore::connect(config).await.unwrap(), &large()).await;
    assert!(matches!(again, Err(FillError::Unfinished)), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the process that the tests below start and kill"]
async fn child_that_fills_until_it_is_killed() {
    match (std::env::var_os(FILE), std::env::var(ETCD)) {
        (Some(path), _) => fill_file(PathBuf::from(path), large()).await.unwrap(),
        (None, Ok(endpoint)) => {
            let store = EtcdStore::connect(EtcdConfig::new([endpoint])).await.unwrap();
            fill(&store, &large()).await.unwrap();
        }
        (None, Err(_)) => panic!("started by a test"),
    }
}

fn child(variable: &str, value: impl AsRef<std::ffi::OsStr>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--ignored",
        "--exact",
        "--test-threads=1",
        "filling::child_that_fills_until_it_is_killed",
    ]);
    command.env(variable, value).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Kills a child at some moment of its work, which takes so long; whether it had ended before.
fn kill(mut child: Child, takes: Duration) -> bool {
    std::thread::sleep(takes.mul_f64(rand::rng().random_range(0.0..1.2)));
    let ended = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_fills_a_file_it_leaves_all_of_it_or_no_store() {
    let directory = TempDir::new().unwrap();
    let began = std::time::Instant::now();
    assert!(child(FILE, directory.path().join("whole")).wait().unwrap().success());
    let takes = began.elapsed();
    let (mut whole, mut none) = (0, 0);
    for round in 0..if soak() { 300 } else { 30 } {
        let path = directory.path().join(format!("store-{round}"));
        let ended = kill(child(FILE, &path), takes);
        if path.exists() {
            assert_eq!(read(&path).await, of_snapshot(&large()), "round {round}");
            whole += 1;
        } else {
            assert!(!ended, "round {round}: it ended and left nothing");
            // What is left of the draft is in nobody's way.
            fill_file(&path, large()).await.unwrap();
            none += 1;
        }
        std::fs::remove_file(&path).unwrap();
    }
    println!("{whole} whole, {none} not there");
    assert!(none > 0, "no kill came early enough to matter");
}

async fn read(path: &Path) -> Content {
    of_snapshot(&open(Location::Embedded(path.into())).await.unwrap().list_all("").await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_fills_etcd_it_leaves_all_of_it_or_what_nobody_opens() {
    let server = EtcdServer::start().await;
    let began = std::time::Instant::now();
    assert!(child(ETCD, server.endpoint()).wait().unwrap().success());
    let takes = began.elapsed();
    let (mut whole, mut unfinished) = (0, 0);
    for round in 0..if soak() { 100 } else { 12 } {
        let server = EtcdServer::start().await;
        kill(child(ETCD, server.endpoint()), takes);
        match open(Location::Etcd(Box::new(server.config()))).await {
            Ok(store) => {
                let found = of_snapshot(&store.list_all("").await.unwrap());
                assert!(found.is_empty() || found == of_snapshot(&large()), "round {round}");
                whole += usize::from(!found.is_empty());
            }
            Err(_) => {
                assert_unfinished(server.config()).await;
                unfinished += 1;
            }
        }
    }
    println!("{whole} whole, {unfinished} unfinished");
    assert!(unfinished > 0, "no kill came while it filled");
}
