//! Reading, committing and watching, the same on every engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::time::timeout;
use weft_store::{CommitError, Event, Key, Page, ReadError, Revision, Store, StoreExt, Txn};

use crate::bench::{Content, SOON, absorb, content, next, of_snapshot, on_every_engine};

on_every_engine![
    a_commit_is_read_back_with_its_revision,
    a_failed_guard_refuses_the_whole_transaction_and_is_named,
    a_commit_that_changes_nothing_takes_no_revision,
    of_racing_commits_on_one_guard_exactly_one_goes_through,
    all_pages_of_a_listing_are_of_one_revision,
    a_prefix_takes_in_neither_neighbour,
    a_watch_gives_one_batch_for_each_revision_in_order,
    a_watch_replays_what_happened_before_it_was_opened,
    what_was_compacted_is_refused_to_listings_and_watches,
    a_revision_that_has_not_happened_cannot_be_listed,
    a_transaction_above_a_limit_is_refused_and_one_at_it_is_not,
    random_transactions_leave_what_a_model_of_them_leaves,
];

async fn a_commit_is_read_back_with_its_revision(store: &Arc<dyn Store>) {
    assert_eq!(store.get("a").await.unwrap(), None);
    let first = store.commit(Txn::new().put("a", "1").put("b", "1")).await.unwrap();
    let second = store.commit(Txn::new().put("a", "2").delete("b")).await.unwrap();
    assert!(second > first);
    let entry = store.get("a").await.unwrap().unwrap();
    assert_eq!((&*entry.value, entry.mod_revision, entry.lease), (&b"2"[..], second, None));
    assert_eq!(store.get("b").await.unwrap(), None);
    let all = store.list_all("").await.unwrap();
    assert_eq!((all.revision, all.entries), (second, vec![entry]));
}

async fn a_failed_guard_refuses_the_whole_transaction_and_is_named(store: &Arc<dyn Store>) {
    let at = store.commit(Txn::new().put("a", "1").put("b", "1")).await.unwrap();
    let refused =
        |key: &str, expected, actual| Err(CommitError::Conflict { key: key.into(), expected, actual });
    let absent = Txn::new().expect_at("a", at).expect_absent("b").put("a", "2").put("c", "2");
    assert_eq!(store.commit(absent).await, refused("b", None, Some(at)));
    let gone = Txn::new().expect_at("missing", at).put("a", "2");
    assert_eq!(store.commit(gone).await, refused("missing", Some(at), None));
    let moved = store.commit(Txn::new().put("b", "2")).await.unwrap();
    let stale = Txn::new().expect_at("b", at).delete("a");
    assert_eq!(store.commit(stale).await, refused("b", Some(at), Some(moved)));
    let held = Txn::new().expect_at("a", at).expect_at("b", moved).expect_absent("c").put("c", "1");
    store.commit(held).await.unwrap();
    let all = of_snapshot(&store.list_all("").await.unwrap());
    assert_eq!(all, content([("a", "1"), ("b", "2"), ("c", "1")]));
}

async fn a_commit_that_changes_nothing_takes_no_revision(store: &Arc<dyn Store>) {
    let at = store.commit(Txn::new().put("a", "1")).await.unwrap();
    assert_eq!(store.commit(Txn::new().delete("missing")).await.unwrap(), at);
    assert_eq!(store.commit(Txn::new().expect_at("a", at)).await.unwrap(), at);
    assert_eq!(store.commit(Txn::new()).await.unwrap(), at);
    // The same value again is a change: guards must see it.
    assert!(store.commit(Txn::new().put("a", "1")).await.unwrap() > at);
}

async fn of_racing_commits_on_one_guard_exactly_one_goes_through(store: &Arc<dyn Store>) {
    let mut head = store.commit(Txn::new().put("head", "start")).await.unwrap();
    for round in 0..20 {
        let racers = (0..8).map(|racer| {
            let store = Arc::clone(store);
            let txn = Txn::new().expect_at("head", head).put("head", format!("{round}/{racer}"));
            tokio::spawn(async move { (racer, store.commit(txn).await) })
        });
        let outcomes: Vec<_> = join_all(racers).await.into_iter().map(Result::unwrap).collect();
        let won: Vec<_> =
            outcomes.iter().filter_map(|(racer, won)| Some((racer, won.as_ref().ok()?))).collect();
        let [(winner, revision)] = won[..] else { panic!("not one winner: {outcomes:?}") };
        for (_, outcome) in outcomes.iter().filter(|(racer, _)| racer != winner) {
            let expected =
                CommitError::Conflict { key: "head".into(), expected: Some(head), actual: Some(*revision) };
            assert_eq!(outcome.as_ref().unwrap_err(), &expected);
        }
        let entry = store.get("head").await.unwrap().unwrap();
        assert_eq!((entry.value, entry.mod_revision), (Bytes::from(format!("{round}/{winner}")), *revision));
        head = *revision;
    }
}

