//! HTTP in all combinations of protocols.

use bytes::Bytes;
use envoy_types::pb::envoy::config::route::v3 as wire;
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::google::protobuf::{Any, Duration as WireDuration, UInt32Value};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use prost::Name as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use weft_dataplane::runtime::{Endpoints, UpstreamProtocol};

use crate::harness::{Client, Origin, Proxy, Setup, chunks, empty, full, protocol, to_cluster};

async fn plain(upstream: UpstreamProtocol) -> (Origin, Setup, Proxy) {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], protocol(upstream));
    setup.routes("routes", vec![to_cluster("app", |_| {})]).http_listener(|_| {});
    let proxy = setup.start().await;
    (origin, setup, proxy)
}

async fn speaks_well(client: &mut Client, seen_version: &str) {
    let answer = client.get("/hello").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.text(), "hello from /hello");
    assert_eq!(answer.headers["server"], "envoy");
    assert!(answer.headers.contains_key("x-envoy-upstream-service-time"));
    let echoed = client.post("/echo", full("some bytes")).await;
    assert_eq!(echoed.text(), "some bytes");
    let head = client.get("/head?x=1").await;
    assert!(head.text().contains("/head?x=1") && head.text().contains(seen_version), "{}", head.text());
    let missing = client.get("/status/404").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    let nothing = client.get("/status/204").await;
    assert_eq!((nothing.status, nothing.body.len()), (StatusCode::NO_CONTENT, 0));
    let request = client.request(Method::HEAD, "/hello", empty());
    let head_only = client.exchange(request).await;
    assert_eq!((head_only.status, head_only.body.len()), (StatusCode::OK, 0));
    assert_eq!(head_only.headers["content-length"], "17");
}

#[tokio::test]
async fn http1_goes_to_http1() {
    let (origin, _setup, proxy) = plain(UpstreamProtocol::Http1).await;
    speaks_well(&mut proxy.h1().await, "HTTP/1.1").await;
    assert_eq!(origin.connections.load(Ordering::SeqCst), 1, "one connection serves all requests");
}

#[tokio::test]
async fn http1_goes_to_http2() {
    let (origin, _setup, proxy) = plain(UpstreamProtocol::Http2).await;
    speaks_well(&mut proxy.h1().await, "HTTP/2.0").await;
    assert_eq!(origin.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn http2_goes_to_http1() {
    let (_origin, _setup, proxy) = plain(UpstreamProtocol::Http1).await;
    speaks_well(&mut proxy.h2().await, "HTTP/1.1").await;
}

#[tokio::test]
async fn the_server_hears_of_the_authority_that_was_judged_and_no_other() {
    for upstream in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        let (_origin, _setup, proxy) = plain(upstream).await;
        let mut client = proxy.h2().await;
        let mut request = client.request(Method::GET, "/head", empty());
        let authority = request.uri().authority().expect("h2 names one").to_string();
        request.headers_mut().insert("host", "internal.example".parse().unwrap());
        let answer = client.exchange(request).await;
        let answer = answer.text();
        assert!(answer.contains(&authority) && !answer.contains("internal.example"), "{answer}");
    }
}

#[tokio::test]
async fn http2_goes_to_http2() {
    let (_origin, _setup, proxy) = plain(UpstreamProtocol::Http2).await;
    speaks_well(&mut proxy.h2().await, "HTTP/2.0").await;
}

#[tokio::test]
async fn the_upstream_protocol_follows_the_caller() {
    let (_origin, _setup, proxy) = plain(UpstreamProtocol::Downstream).await;
    speaks_well(&mut proxy.h1().await, "HTTP/1.1").await;
    speaks_well(&mut proxy.h2().await, "HTTP/2.0").await;
}

#[tokio::test]
async fn trailers_pass_both_ways_over_http2() {
    let (_origin, _setup, proxy) = plain(UpstreamProtocol::Http2).await;
    let mut client = proxy.h2().await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "77".parse().unwrap());
    let answer = client.post("/trailers", chunks(vec!["payload".into()], Some(trailers))).await;
    assert_eq!(answer.text(), "payload");
    let trailers = answer.trailers.unwrap();
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-seen"]),
        (&"0".parse().unwrap(), &"77".parse().unwrap())
    );
}

