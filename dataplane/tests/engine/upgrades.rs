//! WebSocket and CONNECT.

use envoy_types::pb::envoy::config::route::v3 as wire;
use http::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::route_action::{UpgradeConfig, upgrade_config::ConnectConfig};

use crate::harness::{Client, Origin, Setup, empty, to_cluster};

#[tokio::test]
async fn a_websocket_passes_over_http1() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |_| {});
    setup.routes("routes", vec![to_cluster("app", |_| {})]).http_listener(|_| {});
    let proxy = setup.start().await;
    let mut client = proxy.h1().await;
    let mut request = client.request(Method::GET, "/websocket", empty());
    request.headers_mut().insert("connection", "Upgrade".parse().unwrap());
    request.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    let response = client.send(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "websocket");
    let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    for text in ["hello", "again"] {
        io.write_all(text.as_bytes()).await.unwrap();
        let mut got = vec![0; text.len()];
        io.read_exact(&mut got).await.unwrap();
        assert_eq!(got, text.to_ascii_uppercase().into_bytes());
    }
}

#[tokio::test]
async fn an_upgrade_that_is_not_allowed_is_refused() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |_| {});
    setup.routes("routes", vec![to_cluster("app", |_| {})]).http_listener(|manager| manager.upgrades.clear());
    let proxy = setup.start().await;
    let mut client = proxy.h1().await;
    let mut request = client.request(Method::GET, "/websocket", empty());
    request.headers_mut().insert("connection", "Upgrade".parse().unwrap());
    request.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    assert_eq!(client.exchange(request).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn connect_becomes_a_tunnel_to_an_endpoint() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |_| {});
    let mut route = to_cluster("app", |action| {
        action.upgrade_configs = vec![UpgradeConfig {
            upgrade_type: "CONNECT".into(),
            enabled: None,
            connect_config: Some(ConnectConfig::default()),
        }];
    });
    route.r#match = Some(wire::RouteMatch {
        path_specifier: Some(wire::route_match::PathSpecifier::ConnectMatcher(Default::default())),
        ..Default::default()
    });
    setup.routes("routes", vec![route]).http_listener(|_| {});
    let proxy = setup.start().await;
    let mut client = proxy.h1().await;
    let mut request = client.request(Method::CONNECT, "app.test:80", empty());
    request.headers_mut().insert("host", "app.test:80".parse().unwrap());
    let response = client.send(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut inner = Client::h2(io).await;
    assert_eq!(inner.get("/hello").await.text(), "hello from /hello");
}
