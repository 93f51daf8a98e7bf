//! The embedded engine's file: found again, refused when it should be.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use weft_store::{
    CommitError, EmbeddedStore, FollowUpdate, Location, OpenError, ReadError, Store, StoreExt, Txn, open,
};

use crate::bench::{Content, SOON, absorb, change, content, of_snapshot, soak};

fn place() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    (directory, path)
}

async fn reopen(path: &Path) -> Arc<dyn Store> {
    open(Location::Embedded(path.into())).await.unwrap()
}

#[tokio::test]
async fn a_start_finds_everything_again_but_leased_keys() {
    let (_directory, path) = place();
    let store = reopen(&path).await;
    let lease = store.grant(Duration::from_secs(600)).await.unwrap().lease;
    let first = store.commit(Txn::new().put("a", "1").put_leased("leased", "1", lease)).await.unwrap();
    let second = store.commit(Txn::new().put("b", "2")).await.unwrap();
    drop(store);

    let store = reopen(&path).await;
    let all = store.list_all("").await.unwrap();
    assert_eq!(of_snapshot(&all), content([("a", "1"), ("b", "2")]));
    assert!(all.revision > second, "the removal of the leased key is a revision of its own");
    assert_eq!(store.get("a").await.unwrap().unwrap().mod_revision, first);
    let old = store.watch("", first).await.err();
    assert!(matches!(old, Some(ReadError::Compacted { .. })), "{old:?}");
    let third = store.commit(Txn::new().expect_at("a", first).put("a", "3")).await.unwrap();
    assert_eq!(third, all.revision.next());
}

#[tokio::test]
async fn a_second_opener_is_refused_with_a_remedy() {
    let (_directory, path) = place();
    let _first = EmbeddedStore::open(&path).await.unwrap();
    let error = EmbeddedStore::open(&path).await.unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("another process") && text.contains("etcd") && text.contains("store"), "{text}");
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let (_directory, path) = place();
    let error = EmbeddedStore::open(path.join("deeper")).await.unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    assert!(error.to_string().contains("check that the directory exists"), "{error}");
}

#[tokio::test]
async fn only_its_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let (_directory, path) = place();
    let _store = EmbeddedStore::open(&path).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn what_is_no_store_is_refused_and_left_alone() {
    let (_directory, path) = place();
    for junk in [&b""[..], b"mesh: local\n", &[0; 4096], &[0xff; 65536]] {
        std::fs::write(&path, junk).unwrap();
        let error = EmbeddedStore::open(&path).await.unwrap_err();
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains("move it aside"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), junk);
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused_or_gives_exactly_what_was_in_it() {
    let (_directory, path) = place();
    let store = reopen(&path).await;
    for n in 0..90 {
        store
            .commit(Txn::new().put(format!("k/{n}"), vec![n; 700]).delete(format!("k/{}", (n + 41) % 90)))
            .await
            .unwrap();
    }
    let whole = of_snapshot(&store.list_all("").await.unwrap());
    drop(store);
    let good = wait_released(&path).await;

    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut refused = 0;
    let rounds = if soak() { 2_000 } else { 120 };
    for round in 0..rounds {
        let mut bad = good.clone();
        match round % 3 {
            0 => bad.truncate(random.random_range(1..good.len())),
            1 => {
                let at = random.random_range(0..good.len());
                bad[at] ^= 1 << random.random_range(0..8);
            }
            _ => {
                let at = random.random_range(0..good.len());
                let end = good.len().min(at + random.random_range(1..8192));
                bad[at..end].fill(random.random());
            }
        }
        let path = path.with_file_name(format!("bad-{round}"));
        std::fs::write(&path, &bad).unwrap();
        match EmbeddedStore::open(&path).await {
            Ok(store) => {
                let store: Arc<dyn Store> = Arc::new(store);
                assert_eq!(of_snapshot(&store.list_all("").await.unwrap()), whole, "round {round}");
            }
            Err(OpenError::Corrupt { .. }) => refused += 1,
            Err(other) => panic!("round {round}: {other:?}"),
        }
        let _ = std::fs::remove_file(&path);
    }
    assert!(refused > rounds / 10, "only {refused} of {rounds} were refused: is damage noticed at all?");
}

/// The file's bytes once nobody has it open.
async fn wait_released(path: &Path) -> Vec<u8> {
    drop(reopen(path).await);
    loop {
        // The lock says when the writer thread has closed the file.
        let file = std::fs::File::open(path).unwrap();
        if file.try_lock().is_ok() {
            return std::fs::read(path).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_share_the_disk_and_watchers_see_every_commit_alone() {
    let (_directory, path) = place();
    let store = reopen(&path).await;
    let mut follow = store.follow("");
    let FollowUpdate::Snapshot(snapshot) = change(&mut follow).await else {
        panic!("a snapshot comes first")
    };
    let tasks: Vec<_> = (0..64)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(
                async move { store.commit(Txn::new().put(format!("k/{writer:02}"), "v")).await.unwrap() },
            )
        })
        .collect();
    let mut revisions = Vec::new();
    for task in tasks {
        revisions.push(task.await.unwrap());
    }
    revisions.sort();
    let mut seen = Content::new();
    for (n, revision) in revisions.iter().enumerate() {
        assert_eq!(revision.0, snapshot.revision.0 + n as u64 + 1);
        let FollowUpdate::Batch(batch) = change(&mut follow).await else { panic!("then only batches") };
        assert_eq!((batch.revision, batch.events.len()), (*revision, 1));
        absorb(&mut seen, &batch);
    }
    assert_eq!(seen.len(), 64);
}

#[tokio::test]
async fn watches_end_and_the_file_is_free_when_the_last_handle_is_dropped() {
    let (_directory, path) = place();
    let store = reopen(&path).await;
    let at = store.commit(Txn::new().put("a", "1")).await.unwrap();
    let mut watch = store.watch("", at.next()).await.unwrap();
    let lease = store.grant(Duration::from_secs(3600)).await.unwrap();
    drop(store);
    let end = tokio::time::timeout(SOON, watch.next()).await.unwrap();
    assert!(matches!(end, Some(Err(ReadError::Unavailable { .. }))), "{end:?}");
    let again = reopen(&path).await;
    let late = again.commit(Txn::new().put_leased("b", "1", lease.lease)).await;
    assert!(matches!(late, Err(CommitError::LeaseGone { .. })), "{late:?}");
}
