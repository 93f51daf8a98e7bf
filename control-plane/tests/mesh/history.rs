//! What was changed, by whom, and going back.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weft_api::client::{ApplyOptions, HistoryPart, RollbackOptions};
use weft_api::rest::{AppliedDocument, CHANGED_MEANWHILE, NOT_KEPT, Outcome};
use weft_control_plane::clock::Clock;
use weft_control_plane::policy::log::{Authorship, LogRetention, PolicyLog};
use weft_control_plane::policy::repository::Policies;
use weft_store::{Location, StoreExt as _};

use crate::plane::{Plane, problem, route, service};

fn plain() -> RollbackOptions {
    RollbackOptions::default()
}

fn told(documents: &[AppliedDocument]) -> Vec<(Outcome, &str)> {
    documents.iter().map(|one| (one.outcome, one.name.as_str())).collect()
}

/// Its spec, and what the server keeps of it.
async fn read(plane: &Plane, kind: &str, name: &str) -> (Value, Value) {
    let object = plane.client.object(kind, "shop", name).await.unwrap();
    (object.spec, object.metadata)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_change_is_told_with_author_reason_and_documents() {
    let plane = Plane::start().await;
    let client = plane.client.clone().with_user_agent("tests/1.0");
    let because = |text: &str| ApplyOptions { message: Some(text.to_owned()), ..ApplyOptions::default() };
    client.apply(&(service("web") + &service("cart")), &because("a start")).await.unwrap();
    client.apply(&(service("web").replace("80", "81") + &service("cart")), &because("")).await.unwrap();
    plane.client.delete("services", "shop", "cart").await.unwrap();

    let history = plane.client.history(&HistoryPart::default()).await.unwrap();
    assert_eq!((history.newest, history.oldest, history.before), (3, 1, None));
    let [third, second, first] = &history.items[..] else { panic!("{history:#?}") };
    assert_eq!(told(&first.documents), [(Outcome::Created, "cart"), (Outcome::Created, "web")]);
    assert_eq!(told(&second.documents), [(Outcome::Updated, "web")]);
    assert_eq!(told(&third.documents), [(Outcome::Deleted, "cart")]);
    let by = (first.info.author.as_str(), first.info.client.as_str(), first.info.message.as_str());
    assert_eq!(by, ("operator", "tests/1.0", "a start"));
    assert_eq!((first.info.revision, first.info.changes), (1, 2));
    assert!(first.info.at > 0 && first.info.id != second.info.id);

    let part = HistoryPart { limit: Some(2), ..HistoryPart::default() };
    let page = plane.client.history(&part).await.unwrap();
    assert_eq!((page.items.len(), page.before), (2, Some(2)));
    let rest = plane.client.history(&HistoryPart { before: page.before, ..part }).await.unwrap();
    assert_eq!((rest.items.len(), rest.items[0].info.revision, rest.before), (1, 1, None));

    let of_cart = HistoryPart {
        kind: Some("svc".to_owned()),
        namespace: Some("shop".to_owned()),
        name: Some("cart".to_owned()),
        ..HistoryPart::default()
    };
    let cart = plane.client.history(&of_cart).await.unwrap();
    assert_eq!(cart.items.iter().map(|one| one.info.revision).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(told(&cart.items[1].documents), [(Outcome::Created, "cart")]);

    let second = plane.client.revision(2, None).await.unwrap();
    let [web] = &second.documents[..] else { panic!("{second:#?}") };
    let [field] = &web.fields[..] else { panic!("{web:#?}") };
    assert_eq!(
        (field.path.as_str(), &field.before, &field.after),
        ("spec.ports[0].port", &Some(json!(80)), &Some(json!(81)))
    );
    let third = plane.client.revision(3, None).await.unwrap();
    let [cart] = &third.documents[..] else { panic!("{third:#?}") };
    assert!(cart.before.is_some() && cart.after.is_none() && cart.outcome == Outcome::Deleted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_and_reasons_that_make_no_sense_are_refused() {
    let plane = Plane::start().await;
    plane.apply(&service("web")).await;
    let token = Some(plane.token.as_str());
    for (path, status) in [
        ("/v1/history?limit=0", 400),
        ("/v1/history?limit=101", 400),
        ("/v1/history?before=x", 400),
        ("/v1/history?kind=pods", 400),
        ("/v1/history?name=A%2FB", 400),
        ("/v1/history/x", 400),
        ("/v1/history/0", 404),
        ("/v1/history/2", 404),
        ("/v1/history/1?wait=forever", 400),
    ] {
        let (got, _, body) = plane.raw("GET", path, token, Vec::new()).await;
        assert_eq!(got, status, "{path}: {}", String::from_utf8_lossy(&body));
    }
    for message in ["a%1b[31m", "two%0alines", &"x".repeat(1001)] {
        let path = format!("/v1/apply?message={message}");
        let (got, _, _) = plane.raw("POST", &path, token, service("web").into_bytes()).await;
        assert_eq!(got, 400, "{path}");
    }
    for body in ["", "{}", "{\"to\": -1}", "{\"to\": 1, \"too\": 2}", "{\"to\": 1, \"dryRun\": true}"] {
        let (got, _, _) = plane.raw("POST", "/v1/rollback", token, body.into()).await;
        assert_eq!(got, 400, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollback_makes_the_policies_what_they_were() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart") + &route("web", "cart"))).await;
    let before = (read(&plane, "services", "web").await, read(&plane, "httproutes", "web").await);
    let labelled = service("web").replace("name: web,", "name: web, labels: {tier: front},");
    plane.apply(&(labelled + &service("other"))).await;
    plane.client.delete("httproutes", "shop", "web").await.unwrap();

    let tried = plane.client.rollback(1, &RollbackOptions { dry_run: true, ..plain() }).await.unwrap();
    let all = [(Outcome::Deleted, "other"), (Outcome::Updated, "web"), (Outcome::Created, "web")];
    assert_eq!((told(&tried.documents), tried.revision, tried.dry_run), (all.to_vec(), 0, true));
    let done = plane.client.rollback(1, &plain()).await.unwrap();
    assert_eq!((told(&done.documents), done.revision), (all.to_vec(), 4));

    let after = (read(&plane, "services", "web").await, read(&plane, "httproutes", "web").await);
    assert_eq!((&before.0.0, &before.1.0), (&after.0.0, &after.1.0));
    // The same object goes on; one that was gone is another, which stands where the old one stood among routes.
    assert_eq!((&after.0.1["uid"], &after.0.1["generation"]), (&before.0.1["uid"], &json!(3)));
    assert_ne!(after.1.1["uid"], before.1.1["uid"]);
    assert_eq!(after.1.1["createdAt"], before.1.1["createdAt"]);
    let newest = &plane.client.history(&HistoryPart::default()).await.unwrap().items[0];
    assert_eq!((newest.info.revision, newest.info.message.as_str()), (4, "rollback to 1"));

    let again = plane.client.rollback(1, &plain()).await.unwrap();
    assert_eq!((again.documents.len(), again.revision), (0, 4), "nothing differs");
    let forth = RollbackOptions { message: Some("it was right".to_owned()), ..plain() };
    assert_eq!(plane.client.rollback(3, &forth).await.unwrap().revision, 5);
    let newest = &plane.client.history(&HistoryPart::default()).await.unwrap().items[0];
    assert_eq!(newest.info.message, "rollback to 3: it was right");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollback_is_refused_where_an_apply_would_be() {
    let plane = Plane::start().await;
    plane.apply(&service("web")).await;
    plane.apply(&service("cart")).await;
    let late = problem(plane.client.rollback(1, &RollbackOptions { if_revision: Some(1), ..plain() }).await);
    assert_eq!((late.status, late.code.as_str()), (412, CHANGED_MEANWHILE), "{late}");
    for revision in [0, 9] {
        let unknown = problem(plane.client.rollback(revision, &plain()).await);
        assert_eq!(unknown.status, 404, "{unknown}");
        assert!(unknown.detail.contains("from 1 to 2"), "{unknown}");
    }
    assert_eq!(plane.client.list("services", None).await.unwrap().items.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revision_that_is_not_kept_is_said_with_the_oldest_that_is() {
    let plane = Plane::start().await;
    for port in 80..90 {
        plane.apply(&service("web").replace("80", &port.to_string())).await;
    }
    let directory = plane.directory();
    plane.running.end().await;
    prune(directory.path()).await;
    let plane = Plane::start_in(directory, &[]).await;
    let history = plane.client.history(&HistoryPart::default()).await.unwrap();
    assert!(history.oldest > 1 && history.before.is_none(), "{history:#?}");
    let oldest = history.oldest;
    for refused in
        [plane.client.rollback(1, &plain()).await.map(drop), plane.client.revision(1, None).await.map(drop)]
    {
        let gone = problem(refused);
        assert_eq!((gone.status, gone.code.as_str()), (410, NOT_KEPT), "{gone}");
        assert!(gone.detail.contains(&format!("the oldest that is kept is {oldest}")), "{gone}");
    }
    plane.client.rollback(oldest, &plain()).await.unwrap();
    let port = read(&plane, "services", "web").await.0["ports"][0]["port"].clone();
    assert_eq!(port, json!(79 + oldest));
}

/// As the leader does once changes are a month old.
async fn prune(directory: &Path) {
    let store = weft_store::open(Location::Embedded(directory.join("weft.redb"))).await.unwrap();
    let log = PolicyLog::new(Arc::clone(&store), Clock::system());
    let leader = store.elect("leader", "tests", Duration::from_secs(60)).await;
    let soon = time::Duration::milliseconds(-1000);
    let retention =
        LogRetention { checkpoint_every: 1, keep_for: soon, keep_at_least: 1, ..LogRetention::default() };
    for port in [90, 91] {
        let policies = Policies::new(log.clone(), Clock::system());
        let head = policies.head().await.unwrap();
        let documents =
            weft_policies::parse("test", &service("web").replace("80", &port.to_string())).unwrap();
        let set = head.set.apply(&documents).unwrap().set;
        policies.commit(&head, &set, &Authorship::default()).await.unwrap();
        log.upkeep(&retention, &leader).await.unwrap();
    }
    log.upkeep(&retention, &leader).await.unwrap();
}
