//! Content is compressed on its way, in both directions.

use std::io::{Read, Write};

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as wire;
use envoy_types::pb::envoy::extensions::compression::gzip::compressor::v3::Gzip;
use envoy_types::pb::envoy::extensions::filters::http::compressor::v3 as compressor;
use envoy_types::pb::google::protobuf::{BoolValue, UInt32Value};
use flate2::read::GzDecoder;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use weft_dataplane::runtime::UpstreamProtocol;

use super::buffer::buffers;
use super::{Filtered, Overrides, any, ask, at, filtered, one_route, overrides, prefix, route_config, text};
use crate::harness::{Answer, Setup, chunks, empty, full};

pub fn compresses(change: impl FnOnce(&mut compressor::Compressor)) -> compressor::Compressor {
    let library =
        core::TypedExtensionConfig { name: "text".into(), typed_config: Some(any(&Gzip::default())) };
    let mut config =
        compressor::Compressor { compressor_library: Some(library), ..compressor::Compressor::default() };
    change(&mut config);
    config
}

fn off() -> Option<compressor::compressor::CommonDirectionConfig> {
    let enabled =
        core::RuntimeFeatureFlag { default_value: Some(BoolValue { value: false }), ..Default::default() };
    Some(compressor::compressor::CommonDirectionConfig { enabled: Some(enabled), ..Default::default() })
}

/// Requests, and no responses.
fn requests_alone() -> compressor::Compressor {
    compresses(|one| {
        one.request_direction_config = Some(Default::default());
        one.response_direction_config = Some(compressor::compressor::ResponseDirectionConfig {
            common_config: off(),
            ..Default::default()
        });
    })
}

fn unpacked(content: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(content).read_to_end(&mut plain).unwrap();
    plain
}

/// What of an answer's head says how its content is coded.
fn coding(answer: &Answer) -> (Option<&str>, Option<&str>) {
    let value = |name| answer.headers.get(name).map(|value: &http::HeaderValue| value.to_str().unwrap());
    (value("content-encoding"), value("vary"))
}

const GZIP: [(&str, &str); 1] = [("accept-encoding", "gzip")];
const LONG: &str = "/a-path-that-is-long-enough-to-be-compressed";

async fn responses(upstream: UpstreamProtocol) -> Filtered {
    filtered(&[("compressor", any(&compresses(|_| {})))], one_route, upstream).await
}

#[tokio::test]
async fn a_response_is_compressed_for_who_takes_it_and_says_that_it_depends() {
    for upstream in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        let mut filtered = responses(upstream).await;
        for mut client in [filtered.proxy.h1().await, filtered.proxy.h2().await] {
            let answer = ask(&mut client, Method::GET, "/big/1048576", &GZIP).await;
            assert_eq!(coding(&answer), (Some("gzip"), Some("Accept-Encoding")));
            assert!(answer.body.len() < 100_000, "{}", answer.body.len());
            assert_eq!(unpacked(&answer.body), vec![b'x'; 1 << 20]);
            let answer = ask(&mut client, Method::GET, LONG, &GZIP).await;
            assert_eq!(coding(&answer), (Some("gzip"), Some("Accept-Encoding")));
            assert_eq!(answer.headers.get("content-length"), None);
            assert_eq!(unpacked(&answer.body), format!("hello from {LONG}").into_bytes());
            let answer = ask(&mut client, Method::GET, LONG, &[]).await;
            assert_eq!(coding(&answer), (None, Some("Accept-Encoding")));
            assert_eq!(answer.text(), format!("hello from {LONG}"));
            let answer = ask(&mut client, Method::GET, "/short", &GZIP).await;
            assert_eq!((coding(&answer), answer.text()), ((None, None), "hello from /short"));
            let answer = ask(&mut client, Method::HEAD, LONG, &GZIP).await;
            assert_eq!(coding(&answer), (None, Some("Accept-Encoding")));
            assert_eq!(text(&answer.headers, "content-length"), "55");
            let answer = ask(&mut client, Method::GET, "/status/204", &GZIP).await;
            assert_eq!((answer.status, answer.body.len()), (StatusCode::NO_CONTENT, 0));
            assert_eq!(answer.headers.get("content-encoding"), None);
        }
        let counted = |name| format!("http.in.compressor.text.gzip.{name}");
        for (name, value) in [
            ("compressed", 4),
            ("not_compressed", 8),
            ("no_accept_header", 2),
            ("content_length_too_small", 2),
            ("request.not_compressed", 12),
            ("request.compressed", 0),
            ("total_uncompressed_bytes", 2 * ((1 << 20) + 55)),
        ] {
            assert_eq!(filtered.value(&counted(name)).await, value, "{name}");
        }
        assert!(filtered.value(&counted("total_compressed_bytes")).await < 200_000);
    }
}

