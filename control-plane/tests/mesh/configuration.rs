//! What is applied arrives at the proxies, in order, and what they say of it comes back.

use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use prost::Message as _;
use weft_api::ResourceKind;
use weft_api::rest::{DeliveryState, ProxyConfig, ProxyResource, Sync};

use crate::peer::{declared, join};
use crate::plane::{Plane, route, service};
use crate::proxy::{Delta, Sidecar, Sotw, endpoints, names};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_applied_arrives_at_a_sidecar() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart"))).await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let cart = join(&plane.join_token("shop/cart").await, declared("cart-1", "127.0.0.3")).await.unwrap();
    let _cart = Sidecar::start(&cart, plane.running.xds).await.go_on();
    let mut sidecar = Sidecar::start(&web, plane.running.xds).await;
    sidecar
        .until("all types", |held| {
            Sidecar::has(held, ResourceKind::Cluster, "shop/cart/http")
                && Sidecar::has(held, ResourceKind::Cluster, "inbound/shop/web/http")
                && Sidecar::serves(held, "shop/cart/http", 1)
                && Sidecar::has(held, ResourceKind::Listener, "inbound")
                && Sidecar::has(held, ResourceKind::Listener, "outbound")
                && Sidecar::has(held, ResourceKind::Route, "outbound/shop")
                && Sidecar::has(held, ResourceKind::Secret, "bundle")
        })
        .await;
    let assignment = &sidecar.held[&(ResourceKind::Endpoint.short(), "shop/cart/http".to_owned())];
    assert_eq!(endpoints(&assignment.1)[0].0, "127.0.0.3");
    let _proxy = sidecar.go_on();
    let status = plane.until("shop/web-1", "in sync", |status| status.sync == Sync::Synced).await;
    assert_eq!(
        (status.service.as_str(), status.streams, status.user_agent.as_str()),
        ("shop/web", 1, "test")
    );
    assert!(status.types.contains_key(ResourceKind::Cluster.short()), "{status:?}");
}

