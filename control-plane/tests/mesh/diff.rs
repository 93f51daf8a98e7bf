//! What a diff says of documents, resources and proxies is what the apply then does.

use std::collections::BTreeSet;

use weft_api::client::HistoryPart;
use weft_api::rest::{DiffResult, Outcome, ResourceDiff, Sync};

use crate::peer::{declared, join};
use crate::plane::{Plane, problem, route, service};
use crate::proxy::Sidecar;

fn found<'a>(diff: &'a DiffResult, kind: &str, name: &str) -> Option<&'a ResourceDiff> {
    diff.resources.iter().find(|one| one.kind == kind && one.name == name)
}

async fn diff(plane: &Plane, text: &str) -> DiffResult {
    plane.client.diff(text).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn diff_tells_documents_resources_and_proxies_and_writes_nothing() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart"))).await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let cart = join(&plane.join_token("shop/cart").await, declared("cart-1", "127.0.0.3")).await.unwrap();
    let _web = Sidecar::start(&web, plane.running.xds).await.go_on();
    let _cart = Sidecar::start(&cart, plane.running.xds).await.go_on();
    for id in ["shop/web-1", "shop/cart-1"] {
        plane.until(id, "in sync", |status| status.sync == Sync::Synced).await;
    }

    let same = diff(&plane, &service("web")).await;
    assert!(
        !same.changes && same.documents.is_empty() && same.resources.is_empty() && same.proxies.is_empty()
    );

    let new = diff(&plane, &(service("other") + &route("web", "cart"))).await;
    let told: Vec<_> = new.documents.iter().map(|one| (one.kind.as_str(), one.outcome)).collect();
    assert_eq!(told, [("Service", Outcome::Created), ("HTTPRoute", Outcome::Created)]);
    let cluster = found(&new, "Cluster", "shop/other/http").unwrap_or_else(|| panic!("{new:#?}"));
    assert_eq!((cluster.outcome, cluster.proxy_count), (Outcome::Created, 2));
    assert!(new.changes && new.resource_count == new.resources.len());

    let labelled = service("cart").replace("port: 80", "port: 81");
    let updated = diff(&plane, &labelled).await;
    assert_eq!(updated.documents[0].fields[0].path, "spec.ports[0].port");
    assert_eq!(updated.revision, 1);
    assert_eq!(plane.client.history(&HistoryPart::default()).await.unwrap().newest, 1, "nothing was written");
    let refused = problem(plane.client.diff(&route("web", "cart").replace("80", "99")).await);
    assert_eq!(refused.status, 422, "{refused}");

    plane.apply(&service("other")).await;
    let back = plane.client.diff_to(1).await.unwrap();
    let told: Vec<_> = back.documents.iter().map(|one| (one.name.as_str(), one.outcome)).collect();
    assert_eq!((told, back.revision), (vec![("other", Outcome::Deleted)], 2));
    let cluster = found(&back, "Cluster", "shop/other/http").unwrap_or_else(|| panic!("{back:#?}"));
    assert_eq!((cluster.outcome, cluster.proxy_count), (Outcome::Deleted, 2));
    assert_eq!(problem(plane.client.diff_to(7).await).status, 404);
    let bare = plane.raw("POST", "/v1/diff?to=1", Some(&plane.token), Vec::new()).await;
    assert_eq!(bare.0, 200, "{}", String::from_utf8_lossy(&bare.2));
    let nothing = plane.raw("POST", "/v1/diff", Some(&plane.token), Vec::new()).await;
    assert_eq!(nothing.0, 400);
    let both = plane.raw("POST", "/v1/diff?to=1", Some(&plane.token), service("web").into_bytes()).await;
    assert_eq!(both.0, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_that_a_diff_names_are_those_that_the_apply_goes_to() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart"))).await;
    let mut sidecars = Vec::new();
    for (name, address) in [("web", "127.0.0.2"), ("cart", "127.0.0.3")] {
        let token = plane.join_token(&format!("shop/{name}")).await;
        let identity = join(&token, declared(&format!("{name}-1"), address)).await.unwrap();
        sidecars.push(Sidecar::start(&identity, plane.running.xds).await.go_on());
        plane.until(&format!("shop/{name}-1"), "in sync", |status| status.sync == Sync::Synced).await;
    }
    let deny = "apiVersion: weft.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: shop}\n\
                spec: {targetRefs: [{kind: Service, name: cart}], action: Deny, rules: [{}]}\n";
    let declared_view = "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {name: mesh}\n\
                         spec: {defaults: {view: Declared}}\n";
    let workload = "apiVersion: weft.dev/v1\nkind: Workload\nmetadata: {name: cart-1, namespace: shop, labels: {a: b}}\n\
                    spec: {address: 127.0.0.3, services: [cart]}\n";
    let steps = [
        route("web", "cart"),
        service("more"),
        deny.to_owned(),
        declared_view.to_owned(),
        workload.to_owned(),
    ];
    for text in steps {
        let told = diff(&plane, &text).await;
        let wait = plane.apply_and_wait(&text, "10s").await.wait.unwrap();
        let named: BTreeSet<&str> = told.proxies.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(named.len(), wait.targeted, "{text}\n{told:#?}");
        assert_eq!(wait.acked, wait.targeted, "{wait:?}");
        assert!(!diff(&plane, &text).await.changes, "{text}");
    }
}
