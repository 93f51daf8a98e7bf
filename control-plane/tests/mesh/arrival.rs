//! From a join to an endpoint: peers are told of a workload once its sidecar has taken its listener, and of one that only
//! calls others never.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_types::pb::envoy::config::core::v3::{BuildVersion, HealthStatus, Node};
use envoy_types::pb::envoy::r#type::v3::SemanticVersion;
use tonic::Code;
use weft_api::rest::{ProxyStatus, Sync};
use weft_api::{OLDEST_ENVOY, ResourceKind};

use crate::etcd_server::EtcdServer;
use crate::peer::{Member, declared, join};
use crate::plane::{Plane, service};
use crate::proxy::{Delta, Held, Sidecar, Sotw, node};

const HEALTHY: i32 = HealthStatus::Healthy as i32;

async fn member(plane: &Plane, service: &str, name: &str, address: &str) -> Member {
    join(&plane.join_token(&format!("shop/{service}")).await, declared(name, address)).await.unwrap()
}

/// What an Envoy does whose owner wrote its listeners: clusters are all that it asks for.
async fn with_own_listeners(plane: &Plane, member: &Member) -> Delta {
    let mut stream = Delta::open(member, plane.running.xds).await;
    stream.subscribe(ResourceKind::Cluster, &[]).await;
    let clusters = stream.expect(ResourceKind::Cluster).await;
    stream.ack(&clusters).await;
    plane.until(&member.id, "in sync", |status| status.sync == Sync::Synced).await;
    stream
}

async fn take_listeners(stream: &mut Delta) {
    stream.subscribe(ResourceKind::Listener, &[]).await;
    let listeners = stream.expect(ResourceKind::Listener).await;
    stream.ack(&listeners).await;
}

