//! The etcd engine through outages, compaction, TLS, authentication and sharing.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, Permission};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tokio::time::{sleep, timeout};
use weft_store::{
    CommitError, EtcdStore, FollowHealth, FollowUpdate, Location, OpenError, ReadError, Store, StoreExt, Txn,
    open,
};

use crate::bench::{Content, SOON, change, content, of_snapshot, until};
use crate::etcd_server::{EtcdServer, ServerTls};

async fn store(server: &EtcdServer) -> Arc<dyn Store> {
    open(Location::Etcd(Box::new(server.config()))).await.unwrap()
}

/// Waits until a store that was down takes writes again.
async fn commit_when_up(store: &Arc<dyn Store>, txn: Txn) {
    let trying = async {
        while let Err(error) = store.commit(txn.clone()).await {
            assert!(
                matches!(error, CommitError::Unavailable { .. } | CommitError::Uncertain { .. }),
                "{error:?}"
            );
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, trying).await.expect("the store comes back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_loses_nothing_when_etcd_is_killed_and_started_again() {
    let mut server = EtcdServer::start().await;
    let store = store(&server).await;
    store.commit(Txn::new().put("kept", "1").put("gone", "1")).await.unwrap();
    let mut follow = store.follow("");
    let mut seen = Content::new();
    until(&mut follow, &mut seen, &content([("kept", "1"), ("gone", "1")])).await;
    for round in 0..3 {
        server.restart().await;
        commit_when_up(&store, Txn::new().put("round", format!("{round}")).delete("gone")).await;
        let round = round.to_string();
        until(&mut follow, &mut seen, &content([("kept", "1"), ("round", round.as_str())])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_loses_nothing_when_history_is_compacted_while_it_is_away() {
    let mut server = EtcdServer::start().await;
    let watcher = store(&server).await;
    watcher.commit(Txn::new().put("kept", "1").put("gone", "1").put("changed", "1")).await.unwrap();
    let mut follow = watcher.follow("");
    let mut seen = Content::new();
    until(&mut follow, &mut seen, &content([("kept", "1"), ("gone", "1"), ("changed", "1")])).await;
    let mut health = follow.health();
    timeout(SOON, health.wait_for(|health| *health == FollowHealth::Live)).await.unwrap().unwrap();

    server.stop();
    timeout(SOON, health.wait_for(|health| matches!(health, FollowHealth::Stale { .. })))
        .await
        .unwrap()
        .unwrap();
    let unreadable = watcher.get("kept").await;
    assert!(matches!(unreadable, Err(ReadError::Unavailable { .. })), "{unreadable:?}");
    let refused = watcher.commit(Txn::new().put("kept", "2")).await;
    assert!(matches!(refused, Err(CommitError::Unavailable { .. })), "nothing was sent: {refused:?}");

    // The follower's own back-off keeps it away long enough for most of this; the rest it may see live.
    server.restart().await;
    let writer = store(&server).await;
    writer.commit(Txn::new().delete("gone").put("new", "1")).await.unwrap();
    let mut last = None;
    for n in 0..50 {
        last = Some(writer.commit(Txn::new().put("changed", format!("{n}"))).await.unwrap());
    }
    writer.compact(last.unwrap()).await.unwrap();
    until(&mut follow, &mut seen, &content([("kept", "1"), ("changed", "49"), ("new", "1")])).await;
    timeout(SOON, health.wait_for(|health| *health == FollowHealth::Live)).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_is_given_a_new_snapshot_when_etcd_goes_back_in_time() {
    let mut server = EtcdServer::start().await;
    let store = store(&server).await;
    for n in 0..5 {
        store.commit(Txn::new().put("a", format!("{n}"))).await.unwrap();
    }
    let mut follow = store.follow("");
    assert!(matches!(change(&mut follow).await, FollowUpdate::Snapshot(_)));
    server.restart_empty().await;
    commit_when_up(&store, Txn::new().put("b", "1")).await;
    let mut seen = content([("a", "4")]);
    until(&mut follow, &mut seen, &content([("b", "1")])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_goes_unnoticed_where_nothing_was_lost() {
    let server = EtcdServer::start().await;
    let mut config = server.config();
    config.resync = Duration::from_millis(20);
    let store: Arc<dyn Store> = Arc::new(EtcdStore::connect(config).await.unwrap());
    let mut follow = store.follow("");
    assert!(matches!(change(&mut follow).await, FollowUpdate::Snapshot(_)));
    let mut last = weft_store::Revision(0);
    for n in 0..200 {
        let at = store.commit(Txn::new().put("a", format!("{n}"))).await.unwrap();
        let FollowUpdate::Batch(batch) = change(&mut follow).await else { panic!("a second snapshot") };
        assert_eq!((batch.revision, batch.events.len()), (at, 1));
        assert!(batch.revision > last, "the same change twice");
        last = batch.revision;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_meshes_share_a_cluster_by_prefix() {
    let server = EtcdServer::start().await;
    let (mut one, mut two) = (server.config(), server.config());
    one.prefix = "one/".into();
    two.prefix = "two/".into();
    let one = open(Location::Etcd(Box::new(one))).await.unwrap();
    let two = open(Location::Etcd(Box::new(two))).await.unwrap();
    let at = one.commit(Txn::new().put("a", "1")).await.unwrap();
    let mut watch = two.watch("", at).await.unwrap();
    two.commit(Txn::new().expect_absent("a").put("a", "2")).await.unwrap();
    assert_eq!(of_snapshot(&one.list_all("").await.unwrap()), content([("a", "1")]));
    assert_eq!(of_snapshot(&two.list_all("").await.unwrap()), content([("a", "2")]));
    let batch = crate::bench::next(&mut watch).await;
    assert_eq!((batch.events.len(), batch.events[0].key().as_str()), (1, "a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_are_down_do_not_stop_a_client_that_has_another() {
    let server = EtcdServer::start().await;
    let mut config = server.config();
    // Most of them refuse, so that whoever chooses by chance chooses wrongly.
    config.endpoints.splice(0..0, (1..6).map(|port| format!("http://127.0.0.1:{port}")));
    let store: Arc<dyn Store> = Arc::new(EtcdStore::connect(config).await.unwrap());
    for n in 0..50 {
        store.commit(Txn::new().put("a", format!("{n}"))).await.unwrap();
        assert_eq!(store.get("a").await.unwrap().unwrap().value, n.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_hangs_is_left_for_another() {
    let mut server = EtcdServer::start().await;
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = server.config();
    config.endpoints.insert(0, format!("http://{}", hangs.local_addr().unwrap()));
    config.request_timeout = Duration::from_secs(2);
    let store: Arc<dyn Store> = Arc::new(EtcdStore::connect(config).await.unwrap());
    store.commit(Txn::new().put("a", "1")).await.unwrap();

    // With only the one that hangs left, it is asked in vain; it is left again once the other is back.
    server.stop();
    let error = store.commit(Txn::new().put("a", "2")).await.unwrap_err();
    assert!(matches!(error, CommitError::Uncertain { .. } | CommitError::Unavailable { .. }), "{error:?}");
    server.restart().await;
    commit_when_up(&store, Txn::new().put("a", "3")).await;
    for n in 0..10 {
        store.commit(Txn::new().put("a", format!("{n}"))).await.unwrap();
    }
}

#[tokio::test]
async fn an_etcd_that_does_not_run_is_named() {
    let error = open(Location::Etcd(Box::new(weft_store::EtcdConfig::new(["http://127.0.0.1:1"])))).await;
    let error = error.unwrap_err();
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("http://127.0.0.1:1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tls_both_sides_show_certificates() {
    let server = EtcdServer::start_with(Some(certificates())).await;
    let store = store(&server).await;
    store.commit(Txn::new().put("a", "1")).await.unwrap();
    let mut follow = store.follow("");
    assert!(
        matches!(change(&mut follow).await, FollowUpdate::Snapshot(snapshot) if snapshot.entries.len() == 1)
    );

    let mut stranger = server.config();
    stranger.tls.as_mut().unwrap().identity_pem = None;
    stranger.request_timeout = Duration::from_secs(3);
    let error = EtcdStore::connect(stranger).await.unwrap_err();
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    let mut fooled = server.config();
    fooled.tls.as_mut().unwrap().ca_pem = certificates().ca.into_bytes();
    fooled.request_timeout = Duration::from_secs(3);
    let error = EtcdStore::connect(fooled).await.unwrap_err();
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
}

fn certificates() -> ServerTls {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, key).unwrap();
    let leaf = |purposes: &[ExtendedKeyUsagePurpose]| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()]).unwrap();
        params.extended_key_usages = purposes.to_vec();
        (params.signed_by(&key, &ca).unwrap().pem(), key.serialize_pem())
    };
    // etcd's own gateway connects to itself with the server's certificate.
    let server = leaf(&[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]);
    ServerTls { ca: ca.pem(), server, client: leaf(&[ExtendedKeyUsagePurpose::ClientAuth]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_authentication_a_user_works_on_after_its_token_expired() {
    let server = EtcdServer::start().await;
    let mut admin = Client::connect([server.endpoint()], None).await.unwrap();
    admin.user_add("root", "secret", None).await.unwrap();
    admin.role_add("root").await.unwrap();
    admin.user_grant_role("root", "root").await.unwrap();
    admin.user_add("weft", "secret", None).await.unwrap();
    admin.role_add("weft").await.unwrap();
    admin.role_grant_permission("weft", Permission::read_write("weft/").with_prefix()).await.unwrap();
    admin.user_grant_role("weft", "weft").await.unwrap();
    admin.auth_enable().await.unwrap();

    let error = EtcdStore::connect(server.config()).await.unwrap_err();
    assert!(error.to_string().contains("user name is empty"), "{error}");
    let mut config = server.config();
    config.user = Some(("weft".into(), "wrong".into()));
    let error = EtcdStore::connect(config.clone()).await.unwrap_err();
    assert!(error.to_string().contains("authentication failed"), "{error}");
    config.user = Some(("weft".into(), "secret".into()));
    config.resync = Duration::from_millis(500);
    let store: Arc<dyn Store> = Arc::new(EtcdStore::connect(config.clone()).await.unwrap());
    let lease = store.lease(Duration::from_secs(2)).await.unwrap();
    let mut follow = store.follow("");
    let mut seen = Content::new();
    for n in 0..4 {
        store.commit(Txn::new().put_leased("a", format!("{n}"), lease.id())).await.unwrap();
        let n = n.to_string();
        until(&mut follow, &mut seen, &content([("a", n.as_str())])).await;
        // Longer than the two seconds that the server was told to keep an idle token.
        sleep(Duration::from_millis(2500)).await;
    }
    assert!(!lease.is_lost());
    config.prefix = "other/".into();
    let error = EtcdStore::connect(config).await.unwrap_err();
    assert!(error.to_string().contains("permission denied"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_and_a_leadership_outlive_a_short_outage() {
    let mut server = EtcdServer::start().await;
    let store = store(&server).await;
    let leader = store.elect("leader", "one", Duration::from_secs(15)).await;
    server.restart().await;
    commit_when_up(&store, Txn::new().guard(leader.guard()).put("work", "1")).await;
    assert!(!leader.is_lost());
}