/// W5: the route that leads to a new cluster waits until the cluster is accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn additions_are_make_before_break() {
    let plane = Plane::start().await;
    plane.apply(&service("web")).await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let mut stream = Delta::open(&web, plane.running.xds).await;
    stream.subscribe(ResourceKind::Cluster, &[]).await;
    let clusters = stream.expect(ResourceKind::Cluster).await;
    stream.ack(&clusters).await;
    stream.subscribe(ResourceKind::Route, &["outbound/shop"]).await;
    let routes = stream.expect(ResourceKind::Route).await;
    stream.ack(&routes).await;

    plane.apply(&(service("cart") + &route("web", "cart"))).await;
    let clusters = stream.expect(ResourceKind::Cluster).await;
    assert!(names(&clusters).contains(&"shop/cart/http".to_owned()));
    // The cluster is warm only with its endpoints, which are answered at once; the route is not sent meanwhile.
    stream.subscribe(ResourceKind::Endpoint, &["shop/cart/http"]).await;
    let assignment = stream.expect(ResourceKind::Endpoint).await;
    stream.ack(&assignment).await;
    stream.ack(&clusters).await;
    let routes = stream.expect(ResourceKind::Route).await;
    let text =
        format!("{:?}", routes.resources[0].resource.as_ref().unwrap().value.escape_ascii().to_string());
    assert!(text.contains("shop/cart/http"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoint_that_comes_touches_its_assignment_only() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart"))).await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let token = plane.join_token("shop/cart").await;
    let cart = join(&token, declared("cart-1", "127.0.0.3")).await.unwrap();
    let _cart = Sidecar::start(&cart, plane.running.xds).await.go_on();
    let mut sidecar = Sidecar::start(&web, plane.running.xds).await;
    sidecar
        .until("everything", |held| {
            Sidecar::has(held, ResourceKind::Route, "outbound/shop")
                && Sidecar::has(held, ResourceKind::Listener, "inbound")
                && Sidecar::has(held, ResourceKind::Secret, "bundle")
                && Sidecar::serves(held, "shop/web/http", 1)
                && Sidecar::serves(held, "shop/cart/http", 1)
        })
        .await;
    sidecar.log.clear();
    let cart = join(&token, declared("cart-2", "127.0.0.4")).await.unwrap();
    let _second = Sidecar::start(&cart, plane.running.xds).await.go_on();
    sidecar.until("the second endpoint", |held| Sidecar::serves(held, "shop/cart/http", 2)).await;
    let cart_only =
        |(kind, name): &(&str, String)| *kind == ResourceKind::Endpoint.short() && name == "shop/cart/http";
    assert!(sidecar.log.iter().all(cart_only), "{:?}", sidecar.log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusal_shows_with_its_words_and_the_policy() {
    let plane = Plane::start().await;
    plane.apply(&service("web")).await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let mut sidecar = Sidecar::start(&web, plane.running.xds).await;
    sidecar.refuses = Some(("shop/cart/http".to_owned(), "no such transport socket".to_owned()));
    let _proxy = sidecar.go_on();
    plane.until("shop/web-1", "in sync", |status| status.sync == Sync::Synced).await;
    let result = plane.apply_and_wait(&service("cart"), "20s").await;
    let wait = result.wait.unwrap();
    assert_eq!((wait.targeted, wait.acked), (1, 0), "{wait:?}");
    assert_eq!(wait.laggards[0].proxy, "shop/web-1");
    assert!(wait.laggards[0].error.as_ref().unwrap().contains("no such transport socket"), "{wait:?}");
    let status = plane.until("shop/web-1", "refusing", |status| status.sync == Sync::Refused).await;
    let refused = &status.types[ResourceKind::Cluster.short()].refused[0];
    assert_eq!(refused.resources, ["shop/cart/http"]);
    assert!(refused.message.contains("no such transport socket"));
    assert!(refused.policies.iter().any(|policy| policy.contains("shop/cart")), "{refused:?}");
    // What it refuses of an old change is no answer to the next one.
    let next = plane.apply_and_wait(&service("payments"), "20s").await.wait.unwrap();
    assert_eq!((next.targeted, next.acked), (1, 1), "{next:?}");
    // A cluster that changed is tried again (S9).
    let mended = service("cart").replace("protocol: HTTP", "protocol: HTTP2");
    assert_eq!(plane.apply_and_wait(&mended, "20s").await.wait.unwrap().laggards.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wait_counts_those_that_the_change_concerns() {
    let plane = Plane::start().await;
    let nobody = plane.apply_and_wait(&(service("web") + &service("cart")), "5s").await.wait.unwrap();
    assert_eq!((nobody.targeted, nobody.acked), (0, 0));
    let token = plane.join_token("shop/web").await;
    let mut proxies = Vec::new();
    for n in 1..=3 {
        let web = join(&token, declared(&format!("web-{n}"), &format!("127.0.0.{}", 10 + n))).await.unwrap();
        proxies.push(Sidecar::start(&web, plane.running.xds).await.go_on());
    }
    for n in 1..=3 {
        plane.until(&format!("shop/web-{n}"), "in sync", |status| status.sync == Sync::Synced).await;
    }
    let all = plane.apply_and_wait(&service("payments"), "20s").await.wait.unwrap();
    assert_eq!((all.targeted, all.acked), (3, 3), "{all:?}");
    // One that is connected and says nothing is named, without words.
    let silent = join(&token, declared("web-4", "127.0.0.14")).await.unwrap();
    let mut silent = Delta::open(&silent, plane.running.xds).await;
    silent.subscribe(ResourceKind::Cluster, &[]).await;
    silent.expect(ResourceKind::Cluster).await;
    let late = plane.apply_and_wait(&service("ledger"), "500ms").await.wait.unwrap();
    assert_eq!((late.targeted, late.acked), (4, 3), "{late:?}");
    assert_eq!((late.laggards[0].proxy.as_str(), &late.laggards[0].error), ("shop/web-4", &None));
    // One that asked for nothing of what changes is not woken, and nobody waits for it.
    let other = join(&token, declared("web-5", "127.0.0.15")).await.unwrap();
    let mut other = Delta::open(&other, plane.running.xds).await;
    other.subscribe(ResourceKind::Cluster, &["shop/cart/http"]).await;
    let cart = other.expect(ResourceKind::Cluster).await;
    other.ack(&cart).await;
    plane.until("shop/web-5", "in sync", |status| status.sync == Sync::Synced).await;
    let without = plane.apply_and_wait(&service("invoices"), "500ms").await.wait.unwrap();
    assert_eq!((without.targeted, without.acked), (4, 3), "{without:?}");
    plane.until("shop/web-5", "still in sync", |status| status.sync == Sync::Synced).await;
    other.subscribe(ResourceKind::Cluster, &["shop/invoices/http"]).await;
    assert_eq!(names(&other.expect(ResourceKind::Cluster).await), ["shop/invoices/http"]);
    // An authorization policy of one service concerns its members' listeners and nobody else.
    let deny = "apiVersion: weft.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: closed, namespace: shop}\n\
                spec: {targetRefs: [{kind: Service, name: cart}], action: Deny, rules: [{from: [{services: [web]}]}]}\n";
    assert_eq!(plane.apply_and_wait(deny, "5s").await.wait.unwrap().targeted, 0);
}

/// U14: a client of the state of the world that asks for clusters and endpoints gets those, whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_of_the_world_is_served_whole() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart"))).await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let mut stream = Sotw::open(&web, plane.running.xds).await;
    stream.ask(ResourceKind::Cluster, &[], None).await;
    let clusters = stream.expect(ResourceKind::Cluster).await;
    let decode = |any: &envoy_types::pb::google::protobuf::Any| Cluster::decode(&any.value[..]).unwrap().name;
    let mut found: Vec<_> = clusters.resources.iter().map(decode).collect();
    found.sort();
    assert_eq!(found, ["inbound/shop/web/http", "shop/cart/http", "shop/web/http"]);
    stream.ask(ResourceKind::Endpoint, &["shop/web/http", "shop/nobody/http"], None).await;
    // A name that does not exist is an empty assignment (U9), so that its cluster ends its warming.
    let assignments = stream.expect(ResourceKind::Endpoint).await;
    assert_eq!(assignments.resources.len(), 2);
    stream.ask(ResourceKind::Endpoint, &["shop/web/http", "shop/nobody/http"], Some(&assignments)).await;
    stream.ask(ResourceKind::Cluster, &[], Some(&clusters)).await;
    plane.apply(&service("payments")).await;
    let clusters = stream.expect(ResourceKind::Cluster).await;
    assert_eq!(clusters.resources.len(), 4, "everything again, and the new one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stock_envoy_is_given_its_identity_by_sds() {
    use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, secret::Type};
    let plane = Plane::start().await;
    plane.apply(&service("web")).await;
    let mut workload = declared("web-1", "127.0.0.2");
    workload.proxy_type = weft_api::join::ProxyType::Envoy.into();
    let web = join(&plane.join_token("shop/web").await, workload).await.unwrap();
    let mut stream = Delta::open(&web, plane.running.xds).await;
    stream.subscribe(ResourceKind::Secret, &["identity", "bundle"]).await;
    let mut found = Vec::new();
    while found.len() < 2 {
        let response = stream.expect(ResourceKind::Secret).await;
        stream.ack(&response).await;
        for resource in response.resources {
            let secret = Secret::decode(&resource.resource.unwrap().value[..]).unwrap();
            found.push((secret.name, matches!(secret.r#type, Some(Type::TlsCertificate(_)))));
        }
    }
    found.sort();
    assert_eq!(found, [("bundle".to_owned(), false), ("identity".to_owned(), true)]);
    let shown = plane.client.proxy_config("shop/web-1").await.unwrap().to_string();
    assert!(!shown.contains("PRIVATE"), "keys are redacted");
    let status = plane.client.object("workloads", "shop", "web-1").await.unwrap().status.unwrap();
    assert_eq!(status["keyMadeBy"], "controlPlane", "{status}");
}

/// A cluster of `shop/web-1` as its configuration tells it, once it looks so.
async fn cluster_until(
    plane: &Plane,
    name: &str,
    looks: impl Fn(Option<&ProxyResource>) -> bool,
) -> Option<ProxyResource> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let config = plane.client.proxy_config("shop/web-1").await.unwrap();
        let config: ProxyConfig = serde_json::from_value(config).unwrap();
        let found = config.types[ResourceKind::Cluster.short()].iter().find(|one| one.name == name);
        if looks(found) {
            return found.cloned();
        }
        assert!(Instant::now() < deadline, "{name}: {found:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_tells_what_should_be_there_beside_what_was_sent_and_taken() {
    const NAME: &str = "shop/cart/http";
    let is = |state| move |one: Option<&ProxyResource>| one.is_some_and(|one| one.state == state);
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart"))).await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    cluster_until(&plane, NAME, is(DeliveryState::Unknown)).await;
    let mut stream = Delta::open(&web, plane.running.xds).await;
    stream.subscribe(ResourceKind::Listener, &["other"]).await;
    let none = stream.expect(ResourceKind::Listener).await;
    stream.ack(&none).await;
    cluster_until(&plane, NAME, is(DeliveryState::NotAskedFor)).await;
    stream.subscribe(ResourceKind::Cluster, &[]).await;
    let clusters = stream.expect(ResourceKind::Cluster).await;
    let sent = cluster_until(&plane, NAME, is(DeliveryState::Sent)).await.unwrap();
    assert_eq!((sent.sent, sent.acknowledged), (None, None), "this very version, and none before");
    stream.ack(&clusters).await;
    let taken = cluster_until(&plane, NAME, is(DeliveryState::Acknowledged)).await.unwrap();

    plane.apply(&service("cart").replace("protocol: HTTP", "protocol: HTTP2")).await;
    let changed = stream.expect(ResourceKind::Cluster).await;
    stream.refuse(&changed, "no such protocol").await;
    let refused = cluster_until(&plane, NAME, is(DeliveryState::Refused)).await.unwrap();
    let runs = refused.acknowledged.unwrap();
    assert_eq!((Some(&runs.version), &runs.resource), (taken.version.as_ref(), &taken.resource));
    assert_ne!(refused.resource, runs.resource, "what differs can be seen");

    plane.client.delete("services", "shop", "cart").await.unwrap();
    let removal = stream.expect(ResourceKind::Cluster).await;
    let unwanted = cluster_until(&plane, NAME, is(DeliveryState::Unwanted)).await.unwrap();
    let still = unwanted.acknowledged.map(|one| one.version);
    assert_eq!((unwanted.version, still), (None, Some(runs.version.clone())));
    stream.ack(&removal).await;
    cluster_until(&plane, NAME, |found| found.is_none()).await;
}