async fn until_health(plane: &Plane, id: &str, health: &str) -> ProxyStatus {
    plane.until(id, health, |status| status.health == health).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_with_listeners_of_its_own_is_never_an_endpoint() {
    let plane = Plane::start_with(&["--degrade-after", "1s", "--drain-after", "1h"]).await;
    plane.apply(&(service("web") + &service("cart") + &service("idle"))).await;
    let cart = member(&plane, "cart", "cart-1", "127.0.0.3").await;
    let mut own = with_own_listeners(&plane, &cart).await;
    // Time passes: another one is missed meanwhile.
    let idle = member(&plane, "idle", "idle-1", "127.0.0.4").await;
    let connected = Sidecar::start(&idle, plane.running.xds).await.go_on();
    until_health(&plane, "shop/idle-1", "Healthy").await;
    drop(connected);
    until_health(&plane, "shop/idle-1", "Degraded").await;
    assert_eq!(plane.status("shop/cart-1").await.unwrap().health, "Starting");
    let web = member(&plane, "web", "web-1", "127.0.0.2").await;
    let mut watcher = Sidecar::start(&web, plane.running.xds).await;
    watcher.until("no endpoint of cart", |held| Sidecar::serves(held, "shop/cart/http", 0)).await;

    take_listeners(&mut own).await;
    watcher.until_health("shop/cart/http", HEALTHY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_takes_nobody_away_and_lets_nobody_in() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart") + &service("old"))).await;
    let web = member(&plane, "web", "web-1", "127.0.0.2").await;
    let cart = member(&plane, "cart", "cart-1", "127.0.0.3").await;
    let old = member(&plane, "old", "old-1", "127.0.0.4").await;
    let _own = with_own_listeners(&plane, &cart).await;
    let _old = Sidecar::start(&old, plane.running.xds).await.go_on();
    until_health(&plane, "shop/old-1", "Healthy").await;
    let directory = plane.directory();
    plane.running.end().await;

    let plane = Plane::start_in(directory, &[]).await;
    assert_eq!(plane.status("shop/old-1").await.unwrap().health, "Healthy", "before its stream is back");
    let _own = with_own_listeners(&plane, &cart).await;
    let mut watcher = Sidecar::start(&web, plane.running.xds).await;
    let as_before =
        |held: &Held| Sidecar::serves(held, "shop/old/http", 1) && Sidecar::serves(held, "shop/cart/http", 0);
    watcher.until("what there was", as_before).await;
    assert_eq!(plane.status("shop/cart-1").await.unwrap().health, "Starting");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workload_without_its_service_says_so_until_it_is_applied() {
    let plane = Plane::start().await;
    let cart = member(&plane, "cart", "cart-1", "127.0.0.3").await;
    let _sidecar = Sidecar::start(&cart, plane.running.xds).await.go_on();
    let status = plane.until("shop/cart-1", "connected", |status| status.streams > 0).await;
    assert_eq!(status.health, "Starting");
    let reason = status.health_reason.expect("a reason");
    assert!(reason.contains("Service shop/cart does not exist"), "{reason}");

    plane.apply(&service("cart")).await;
    let status = until_health(&plane, "shop/cart-1", "Healthy").await;
    assert_eq!(status.health_reason, None);
}

/// Wherever the stream is, every replica tells the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listener_that_one_replica_sees_taken_is_known_to_the_other() {
    let etcd = EtcdServer::start().await;
    let endpoint = etcd.endpoint();
    let a = Plane::start_with(&["--etcd", &endpoint]).await;
    let seal = a.seal_key().display().to_string();
    let b = Plane::start_with(&["--etcd", &endpoint, "--seal-key", &seal]).await;
    a.apply(&(service("web") + &service("cart"))).await;
    let web = member(&a, "web", "web-1", "127.0.0.2").await;
    let cart = member(&a, "cart", "cart-1", "127.0.0.3").await;
    let mut watcher = Sidecar::start(&web, b.running.xds).await;
    watcher.until("no endpoint of cart", |held| Sidecar::serves(held, "shop/cart/http", 0)).await;
    let mut stream = with_own_listeners(&a, &cart).await;
    // By then B has heard of the stream, which by itself is no listener.
    let there = async {
        while !b.running.reconciler.is_on_another_replica(&"shop/cart-1".parse().unwrap()).await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::plane::DEADLINE, there).await.expect("B hears of the stream");
    assert_eq!(b.status("shop/cart-1").await.unwrap().health, "Starting");
    take_listeners(&mut stream).await;
    watcher.until_health("shop/cart/http", HEALTHY).await;

    // What keeps its identity restarts beside an Envoy that stays, and says so to the other replica.
    cart.leave(b.running.xds).await;
    until_health(&a, "shop/cart-1", "Draining").await;
    cart.come_back(b.running.xds).await;
    until_health(&a, "shop/cart-1", "Healthy").await;
    until_health(&b, "shop/cart-1", "Healthy").await;
}

/// R1: one that comes back has its listener since an earlier stream, and is sent nothing that it could acknowledge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_listener_brought_along_counts_after_a_goodbye() {
    let plane = Plane::start().await;
    plane.apply(&service("cart")).await;
    let cart = member(&plane, "cart", "cart-1", "127.0.0.3").await;
    let mut delta = Delta::open(&cart, plane.running.xds).await;
    delta.subscribe(ResourceKind::Listener, &[]).await;
    let listeners = delta.expect(ResourceKind::Listener).await;
    delta.ack(&listeners).await;
    until_health(&plane, "shop/cart-1", "Healthy").await;
    let brought: HashMap<String, String> =
        listeners.resources.iter().map(|one| (one.name.clone(), one.version.clone())).collect();
    drop(delta);
    let goodbye_and_back = async || {
        cart.leave(plane.running.xds).await;
        plane.until("shop/cart-1", "gone", |status| status.streams == 0).await;
        cart.come_back(plane.running.xds).await;
        until_health(&plane, "shop/cart-1", "Starting").await;
    };

    goodbye_and_back().await;
    let mut delta = Delta::open(&cart, plane.running.xds).await;
    delta.subscribe_with(ResourceKind::Listener, &[], brought).await;
    until_health(&plane, "shop/cart-1", "Healthy").await;
    drop(delta);

    let mut sotw = Sotw::open(&cart, plane.running.xds).await;
    sotw.ask(ResourceKind::Listener, &[], None).await;
    let set = sotw.expect(ResourceKind::Listener).await;
    drop(sotw);
    goodbye_and_back().await;
    let mut sotw = Sotw::open(&cart, plane.running.xds).await;
    sotw.bring(ResourceKind::Listener, &set.version_info).await;
    until_health(&plane, "shop/cart-1", "Healthy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_is_published_nowhere() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart"))).await;
    let mut workload = declared("cart-caller", "127.0.0.3");
    workload.client = true;
    let client = join(&plane.join_token("shop/cart").await, workload).await.unwrap();
    let mut stream = Sidecar::start(&client, plane.running.xds).await;
    let has_clusters = |held: &Held| {
        Sidecar::has(held, ResourceKind::Listener, "outbound")
            && Sidecar::serves(held, "shop/cart/http", 0)
            && Sidecar::has(held, ResourceKind::Secret, "bundle")
    };
    stream.until("what it calls with", has_clusters).await;
    let status = until_health(&plane, "shop/cart-caller", "Healthy").await;
    assert!(status.client, "{status:?}");
    assert!(!Sidecar::has(&stream.held, ResourceKind::Listener, "inbound"));

    // A member of the same service is told of, and the client is not.
    let cart = member(&plane, "cart", "cart-1", "127.0.0.4").await;
    let _cart = Sidecar::start(&cart, plane.running.xds).await.go_on();
    stream.until_health("shop/cart/http", HEALTHY).await;
    assert!(Sidecar::serves(&stream.held, "shop/cart/http", 1));
    let status = plane.status("shop/cart-1").await.unwrap();
    assert!(!status.client, "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_that_is_too_old_is_refused_with_a_sentence() {
    let plane = Plane::start().await;
    plane.apply(&service("web")).await;
    let web = member(&plane, "web", "web-1", "127.0.0.2").await;
    let envoy = |minor_number| {
        let version = SemanticVersion { major_number: OLDEST_ENVOY.0, minor_number, patch: 0 };
        let build = BuildVersion { version: Some(version), ..BuildVersion::default() };
        Node {
            user_agent_name: "envoy".to_owned(),
            user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(build)),
            ..node(&web.id)
        }
    };
    let answer = async |node: Node| {
        let mut stream = Delta::open_with(&web, node, plane.running.xds).await?;
        stream.subscribe(ResourceKind::Cluster, &[]).await;
        stream.next().await
    };
    answer(envoy(OLDEST_ENVOY.1)).await.expect("the oldest is served");
    let refused = answer(envoy(OLDEST_ENVOY.1 - 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("is the oldest that this control plane serves"), "{refused}");
}
