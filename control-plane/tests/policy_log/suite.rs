//! What the log promises, whatever the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt as _;
use weft_control_plane::clock::Clock;
use weft_control_plane::policy::log::{
    Advance, Authorship, Changeset, DocumentChange, LogError, LogRetention, LogSnapshot, PolicyLog,
};
use weft_store::{Store, StoreExt, Txn};

fn log(store: &Arc<dyn Store>) -> PolicyLog {
    PolicyLog::new(Arc::clone(store), Clock::system())
}

fn changeset(changes: Vec<DocumentChange>) -> Changeset {
    let (author, message) = ("tests".to_owned(), "because".to_owned());
    Changeset { by: Authorship { author, client: String::new(), message }, changes }
}

fn put(key: &str, text: &str) -> Changeset {
    changeset(vec![DocumentChange::put(key, text.as_bytes().to_vec())])
}

/// A number of small changesets: `doc-N` is put by each, and the one before it deleted.
pub async fn fill(store: &Arc<dyn Store>, count: usize) -> LogSnapshot {
    let log = log(store);
    let mut snapshot = log.load().await.unwrap();
    for _ in 0..count {
        let number = snapshot.sequence() + 1;
        let mut changes = vec![DocumentChange::put(format!("doc-{number}"), number.to_string().into_bytes())];
        if number > 1 {
            changes.push(DocumentChange::delete(format!("doc-{}", number - 1)));
        }
        snapshot = log.commit(&snapshot, changeset(changes)).await.unwrap();
    }
    snapshot
}

pub async fn assert_stored(store: &Arc<dyn Store>, expected: &LogSnapshot) {
    let loaded = log(store).load().await.unwrap();
    assert_eq!(loaded.head(), expected.head());
    assert_eq!(loaded.documents(), expected.documents());
}

pub async fn log_is_loaded_as_it_was_committed(store: Arc<dyn Store>) {
    let log = log(&store);
    let empty = log.load().await.unwrap();
    assert_eq!((empty.sequence(), empty.documents().len()), (0, 0));
    let same = log.commit(&empty, changeset(Vec::new())).await.unwrap();
    assert_eq!(same.sequence(), 0, "no changes are no changeset");

    let snapshot = fill(&store, 20).await;
    assert_stored(&store, &snapshot).await;
    assert_eq!(snapshot.documents().len(), 1);
    let history = log.history(None, 3).await.unwrap();
    assert_eq!(history.iter().map(|info| info.sequence).collect::<Vec<_>>(), [20, 19, 18]);
    assert_eq!(history[0].parent.as_ref(), Some(&history[1].id));
    assert_eq!((history[0].by.author.as_str(), history[0].by.message.as_str()), ("tests", "because"));
    let earlier = log.history(Some(3), 10).await.unwrap();
    assert_eq!(earlier.iter().map(|info| info.sequence).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(log.at(7).await.unwrap().keys().map(|key| &**key).collect::<Vec<_>>(), ["doc-7"]);
    assert_eq!(log.changeset(7).await.unwrap().changes.len(), 2);
    assert_eq!(log.at(21).await, Err(LogError::Unknown(21)));
}

pub async fn eight_mebibytes_in_two_thousand_documents_are_one_commit(store: Arc<dyn Store>) {
    let log = log(&store);
    let base = fill(&store, 1).await;
    let mut follower = Box::pin(log.follow(base.clone()));
    // Not repetitive, as no store may be saved by compressing.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let document = |state: &mut u64| -> Bytes {
        let words = (0..8 * 1024 * 1024 / 2000 / 8).map(|_| {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            state.to_le_bytes()
        });
        words.flatten().collect()
    };
    let changes: Vec<_> = (0..2000)
        .map(|number| DocumentChange::put(format!("Service/shop/s-{number:04}"), document(&mut state)))
        .collect();
    let bytes: usize = changes.iter().map(|change| change.document.as_ref().unwrap().len()).sum();
    assert!(bytes > 8_380_000, "{bytes}");

    let snapshot = log.commit(&base, changeset(changes.clone())).await.unwrap();
    assert_eq!(snapshot.sequence(), 2);
    assert_stored(&store, &snapshot).await;
    match within(follower.next()).await.unwrap() {
        Advance::Steps(seen, steps) => {
            assert_eq!((steps.len(), steps[0].changes.len()), (1, 2000), "seen as one");
            assert_eq!(seen.documents(), snapshot.documents());
        }
        other => panic!("{other:?}"),
    }
    assert!(store.list_all("policies/pending/").await.unwrap().entries.is_empty());
}