#[tokio::test]
async fn trailers_pass_both_ways_over_chunked_http1() {
    let (_origin, _setup, proxy) = plain(UpstreamProtocol::Http1).await;
    let mut client = proxy.h1().await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "78".parse().unwrap());
    let body = chunks(vec!["payload".into()], Some(trailers));
    let mut request = client.request(Method::POST, "/trailers", body);
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    request.headers_mut().insert("trailer", "x-sum".parse().unwrap());
    let answer = client.exchange(request).await;
    assert_eq!(answer.text(), "payload");
    assert_eq!(answer.trailers.unwrap()["x-seen"], "78");
}

#[tokio::test]
async fn headers_of_a_sidecar_are_set() {
    let (_origin, _setup, proxy) = plain(UpstreamProtocol::Http1).await;
    let mut client = proxy.h1().await;
    let mut request = client.request(Method::GET, "/head", empty());
    request.headers_mut().insert("x-forwarded-client-cert", "By=spiffe://evil".parse().unwrap());
    request.headers_mut().insert("connection", "x-secret".parse().unwrap());
    request.headers_mut().insert("x-secret", "1".parse().unwrap());
    let answer = client.exchange(request).await;
    let seen = answer.seen();
    assert_eq!(seen["host"], "app.test");
    assert_eq!(seen["x-forwarded-proto"], "http");
    assert_eq!(seen["x-request-id"].len(), 36);
    assert_eq!(seen["x-envoy-expected-rq-timeout-ms"], "15000");
    for absent in ["x-forwarded-client-cert", "x-secret", "x-forwarded-for", "connection"] {
        assert!(!seen.contains_key(absent), "{absent}: {seen:?}");
    }
}

#[tokio::test]
async fn a_request_in_absolute_form_is_sent_by_its_authority() {
    let (_origin, _setup, proxy) = plain(UpstreamProtocol::Http1).await;
    let mut client = proxy.h1().await;
    let mut request = client.request(Method::GET, "http://other.test/head", empty());
    request.headers_mut().insert("host", "ignored.test".parse().unwrap());
    let answer = client.exchange(request).await;
    assert!(answer.text().starts_with("GET /head HTTP/1.1"), "{}", answer.text());
    assert_eq!(answer.seen()["host"], "other.test");
}

#[tokio::test]
async fn large_bodies_pass_both_ways() {
    for upstream in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        let (_origin, _setup, proxy) = plain(upstream).await;
        for mut client in [proxy.h1().await, proxy.h2().await] {
            let sent = vec![Bytes::from(vec![7; 50_000]); 200];
            let echoed = client.post("/echo", chunks(sent, None)).await;
            assert_eq!(echoed.body.len(), 10_000_000);
            let big = client.get("/big/33554432").await;
            assert_eq!(big.body.len(), 32 * 1024 * 1024);
        }
    }
}

#[tokio::test]
async fn a_caller_that_does_not_read_stops_the_upstream() {
    let (address, written) = endless().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[address], |_| {});
    setup.routes("routes", vec![to_cluster("app", |_| {})]).http_listener(|_| {});
    let mut proxy = setup.start().await;
    for mut client in [proxy.h1().await, proxy.h2().await] {
        written.store(0, Ordering::SeqCst);
        let request = client.request(Method::GET, "/", empty());
        let mut response = client.send(request).await.unwrap();
        response.body_mut().frame().await.unwrap().unwrap();
        let mut before = 0;
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = written.load(Ordering::SeqCst);
            if now == before {
                break;
            }
            assert!(Instant::now() < deadline, "it never stops: {now} bytes");
            before = now;
        }
        assert!(before < 64 * 1024 * 1024, "{before} bytes were taken from the upstream");
        drop(response);
        drop(client);
        proxy.wait_for(&setup, "http.in.downstream_rq_active", 0).await;
    }
}

/// A server whose answer has no end; counts the bytes that the kernel took.
async fn endless() -> (std::net::SocketAddr, Arc<std::sync::atomic::AtomicUsize>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let written = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = written.clone();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                assert!(tcp.read(&mut [0; 4096]).await.unwrap() > 0);
                tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999999\r\n\r\n").await.unwrap();
                while let Ok(n) = tcp.write(&[b'x'; 64 * 1024]).await {
                    count.fetch_add(n, Ordering::SeqCst);
                }
            });
        }
    });
    (address, written)
}

