//! Single objects and lists of them: selectors, patches, what is taken and what is refused.

use serde_json::{Value, json};
use weft_api::client::{ApplyOptions, DeleteOptions};
use weft_api::rest::{Outcome, Problem};

use crate::plane::{Plane, problem, route, service};

fn labelled(name: &str, labels: &str) -> String {
    service(name).replace("namespace: shop}", &format!("namespace: shop, labels: {{{labels}}}}}"))
}

/// A call with these headers beside the token.
async fn send(plane: &Plane, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    use http_body_util::{BodyExt as _, Full};
    let request = http::Request::builder().method(method).uri(format!("http://{}{path}", plane.running.api));
    let request = request.header("authorization", format!("Bearer {}", plane.token));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let client =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let body = Full::new(bytes::Bytes::from(body.to_owned()));
    let answer = client.request(request.body(body).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_chosen_by_labels_and_junk_is_refused_with_its_place() {
    let plane = Plane::start().await;
    plane.apply(&(labelled("a", "tier: front") + &labelled("b", "tier: back") + &service("c"))).await;
    for (selector, wanted) in [
        ("tier=front", vec!["a"]),
        ("tier!=front", vec!["b", "c"]),
        ("tier in (front,back)", vec!["a", "b"]),
        ("tier notin (front)", vec!["b", "c"]),
        ("tier,tier!=back", vec!["a"]),
        ("!tier", vec!["c"]),
    ] {
        let list = plane.client.list_labelled("services", None, Some(selector)).await.unwrap();
        let names: Vec<_> = list.items.iter().map(|one| one.metadata["name"].as_str().unwrap()).collect();
        assert_eq!(names, wanted, "{selector}");
    }
    for selector in ["==!!", "tier in front", "tier=a b", ""] {
        let refused = problem(plane.client.list_labelled("services", None, Some(selector)).await);
        assert_eq!(refused.status, 400, "{selector}");
        assert!(refused.detail.contains("labelSelector: at character"), "{refused}");
    }
    let token = Some(plane.token.as_str());
    for place in ["zzz", "a/b/c", "shop/", "%00/x"] {
        let (status, _, _) =
            plane.raw("GET", &format!("/v1/services?continue={place}"), token, Vec::new()).await;
        assert_eq!(status, 400, "{place}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prune_deletes_what_has_the_labels_and_is_in_no_document() {
    let plane = Plane::start().await;
    plane.apply(&(labelled("a", "app: shop") + &labelled("b", "app: shop") + &service("c"))).await;
    let options =
        |dry_run| ApplyOptions { prune: Some("app=shop".to_owned()), dry_run, ..ApplyOptions::default() };
    let tried = plane.client.apply(&labelled("a", "app: shop"), &options(true)).await.unwrap();
    let told = |result: &weft_api::rest::ApplyResult| -> Vec<(String, Outcome)> {
        result.documents.iter().map(|one| (one.name.clone(), one.outcome)).collect()
    };
    let expected = [("a".to_owned(), Outcome::Unchanged), ("b".to_owned(), Outcome::Deleted)];
    assert_eq!(told(&tried), expected);
    assert_eq!(
        told(&plane.client.apply(&labelled("a", "app: shop"), &options(false)).await.unwrap()),
        expected
    );
    let left = plane.client.list("services", None).await.unwrap();
    assert_eq!(left.items.len(), 2, "what has no such label stays: {left:?}");
    let empty = ApplyOptions { prune: Some(String::new()), ..ApplyOptions::default() };
    assert_eq!(
        problem(plane.client.apply(&service("c"), &empty).await).status,
        400,
        "that would be everything"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_patch_changes_a_part_under_the_checks_of_an_apply() {
    let plane = Plane::start().await;
    plane.apply(&(labelled("web", "tier: front, old: x"))).await;
    let patch = json!({"metadata": {"labels": {"old": null, "new": "y"}}, "spec": {"ports": [
        {"name": "http", "port": 81, "protocol": "HTTP"}]}});
    let result = plane.client.patch("services", "shop", "web", &patch).await.unwrap();
    assert_eq!((result.documents[0].outcome, result.documents[0].generation), (Outcome::Updated, 2));
    let object = plane.client.object("services", "shop", "web").await.unwrap();
    assert_eq!(object.metadata["labels"], json!({"tier": "front", "new": "y"}));
    assert_eq!(object.spec["ports"][0]["port"], json!(81));

    let bad = json!({"spec": {"colour": "red"}});
    assert_eq!(problem(plane.client.patch("services", "shop", "web", &bad).await).status, 422);
    let other = json!({"metadata": {"name": "cart"}});
    assert_eq!(problem(plane.client.patch("services", "shop", "web", &other).await).status, 422);
    assert_eq!(problem(plane.client.patch("services", "shop", "none", &patch).await).status, 404);
    let path = "/v1/namespaces/shop/services/web";
    let merge = ("content-type", "application/merge-patch+json");
    let (status, _) = send(&plane, "PATCH", path, &[merge, ("if-match", "\"x.1\"")], "{}").await;
    assert_eq!(status, 412);
    for media in [None, Some("application/json"), Some("application/json-patch+json")] {
        let headers: Vec<_> = media.iter().map(|media| ("content-type", *media)).collect();
        let (status, body) = send(&plane, "PATCH", path, &headers, "{}").await;
        assert_eq!(status, 415, "{media:?}");
        assert!(body["detail"].as_str().unwrap().contains("application/merge-patch+json"), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_can_be_tried_and_a_miss_says_where_the_name_is() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart") + &route("web", "cart"))).await;
    let tried = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
    let would = plane.client.delete_with("services", "shop", "cart", &tried).await.unwrap();
    assert_eq!((would.documents[0].outcome, would.dry_run), (Outcome::Deleted, true));
    assert!(would.warnings.iter().any(|one| one.message.contains("cart")), "{would:?}");
    assert!(plane.client.object("services", "shop", "cart").await.is_ok());
    let waits = DeleteOptions { wait: Some("5s".to_owned()), ..DeleteOptions::default() };
    let done = plane.client.delete_with("services", "shop", "cart", &waits).await.unwrap();
    assert_eq!(done.wait.unwrap().targeted, 0);
    for refused in [
        plane.client.object("services", "default", "web").await.map(drop),
        plane.client.delete("services", "default", "web").await.map(drop),
    ] {
        let miss = problem(refused);
        assert!(miss.status == 404 && miss.detail.contains("web is in namespace shop"), "{miss}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_document_and_what_could_be_read_in_two_ways_is_refused() {
    let plane = Plane::start().await;
    for media in ["text/xml", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", ""] {
        for path in ["/v1/apply", "/v1/diff", "/v1/explain", "/v1/rollback", "/v1/tokens"] {
            let (status, body) =
                send(&plane, "POST", path, &[("content-type", media)], &service("web")).await;
            assert_eq!(status, 415, "{path} {media}");
            assert!(body["detail"].as_str().unwrap().contains("application/json"), "{body}");
        }
    }
    let (status, _) = send(&plane, "POST", "/v1/apply", &[("content-encoding", "gzip")], "x").await;
    assert_eq!(status, 415);
    for media in ["application/yaml", "text/yaml; charset=utf-8", "Application/JSON"] {
        let (status, _) =
            send(&plane, "POST", "/v1/apply?dryRun=true", &[("content-type", media)], &service("web")).await;
        assert_eq!(status, 200, "{media}");
    }
    let (status, body) = send(&plane, "GET", "/v1/services", &[("authorization", "Bearer other")], "").await;
    assert_eq!(status, 400, "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_lists_a_hundred_violations_and_counts_all() {
    let plane = Plane::start().await;
    let text: String =
        (0..300).map(|n| service(&format!("s{n}")).replace("port: 80", "port: 70000")).collect();
    let refused: Problem = plane.refused(&text).await;
    assert_eq!(refused.violations.len(), 100);
    assert!(
        refused.title.contains("300 problems") && refused.detail.contains("first 100"),
        "{}",
        refused.title
    );
}
