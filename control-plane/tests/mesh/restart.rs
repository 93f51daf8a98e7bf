//! A control plane that ends and comes back.

use weft_api::ResourceKind;
use weft_api::rest::Sync;

use crate::peer::{declared, join};
use crate::plane::{Plane, route, service};
use crate::proxy::{Held, Sidecar};

fn versions(held: &Held) -> Vec<(&'static str, String, String)> {
    let of = |((kind, name), (version, _)): (&(&'static str, String), &(String, Vec<u8>))| {
        (*kind, name.clone(), version.clone())
    };
    held.iter().map(of).collect()
}

/// R1, S12: a stream that brings what it has is sent nothing but secrets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_on_the_same_directory_finds_everything_in_equal_versions() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart") + &route("web", "cart"))).await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let cart = join(&plane.join_token("shop/cart").await, declared("cart-1", "127.0.0.3")).await.unwrap();
    let _cart = Sidecar::start(&cart, plane.running.xds).await.go_on();
    let mut before = Sidecar::start(&web, plane.running.xds).await;
    let complete = |held: &Held| {
        Sidecar::has(held, ResourceKind::Route, "outbound/shop")
            && Sidecar::has(held, ResourceKind::Listener, "inbound")
            && Sidecar::serves(held, "shop/cart/http", 1)
            && Sidecar::serves(held, "shop/web/http", 1)
            && Sidecar::has(held, ResourceKind::Secret, "bundle")
    };
    before.until("everything", complete).await;
    let directory = plane.directory();
    let held = before.held.clone();
    drop(before);
    plane.running.end().await;

    let plane = Plane::start_in(directory, &[]).await;
    assert_eq!(plane.client.list("services", None).await.unwrap().items.len(), 2);
    let mut kept = held.clone();
    kept.remove(&(ResourceKind::Secret.short(), "bundle".to_owned()));
    let mut after = Sidecar::start_with(&web, plane.running.xds, &kept).await;
    let (kind, names) = after.step().await;
    assert_eq!((kind, names), (ResourceKind::Secret, vec!["bundle".to_owned()]));
    let _ = plane.until("shop/web-1", "in sync", |status| status.sync == Sync::Synced).await;
    assert_eq!(versions(&after.held), versions(&held));
    // Changes go on from there.
    plane.apply(&service("payments")).await;
    after
        .until("the new service", |held| Sidecar::has(held, ResourceKind::Cluster, "shop/payments/http"))
        .await;
    let sent: std::collections::BTreeSet<_> = after.log.iter().map(|(_, name)| name.as_str()).collect();
    assert!(!sent.contains("shop/cart/http"), "{sent:?}");
}
