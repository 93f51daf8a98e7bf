//! Requests are limited.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3 as ratelimit;
use envoy_types::pb::envoy::r#type::v3 as types;
use envoy_types::pb::google::protobuf::{Duration as WireDuration, UInt32Value};
use http::StatusCode;
use weft_dataplane::runtime::UpstreamProtocol;

use super::{Overrides, any, appended, at, filtered, overrides, route_config, runtime_percent, simple};
use crate::harness::Setup;

pub fn limit(change: impl FnOnce(&mut ratelimit::LocalRateLimit)) -> ratelimit::LocalRateLimit {
    let mut config = ratelimit::LocalRateLimit {
        stat_prefix: "limit".into(),
        token_bucket: Some(types::TokenBucket {
            max_tokens: 2,
            tokens_per_fill: Some(UInt32Value { value: 1 }),
            fill_interval: Some(WireDuration { seconds: 3600, nanos: 0 }),
        }),
        filter_enabled: Some(runtime_percent(100)),
        filter_enforced: Some(runtime_percent(100)),
        ..Default::default()
    };
    change(&mut config);
    config
}

fn add(name: &str, value: &str) -> Vec<core::HeaderValueOption> {
    vec![appended(name, value, core::header_value_option::HeaderAppendAction::AppendIfExistsOrAdd)]
}

#[tokio::test]
async fn requests_beyond_the_limit_are_refused() {
    let config = limit(|config| {
        config.response_headers_to_add = add("x-limited", "%RESPONSE_FLAGS%yes");
        config.enable_retry_after_header = true;
        config.enable_x_ratelimit_headers = 1;
    });
    let mut filtered = simple("limit", any(&config)).await;
    for left in ["1", "0"] {
        let answer = filtered.get("/hello", &[]).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.headers["x-ratelimit-limit"], "2");
        assert_eq!(answer.headers["x-ratelimit-remaining"], left);
        assert_eq!(
            answer.headers["x-ratelimit-reset"] == "0",
            left == "1",
            "nothing is waited for while there is one"
        );
    }
    let answer = filtered.get("/hello", &[]).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::TOO_MANY_REQUESTS, "local_rate_limited"));
    assert!(answer.headers["x-limited"].to_str().unwrap().ends_with("yes"));
    let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3590..=3600).contains(&wait), "{wait}");
    for (name, value) in [("enabled", 3), ("ok", 2), ("rate_limited", 1), ("enforced", 1)] {
        assert_eq!(filtered.value(&format!("limit.http_local_rate_limit.{name}")).await, value, "{name}");
    }
    assert_eq!(filtered.value("cluster.app.upstream_rq_total").await, 2);
}

#[tokio::test]
async fn a_limit_that_is_not_enforced_marks_requests() {
    let config = limit(|config| {
        config.token_bucket.as_mut().unwrap().max_tokens = 0;
        config.filter_enforced = None;
        config.request_headers_to_add_when_not_enforced = add("x-over-the-limit", "yes");
    });
    let mut filtered = simple("limit", any(&config)).await;
    assert_eq!(filtered.get("/head", &[]).await.seen()["x-over-the-limit"], "yes");
    assert_eq!(filtered.value("limit.http_local_rate_limit.rate_limited").await, 1);
    assert_eq!(filtered.value("limit.http_local_rate_limit.enforced").await, 0);
}

#[tokio::test]
async fn a_route_has_a_limit_and_statistics_of_its_own() {
    let own = limit(|config| {
        config.stat_prefix = "own".into();
        config.token_bucket.as_mut().unwrap().max_tokens = 0;
        config.status = Some(types::HttpStatus { code: 503 });
        config.rate_limited_as_resource_exhausted = true;
    });
    let routes = |setup: &mut Setup| {
        route_config(
            setup,
            Overrides::new(),
            Overrides::new(),
            vec![at("/own", overrides("limit", &own), |_| {}), at("/", Overrides::new(), |_| {})],
        );
    };
    let off = limit(|config| (config.filter_enabled, config.token_bucket) = (None, None));
    let mut filtered = filtered(&[("limit", any(&off))], routes, UpstreamProtocol::Http1).await;
    assert_eq!(filtered.get("/", &[]).await.status, StatusCode::OK);
    assert_eq!(filtered.get("/own", &[]).await.status, StatusCode::SERVICE_UNAVAILABLE);
    let answer = filtered.get("/own", &[("content-type", "application/grpc")]).await;
    assert_eq!((answer.status, &answer.headers["grpc-status"]), (StatusCode::OK, &"8".parse().unwrap()));
    assert_eq!(filtered.value("own.http_local_rate_limit.enforced").await, 2);
    assert_eq!(filtered.value("limit.http_local_rate_limit.enabled").await, 0);
}