async fn all_pages_of_a_listing_are_of_one_revision(store: &Arc<dyn Store>) {
    let txn = (0..10).fold(Txn::new(), |txn, n| txn.put(format!("k/{n}"), "old"));
    let at = store.commit(txn).await.unwrap();
    let mut page = Page { limit: 3, ..Page::default() };
    let mut keys = Vec::new();
    loop {
        let listing = store.list("k/", page.clone()).await.unwrap();
        assert_eq!(listing.revision, at);
        assert!(listing.entries.len() <= 3);
        for entry in &listing.entries {
            assert_eq!((&*entry.value, entry.mod_revision), (&b"old"[..], at), "{}", entry.key);
            keys.push(entry.key.to_string());
        }
        if !listing.more {
            break;
        }
        page = Page { at: Some(at), after: listing.entries.last().map(|entry| entry.key.clone()), limit: 3 };
        // What happens between two pages is not in them.
        store
            .commit(Txn::new().put("k/5", "new").delete("k/9").put(format!("k/0{}", keys.len()), "new"))
            .await
            .unwrap();
    }
    assert_eq!(keys, (0..10).map(|n| format!("k/{n}")).collect::<Vec<_>>());
    assert_eq!(store.list_all("k/").await.unwrap().entries.len(), 12);
}

async fn a_prefix_takes_in_neither_neighbour(store: &Arc<dyn Store>) {
    let keys = ["a", "a/", "a/b", "a/\u{7f}", "a/\u{10ffff}", "a/ÿ", "a0", "b"];
    let txn = keys.iter().fold(Txn::new(), |txn, key| txn.put(*key, *key));
    let at = store.commit(txn).await.unwrap();
    let listed = async |prefix: &str| -> Vec<Key> {
        let all = store.list_all(prefix).await.unwrap();
        all.entries.into_iter().map(|entry| entry.key).collect()
    };
    let mut below: Vec<Key> = keys[1..6].iter().map(|key| Key::from(*key)).collect();
    below.sort();
    assert_eq!(listed("a/").await, below);
    assert_eq!(listed("").await.len(), keys.len());
    assert!(listed("c").await.is_empty());
    let batch = next(&mut store.watch("a/", at).await.unwrap()).await;
    let mut seen: Vec<Key> = batch.events.iter().map(|event| event.key().clone()).collect();
    seen.sort();
    assert_eq!(seen, below);
}

async fn a_watch_gives_one_batch_for_each_revision_in_order(store: &Arc<dyn Store>) {
    let start = store.commit(Txn::new().put("w/a", "0").put("other", "0")).await.unwrap();
    let mut watch = store.watch("w/", start.next()).await.unwrap();
    let mut expected = Vec::new();
    for n in 0..50 {
        let txn = Txn::new().put("w/a", format!("{n}")).put(format!("w/{n}"), "x").put("other", "x");
        expected.push((store.commit(txn).await.unwrap(), 2));
        store.commit(Txn::new().put("other", "y")).await.unwrap();
    }
    expected.push((store.commit(Txn::new().delete("w/a").delete("w/missing")).await.unwrap(), 1));
    for (revision, events) in &expected {
        let batch = next(&mut watch).await;
        assert_eq!((batch.revision, batch.events.len()), (*revision, *events));
        for event in &batch.events {
            match event {
                Event::Put(entry) => assert_eq!(entry.mod_revision, *revision),
                Event::Delete(key) => assert_eq!(key.as_str(), "w/a"),
            }
        }
    }
}

async fn a_watch_replays_what_happened_before_it_was_opened(store: &Arc<dyn Store>) {
    let mut revisions = Vec::new();
    for n in 0..5 {
        revisions.push(store.commit(Txn::new().put("k", format!("{n}"))).await.unwrap());
    }
    let mut watch = store.watch("", revisions[2]).await.unwrap();
    for revision in &revisions[2..] {
        assert_eq!(next(&mut watch).await.revision, *revision);
    }
    let live = store.commit(Txn::new().put("k", "live")).await.unwrap();
    assert_eq!(next(&mut watch).await.revision, live);
}