#[tokio::test]
async fn a_missing_route_cluster_or_endpoint_is_answered_as_envoy_does() {
    let mut setup = Setup::new();
    setup.cluster("empty", &[], |_| {});
    let at = |path: &str, cluster: &str| {
        let mut route = to_cluster(cluster, |_| {});
        route.r#match = Some(crate::harness::prefix(path));
        route
    };
    setup.routes("routes", vec![at("/empty", "empty"), at("/gone", "gone")]).http_listener(|_| {});
    let proxy = setup.start().await;
    let mut client = proxy.h1().await;
    assert_eq!(client.get("/none").await.status, StatusCode::NOT_FOUND);
    let gone = client.get("/gone").await;
    assert_eq!((gone.status, gone.body.len()), (StatusCode::SERVICE_UNAVAILABLE, 0));
    let empty = client.get("/empty").await;
    assert_eq!((empty.status, empty.text()), (StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream"));
}

#[tokio::test]
async fn a_refused_connection_is_a_503_that_says_so() {
    let mut setup = Setup::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    setup.cluster("app", &[closed], |_| {});
    setup.routes("routes", vec![to_cluster("app", |_| {})]).http_listener(|_| {});
    let mut proxy = setup.start().await;
    let answer = proxy.h1().await.get("/").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().contains("remote connection failure"), "{}", answer.text());
    proxy.wait_for(&setup, "cluster.app.upstream_cx_connect_fail", 1).await;
}

fn retrying(on: &str, retries: u32) -> impl Fn(&mut wire::RouteAction) {
    move |action| {
        action.retry_policy = Some(wire::RetryPolicy {
            retry_on: on.into(),
            num_retries: Some(UInt32Value { value: retries }),
            ..Default::default()
        });
    }
}

#[tokio::test]
async fn a_failed_request_is_sent_again_with_its_body() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |_| {});
    setup.routes("routes", vec![to_cluster("app", retrying("5xx", 3))]).http_listener(|_| {});
    let mut proxy = setup.start().await;
    let mut client = proxy.h1().await;
    let answer = client.post("/flaky", chunks(vec!["kept ".into(), "body".into()], None)).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "kept body"));
    assert_eq!(origin.requests.load(Ordering::SeqCst), 3);
    proxy.wait_for(&setup, "cluster.app.upstream_rq_retry", 2).await;
    proxy.wait_for(&setup, "cluster.app.upstream_rq_retry_success", 1).await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_not_sent_again() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |cluster| cluster.buffer_limit = 1000);
    setup.routes("routes", vec![to_cluster("app", retrying("5xx", 3))]).http_listener(|_| {});
    let proxy = setup.start().await;
    let answer = proxy.h1().await.post("/flaky", chunks(vec![vec![1; 800].into(); 2], None)).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.body.len(), 1600);
    assert_eq!(origin.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_retry_finds_the_endpoint_that_works() {
    let origin = Origin::start().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut setup = Setup::new();
    setup.cluster("app", &[closed, origin.address], |_| {});
    setup.routes("routes", vec![to_cluster("app", retrying("connect-failure", 2))]).http_listener(|_| {});
    let proxy = setup.start().await;
    let mut client = proxy.h1().await;
    for _ in 0..10 {
        assert_eq!(client.get("/hello").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_retry_picks_as_often_as_its_policy_says_to_avoid_previous_hosts() {
    let origin = Origin::start().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut setup = Setup::new();
    setup.cluster("app", &[closed, origin.address], |cluster| {
        // A hundred picks of the one that refuses come before one of the other.
        let mut endpoints = cluster.endpoints.list.clone();
        endpoints[0].weight = 100;
        cluster.endpoints = Arc::new(Endpoints { list: endpoints, overprovisioning: 140 });
    });
    let avoiding = |action: &mut wire::RouteAction| {
        retrying("connect-failure", 1)(action);
        let predicate = Any { type_url: PreviousHostsPredicate::type_url(), value: Vec::new() };
        let policy = action.retry_policy.as_mut().unwrap();
        policy.retry_host_predicate = vec![wire::retry_policy::RetryHostPredicate {
            name: "previous_hosts".into(),
            config_type: Some(wire::retry_policy::retry_host_predicate::ConfigType::TypedConfig(predicate)),
        }];
        policy.host_selection_retry_max_attempts = 300;
    };
    setup.routes("routes", vec![to_cluster("app", avoiding)]).http_listener(|_| {});
    let proxy = setup.start().await;
    let mut client = proxy.h1().await;
    for _ in 0..10 {
        assert_eq!(client.get("/hello").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_route_timeout_is_a_504() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |_| {});
    let short = |action: &mut wire::RouteAction| {
        action.timeout = Some(WireDuration { seconds: 0, nanos: 100_000_000 });
    };
    setup.routes("routes", vec![to_cluster("app", short)]).http_listener(|_| {});
    let mut proxy = setup.start().await;
    let start = Instant::now();
    let answer = proxy.h1().await.get("/slow").await;
    assert_eq!((answer.status, answer.text()), (StatusCode::GATEWAY_TIMEOUT, "upstream request timeout"));
    assert!(start.elapsed() < Duration::from_millis(390));
    proxy.wait_for(&setup, "cluster.app.upstream_rq_timeout", 1).await;
    proxy.wait_for(&setup, "cluster.app.upstream_rq_504", 1).await;
    proxy.wait_for(&setup, "cluster.app.upstream_rq_completed", 1).await;
}

#[tokio::test]
async fn requests_are_counted_by_the_prefix_of_their_route() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |_| {}).cluster("empty", &[], |_| {});
    let counted = |path: &str, cluster: &str, prefix: &str, change: fn(&mut wire::RouteAction)| {
        let mut route = to_cluster(cluster, change);
        route.r#match = Some(crate::harness::prefix(path));
        route.stat_prefix = prefix.into();
        route
    };
    let retries: fn(&mut wire::RouteAction) = |action| retrying("5xx", 2)(action);
    let routes = vec![
        counted("/flaky", "app", "tried", retries),
        counted("/empty", "empty", "other", |_| {}),
        counted("/head", "app", "", |_| {}),
        counted("/", "app", "other", |_| {}),
    ];
    setup.routes("routes", routes).http_listener(|_| {});
    let mut proxy = setup.start().await;
    let mut client = proxy.h1().await;
    for path in ["/a", "/b", "/empty", "/head", "/flaky"] {
        client.get(path).await;
    }
    for (statistic, value) in [
        ("other.upstream_rq_total", 2),
        ("other.upstream_rq_completed", 3),
        ("other.upstream_rq_2xx", 2),
        ("other.upstream_rq_503", 1),
        ("tried.upstream_rq_completed", 1),
    ] {
        proxy.wait_for(&setup, &format!("vhost.all.route.{statistic}"), value).await;
    }
    proxy.wait_for(&setup, "vhost.all.route.tried.upstream_rq_retry", 2).await;
}

#[tokio::test]
async fn an_answer_is_counted_when_its_head_is_there() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |_| {});
    setup.routes("routes", vec![to_cluster("app", |_| {})]).http_listener(|_| {});
    let mut proxy = setup.start().await;
    let mut tcp = TcpStream::connect(proxy.address).await.unwrap();
    tcp.write_all(b"GET /endless HTTP/1.1\r\nhost: app\r\n\r\n").await.unwrap();
    proxy.wait_for(&setup, "cluster.app.upstream_rq_completed", 1).await;
    proxy.wait_for(&setup, "cluster.app.upstream_rq_active", 1).await;
    drop(tcp);
    proxy.wait_for(&setup, "cluster.app.upstream_rq_active", 0).await;
    proxy.wait_for(&setup, "cluster.app.upstream_rq_completed", 1).await;
}

#[tokio::test]
async fn a_slow_try_is_given_up_and_repeated() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |_| {});
    let per_try = |action: &mut wire::RouteAction| {
        retrying("5xx", 2)(action);
        action.retry_policy.as_mut().unwrap().per_try_timeout =
            Some(WireDuration { seconds: 0, nanos: 50_000_000 });
    };
    setup.routes("routes", vec![to_cluster("app", per_try)]).http_listener(|_| {});
    let mut proxy = setup.start().await;
    let answer = proxy.h1().await.get("/slow").await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(origin.requests.load(Ordering::SeqCst), 3);
    proxy.wait_for(&setup, "cluster.app.upstream_rq_per_try_timeout", 1).await;
    proxy.wait_for(&setup, "cluster.app.upstream_rq_504", 1).await;
    proxy.wait_for(&setup, "cluster.app.upstream_rq_completed", 1).await;
}

