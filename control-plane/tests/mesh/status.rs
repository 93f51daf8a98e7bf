//! What became of an object, and which proxies have it.

use std::time::Instant;

use weft_api::ResourceKind;
use weft_api::client::ApiClient;
use weft_api::rest::{ConditionStatus, Object, ObjectStatus, Outcome, StatusCondition};

use crate::peer::{declared, join};
use crate::plane::{Plane, route, service};
use crate::proxy::{Delta, Sidecar};

fn status_of(object: Object) -> ObjectStatus {
    serde_json::from_value(object.status.expect("a status")).unwrap()
}

fn condition<'a>(status: &'a ObjectStatus, kind: &str) -> &'a StatusCondition {
    status.conditions.iter().find(|one| one.kind == kind).unwrap_or_else(|| panic!("no {kind}: {status:?}"))
}

async fn until(plane: &Plane, what: &str, name: &str, is: impl Fn(&ObjectStatus) -> bool) -> ObjectStatus {
    let deadline = Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let status = status_of(plane.client.object_with_proxies("services", "shop", name).await.unwrap());
        if is(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "not {what}: {status:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_counts_who_has_it_who_refused_it_and_who_is_silent() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart"))).await;
    let nobody = status_of(plane.client.object("services", "shop", "cart").await.unwrap());
    assert_eq!(condition(&nobody, "Programmed").reason, "NoProxies");
    assert_eq!(condition(&nobody, "Accepted").status, ConditionStatus::True);
    assert!(condition(&nobody, "Accepted").last_transition_time.is_some(), "since it was made: {nobody:?}");

    let token = plane.join_token("shop/web").await;
    let first = join(&token, declared("web-1", "127.0.0.11")).await.unwrap();
    let sidecar = Sidecar::start(&first, plane.running.xds).await.go_on();
    let has = |count: usize| {
        move |status: &ObjectStatus| status.proxies.as_ref().is_some_and(|one| one.acked == count)
    };
    let one = until(&plane, "taken", "cart", has(1)).await;
    assert_eq!(condition(&one, "Programmed").status, ConditionStatus::True);
    assert_eq!(one.proxies.unwrap().acknowledged, ["shop/web-1"]);

    // One that asks for clusters alone is concerned too, and refuses a change of one of them.
    let second = join(&token, declared("web-2", "127.0.0.12")).await.unwrap();
    let mut stubborn = Delta::open(&second, plane.running.xds).await;
    stubborn.subscribe(ResourceKind::Cluster, &["shop/cart/http"]).await;
    let cart = stubborn.expect(ResourceKind::Cluster).await;
    let waits =
        until(&plane, "waited for", "cart", |status| status.proxies.as_ref().unwrap().pending == 1).await;
    assert_eq!(condition(&waits, "Programmed").reason, "Pending");
    stubborn.refuse(&cart, "this is no cluster of mine").await;
    let refused =
        until(&plane, "refused", "cart", |status| status.proxies.as_ref().unwrap().nacked == 1).await;
    let programmed = condition(&refused, "Programmed");
    assert_eq!((programmed.status, &*programmed.reason), (ConditionStatus::False, "Refused"));
    assert!(
        programmed.message.contains("shop/web-2: shop/cart/http: this is no cluster of mine"),
        "{programmed:?}"
    );
    let counts = refused.proxies.unwrap();
    assert_eq!((counts.targeted, counts.acked, counts.pending, counts.away), (2, 1, 0, 0), "{counts:?}");
    // What it refused comes from nothing else, and it asked for nothing else.
    let web = status_of(plane.client.object("services", "shop", "web").await.unwrap());
    assert_eq!(web.proxies.as_ref().map(|one| (one.targeted, one.nacked)), Some((1, 0)), "{web:?}");
    let list = plane.client.list("services", None).await.unwrap();
    let reasons =
        list.items.into_iter().map(status_of).map(|one| condition(&one, "Programmed").reason.clone());
    assert_eq!(reasons.collect::<Vec<_>>(), ["Refused", "Programmed"], "a list says the same");

    drop((sidecar, stubborn));
    let away = until(&plane, "away", "cart", |status| status.proxies.as_ref().unwrap().away == 2).await;
    assert_eq!(away.proxies.unwrap().absent, ["shop/web-1", "shop/web-2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_what_is_named_and_not_there_and_is_ignored_when_it_is_applied() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &route("web", "nowhere"))).await;
    let object = plane.client.object("httproutes", "shop", "web").await.unwrap();
    let status = status_of(object.clone());
    let refs = condition(&status, "ResolvedRefs");
    assert_eq!((refs.status, &*refs.reason), (ConditionStatus::False, "RefNotFound"), "{status:?}");
    assert!(refs.message.contains("nowhere"), "{refs:?}");
    assert_eq!(refs.observed_generation, 1);
    // Read, and applied as it was read: nothing changes.
    let read = serde_json::to_string(&object).unwrap();
    let again = plane.apply(&read).await;
    assert_eq!(again.documents[0].outcome, Outcome::Unchanged, "{again:?}");
    plane.apply(&service("nowhere")).await;
    let status = status_of(plane.client.object("httproutes", "shop", "web").await.unwrap());
    assert_eq!(condition(&status, "ResolvedRefs").status, ConditionStatus::True, "{status:?}");
    // What no proxy is told of has no proxies.
    plane
        .apply("apiVersion: weft.dev/v1\nkind: Role\nmetadata: {name: r}\nspec: {rules: [{verbs: [Read], kinds: [Service], namespaces: [shop]}]}\n")
        .await;
    let role = status_of(plane.client.object("roles", "default", "r").await.unwrap());
    assert!(role.proxies.is_none() && role.conditions.len() == 2, "{role:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_list_has_a_status_for_each() {
    let plane = Plane::start().await;
    let services: String = (0..1000).map(|n| service(&format!("s-{n}"))).collect();
    plane.apply(&(service("web") + &services)).await;
    let token = plane.join_token("shop/web").await;
    let mut sidecars = Vec::new();
    for n in 1..=20 {
        let member = join(&token, declared(&format!("web-{n}"), &format!("127.0.1.{n}"))).await.unwrap();
        sidecars.push(Sidecar::start(&member, plane.running.xds).await.go_on());
    }
    until(&plane, "everywhere", "s-999", |status| status.proxies.as_ref().unwrap().acked == 20).await;
    let begun = Instant::now();
    let list = plane.client.list("services", None).await.unwrap();
    println!("1001 objects beside 20 proxies: {:?}", begun.elapsed());
    assert_eq!(list.items.len(), 1001);
    for object in list.items {
        let name = object.metadata["name"].clone();
        let counts = status_of(object).proxies.unwrap();
        assert_eq!((counts.targeted, counts.acked), (20, 20), "{name}: {counts:?}");
    }
}

/// What holds for calls to a service is said at several levels: each value tells where it stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_value_that_holds_tells_who_set_it_as_far_as_its_reader_may_know() {
    let plane = Plane::start().await;
    let policy = |name: &str, target: &str, spec: &str| {
        format!(
            "apiVersion: weft.dev/v1\nkind: TrafficPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{targetRefs: [{target}], {spec}}}\n---\n"
        )
    };
    let routed = "apiVersion: weft.dev/v1\nkind: HTTPRoute\nmetadata: {name: web, namespace: shop}\n\
                  spec: {parentRefs: [{kind: Service, name: web}], rules: [{name: all, timeouts: {request: 1s}}]}\n---\n";
    let rights = "apiVersion: weft.dev/v1\nkind: Role\nmetadata: {name: reader}\n\
                  spec: {rules: [{verbs: [Read], kinds: [Service], namespaces: [shop]}]}\n---\n\
                  apiVersion: weft.dev/v1\nkind: RoleBinding\nmetadata: {name: reader}\n\
                  spec: {role: reader, subjects: [{principal: ann}]}\n---\n";
    let broad =
        policy("all", "{kind: Namespace, name: shop}", "timeouts: {request: 5s}, retry: {attempts: 1}");
    let narrow = policy("own", "{kind: Service, name: web}", "timeouts: {request: 2s}");
    plane.apply(&[&service("web"), &broad, &narrow, routed, rights].concat()).await;

    let values = async |client: &ApiClient, kind: &str| {
        let status = status_of(client.described_object(kind, "shop", "web").await.unwrap());
        let [group] = &status.effective[..] else { panic!("{status:?}") };
        let told = group.values.iter().map(|one| {
            let from =
                (one.origin.as_deref().unwrap_or("built in"), one.level.as_deref().unwrap_or_default());
            format!("{} {} {} {}", one.field, one.value, from.0, from.1)
        });
        (group.of.clone(), told.collect::<Vec<_>>())
    };
    let (of, told) = values(&plane.client, "services").await;
    assert_eq!(of, "port http");
    for value in [
        "requestTimeout \"2s\" TrafficPolicy shop/own service",
        "retryAttempts 1 TrafficPolicy shop/all namespace",
        "loadBalancer \"LeastRequest\" built in ",
    ] {
        assert!(told.iter().any(|one| one == value), "{value}: {told:#?}");
    }
    assert!(told[0].contains("shop/") && told[told.len() - 1].contains("built in"), "{told:#?}");
    let (of, told) = values(&plane.client, "httproutes").await;
    assert_eq!(of, "rule all at shop/web:http");
    assert!(told.contains(&"requestTimeout \"1s\" HTTPRoute shop/web route rule".to_owned()), "{told:#?}");
    assert!(!told.iter().any(|one| one.starts_with("loadBalancer")), "that is the backend's: {told:#?}");
    // Whoever asks for nothing more is told nothing more.
    let plain = status_of(plane.client.object("services", "shop", "web").await.unwrap());
    assert!(plain.effective.is_empty(), "{plain:?}");

    let token = plane.client.create_principal("ann").await.unwrap().token;
    let ann = ApiClient::try_new(&format!("http://{}", plane.running.api), &token, &[]).unwrap();
    let (_, told) = values(&ann, "services").await;
    assert!(
        told.contains(&"requestTimeout \"2s\" a TrafficPolicy of namespace shop service".to_owned()),
        "{told:#?}"
    );
}

/// Nothing is written for a reading: what is told is when this replica saw it first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_condition_tells_since_when_it_has_been_seen_to_hold() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &route("web", "nowhere"))).await;
    let read = async || {
        let object = plane.client.object("httproutes", "shop", "web").await.unwrap();
        let made = object.metadata["createdAt"].as_str().unwrap().to_owned();
        let status = status_of(object);
        let of = |kind: &str| condition(&status, kind).last_transition_time.clone().expect(kind);
        (made, of("Accepted"), of("ResolvedRefs"), of("Programmed"))
    };
    let revision = async || plane.client.list("services", None).await.unwrap().revision;
    let (first, before) = (read().await, revision().await);
    assert_eq!(first.0, first.1, "it was accepted when it was made");
    assert!(first.2 >= first.0 && first.3 >= first.0, "{first:?}");
    assert_eq!(read().await, first, "reading again changes nothing");
    assert_eq!(revision().await, before, "and writes nothing");
    plane.apply(&service("nowhere")).await;
    let then = read().await;
    assert!(then.2 > first.2, "{then:?} after {first:?}");
    assert_eq!((&then.1, &then.3), (&first.1, &first.3), "the others are as they were");
    // One of the same name is another object.
    plane.client.delete("httproutes", "shop", "web").await.unwrap();
    plane.apply(&route("web", "nowhere")).await;
    let anew = read().await;
    assert!(anew.0 > first.0 && anew.1 == anew.0 && anew.3 > first.3, "{anew:?} after {first:?}");
}