pub async fn of_commits_that_race_exactly_one_is_accepted(store: Arc<dyn Store>) {
    let log = log(&store);
    let mut base = log.load().await.unwrap();
    let large = "x".repeat(300_000);
    for round in 1..=5 {
        // Large ones too: their bodies are written before the head is asked.
        let racers: Vec<_> = (0..6)
            .map(|racer| put(&format!("r-{racer}"), if racer % 2 == 0 { "small" } else { &large }))
            .collect();
        let commits = racers.into_iter().map(|racer| log.commit(&base, racer));
        let outcomes = futures::future::join_all(commits).await;
        let moved = LogError::Moved { expected: round - 1, now: round };
        let (accepted, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!(accepted.len(), 1);
        assert!(refused.iter().all(|outcome| *outcome.as_ref().unwrap_err() == moved), "{refused:?}");
        base = accepted.into_iter().next().unwrap().unwrap();
        assert_stored(&store, &base).await;
    }
    assert_eq!(log.history(None, 100).await.unwrap().len(), 5);
}

pub async fn follower_sees_every_changeset_once_and_in_order(store: Arc<dyn Store>) {
    let log = log(&store);
    let mut follower = Box::pin(log.follow(LogSnapshot::default()));
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { fill(&store, 60).await })
    };
    let mut seen = Vec::new();
    let mut last = LogSnapshot::default();
    while last.sequence() < 60 {
        match within(follower.next()).await.unwrap() {
            Advance::Steps(snapshot, steps) => {
                seen.extend(steps.iter().map(|step| step.info.sequence));
                last = snapshot;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, (1..=60).collect::<Vec<_>>());
    let written = writer.await.unwrap();
    assert_eq!(last.documents(), written.documents());
    // What was followed is as good a base as what was committed.
    log.commit(&last, put("next", "1")).await.unwrap();
}

pub async fn checkpoint_bounds_loading_and_pruning_keeps_what_is_promised(store: Arc<dyn Store>) {
    let (clock, hours) = turned_clock();
    let log = PolicyLog::new(Arc::clone(&store), clock);
    let leader = store.elect("leader", "tests", Duration::from_secs(60)).await;
    let retention = LogRetention { checkpoint_every: 10, keep_at_least: 12, ..LogRetention::default() };
    let mut snapshot = log.load().await.unwrap();
    let large = "y".repeat(200_000);
    for number in 1..=45_u64 {
        let text = if number % 3 == 0 { &large } else { "small" };
        snapshot = log.commit(&snapshot, put(&format!("doc-{}", number % 20), text)).await.unwrap();
        let done = log.upkeep(&retention, &leader).await.unwrap();
        assert_eq!(done.checkpoint, (number % 10 == 0).then_some(number));
        assert_eq!(done.pruned, 0, "all are young");
    }
    assert_stored(&store, &snapshot).await;
    assert_eq!(log.oldest().await.unwrap(), 1);
    let at_35 = log.at(35).await.unwrap();

    hours.fetch_add(31 * 24, Ordering::Relaxed);
    let done = log.upkeep(&retention, &leader).await.unwrap();
    assert_eq!(done.pruned, 30, "up to the checkpoint at 30: the last 12 begin at 34");
    assert_eq!(done.swept, 10 + 2, "the large bodies of 30 changesets, and of the checkpoints at 10 and 20");
    assert_stored(&store, &snapshot).await;
    assert_eq!(log.at(35).await.unwrap(), at_35);
    assert_eq!(log.at(30).await.unwrap().len(), 20, "the checkpoint itself");
    assert_eq!(log.at(29).await, Err(LogError::Unknown(29)));
    assert_eq!((log.oldest().await.unwrap(), log.newest().await.unwrap()), (30, 45));
    assert_eq!(log.history(None, 100).await.unwrap().len(), 15);
    // Five large changesets of one chunk, and two checkpoints with seven large documents each: two chunks of 1 MiB.
    assert_eq!(store.list_all("policies/blobs/").await.unwrap().entries.len(), 5 + 2 * 2);
    let snapshot = log.commit(&snapshot, put("next", "1")).await.unwrap();
    assert_stored(&store, &snapshot).await;
    assert_eq!(
        log.upkeep(&retention, &leader).await.unwrap(),
        weft_control_plane::policy::log::Upkeep::default()
    );
}

pub async fn abandoned_body_is_swept_and_its_late_writer_refused(store: Arc<dyn Store>) {
    let (clock, hours) = turned_clock();
    let log = PolicyLog::new(Arc::clone(&store), clock);
    let leader = store.elect("leader", "tests", Duration::from_secs(60)).await;
    let base = log.commit(&LogSnapshot::default(), put("doc", "1")).await.unwrap();
    log.commit(&base, put("doc", "2")).await.unwrap();
    // Refused at the head, so its body is left behind.
    let refused = log.commit(&base, put("doc", &"z".repeat(3_000_000))).await;
    assert_eq!(refused.unwrap_err(), LogError::Moved { expected: 1, now: 2 });
    let pending = store.list_all("policies/pending/").await.unwrap().entries;
    assert_eq!(pending.len(), 1);
    assert_eq!(store.list_all("policies/blobs/").await.unwrap().entries.len(), 3);

    let retention = LogRetention::default();
    assert_eq!(log.upkeep(&retention, &leader).await.unwrap().swept, 0, "its writer may still be at work");
    hours.fetch_add(2, Ordering::Relaxed);
    assert_eq!(log.upkeep(&retention, &leader).await.unwrap().swept, 1);
    assert!(store.list_all("policies/blobs/").await.unwrap().entries.is_empty());
    assert!(store.list_all("policies/pending/").await.unwrap().entries.is_empty());
    // What a writer that was paused for hours would now do: its guard is the pending record as it wrote it.
    let late = Txn::new().expect_at(&pending[0].key, pending[0].mod_revision).put("policies/head", "late");
    store.commit(late).await.unwrap_err();
}

pub async fn follower_whose_way_was_pruned_is_told_to_compare(store: Arc<dyn Store>) {
    let (clock, hours) = turned_clock();
    let log = PolicyLog::new(Arc::clone(&store), clock);
    let leader = store.elect("leader", "tests", Duration::from_secs(60)).await;
    let behind = fill(&store, 3).await;
    let newest = fill(&store, 20).await;
    hours.fetch_add(31 * 24, Ordering::Relaxed);
    let retention = LogRetention { checkpoint_every: 10, keep_at_least: 0, ..LogRetention::default() };
    log.upkeep(&retention, &leader).await.unwrap();
    match log.advance(&behind).await.unwrap() {
        Advance::Reloaded(snapshot) => assert_eq!(snapshot.documents(), newest.documents()),
        other => panic!("{other:?}"),
    }
    assert!(matches!(log.advance(&newest).await.unwrap(), Advance::Unchanged));
}

/// A clock that is the machine's, so many hours later.
fn turned_clock() -> (Clock, Arc<AtomicU64>) {
    let hours = Arc::new(AtomicU64::new(0));
    let read = Arc::clone(&hours);
    let clock =
        Clock::from_fn(move || SystemTime::now() + Duration::from_secs(3600 * read.load(Ordering::Relaxed)));
    (clock, hours)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it comes within 20 s")
}
