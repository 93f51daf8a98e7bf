//! The policy log on every store: memory, embedded, and a real etcd with its default limits.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "../../store/tests/store/etcd_server.rs"]
#[allow(dead_code, reason = "the store's own tests use the rest of it")]
mod etcd_server;
mod suite;

use std::sync::Arc;

use etcd_server::EtcdServer;
use weft_store::{Location, Store};

/// Runs each case on each store, each on a store of its own.
macro_rules! on_every_store {
    ($($case:ident)*) => {
        mod memory {
            $(#[tokio::test] async fn $case() {
                super::suite::$case(weft_store::open(super::Location::Memory).await.unwrap()).await;
            })*
        }
        mod embedded {
            $(#[tokio::test] async fn $case() {
                let dir = tempfile::tempdir().unwrap();
                super::suite::$case(super::embedded_in(dir.path()).await).await;
            })*
        }
        mod etcd {
            $(#[tokio::test] async fn $case() {
                let server = super::EtcdServer::start().await;
                super::suite::$case(super::etcd_at(&server).await).await;
            })*
        }
    };
}

on_every_store! {
    log_is_loaded_as_it_was_committed
    eight_mebibytes_in_two_thousand_documents_are_one_commit
    of_commits_that_race_exactly_one_is_accepted
    follower_sees_every_changeset_once_and_in_order
    checkpoint_bounds_loading_and_pruning_keeps_what_is_promised
    abandoned_body_is_swept_and_its_late_writer_refused
    follower_whose_way_was_pruned_is_told_to_compare
}

async fn embedded_in(dir: &std::path::Path) -> Arc<dyn Store> {
    weft_store::open(Location::Embedded(dir.join("store.redb"))).await.unwrap()
}

async fn etcd_at(server: &EtcdServer) -> Arc<dyn Store> {
    weft_store::open(Location::Etcd(Box::new(server.config()))).await.unwrap()
}

#[tokio::test]
async fn embedded_log_is_found_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let before = suite::fill(&embedded_in(dir.path()).await, 5).await;
    // The file is let go of a moment after the last handle is.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    let store = loop {
        match weft_store::open(Location::Embedded(dir.path().join("store.redb"))).await {
            Ok(store) => break store,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
        tokio::task::yield_now().await;
    };
    suite::assert_stored(&store, &before).await;
}

#[tokio::test]
async fn etcd_log_is_found_again_after_etcd_was_killed() {
    let mut server = EtcdServer::start().await;
    let before = suite::fill(&etcd_at(&server).await, 5).await;
    server.restart().await;
    suite::assert_stored(&etcd_at(&server).await, &before).await;
}
