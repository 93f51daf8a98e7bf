//! The REST API: transactions, refusals, limits, and who may call.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use weft_api::client::ApplyOptions;
use weft_api::rest::{CHANGED_MEANWHILE, Outcome, PROBLEM_JSON, Problem};

use crate::peer::{declared, join};
use crate::plane::{Plane, problem, service};

fn read(body: &[u8]) -> Problem {
    serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(body)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dry_run_says_what_would_happen_and_writes_nothing() {
    let plane = Plane::start().await;
    let options = ApplyOptions { dry_run: true, ..ApplyOptions::default() };
    let result = plane.client.apply(&service("web"), &options).await.unwrap();
    assert!(result.dry_run);
    assert_eq!(result.documents[0].outcome, Outcome::Created);
    assert!(plane.client.list("services", None).await.unwrap().items.is_empty());
    assert_eq!(plane.apply(&service("web")).await.revision, 1, "the first revision is still to come");
    assert_eq!(plane.apply(&service("web")).await.revision, 1, "the same again is no change");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_for_a_new_mesh_are_applied_once_and_never_over_others() {
    let plane = Plane::start().await;
    let first = ApplyOptions { if_revision: Some(0), ..ApplyOptions::default() };
    // Of many who find the mesh new, one makes it.
    let names: Vec<String> = (0..8).map(|n| service(&format!("web-{n}"))).collect();
    let answers = futures::future::join_all(names.iter().map(|text| plane.client.apply(text, &first))).await;
    let (made, late): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1, "{made:?}");
    for answer in late {
        let problem = problem(answer);
        assert_eq!((problem.status, problem.code.as_str()), (412, CHANGED_MEANWHILE), "{problem}");
    }
    // What was deleted was there: the mesh is not new again.
    let list = plane.client.list("services", None).await.unwrap().items;
    let [made] = &list[..] else { panic!("{list:?}") };
    plane.client.delete("services", "shop", made.metadata["name"].as_str().unwrap()).await.unwrap();
    let refused = problem(plane.client.apply(&service("web"), &first).await);
    assert!(refused.detail.contains("revision 2, not 0"), "{refused}");
    assert!(plane.client.list("services", None).await.unwrap().items.is_empty());
    let seen = ApplyOptions { if_revision: Some(2), ..ApplyOptions::default() };
    assert_eq!(plane.client.apply(&service("web"), &seen).await.unwrap().revision, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn violations_come_all_at_once_with_line_and_column() {
    let plane = Plane::start().await;
    let text = "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec:\n  ports:\n    - name: http\n      port: 70000\n      protocol: HTTP\n  colour: red\n";
    let problem = plane.refused(text).await;
    assert_eq!((problem.status, problem.code.as_str()), (422, "invalid"));
    let positions: Vec<_> = problem.violations.iter().map(|one| (one.line, one.path.as_str())).collect();
    assert!(positions.contains(&(7, "spec.ports[0].port")), "{positions:?}");
    assert!(positions.contains(&(9, "spec.colour")), "{positions:?}");
    assert!(problem.violations.iter().all(|one| one.column > 0 && one.source == "request"));
    assert!(plane.client.list("services", None).await.unwrap().items.is_empty());
}

/// A policy of the traffic to one service; two of them that set the same field conflict.
fn traffic(name: &str, service: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: TrafficPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{targetRefs: [{{kind: Service, name: {service}}}], loadBalancer: {{type: Random}}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflict_names_both_sides() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &traffic("one", "web"))).await;
    let problem = plane.refused(&traffic("two", "web")).await;
    assert_eq!((problem.status, problem.code.as_str()), (409, "conflict"), "{problem}");
    let text = problem.to_string();
    assert!(text.contains("shop/one") && text.contains("shop/two"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_applies_that_conflict_and_race_exactly_one_is_refused() {
    let plane = Plane::start().await;
    for round in 0..10 {
        let target = format!("s{round}");
        plane.apply(&service(&target)).await;
        let (one, two) = (traffic(&format!("{target}-a"), &target), traffic(&format!("{target}-b"), &target));
        let options = ApplyOptions::default();
        let (a, b) = tokio::join!(plane.client.apply(&one, &options), plane.client.apply(&two, &options));
        assert_ne!(a.is_ok(), b.is_ok(), "{a:?} {b:?}");
        let refused = problem(if a.is_ok() { b } else { a });
        assert_eq!(refused.code, "conflict", "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applies_that_do_not_conflict_all_pass() {
    let plane = Plane::start().await;
    let applies =
        (0..40).map(|n| {
            let client = plane.client.clone();
            async move {
                client.apply(&service(&format!("s{n}")), &ApplyOptions::default()).await.unwrap().revision
            }
        });
    let revisions: BTreeSet<u64> = futures::future::join_all(applies).await.into_iter().collect();
    assert_eq!(revisions, (1..=40).collect());
    assert_eq!(plane.client.list("services", None).await.unwrap().items.len(), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_path_needs_the_operators_token() {
    let plane = Plane::start().await;
    let (_, _, body) = plane.raw("GET", "/openapi.json", Some(&plane.token), Vec::new()).await;
    let described: Value = serde_json::from_slice(&body).unwrap();
    let mut calls =
        vec![("GET".to_owned(), "/nowhere".to_owned()), ("PATCH".to_owned(), "/v1/apply".to_owned())];
    for (path, methods) in described["paths"].as_object().unwrap() {
        let path = path.replace("{kinds}", "services").replace("{id}", "shop%2Fweb-1");
        let path = path.replace("{namespace}", "shop").replace("{name}", "web");
        calls.extend(methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())));
    }
    assert!(calls.len() > 14, "{calls:?}");
    // Signing in takes the token in its body.
    calls.retain(|call| *call != ("POST".to_owned(), "/v1/session".to_owned()));
    for (method, path) in calls {
        for token in [None, Some(""), Some("weftop.wrong"), Some(&plane.token[1..])] {
            let (status, media, body) = plane.raw(&method, &path, token, Vec::new()).await;
            assert_eq!((status, media.as_str()), (401, PROBLEM_JSON), "{method} {path} {token:?}");
            assert_eq!(read(&body).code, "unauthenticated");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn body_that_is_too_large_is_a_problem() {
    let plane = Plane::start().await;
    let token = Some(plane.token.as_str());
    for (method, path, size) in [
        ("POST", "/v1/apply", (8 << 20) + 1),
        ("POST", "/v1/tokens", (1 << 20) + 1),
        ("PUT", "/v1/namespaces/shop/services/web", (1 << 20) + 1),
    ] {
        let (status, media, body) = plane.raw(method, path, token, vec![b'#'; size]).await;
        assert_eq!(
            (status, media.as_str(), read(&body).code.as_str()),
            (413, PROBLEM_JSON, "too_large"),
            "{path}"
        );
    }
    let padding = format!("# {}\n", "-".repeat(1000)).repeat(900);
    let fits: String =
        (0..6).map(|n| service(&format!("s{n}")).replace("---\n", &format!("{padding}---\n"))).collect();
    let (status, _, body) = plane.raw("POST", "/v1/apply", token, fits.into_bytes()).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_a_problem() {
    let plane = Plane::start().await;
    let token = Some(plane.token.as_str());
    for (method, path, body, status) in [
        ("POST", "/v1/apply?dryrun=true", service("web").into_bytes(), 400),
        ("POST", "/v1/apply?wait=soon", service("web").into_bytes(), 400),
        ("POST", "/v1/apply", vec![0xff, 0xfe], 400),
        ("POST", "/v1/apply", Vec::new(), 400),
        ("GET", "/v1/services?limit=many", Vec::new(), 400),
        ("GET", "/v1/wishes", Vec::new(), 404),
        ("GET", "/v1/proxies/shop%2Fnobody", Vec::new(), 404),
        ("DELETE", "/v1/namespaces/shop/services/web", Vec::new(), 404),
        ("DELETE", "/v1/apply", Vec::new(), 405),
        ("GET", "/nowhere", Vec::new(), 404),
    ] {
        let (found, media, answer) = plane.raw(method, path, token, body).await;
        assert_eq!((found, media.as_str()), (status, PROBLEM_JSON), "{method} {path}");
        assert_eq!(read(&answer).status, status);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacement_of_an_object_that_changed_meanwhile_is_refused() {
    use http_body_util::Full;
    let plane = Plane::start().await;
    plane.apply(&service("web")).await;
    let url = format!("http://{}/v1/namespaces/shop/services/web", plane.running.api);
    let executor = hyper_util::rt::TokioExecutor::new();
    let client = hyper_util::client::legacy::Client::builder(executor).build_http();
    let request = |method: &str, tag: Option<&str>, body: String| {
        let request = http::Request::builder().method(method).uri(&url);
        let request = request.header("authorization", format!("Bearer {}", plane.token));
        let request = match tag {
            Some(tag) => request.header("if-match", tag),
            None => request,
        };
        client.request(request.body(Full::new(bytes::Bytes::from(body))).unwrap())
    };
    let tag =
        request("GET", None, String::new()).await.unwrap().headers()["etag"].to_str().unwrap().to_owned();
    // Of many who saw the same, one may change it.
    let changes = (0..8).map(|n| {
        let changed = service("web").replace("port: 80", &format!("port: 8{n}00"));
        request("PUT", Some(&tag), changed.replace("---\n", ""))
    });
    let answers = futures::future::join_all(changes).await;
    let passed = answers.into_iter().filter(|answer| answer.as_ref().unwrap().status() == 200).count();
    assert_eq!(passed, 1);
    assert_eq!(request("DELETE", Some(&tag), String::new()).await.unwrap().status(), 412);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_a_workload_cuts_its_stream_and_withdraws_its_endpoint() {
    use weft_api::ResourceKind;
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart"))).await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let cart = join(&plane.join_token("shop/cart").await, declared("cart-1", "127.0.0.3")).await.unwrap();
    let mut caller = crate::proxy::Sidecar::start(&web, plane.running.xds).await;
    let has = |held: &crate::proxy::Held, count| crate::proxy::Sidecar::serves(held, "shop/cart/http", count);
    let mut stream = crate::proxy::Delta::open(&cart, plane.running.xds).await;
    stream.subscribe(ResourceKind::Listener, &[]).await;
    let listeners = stream.expect(ResourceKind::Listener).await;
    stream.ack(&listeners).await;
    caller.until("one endpoint", |held| has(held, 1)).await;
    plane.client.delete("workloads", "shop", "cart-1").await.unwrap();
    caller.until("no endpoint", |held| has(held, 0)).await;
    // It is told, and its listeners are not taken from it.
    let end = stream.next().await.unwrap_err();
    assert_eq!(end.code(), tonic::Code::PermissionDenied);
    assert!(end.message().contains("join again"), "{end}");
    // Joining again brings it back.
    let cart = join(&plane.join_token("shop/cart").await, declared("cart-1", "127.0.0.3")).await.unwrap();
    let mut stream = crate::proxy::Delta::open(&cart, plane.running.xds).await;
    stream.subscribe(ResourceKind::Listener, &[]).await;
    let listeners = stream.expect(ResourceKind::Listener).await;
    stream.ack(&listeners).await;
    caller.until("one endpoint", |held| has(held, 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn description_for_programs_is_whole() {
    let plane = Plane::start().await;
    let (status, _, body) = plane.raw("GET", "/openapi.json", Some(&plane.token), Vec::new()).await;
    assert_eq!(status, 200);
    let described: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(described["openapi"], "3.1.0");
    let mut references = BTreeSet::new();
    collect_references(&described, &mut references);
    assert!(references.len() > 10, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads outside"));
        assert!(described.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let mut operations = BTreeSet::new();
    for (path, methods) in described["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(operations.insert(id.to_owned()), "{id} is used twice");
            let declared = operation["parameters"].as_array().into_iter().flatten();
            let declared: BTreeSet<_> =
                declared.filter(|one| one["in"] == "path").map(|one| one["name"].as_str().unwrap()).collect();
            let named: BTreeSet<_> =
                path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
            assert_eq!(declared, named, "{method} {path}");
        }
    }
    // What goes back to a revision has no body.
    let body_of = |path: &str| &described["paths"][path]["post"]["requestBody"];
    let needed = |path: &str| body_of(path)["required"].as_bool().unwrap_or_default();
    assert!(body_of("/v1/diff")["content"].is_object() && !needed("/v1/diff") && needed("/v1/apply"));
    // Each answer says what it is: a problem document with the codes that come with the status.
    let of_404 =
        &described["components"]["responses"]["404"]["content"]["application/problem+json"]["schema"];
    assert_eq!(of_404["properties"]["code"]["enum"], json!(["not_found"]));
    let (status, _, page) = plane.raw("GET", "/docs", None, Vec::new()).await;
    assert_eq!(status, 200);
    let page = String::from_utf8(page).unwrap();
    assert!(
        page.contains("/v1/namespaces/{namespace}/{kinds}/{name}") && !page.contains("<script"),
        "{page}"
    );
    let (status, _, schema) = plane.raw("GET", "/v1/schemas/svc", Some(&plane.token), Vec::new()).await;
    assert_eq!(
        (status, serde_json::from_slice::<Value>(&schema).unwrap()["title"].clone()),
        (200, json!("Service"))
    );
    let apply = &described["paths"]["/v1/apply"]["post"]["parameters"];
    let names: BTreeSet<_> =
        apply.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, BTreeSet::from(["dryRun", "ifRevision", "message", "prune", "source", "wait"]));
}

fn collect_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                found.insert(reference.clone());
            }
            fields.values().for_each(|field| collect_references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whoever joins a service that nobody has written waits for it, and nobody says why: the slip was made here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_for_a_service_that_is_not_there_is_refused_unless_it_is_to_come() {
    let plane = Plane::start().await;
    plane
        .apply(&(service("checkout") + &service("web").replace("namespace: shop", "namespace: other")))
        .await;
    let ask = async |body: Value| {
        let body = serde_json::to_vec(&body).unwrap();
        plane.raw("POST", "/v1/tokens", Some(&plane.token), body).await
    };
    let (status, _, body) = ask(json!({"service": "shop/chekout"})).await;
    let refused = read(&body);
    assert_eq!((status, &*refused.code), (404, "not_found"), "{refused}");
    let words = [
        "there is no service shop/chekout: did you mean shop/checkout? Otherwise apply the Service first, or",
        "weft token create --ahead",
        "ahead: true",
    ];
    assert!(words.iter().all(|word| refused.detail.contains(word)), "{refused}");
    let (_, _, body) = ask(json!({"service": "shop/nothing-like-it"})).await;
    assert!(read(&body).detail.contains("`weft get services` lists those that there are; apply"), "{body:?}");
    assert!(plane.client.tokens().await.unwrap().items.is_empty(), "nothing was made");

    let (status, _, body) = ask(json!({"service": "shop/chekout", "ahead": true})).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    assert_eq!(ask(json!({"service": "shop/checkout"})).await.0, 200);
}

/// What somebody may not read is not told by way of a slip of the hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_that_is_suggested_is_one_that_the_caller_may_read() {
    let plane = Plane::start().await;
    plane.apply(&service("checkout").replace("namespace: shop", "namespace: shoq")).await;
    let rights = "{apiVersion: weft.dev/v1, kind: Role, metadata: {name: joins}, spec: {rules: \
                  [{verbs: [Write], kinds: [JoinToken], namespaces: [shop]}]}}\n---\n\
                  {apiVersion: weft.dev/v1, kind: RoleBinding, metadata: {name: joins}, spec: \
                  {role: joins, subjects: [{principal: ann}]}}\n";
    plane.apply(rights).await;
    let token = plane.client.create_principal("ann").await.unwrap().token;
    let body = br#"{"service": "shop/checkout"}"#.to_vec();
    let (status, _, body) = plane.raw("POST", "/v1/tokens", Some(&token), body).await;
    assert_eq!(status, 404);
    assert!(!read(&body).detail.contains("shoq"), "{}", read(&body));
}
