//! Faults are injected.

use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::route::v3 as wire;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3 as common_fault;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3 as fault;
use envoy_types::pb::google::protobuf::{Duration as WireDuration, UInt32Value};
use http::{Method, StatusCode};
use weft_dataplane::filter::HttpFilter;
use weft_dataplane::runtime::{HttpFilters, Router, UpstreamProtocol};

use super::{Overrides, any, at, filtered, one_route, overrides, percent, read, route_config, simple};
use crate::harness::{Origin, Setup, empty, full, to_cluster};

pub fn aborts(status: u32, share: u32) -> fault::HttpFault {
    let abort = fault::FaultAbort {
        percentage: Some(percent(share)),
        error_type: Some(fault::fault_abort::ErrorType::HttpStatus(status)),
        ..Default::default()
    };
    fault::HttpFault { abort: Some(abort), ..Default::default() }
}

pub fn delays(span: Duration, share: u32) -> fault::HttpFault {
    let span = WireDuration { seconds: span.as_secs() as i64, nanos: span.subsec_nanos() as i32 };
    let delay = common_fault::FaultDelay {
        percentage: Some(percent(share)),
        fault_delay_secifier: Some(common_fault::fault_delay::FaultDelaySecifier::FixedDelay(span)),
    };
    fault::HttpFault { delay: Some(delay), ..Default::default() }
}

#[tokio::test]
async fn a_fault_answers_in_place_of_the_server() {
    let mut filtered = simple("fault", any(&aborts(418, 100))).await;
    let answer = filtered.get("/hello", &[]).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (418, "fault filter abort"));
    assert_eq!(filtered.value("http.in.fault.aborts_injected").await, 1);
    filtered.proxy.wait_for(&filtered.setup, "http.in.fault.active_faults", 0).await;
    assert_eq!(filtered.value("cluster.app.upstream_rq_total").await, 0);
}

#[tokio::test]
async fn a_fault_delays_and_then_answers() {
    let span = Duration::from_millis(300);
    let both = fault::HttpFault { abort: aborts(503, 100).abort, ..delays(span, 100) };
    let mut filtered = simple("fault", any(&both)).await;
    let start = Instant::now();
    let answer = filtered.get("/hello", &[]).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(start.elapsed() >= span);
    assert_eq!(filtered.value("http.in.fault.delays_injected").await, 1);
    assert_eq!(filtered.value("http.in.fault.aborts_injected").await, 1);
}

#[tokio::test]
async fn a_delayed_request_goes_on_with_its_body() {
    for upstream in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        let config = any(&delays(Duration::from_millis(100), 100));
        let filtered = filtered(&[("fault", config)], one_route, upstream).await;
        for mut client in [filtered.proxy.h1().await, filtered.proxy.h2().await] {
            assert_eq!(client.post("/echo", full("some bytes")).await.text(), "some bytes");
        }
    }
}

#[tokio::test]
async fn a_delay_does_not_outlast_the_streams_idle_timeout() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |_| {});
    setup.routes("routes", vec![to_cluster("app", |_| {})]);
    let fault = read(&any(&delays(Duration::from_secs(600), 100)), &mut setup.registry).unwrap();
    let filters = vec![HttpFilter { name: "fault".into(), filter: fault }];
    setup.http_listener(|manager| {
        manager.filters = HttpFilters::new(filters, Some(Router::default()));
        manager.timeouts.stream_idle = Some(Duration::from_millis(200));
    });
    let mut proxy = setup.start().await;
    for mut client in [proxy.h1().await, proxy.h2().await] {
        let answer = client.get("/hello").await;
        assert_eq!((answer.status, answer.text()), (StatusCode::GATEWAY_TIMEOUT, "stream timeout"));
    }
    proxy.wait_for(&setup, "http.in.downstream_rq_idle_timeout", 2).await;
    proxy.wait_for(&setup, "http.in.fault.active_faults", 0).await;
}

#[tokio::test]
async fn a_caller_who_leaves_ends_its_delay() {
    let mut filtered = simple("fault", any(&delays(Duration::from_secs(600), 100))).await;
    let mut client = filtered.proxy.h2().await;
    let request = client.request(Method::GET, "/hello", empty());
    let asking = tokio::spawn(async move { client.send(request).await });
    filtered.proxy.wait_for(&filtered.setup, "http.in.fault.active_faults", 1).await;
    asking.abort();
    filtered.proxy.wait_for(&filtered.setup, "http.in.fault.active_faults", 0).await;
}

