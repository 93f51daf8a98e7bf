//! Pages of other origins.

use std::collections::HashMap;

use envoy_types::pb::envoy::extensions::filters::http::cors::v3 as cors;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::google::protobuf::BoolValue;
use http::{HeaderMap, Method, StatusCode};
use weft_dataplane::runtime::UpstreamProtocol;

use super::{Filtered, Overrides, any, ask, at, filtered, overrides, route_config, runtime_percent};
use crate::harness::Setup;

fn origin(exact: &str) -> matcher::StringMatcher {
    let pattern = Some(matcher::string_matcher::MatchPattern::Exact(exact.into()));
    matcher::StringMatcher { match_pattern: pattern, ..Default::default() }
}

fn cors_policy() -> cors::CorsPolicy {
    cors::CorsPolicy {
        allow_origin_string_match: vec![origin("https://page.test")],
        allow_methods: "GET, PUT".into(),
        allow_headers: "*".into(),
        expose_headers: "x-number".into(),
        max_age: "600".into(),
        allow_credentials: Some(BoolValue { value: true }),
        ..Default::default()
    }
}

async fn with_cors(route: cors::CorsPolicy, host: cors::CorsPolicy) -> Filtered {
    let routes = |setup: &mut Setup| {
        route_config(
            setup,
            Overrides::new(),
            overrides("cors", &host),
            vec![at("/", overrides("cors", &route), |_| {})],
        );
    };
    filtered(&[("cors", any(&cors::Cors {}))], routes, UpstreamProtocol::Http1).await
}

fn allowed(headers: &HeaderMap) -> HashMap<&str, &str> {
    let cors = headers.iter().filter(|(name, _)| name.as_str().starts_with("access-control-"));
    cors.map(|(name, value)| {
        (name.as_str().strip_prefix("access-control-").unwrap(), value.to_str().unwrap())
    })
    .collect()
}

#[tokio::test]
async fn a_preflight_request_is_answered_by_the_proxy() {
    let mut filtered = with_cors(cors_policy(), cors::CorsPolicy::default()).await;
    let mut client = filtered.proxy.h1().await;
    let asks = [
        ("origin", "https://page.test"),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "x-a, x-b"),
    ];
    let answer = ask(&mut client, Method::OPTIONS, "/hello", &asks).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
    let wanted = HashMap::from([
        ("allow-origin", "https://page.test"),
        ("allow-credentials", "true"),
        ("allow-methods", "GET, PUT"),
        ("allow-headers", "x-a, x-b"),
        ("expose-headers", "x-number"),
        ("max-age", "600"),
    ]);
    assert_eq!(allowed(&answer.headers), wanted);
    assert_eq!(filtered.value("http.in.cors.origin_valid").await, 1);
    assert_eq!(filtered.value("cluster.app.upstream_rq_total").await, 0);
}

#[tokio::test]
async fn a_response_says_which_origin_may_read_it() {
    let mut filtered = with_cors(cors_policy(), cors::CorsPolicy::default()).await;
    let answer = filtered.get("/hello", &[("origin", "https://page.test")]).await;
    let wanted = HashMap::from([
        ("allow-origin", "https://page.test"),
        ("allow-credentials", "true"),
        ("expose-headers", "x-number"),
    ]);
    assert_eq!(allowed(&answer.headers), wanted);
    let answer = filtered.get("/hello", &[("origin", "https://evil.test")]).await;
    assert_eq!((answer.status, allowed(&answer.headers)), (StatusCode::OK, HashMap::new()));
    assert_eq!(allowed(&filtered.get("/hello", &[]).await.headers), HashMap::new());
    assert_eq!(filtered.value("http.in.cors.origin_valid").await, 1);
    assert_eq!(filtered.value("http.in.cors.origin_invalid").await, 1);
}

#[tokio::test]
async fn a_preflight_request_of_another_origin_goes_on_unless_it_must_not() {
    let asks = [("origin", "https://evil.test"), ("access-control-request-method", "PUT")];
    let mut keep = cors_policy();
    for (forward, sent) in [(None, 1), (Some(BoolValue { value: false }), 0)] {
        keep.forward_not_matching_preflights = forward;
        let mut filtered = with_cors(keep.clone(), cors::CorsPolicy::default()).await;
        let mut client = filtered.proxy.h1().await;
        let answer = ask(&mut client, Method::OPTIONS, "/hello", &asks).await;
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
        assert_eq!(filtered.value("cluster.app.upstream_rq_total").await, sent);
    }
}

#[tokio::test]
async fn what_a_route_does_not_say_of_origins_the_virtual_host_says() {
    let route = cors::CorsPolicy { max_age: "1".into(), ..Default::default() };
    let filtered = with_cors(route, cors_policy()).await;
    let asks = [("origin", "https://page.test"), ("access-control-request-method", "PUT")];
    let mut client = filtered.proxy.h1().await;
    let answer = ask(&mut client, Method::OPTIONS, "/hello", &asks).await;
    assert_eq!(
        (&answer.headers["access-control-max-age"], &answer.headers["access-control-allow-methods"]),
        (&"1".parse().unwrap(), &"GET, PUT".parse().unwrap())
    );
}

#[tokio::test]
async fn a_policy_on_trial_counts_and_changes_nothing() {
    let mut trial = cors_policy();
    trial.filter_enabled = Some(runtime_percent(0));
    trial.shadow_enabled = Some(runtime_percent(100));
    let mut filtered = with_cors(trial, cors::CorsPolicy::default()).await;
    let answer = filtered.get("/hello", &[("origin", "https://page.test")]).await;
    assert_eq!(allowed(&answer.headers), HashMap::new());
    assert_eq!(filtered.value("http.in.cors.origin_valid").await, 1);
}