#[tokio::test]
async fn each_piece_of_a_slow_response_comes_at_once_and_its_end_frees_the_server() {
    let mut filtered = responses(UpstreamProtocol::Http1).await;
    for mut client in [filtered.proxy.h1().await, filtered.proxy.h2().await] {
        let mut request = client.request(Method::GET, "/endless", empty());
        request.headers_mut().append("accept-encoding", "gzip".parse().unwrap());
        let mut body = client.send(request).await.unwrap().into_body();
        let mut decoder = flate2::write::GzDecoder::new(Vec::new());
        while decoder.get_ref().len() < 12 {
            let frame = body.frame().await.unwrap().unwrap();
            decoder.write_all(&frame.into_data().unwrap()).unwrap();
            decoder.flush().unwrap();
        }
        assert!(decoder.get_ref().starts_with(b"dropdropdrop"));
        drop((body, client));
        filtered.proxy.wait_for(&filtered.setup, "http.in.downstream_rq_active", 0).await;
        filtered.proxy.wait_for(&filtered.setup, "cluster.app.upstream_rq_active", 0).await;
    }
}

#[tokio::test]
async fn an_answer_of_the_proxys_own_is_compressed_too() {
    let direct = |setup: &mut Setup| {
        let body = core::data_source::Specifier::InlineString("so that it is long enough: ".repeat(10));
        let body = core::DataSource { specifier: Some(body), ..Default::default() };
        let answer = wire::DirectResponseAction { status: 418, body: Some(body), ..Default::default() };
        let route = wire::Route {
            r#match: Some(prefix("/")),
            action: Some(wire::route::Action::DirectResponse(answer)),
            ..Default::default()
        };
        route_config(setup, Overrides::new(), Overrides::new(), vec![route]);
    };
    let filters = [("compressor", any(&compresses(|_| {})))];
    let filtered = filtered(&filters, direct, UpstreamProtocol::Http1).await;
    for mut client in [filtered.proxy.h1().await, filtered.proxy.h2().await] {
        let answer = ask(&mut client, Method::GET, "/", &GZIP).await;
        assert_eq!((answer.status.as_u16(), coding(&answer).0), (418, Some("gzip")));
        assert_eq!(unpacked(&answer.body).len(), 270);
        let answer = ask(&mut client, Method::HEAD, "/", &GZIP).await;
        assert_eq!((answer.status.as_u16(), coding(&answer).0), (418, None));
    }
}

#[tokio::test]
async fn trailers_come_behind_content_that_is_changed_both_ways() {
    let both = compresses(|one| one.request_direction_config = Some(Default::default()));
    let filters = [("compressor", any(&both))];
    let filtered = filtered(&filters, one_route, UpstreamProtocol::Http2).await;
    let mut client = filtered.proxy.h2().await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "12".parse().unwrap());
    let pieces = vec![Bytes::from_static(b"0123"); 3];
    let mut request = client.request(Method::POST, "/trailers", chunks(pieces, Some(trailers)));
    request.headers_mut().append("accept-encoding", "gzip".parse().unwrap());
    let answer = client.exchange(request).await;
    assert_eq!(coding(&answer).0, Some("gzip"));
    // The server gives back what it was sent, which was compressed.
    assert_eq!(unpacked(&unpacked(&answer.body)), b"012301230123");
    assert_eq!(answer.trailers.unwrap()["x-seen"], "12");
}

