//! Answers of the proxy itself: direct responses and redirects are local replies, as in Envoy.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as wire;
use http::{Method, StatusCode};

use crate::harness::{Answer, Setup, empty, prefix};

fn direct(path: &str, status: u32, body: &str) -> wire::Route {
    let specifier = Some(core::data_source::Specifier::InlineString(body.into()));
    wire::Route {
        r#match: Some(prefix(path)),
        action: Some(wire::route::Action::DirectResponse(wire::DirectResponseAction {
            status,
            body: Some(core::DataSource { specifier, ..Default::default() }),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn redirect(path: &str) -> wire::Route {
    let rewrite = wire::redirect_action::PathRewriteSpecifier::PathRedirect("/else".into());
    wire::Route {
        r#match: Some(prefix(path)),
        action: Some(wire::route::Action::Redirect(wire::RedirectAction {
            path_rewrite_specifier: Some(rewrite),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn header(answer: &Answer, name: &str) -> Option<String> {
    answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_grpc_caller_gets_a_direct_response_and_a_redirect_as_a_grpc_status() {
    let mut setup = Setup::new();
    let routes = vec![
        direct("/403", 403, "no entry"),
        direct("/503", 503, ""),
        direct("/200", 200, "fine"),
        redirect("/r"),
    ];
    setup.routes("routes", routes).http_listener(|_| {});
    let proxy = setup.start().await;
    let mut client = proxy.h2().await;
    for (path, status, message) in [
        ("/403", "7", Some("no%20entry")),
        ("/503", "14", None),
        ("/200", "2", Some("fine")),
        ("/r", "2", None),
    ] {
        let mut request = client.request(Method::POST, path, empty());
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        let answer = client.exchange(request).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(header(&answer, "content-type").as_deref(), Some("application/grpc"), "{path}");
        assert_eq!(header(&answer, "grpc-status").as_deref(), Some(status), "{path}");
        let sent = header(&answer, "grpc-message").map(|sent| sent.replace(' ', "%20"));
        assert_eq!(sent.as_deref(), message, "{path}");
        assert!(answer.body.is_empty(), "{path}");
        assert_eq!(answer.headers.contains_key("location"), path == "/r");
    }
    let plain = client.get("/403").await;
    assert_eq!((plain.status, plain.text()), (StatusCode::FORBIDDEN, "no entry"));
}

#[tokio::test]
async fn a_route_names_the_type_of_its_direct_response() {
    let mut setup = Setup::new();
    let mut page = direct("/page", 200, "<p>");
    page.response_headers_to_add = vec![core::HeaderValueOption {
        header: Some(core::HeaderValue {
            key: "content-type".into(),
            value: "text/html".into(),
            ..Default::default()
        }),
        ..Default::default()
    }];
    setup.routes("routes", vec![page, direct("/text", 200, "plain")]).http_listener(|_| {});
    let proxy = setup.start().await;
    let mut client = proxy.h1().await;
    let page = client.get("/page").await;
    let types: Vec<_> = page.headers.get_all("content-type").iter().collect();
    assert_eq!(types, ["text/html"]);
    let text = client.get("/text").await;
    assert_eq!(header(&text, "content-type").as_deref(), Some("text/plain"));
}
