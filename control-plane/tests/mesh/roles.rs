//! Who may do what with the API: each call refuses those who have no right to it, and nobody gets more than they were given.

use serde_json::{Value, json};
use weft_api::client::{ApiClient, ApplyOptions, AuditPart, ClientError, HistoryPart, RollbackOptions};
use weft_api::rest::{AuditOutcome, ExplainQuestion, TokenRequest};

use crate::plane::{Plane, problem, route, service};

/// A client of a principal that has just been made.
async fn principal(plane: &Plane, name: &str) -> (ApiClient, String) {
    let token = plane.client.create_principal(name).await.unwrap().token;
    (ApiClient::try_new(&format!("http://{}", plane.running.api), &token, &[]).unwrap(), token)
}

fn role(name: &str, verbs: &str, kinds: &str, namespaces: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: Role\nmetadata: {{name: {name}}}\n\
         spec: {{rules: [{{verbs: [{verbs}], kinds: [{kinds}], namespaces: [{namespaces}]}}]}}\n---\n"
    )
}

fn binding(name: &str, role: &str, principal: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: RoleBinding\nmetadata: {{name: {name}}}\n\
         spec: {{role: {role}, subjects: [{{principal: {principal}}}]}}\n---\n"
    )
}

async fn apply(client: &ApiClient, documents: &str) -> Result<(), ClientError> {
    client.apply(documents, &ApplyOptions::default()).await.map(drop)
}

/// All calls of the description, each with words in its path that name something of namespace `hidden`.
async fn calls(plane: &Plane) -> Vec<(String, String)> {
    let (_, _, body) = plane.raw("GET", "/openapi.json", Some(&plane.token), Vec::new()).await;
    let description: Value = serde_json::from_slice(&body).unwrap();
    let mut calls = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        let path = path
            .replace("{namespace}", "hidden")
            .replace("{kinds}", "services")
            .replace("{kind}", "services")
            .replace("{name}", "hidden-web")
            .replace("{revision}", "1")
            .replace("{id}", "hidden%2Fhidden-web-1");
        for method in methods.as_object().unwrap().keys() {
            calls.push((method.to_uppercase(), path.clone()));
        }
    }
    assert!(calls.len() > 25, "{calls:?}");
    calls
}