#[tokio::test]
async fn a_request_is_compressed_before_the_server_has_it() {
    for upstream in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        let filters = [("compressor", any(&requests_alone()))];
        let mut filtered = filtered(&filters, one_route, upstream).await;
        for mut client in [filtered.proxy.h1().await, filtered.proxy.h2().await] {
            let content = vec![b'y'; 300_000];
            let answer = client.post("/echo", full(content.clone())).await;
            assert!(answer.body.len() < 30_000, "{}", answer.body.len());
            assert_eq!(unpacked(&answer.body), content);
            let answer = client.post("/head", full(content)).await;
            let seen = answer.seen();
            assert_eq!((seen.get("content-encoding"), seen.get("content-length")), (Some(&"gzip"), None));
            let answer = client.post("/head", full("short")).await;
            let seen = answer.seen();
            assert_eq!((seen.get("content-encoding"), seen.get("content-length")), (None, Some(&"5")));
            assert_eq!(client.get("/head").await.seen().get("content-encoding"), None);
        }
        for (name, value) in [("compressed", 4), ("not_compressed", 4), ("content_length_too_small", 2)] {
            assert_eq!(filtered.value(&format!("http.in.compressor.text.gzip.request.{name}")).await, value);
        }
    }
}

#[tokio::test]
async fn filters_behind_read_content_as_it_was_changed_and_a_retry_sends_it_again() {
    let retried = |setup: &mut Setup| {
        let policy = wire::RetryPolicy {
            retry_on: "5xx".into(),
            num_retries: Some(UInt32Value { value: 3 }),
            ..Default::default()
        };
        let again = |action: &mut wire::RouteAction| action.retry_policy = Some(policy);
        route_config(setup, Overrides::new(), Overrides::new(), vec![at("/", Overrides::new(), again)]);
    };
    let filters = [("compressor", any(&requests_alone())), ("buffer", any(&buffers(10_000)))];
    let filtered = filtered(&filters, retried, UpstreamProtocol::Http1).await;
    let mut client = filtered.proxy.h2().await;
    let content = vec![b'z'; 200_000];
    let answer = client.post("/flaky", full(content.clone())).await;
    assert_eq!((answer.status, unpacked(&answer.body)), (StatusCode::OK, content.clone()));
    let answer = client.post("/head", full(content)).await;
    let length: usize = answer.seen()["content-length"].parse().unwrap();
    assert!(length < 10_000, "the length is that of what is sent: {length}");
}

#[tokio::test]
async fn a_route_turns_responses_off_or_on() {
    let routes = |setup: &mut Setup| {
        let off = compressor::compressor_per_route::Override::Disabled(true);
        let off = compressor::CompressorPerRoute { r#override: Some(off) };
        let remove = compressor::ResponseDirectionOverrides {
            remove_accept_encoding_header: Some(BoolValue { value: true }),
        };
        let on =
            compressor::CompressorOverrides { response_direction_config: Some(remove), ..Default::default() };
        let on = compressor::compressor_per_route::Override::Overrides(on);
        let on = compressor::CompressorPerRoute { r#override: Some(on) };
        let routes = vec![
            at("/big", overrides("compressor", &off), |_| {}),
            at("/head", overrides("compressor", &on), |_| {}),
            at("/", Overrides::new(), |_| {}),
        ];
        route_config(setup, Overrides::new(), Overrides::new(), routes);
    };
    let filters = [("compressor", any(&compresses(|_| {})))];
    let filtered = filtered(&filters, routes, UpstreamProtocol::Http1).await;
    let answer = filtered.get("/big/65536", &GZIP).await;
    assert_eq!((coding(&answer), answer.body.len()), ((None, None), 65536));
    let answer = filtered.get("/head", &GZIP).await;
    assert_eq!(coding(&answer).0, Some("gzip"));
    let seen = String::from_utf8(unpacked(&answer.body)).unwrap();
    assert!(!seen.contains("accept-encoding"), "{seen}");
    assert_eq!(coding(&filtered.get(LONG, &GZIP).await).0, Some("gzip"));
}
