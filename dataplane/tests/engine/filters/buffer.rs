//! Requests wait for their content.

use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::route::v3 as wire;
use envoy_types::pb::envoy::extensions::filters::http::buffer::v3 as buffer;
use envoy_types::pb::google::protobuf::UInt32Value;
use http::{HeaderMap, Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_dataplane::filter::HttpFilter;
use weft_dataplane::runtime::{HttpFilters, Router, UpstreamProtocol};

use super::fault::aborts;
use super::{Overrides, any, at, filtered, one_route, overrides, read, route_config};
use crate::harness::{Origin, Setup, chunks, full, to_cluster};

pub fn buffers(most: u32) -> buffer::Buffer {
    buffer::Buffer { max_request_bytes: Some(UInt32Value { value: most }) }
}

fn in_pieces(pieces: usize, size: usize) -> Vec<Bytes> {
    vec![Bytes::from(vec![b'x'; size]); pieces]
}

#[tokio::test]
async fn content_is_sent_on_when_it_is_whole_and_has_a_length_then() {
    for upstream in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        let filtered = filtered(&[("buffer", any(&buffers(100_000)))], one_route, upstream).await;
        for mut client in [filtered.proxy.h1().await, filtered.proxy.h2().await] {
            let answer = client.post("/echo", chunks(in_pieces(30, 1000), None)).await;
            assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 30_000));
            let answer = client.post("/echo", chunks(in_pieces(2, 50_000), None)).await;
            assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 100_000));
            let answer = client.post("/head", chunks(in_pieces(3, 4), None)).await;
            let seen = answer.seen();
            assert_eq!((seen.get("content-length"), seen.get("transfer-encoding")), (Some(&"12"), None));
            let answer = client.post("/head", chunks(Vec::new(), None)).await;
            assert!(matches!(answer.seen().get("content-length"), None | Some(&"0")), "{answer:?}");
            let request = client.request(Method::POST, "/head", full("with a length"));
            assert_eq!(client.exchange(request).await.seen()["content-length"], "13");
            assert_eq!(client.get("/head").await.seen().get("content-length"), None);
        }
    }
}

#[tokio::test]
async fn trailers_come_behind_content_that_was_read_ahead() {
    let config = any(&buffers(100));
    let filtered = filtered(&[("buffer", config)], one_route, UpstreamProtocol::Http2).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "12".parse().unwrap());
    let answer = filtered.proxy.h2().await.post("/trailers", chunks(in_pieces(3, 4), Some(trailers))).await;
    assert_eq!(answer.body.len(), 12);
    assert_eq!(answer.trailers.unwrap()["x-seen"], "12");
}

#[tokio::test]
async fn more_content_than_allowed_is_refused_before_it_reaches_a_server() {
    let config = any(&buffers(10));
    let mut filtered = filtered(&[("buffer", config)], one_route, UpstreamProtocol::Http1).await;
    for mut client in [filtered.proxy.h1().await, filtered.proxy.h2().await] {
        assert_eq!(client.post("/echo", full("0123456789")).await.text(), "0123456789");
        let answer = client.post("/echo", full("0123456789a")).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large"));
    }
    assert_eq!(filtered.value("http.in.downstream_rq_too_large").await, 2);
    assert_eq!(filtered.value("cluster.app.upstream_rq_total").await, 2);
    filtered.proxy.wait_for(&filtered.setup, "http.in.downstream_rq_active", 0).await;
}

#[tokio::test]
async fn a_request_whose_end_does_not_come_holds_no_server() {
    let config = any(&buffers(100));
    let mut filtered = filtered(&[("buffer", config)], one_route, UpstreamProtocol::Http1).await;
    let mut caller = TcpStream::connect(filtered.proxy.address).await.unwrap();
    caller.write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab").await.unwrap();
    filtered.proxy.wait_for(&filtered.setup, "http.in.downstream_rq_active", 1).await;
    assert_eq!(filtered.value("cluster.app.upstream_rq_total").await, 0);
    caller.write_all(b"cd").await.unwrap();
    filtered.proxy.wait_for(&filtered.setup, "cluster.app.upstream_rq_total", 1).await;
    let mut gone = TcpStream::connect(filtered.proxy.address).await.unwrap();
    gone.write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab").await.unwrap();
    filtered.proxy.wait_for(&filtered.setup, "http.in.downstream_rq_total", 2).await;
    drop(gone);
    filtered.proxy.wait_for(&filtered.setup, "http.in.downstream_rq_active", 0).await;
    assert_eq!(filtered.value("cluster.app.upstream_rq_total").await, 1);
}