/// What anybody with a token may call: it is about themselves, or tells what all may know.
const OF_ALL: [&str; 8] = [
    "/v1/session",
    "/v1/login-codes",
    "/v1/ca",
    "/v1/access",
    "/openapi.json",
    "/v1/schemas/services",
    "/v1/history",
    "/v1/version",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn principal_without_a_role_is_refused_by_every_call() {
    let plane = Plane::start().await;
    plane.apply(&service("web").replace("shop", "hidden")).await;
    let (_, token) = principal(&plane, "ann").await;
    for (method, path) in calls(&plane).await {
        let document = service("web").into_bytes();
        let body = match path.as_str() {
            "/v1/apply" | "/v1/diff" => document,
            "/v1/rollback" => br#"{"to": 1}"#.to_vec(),
            "/v1/tokens" => br#"{"service": "shop/web"}"#.to_vec(),
            _ => Vec::new(),
        };
        if OF_ALL.contains(&path.as_str()) || path == "/v1/rollback" {
            continue;
        }
        let (status, _, answer) = plane.raw(&method, &path, Some(&token), body).await;
        assert_eq!(status, 403, "{method} {path}: {}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_another_namespace_is_read_by_any_call() {
    let plane = Plane::start().await;
    let of_others = service("hidden-web").replace("namespace: shop", "namespace: hidden");
    plane.apply(&(of_others + &service("web"))).await;
    plane.join_token("hidden/hidden-web").await;
    plane.join_token("shop/web").await;
    plane.apply(&(role("viewer", "Read", "'*'", "shop") + &binding("b", "viewer", "ann"))).await;
    let (ann, token) = principal(&plane, "ann").await;
    assert_eq!(ann.list("services", None).await.unwrap().items.len(), 1);
    assert_eq!(ann.tokens().await.unwrap().items.len(), 1);
    for (method, path) in calls(&plane).await {
        // A watch goes on for ever; it shows what the list shows.
        let is_endless = path.starts_with("/v1/watch/") || path == "/v1/taps";
        if method != "GET" || is_endless || path == "/openapi.json" {
            continue;
        }
        let (status, _, answer) = plane.raw(&method, &path, Some(&token), Vec::new()).await;
        let answer = String::from_utf8_lossy(&answer);
        // A refusal may say what was asked for.
        assert!(status == 403 || !answer.contains("hidden-web"), "{path}: {answer}");
    }
    let history = ann.history(&HistoryPart::default()).await.unwrap();
    let told: Vec<_> =
        history.items.iter().flat_map(|entry| &entry.documents).map(|one| one.name.clone()).collect();
    assert_eq!(told, ["web"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn role_opens_what_it_says_and_a_binding_that_goes_closes_it_at_once() {
    let plane = Plane::start().await;
    let (ann, _) = principal(&plane, "ann").await;
    let refused = problem(apply(&ann, &service("web")).await);
    assert_eq!(refused.code, "forbidden");
    assert!(refused.detail.contains("Write Service in namespace shop"), "{refused:?}");
    plane
        .apply(
            &(role("editor", "Read, Write", "Service, HTTPRoute", "shop") + &binding("b", "editor", "ann")),
        )
        .await;
    apply(&ann, &(service("web") + &route("web", "web"))).await.unwrap();
    // Of a set, each document counts; none of it is written.
    let both = service("cart") + &service("cart").replace("shop", "other");
    assert_eq!(problem(apply(&ann, &both).await).code, "forbidden");
    assert_eq!(ann.list("services", None).await.unwrap().items.len(), 1);
    let trial = ApplyOptions { dry_run: true, ..ApplyOptions::default() };
    assert_eq!(problem(ann.apply(&both, &trial).await).code, "forbidden", "a trial tells as much");
    assert_eq!(problem(ann.delete("services", "shop", "web").await).code, "forbidden");
    assert_eq!(problem(ann.proxies().await).code, "forbidden");
    let token = TokenRequest { service: "shop/web".to_owned(), ..TokenRequest::default() };
    assert_eq!(problem(ann.create_token(&token).await).code, "forbidden");
    let history = plane.client.history(&HistoryPart::default()).await.unwrap();
    assert_eq!(history.items[0].info.author, "ann");

    plane.client.delete("rolebindings", "default", "b").await.unwrap();
    assert_eq!(problem(ann.list("services", None).await).code, "forbidden");
    plane.client.revoke_principal("ann").await.unwrap();
    assert_eq!(problem(ann.list("services", None).await).code, "unauthenticated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_of_requests_is_told_to_those_who_may_read_the_traffic_of_one_end() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart") + &role("viewer", "Read", "Traffic", "other"))).await;
    plane.apply(&binding("b", "viewer", "ann")).await;
    let (ann, _) = principal(&plane, "ann").await;
    let question = |source: &str, destination: &str| ExplainQuestion {
        source: source.to_owned(),
        destination: destination.to_owned(),
        ..ExplainQuestion::default()
    };
    let ask = async |source: &str, destination: &str| {
        problem(ann.explain(&question(source, destination)).await.map(drop))
    };
    assert_eq!(ask("shop/web", "shop/cart").await.code, "forbidden");
    // Whoever may ask is told what is missing, and what was meant.
    plane.apply(&role("viewer", "Read", "Traffic", "shop")).await;
    let nobody = ask("shop/web", "shop/cart").await;
    assert!(nobody.code == "not_found" && nobody.detail.contains("no workload of shop/web"), "{nobody}");
    let slip = ask("shop/wbe", "shop/cart").await;
    assert!(slip.code == "not_found" && slip.detail.contains("did you mean shop/web?"), "{slip}");
    assert_eq!(ask("shop", "shop/cart").await.code, "bad_request");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gives_themselves_more_by_any_way() {
    let plane = Plane::start().await;
    plane.apply(&(role("admin", "Read, Write, Delete", "'*', Role, RoleBinding", "'*'"))).await;
    let was_admin = plane.apply(&binding("once", "admin", "ann")).await.revision;
    plane.client.delete("rolebindings", "default", "once").await.unwrap();
    let lead = role("lead", "Read, Write, Delete", "Service, Role, RoleBinding", "default, shop");
    plane.apply(&(lead + &binding("lead", "lead", "ann") + &service("web"))).await;
    let (ann, token) = principal(&plane, "ann").await;

    // What one has, one may give.
    apply(&ann, &(role("dev", "Write", "Service", "shop") + &binding("dev", "dev", "bob"))).await.unwrap();
    for more in [
        binding("mine", "admin", "ann"),
        binding("lead", "admin", "ann"),
        binding("mine", "not-there-yet", "ann"),
        role("lead", "Read, Write, Delete", "'*'", "default, shop"),
        role("lead", "Read, Write, Delete", "Service, Role, RoleBinding", "'*'"),
        role("dev", "Read", "Tap", "shop"),
    ] {
        assert_eq!(problem(apply(&ann, &more).await).code, "forbidden", "{more}");
    }
    let back = RollbackOptions::default();
    assert_eq!(problem(ann.rollback(was_admin, &back).await).code, "forbidden");
    let path = "/v1/namespaces/default/rolebindings/mine";
    let (status, _, _) =
        plane.raw("PUT", path, Some(&token), binding("mine", "admin", "ann").into_bytes()).await;
    assert_eq!(status, 403);
    assert_eq!(problem(ann.create_principal("eve").await).code, "forbidden");
    assert_eq!(problem(ann.rotate_principal("ann").await).code, "forbidden");
    let rules = ann.access().await.unwrap().rules;
    assert_eq!(rules.len(), 1);
    assert_eq!(rules[0]["kinds"], json!(["Service", "Role", "RoleBinding"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_token_is_replaced_while_the_control_plane_runs() {
    let plane = Plane::start().await;
    let (ann, _) = principal(&plane, "ann").await;
    assert_eq!(problem(ann.rotate_principal("operator").await).code, "forbidden");
    let made = plane.client.rotate_principal("operator").await.unwrap();
    assert_eq!(problem(plane.client.access().await).code, "unauthenticated");
    let api = format!("http://{}", plane.running.api);
    let fresh = ApiClient::try_new(&api, &made.token, &[]).unwrap();
    assert!(fresh.access().await.unwrap().is_operator);
    assert!(ann.access().await.is_ok(), "principals keep their tokens");
    let directory = plane.directory();
    let file = std::fs::read_to_string(directory.path().join("operator.token")).unwrap();
    assert_eq!(file.trim(), made.token);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_and_refusals_are_recorded_without_a_secret() {
    let plane = Plane::start().await;
    let (ann, token) = principal(&plane, "ann").await;
    plane.apply(&service("web")).await;
    // Once more it changes nothing, and is no change.
    plane.apply(&service("web")).await;
    let join = plane.join_token("shop/web").await.to_string();
    for _ in 0..3 {
        assert_eq!(problem(ann.proxies().await).code, "forbidden");
    }
    let (status, _, _) = plane.raw("GET", "/v1/proxies", Some("weftpr.ann.wrong"), Vec::new()).await;
    assert_eq!(status, 401, "a stranger is nobody's record");
    let list = plane.client.audit(&AuditPart::default()).await.unwrap();
    let told: Vec<_> =
        list.items.iter().map(|one| (one.who.as_str(), one.call.as_str(), one.outcome)).collect();
    assert_eq!(
        told,
        [
            ("ann", "GET /v1/proxies", AuditOutcome::Refused),
            ("operator", "POST /v1/tokens", AuditOutcome::Done),
            ("operator", "POST /v1/apply", AuditOutcome::Done),
            ("operator", "POST /v1/principals", AuditOutcome::Done),
        ]
    );
    assert_eq!((list.items[2].revision, list.items[3].about.as_str()), (Some(1), "ann"));
    assert!(list.items[1].about.ends_with("for shop/web") && list.items[0].from == "127.0.0.1", "{list:#?}");
    let text = format!("{list:?}");
    for secret in [&token, &join, &plane.token] {
        assert!(!text.contains(&secret[secret.len() - 20..]), "{text}");
    }
    assert_eq!(problem(ann.audit(&AuditPart::default()).await).code, "forbidden");
    plane.apply(&(role("auditor", "Read", "Audit", "'*'") + &binding("b", "auditor", "ann"))).await;
    let own = AuditPart { who: Some("ann".to_owned()), ..AuditPart::default() };
    assert_eq!(ann.audit(&own).await.unwrap().items.len(), 2, "the refusals of two kinds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn principal_that_calls_without_end_is_slowed_and_others_are_not() {
    let plane = Plane::start().await;
    let (ann, _) = principal(&plane, "ann").await;
    let (bob, _) = principal(&plane, "bob").await;
    let mut slowed = false;
    for _ in 0..400 {
        if let Err(ClientError::Refused(problem)) = ann.access().await {
            assert_eq!(problem.code, "too_many");
            slowed = true;
            break;
        }
    }
    assert!(slowed, "400 calls in a row");
    bob.access().await.unwrap();
    plane.client.access().await.unwrap();
    assert!(plane.metrics().await.contains("limit=\"calls_of_a_principal\""));
}
