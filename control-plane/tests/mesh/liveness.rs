//! Streams that are lost, workloads that say goodbye.

use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use weft_api::ResourceKind;

use crate::peer::{Member, declared, join};
use crate::plane::{Plane, service};
use crate::proxy::{Sidecar, endpoints};

const QUICK: [&str; 6] = ["--degrade-after", "300ms", "--drain-after", "1500ms", "--remove-after", "1h"];

/// One web that watches, and four carts that stay, beside those of the test.
async fn mesh(flags: &[&str]) -> (Plane, Sidecar, Vec<impl Sized>) {
    let plane = Plane::start_with(flags).await;
    plane.apply(&(service("web") + &service("cart") + &service("bystander"))).await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let token = plane.join_token("shop/bystander").await;
    let mut others = Vec::new();
    for n in 0..4 {
        let member = join(&token, declared(&format!("by-{n}"), &format!("127.0.1.{n}"))).await.unwrap();
        others.push(Sidecar::start(&member, plane.running.xds).await.go_on());
    }
    let watcher = Sidecar::start(&web, plane.running.xds).await;
    (plane, watcher, others)
}

async fn cart(plane: &Plane) -> Member {
    join(&plane.join_token("shop/cart").await, declared("cart-1", "127.0.0.3")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_stream_degrades_then_drains_and_one_that_comes_back_revives() {
    let (plane, mut watcher, _others) = mesh(&QUICK).await;
    let member = cart(&plane).await;
    let proxy = Sidecar::start(&member, plane.running.xds).await.go_on();
    plane.until("shop/cart-1", "connected", |status| status.streams == 1).await;
    watcher.until_health("shop/cart/http", HealthStatus::Healthy as i32).await;
    drop(proxy);
    watcher.until_health("shop/cart/http", HealthStatus::Degraded as i32).await;
    watcher.until_health("shop/cart/http", HealthStatus::Draining as i32).await;
    let _proxy = Sidecar::start(&member, plane.running.xds).await.go_on();
    watcher.until_health("shop/cart/http", HealthStatus::Healthy as i32).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goodbye_drains_at_once() {
    // With limits that would take for ever: only the goodbye can do it.
    let (plane, mut watcher, _others) = mesh(&[]).await;
    let member = cart(&plane).await;
    let _proxy = Sidecar::start(&member, plane.running.xds).await.go_on();
    watcher.until_health("shop/cart/http", HealthStatus::Healthy as i32).await;
    member.leave(plane.running.xds).await;
    watcher.until_health("shop/cart/http", HealthStatus::Draining as i32).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_lost_all_at_once_are_held_back() {
    let (plane, watcher, others) = mesh(&QUICK).await;
    for n in 0..4 {
        // One that goes before its sidecar listens is starting for ever, and no endpoint.
        plane.until(&format!("shop/by-{n}"), "healthy", |status| status.health == "Healthy").await;
    }
    drop((watcher, others));
    let mut published = plane.running.reconciler.published();
    let held = published.wait_for(|published| published.held_back >= 5);
    tokio::time::timeout(crate::plane::DEADLINE, held).await.expect("held back in time").unwrap();
    let member = cart(&plane).await;
    let mut again = Sidecar::start(&member, plane.running.xds).await;
    again.until_health("shop/bystander/http", HealthStatus::Degraded as i32).await;
    let assignment = &again.held[&(ResourceKind::Endpoint.short(), "shop/bystander/http".to_owned())];
    assert_eq!(endpoints(&assignment.1).len(), 4);
    assert!(endpoints(&assignment.1).iter().all(|(_, health)| *health == HealthStatus::Degraded as i32));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_stream_of_a_workload_keeps_it_alive() {
    let (plane, mut watcher, _others) = mesh(&QUICK).await;
    let member = cart(&plane).await;
    let first = Sidecar::start(&member, plane.running.xds).await.go_on();
    let second = Sidecar::start(&member, plane.running.xds).await.go_on();
    plane.until("shop/cart-1", "connected twice", |status| status.streams == 2).await;
    drop(first);
    plane.until("shop/cart-1", "connected once", |status| status.streams == 1).await;
    watcher.until_health("shop/cart/http", HealthStatus::Healthy as i32).await;
    drop(second);
    watcher.until_health("shop/cart/http", HealthStatus::Degraded as i32).await;
}