#[tokio::test]
async fn content_that_is_no_http_is_refused_while_it_is_waited_for() {
    let filtered = filtered(&[("buffer", any(&buffers(100)))], one_route, UpstreamProtocol::Http1).await;
    let mut caller = TcpStream::connect(filtered.proxy.address).await.unwrap();
    let request = b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n";
    caller.write_all(request).await.unwrap();
    let mut answer = String::new();
    caller.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn waiting_for_content_ends_with_the_requests_time() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |_| {});
    setup.routes("routes", vec![to_cluster("app", |_| {})]);
    let filter = read(&any(&buffers(100)), &mut setup.registry).unwrap();
    let filters = vec![HttpFilter { name: "buffer".into(), filter }];
    setup.http_listener(|manager| {
        manager.filters = HttpFilters::new(filters, Some(Router::default()));
        manager.timeouts.request = Some(Duration::from_millis(200));
    });
    let mut proxy = setup.start().await;
    let mut caller = TcpStream::connect(proxy.address).await.unwrap();
    caller.write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab").await.unwrap();
    let mut answer = String::new();
    caller.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.ends_with("request timeout"), "{answer}");
    proxy.wait_for(&setup, "http.in.downstream_rq_timeout", 1).await;
}

#[tokio::test]
async fn a_route_has_a_limit_of_its_own_or_none() {
    let routes = |setup: &mut Setup| {
        let off =
            buffer::BufferPerRoute { r#override: Some(buffer::buffer_per_route::Override::Disabled(true)) };
        let more = buffer::buffer_per_route::Override::Buffer(buffers(20));
        let more = buffer::BufferPerRoute { r#override: Some(more) };
        route_config(
            setup,
            Overrides::new(),
            Overrides::new(),
            vec![
                at("/status/201", overrides("buffer", &off), |_| {}),
                at("/echo", overrides("buffer", &more), |_| {}),
                at("/", Overrides::new(), |_| {}),
            ],
        );
    };
    let filtered = filtered(&[("buffer", any(&buffers(10)))], routes, UpstreamProtocol::Http1).await;
    let twenty = "0123456789abcdefghij";
    for (path, status) in [("/status/201", 201), ("/echo", 200), ("/other", 413)] {
        let mut client = filtered.proxy.h2().await;
        assert_eq!(client.post(path, full(twenty)).await.status.as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn filters_behind_see_the_request_when_it_is_whole() {
    let filters = [("buffer", any(&buffers(10))), ("fault", any(&aborts(418, 100)))];
    let filtered = filtered(&filters, one_route, UpstreamProtocol::Http1).await;
    let mut client = filtered.proxy.h1().await;
    assert_eq!(client.post("/echo", full("0123")).await.status.as_u16(), 418);
    assert_eq!(client.post("/echo", full("0123456789a")).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn content_that_was_read_ahead_is_sent_again_with_a_retry() {
    let retried = |setup: &mut Setup| {
        let policy = wire::RetryPolicy {
            retry_on: "5xx".into(),
            num_retries: Some(UInt32Value { value: 3 }),
            ..Default::default()
        };
        let again = |action: &mut wire::RouteAction| action.retry_policy = Some(policy);
        route_config(setup, Overrides::new(), Overrides::new(), vec![at("/", Overrides::new(), again)]);
    };
    let filtered = filtered(&[("buffer", any(&buffers(100)))], retried, UpstreamProtocol::Http1).await;
    let answer = filtered.proxy.h2().await.post("/flaky", chunks(in_pieces(5, 10), None)).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 50));
}