#[tokio::test]
async fn a_grpc_caller_gets_local_answers_as_grpc() {
    let mut setup = Setup::new();
    setup.cluster("empty", &[], |_| {});
    setup.routes("routes", vec![to_cluster("empty", |_| {})]).http_listener(|_| {});
    let proxy = setup.start().await;
    let mut client = proxy.h2().await;
    let mut request = client.request(Method::POST, "/svc/Method", empty());
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let answer = client.exchange(request).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["grpc-status"], "14");
    assert_eq!(answer.headers["grpc-message"], "no healthy upstream");
}

#[tokio::test]
async fn ambiguous_framing_is_refused() {
    let (origin, _setup, proxy) = plain(UpstreamProtocol::Http1).await;
    let bad = [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcd",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET /a\u{1}b HTTP/1.1\r\nhost: a\r\n\r\n",
    ];
    for request in bad {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut tcp = TcpStream::connect(proxy.address).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut buf = vec![0; 1024];
        let n = tcp.read(&mut buf).await.unwrap();
        let answer = String::from_utf8_lossy(&buf[..n]).into_owned();
        assert!(
            answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.0 4"),
            "{request:?}: {answer}"
        );
    }
    assert_eq!(origin.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn two_framings_at_once_leave_as_one() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (_origin, _setup, proxy) = plain(UpstreamProtocol::Http1).await;
    let orders = [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
    ];
    for headers in orders {
        let mut tcp = TcpStream::connect(proxy.address).await.unwrap();
        let request =
            format!("POST /head HTTP/1.1\r\nhost: a\r\n{headers}\r\nconnection: close\r\n\r\n0\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        let (_, seen) = answer.split_once("\r\n\r\n").unwrap();
        assert!(answer.starts_with("HTTP/1.1 4") || !seen.contains("content-length"), "{answer}");
    }
}

#[tokio::test]
async fn many_streams_open_as_many_connections_as_they_need() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |cluster| {
        cluster.http.protocol = UpstreamProtocol::Http2;
        cluster.http.http2.max_concurrent_streams = 4;
    });
    setup.routes("routes", vec![to_cluster("app", |_| {})]).http_listener(|_| {});
    let proxy = setup.start().await;
    let Client::Http2(sender) = proxy.h2().await else { unreachable!() };
    let calls = (0..12).map(|_| {
        let mut client = Client::Http2(sender.clone());
        tokio::spawn(async move { client.get("/slow").await.status })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), StatusCode::OK);
    }
    assert_eq!(origin.connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn an_open_circuit_breaker_refuses_at_once() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |cluster| {
        let limit = weft_dataplane::breaker::Thresholds { max_requests: 1, ..Default::default() };
        cluster.breaker = Arc::new(weft_dataplane::breaker::Breaker::new(limit));
    });
    setup.routes("routes", vec![to_cluster("app", |_| {})]).http_listener(|_| {});
    let proxy = setup.start().await;
    let (mut one, mut two) = (proxy.h1().await, proxy.h1().await);
    let first = tokio::spawn(async move { one.get("/slow").await.status });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let refused = two.get("/hello").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers["x-envoy-overloaded"], "true");
    assert_eq!(first.await.unwrap(), StatusCode::OK);
    assert_eq!(two.get("/hello").await.status, StatusCode::OK, "the place is free again");
}

#[tokio::test]
async fn requests_wait_for_a_connection_where_connections_are_limited() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |cluster| {
        let limit =
            weft_dataplane::breaker::Thresholds { max_connections: 1, max_pending: 1, ..Default::default() };
        cluster.breaker = Arc::new(weft_dataplane::breaker::Breaker::new(limit));
    });
    setup.routes("routes", vec![to_cluster("app", |_| {})]).http_listener(|_| {});
    let mut proxy = setup.start().await;
    let (mut one, mut two, mut three) = (proxy.h1().await, proxy.h1().await, proxy.h1().await);
    let first = tokio::spawn(async move { one.get("/slow").await.status });
    proxy.wait_for(&setup, "cluster.app.upstream_cx_active", 1).await;
    let second = tokio::spawn(async move { two.get("/hello").await.status });
    proxy.wait_for(&setup, "cluster.app.upstream_rq_pending_active", 1).await;
    assert_eq!(three.get("/hello").await.status, StatusCode::SERVICE_UNAVAILABLE, "one may wait, not two");
    assert_eq!(first.await.unwrap(), StatusCode::OK);
    assert_eq!(second.await.unwrap(), StatusCode::OK);
    assert_eq!(origin.connections.load(Ordering::SeqCst), 1);
}