async fn what_was_compacted_is_refused_to_listings_and_watches(store: &Arc<dyn Store>) {
    let mut revisions = Vec::new();
    for n in 0..6 {
        revisions.push(store.commit(Txn::new().put("k", format!("{n}"))).await.unwrap());
    }
    let kept = revisions[3];
    store.compact(kept).await.unwrap();
    store.compact(kept).await.expect("compacting twice is no error");
    let listed = store.list("", Page { at: Some(kept), ..Page::default() }).await.unwrap();
    assert_eq!(&*listed.entries[0].value, b"3");
    let older = store.list("", Page { at: Some(revisions[2]), ..Page::default() }).await;
    assert!(matches!(older, Err(ReadError::Compacted { .. })), "{older:?}");
    let first = match store.watch("", revisions[1]).await {
        Ok(mut watch) => timeout(SOON, watch.next()).await.unwrap().unwrap().map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(matches!(first, Err(ReadError::Compacted { .. })), "{first:?}");
    let mut after = store.watch("", revisions[4]).await.unwrap();
    assert_eq!(next(&mut after).await.revision, revisions[4]);
}

async fn a_revision_that_has_not_happened_cannot_be_listed(store: &Arc<dyn Store>) {
    let at = store.commit(Txn::new().put("k", "v")).await.unwrap();
    let asked = Revision(at.0 + 10);
    let listed = store.list("", Page { at: Some(asked), ..Page::default() }).await;
    assert_eq!(listed, Err(ReadError::Ahead { asked }));
    assert_eq!(store.compact(asked).await, Err(ReadError::Ahead { asked }));
}

async fn a_transaction_above_a_limit_is_refused_and_one_at_it_is_not(store: &Arc<dyn Store>) {
    let limits = store.limits();
    let too_large = |outcome| match outcome {
        Err(CommitError::TooLarge { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let value = |size: usize| Bytes::from(vec![7; size]);
    let over = Txn::new().put("k", value(limits.max_value + 1));
    assert_eq!(too_large(store.commit(over).await), "value size");
    let many = (0..=limits.max_ops).fold(Txn::new(), |txn, n| txn.put(format!("{n}"), ""));
    assert_eq!(too_large(store.commit(many).await), "operations");
    let heavy = (0..3).fold(Txn::new(), |txn, n| txn.put(format!("{n}"), value(limits.max_txn_bytes / 3)));
    assert_eq!(too_large(store.commit(heavy).await), "transaction size");

    // At the limits, guards and all. Tens of MiB prove nothing more about the engines that take them.
    let size = limits.max_value.min(8 << 20);
    let at = store.commit(Txn::new().put("big", value(size))).await.unwrap();
    let most = limits.max_ops.min(2_000);
    let full = (0..most).fold(Txn::new(), |txn, n| {
        let key = format!("a/rather/long/key/as/they/are/{n:06}");
        txn.expect_absent(key.clone()).put(key, "")
    });
    let room = limits.max_txn_bytes.min(8 << 20).saturating_sub(full.bytes()) / most;
    let filled = Txn {
        ops: full.ops.iter().fold(Txn::new(), |txn, op| txn.put(op.key(), value(room))).ops,
        guards: full.guards,
    };
    assert!(filled.bytes() + 2 * most > limits.max_txn_bytes.min(8 << 20));
    let mut watch = store.watch("a/", at.next()).await.unwrap();
    store.commit(filled).await.unwrap();
    assert_eq!(next(&mut watch).await.events.len(), most);
    assert_eq!(store.list_all("").await.unwrap().entries.len(), most + 1);
}

async fn random_transactions_leave_what_a_model_of_them_leaves(store: &Arc<dyn Store>) {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let keys: Vec<String> = (0..12).map(|n| format!("{}/{n}", ["a", "b", "ab"][n % 3])).collect();
    let mut model: BTreeMap<Key, (Bytes, Revision)> = BTreeMap::new();
    let start = store.commit(Txn::new().put("start", "")).await.unwrap();
    let mut watch = store.watch("a/", start.next()).await.unwrap();
    let mut watched = Content::new();
    let mut last = start;
    for n in 0..300 {
        let mut txn = Txn::new();
        for key in keys.choose_multiple(&mut random, n % 4 + 1) {
            txn = if random.random_bool(0.7) {
                txn.put(key.as_str(), format!("{n}"))
            } else {
                txn.delete(key.as_str())
            };
        }
        let guarded = Key::from(keys.choose(&mut random).unwrap().as_str());
        let known = model.get(&guarded).map(|(_, revision)| *revision);
        let expected =
            if random.random_bool(0.8) { known } else { Some(Revision(random.random_range(1..9))) };
        let txn = txn.guard(weft_store::Guard { key: guarded, expected });
        let outcome = store.commit(txn.clone()).await;
        assert_eq!(outcome.is_ok(), expected == known, "{txn:?} {outcome:?}");
        if let Ok(revision) = outcome {
            let changed = model_apply(&mut model, &txn, revision);
            assert_eq!(revision > last, changed, "{txn:?}");
            last = revision;
        }
    }
    let listed = store.list_all("").await.unwrap();
    model.insert("start".into(), (Bytes::new(), start));
    let entries = listed.entries.into_iter().map(|entry| (entry.key, (entry.value, entry.mod_revision)));
    assert_eq!(entries.collect::<BTreeMap<_, _>>(), model);
    let wanted: Content = model
        .into_iter()
        .filter(|(key, _)| key.starts_with("a/"))
        .map(|(key, (value, _))| (key, value))
        .collect();
    store.commit(Txn::new().put("a/end", "")).await.unwrap();
    while !watched.contains_key("a/end") {
        absorb(&mut watched, &next(&mut watch).await);
    }
    watched.remove("a/end");
    assert_eq!(watched, wanted);
}

fn model_apply(model: &mut BTreeMap<Key, (Bytes, Revision)>, txn: &Txn, revision: Revision) -> bool {
    txn.ops.iter().fold(false, |changed, op| {
        changed
            | match op {
                weft_store::Op::Put { key, value, .. } => {
                    model.insert(key.clone(), (value.clone(), revision));
                    true
                }
                weft_store::Op::Delete { key } => model.remove(key).is_some(),
            }
    })
}