#[tokio::test]
async fn no_more_faults_are_injected_than_may_be_active() {
    let mut config = delays(Duration::from_millis(500), 100);
    config.max_active_faults = Some(UInt32Value { value: 1 });
    let mut filtered = simple("fault", any(&config)).await;
    let mut slow = filtered.proxy.h2().await;
    let request = slow.request(Method::GET, "/hello", empty());
    let asking = tokio::spawn(async move { slow.exchange(request).await });
    filtered.proxy.wait_for(&filtered.setup, "http.in.fault.active_faults", 1).await;
    assert_eq!(filtered.get("/hello", &[]).await.status, StatusCode::OK);
    assert_eq!(filtered.value("http.in.fault.faults_overflow").await, 1);
    assert_eq!(asking.await.unwrap().status, StatusCode::OK);
    assert_eq!(filtered.value("http.in.fault.delays_injected").await, 1);
}

#[tokio::test]
async fn faults_meet_the_requests_that_they_are_for() {
    let mut by_cluster = aborts(500, 100);
    by_cluster.upstream_cluster = "other".into();
    let mut by_node = aborts(501, 100);
    by_node.downstream_nodes = vec!["n1".into()];
    let mut by_header = aborts(502, 100);
    by_header.headers = vec![wire::HeaderMatcher {
        name: "x-test".into(),
        header_match_specifier: Some(wire::header_matcher::HeaderMatchSpecifier::PresentMatch(true)),
        ..Default::default()
    }];
    let routes = |setup: &mut Setup| {
        let to_other = |action: &mut wire::RouteAction| {
            let name = "other".into();
            action.cluster_specifier = Some(wire::route_action::ClusterSpecifier::Cluster(name));
        };
        route_config(
            setup,
            Overrides::new(),
            Overrides::new(),
            vec![
                at("/route", overrides("header", &aborts(503, 100)), |_| {}),
                at("/never", overrides("header", &aborts(503, 0)), |_| {}),
                at("/other", Overrides::new(), to_other),
                at("/", Overrides::new(), |_| {}),
            ],
        );
    };
    let filters = [("cluster", any(&by_cluster)), ("node", any(&by_node)), ("header", any(&by_header))];
    let filtered = filtered(&filters, routes, UpstreamProtocol::Http1).await;
    for (path, headers, status) in [
        ("/", vec![], 200),
        ("/other", vec![], 500),
        ("/", vec![("x-envoy-downstream-service-node", "n1")], 501),
        ("/", vec![("x-envoy-downstream-service-node", "n2")], 200),
        ("/", vec![("x-test", "1")], 502),
        ("/route", vec![], 503),
        ("/never", vec![("x-test", "1")], 200),
    ] {
        assert_eq!(filtered.get(path, &headers).await.status.as_u16(), status, "{path} {headers:?}");
    }
}

#[tokio::test]
async fn a_request_says_by_headers_what_happens_to_it() {
    let by_header = fault::HttpFault {
        abort: Some(fault::FaultAbort {
            percentage: Some(percent(100)),
            error_type: Some(fault::fault_abort::ErrorType::HeaderAbort(Default::default())),
            ..Default::default()
        }),
        delay: Some(common_fault::FaultDelay {
            percentage: Some(percent(100)),
            fault_delay_secifier: Some(common_fault::fault_delay::FaultDelaySecifier::HeaderDelay(
                Default::default(),
            )),
        }),
        ..Default::default()
    };
    let filtered = simple("fault", any(&by_header)).await;
    assert_eq!(filtered.get("/hello", &[]).await.status, StatusCode::OK);
    assert_eq!(filtered.get("/hello", &[("x-envoy-fault-abort-request", "429")]).await.status.as_u16(), 429);
    let never = [("x-envoy-fault-abort-request", "429"), ("x-envoy-fault-abort-request-percentage", "0")];
    assert_eq!(filtered.get("/hello", &never).await.status, StatusCode::OK);
    let start = Instant::now();
    assert_eq!(
        filtered.get("/hello", &[("x-envoy-fault-delay-request", "150")]).await.status,
        StatusCode::OK
    );
    assert!(start.elapsed() >= Duration::from_millis(150));
    let grpc = [("x-envoy-fault-abort-grpc-request", "5"), ("content-type", "application/grpc")];
    let answer = filtered.get("/hello", &grpc).await;
    assert_eq!((answer.status, &answer.headers["grpc-status"]), (StatusCode::OK, &"5".parse().unwrap()));
}
