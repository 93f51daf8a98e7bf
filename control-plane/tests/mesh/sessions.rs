//! Browsers: signing in and out, and what a session opens.

use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use crate::plane::{Plane, service};

struct Answer {
    status: u16,
    cookie: Option<String>,
    body: Value,
}

/// A browser, as far as it sends the cookie that it was given, and its page the key.
struct Browser<'a> {
    plane: &'a Plane,
    cookie: String,
    key: String,
}

async fn send(plane: &Plane, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let request = http::Request::builder().method(method).uri(format!("http://{}{path}", plane.running.api));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let executor = hyper_util::rt::TokioExecutor::new();
    let client = hyper_util::client::legacy::Client::builder(executor).build_http();
    let answer =
        client.request(request.body(Full::new(bytes::Bytes::from(body.to_owned()))).unwrap()).await.unwrap();
    let cookie = answer.headers().get("set-cookie").map(|value| value.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    Answer { status, cookie, body: serde_json::from_slice(&body).unwrap_or_default() }
}

impl<'a> Browser<'a> {
    async fn sign_in(plane: &'a Plane, by: Value) -> Result<Self, Answer> {
        let answer = send(plane, "POST", "/v1/session", &[], &by.to_string()).await;
        let Some(cookie) = answer.cookie.clone().filter(|_| answer.status == 200) else { return Err(answer) };
        for attribute in ["; Path=/;", "; HttpOnly;", "; SameSite=Strict", "; Max-Age=43200;"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        assert_eq!(answer.body["mode"], "ReadOnly");
        let key = answer.body["key"].as_str().unwrap().to_owned();
        let (cookie, _) = cookie.split_once(';').unwrap();
        Ok(Self { plane, cookie: cookie.to_owned(), key })
    }

    async fn by_token(plane: &'a Plane) -> Self {
        Self::sign_in(plane, json!({"token": plane.token}))
            .await
            .unwrap_or_else(|answer| panic!("{}", answer.body))
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers = [("cookie", self.cookie.as_str()), ("x-weft-session-key", &self.key)];
        send(self.plane, method, path, &headers, body).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_reads_until_changes_are_enabled() {
    let plane = Plane::start().await;
    let browser = Browser::by_token(&plane).await;
    assert_eq!(browser.ask("GET", "/v1/services", "").await.status, 200);
    assert_eq!(browser.ask("POST", "/v1/apply?dryRun=true", &service("web")).await.status, 200);
    for (method, path) in [("POST", "/v1/apply"), ("POST", "/v1/tokens"), ("DELETE", "/v1/tokens/x")] {
        let answer = browser.ask(method, path, &service("web")).await;
        assert_eq!((answer.status, &answer.body["code"]), (403, &json!("read_only")), "{method} {path}");
    }
    assert!(plane.client.list("services", None).await.unwrap().items.is_empty());
    plane.apply(&service("web")).await;
    plane.apply(&service("cart")).await;
    let back = r#"{"to": 1}"#;
    let tried = browser.ask("POST", "/v1/rollback?dryRun=true", back).await;
    assert_eq!((tried.status, &tried.body["documents"][0]["outcome"]), (200, &json!("Deleted")));
    let answer = browser.ask("POST", "/v1/rollback", back).await;
    assert_eq!((answer.status, &answer.body["code"]), (403, &json!("read_only")));
    let changed = browser.ask("PATCH", "/v1/session", r#"{"mode": "Changes"}"#).await;
    assert_eq!((changed.status, &changed.body["mode"]), (200, &json!("Changes")));
    let done = browser.ask("POST", "/v1/rollback", back).await;
    assert_eq!((done.status, &done.body["revision"]), (200, &json!(3)));
    browser.ask("PATCH", "/v1/session", r#"{"mode": "ReadOnly"}"#).await;
    assert_eq!(browser.ask("DELETE", "/v1/namespaces/shop/services/web", "").await.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_session_and_another_page_open_nothing() {
    let plane = Plane::start().await;
    let browser = Browser::by_token(&plane).await;
    let (cookie, key) = (browser.cookie.as_str(), browser.key.as_str());
    let other = Browser::by_token(&plane).await;
    let own = format!("http://{}", plane.running.api);
    for (headers, status) in [
        (vec![("cookie", cookie)], 401),
        (vec![("x-weft-session-key", key)], 401),
        (vec![("cookie", cookie), ("x-weft-session-key", other.key.as_str())], 401),
        (vec![("cookie", cookie), ("x-weft-session-key", key), ("origin", "http://127.0.0.1:3000")], 403),
        (vec![("cookie", cookie), ("x-weft-session-key", key), ("sec-fetch-site", "same-site")], 403),
        (vec![("cookie", cookie), ("x-weft-session-key", key), ("host", "evil.test:7400")], 401),
        (vec![("cookie", cookie), ("x-weft-session-key", key), ("origin", own.as_str())], 200),
    ] {
        assert_eq!(send(&plane, "GET", "/v1/edges", &headers, "").await.status, status, "{headers:?}");
    }
    let port = plane.running.api.port();
    let (evil, token) = (format!("evil.test:{port}"), json!({"token": plane.token}).to_string());
    assert_eq!(send(&plane, "POST", "/v1/session", &[("host", &evil)], &token).await.status, 403);
    let headers = [("host", evil.as_str()), ("cookie", cookie), ("x-weft-session-key", key)];
    assert_eq!(send(&plane, "GET", "/v1/edges", &headers, "").await.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_of_an_operator_signs_in_once() {
    let plane = Plane::start().await;
    let code = plane.client.login_code().await.unwrap().code;
    let browser = Browser::sign_in(&plane, json!({"code": code})).await.unwrap_or_else(|_| panic!("refused"));
    assert_eq!(browser.ask("GET", "/v1/session", "").await.body["key"], Value::Null);
    let again = Browser::sign_in(&plane, json!({"code": code})).await.err().unwrap();
    assert_eq!((again.status, again.cookie), (401, None));
    browser.ask("PATCH", "/v1/session", r#"{"mode": "Changes"}"#).await;
    let spreads = browser.ask("POST", "/v1/login-codes", "").await;
    assert_eq!(
        (spreads.status, &spreads.body["code"]),
        (403, &json!("token_needed")),
        "a session makes no other"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sign_out_ends_the_session_for_good() {
    let plane = Plane::start().await;
    let (browser, other) = (Browser::by_token(&plane).await, Browser::by_token(&plane).await);
    let out = browser.ask("DELETE", "/v1/session", "").await;
    assert_eq!(out.status, 204);
    assert!(out.cookie.unwrap().contains("Max-Age=0"));
    assert_eq!(browser.ask("GET", "/v1/edges", "").await.status, 401);
    assert_eq!(other.ask("GET", "/v1/edges", "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_is_slow_and_counted() {
    let plane = Plane::start().await;
    let guess = json!({"token": format!("weftop.{}", "A".repeat(43))});
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(Browser::sign_in(&plane, guess.clone()).await.err().unwrap().status);
    }
    assert_eq!((statuses[0], statuses[11]), (401, 429), "{statuses:?}");
    assert!(plane.metrics().await.contains("limited_total{limit=\"bad_sign_ins_of_a_source\"}"));
    // Programs are let in as before.
    plane.apply(&service("web")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_is_served_to_everybody_and_says_nothing_of_the_mesh() {
    let plane = Plane::start().await;
    for path in ["/ui/", "/ui/login", "/ui/services/shop/web"] {
        let (status, media, body) = plane.raw("GET", path, None, Vec::new()).await;
        assert_eq!((status, media.as_str()), (200, "text/html; charset=utf-8"), "{path}");
        assert!(!String::from_utf8(body).unwrap().contains("mesh.local"));
    }
    assert_eq!(plane.raw("POST", "/ui/", None, Vec::new()).await.0, 405);
}
