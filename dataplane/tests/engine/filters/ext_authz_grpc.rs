//! Another server, asked by gRPC, decides which requests go on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::{BufMut as _, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3 as authz;
use envoy_types::pb::envoy::service::auth::v3 as auth;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::{BoolValue, Duration as WireDuration};
use envoy_types::pb::google::rpc::Status;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::TcpListener;
use weft_dataplane::filter::HttpFilter;
use weft_dataplane::runtime::{HttpFilters, Router, UpstreamProtocol};

use super::{Overrides, any, at, overrides, read, route_config, text};
use crate::harness::{Answer, Body, Origin, Proxy, Setup, chunks, full, protocol};

type Checks = Arc<Mutex<Vec<(HeaderMap, auth::CheckRequest)>>>;

async fn answer(request: Request<Incoming>, checks: Checks) -> Result<Response<Body>, std::io::Error> {
    let (parts, body) = request.into_parts();
    assert_eq!(parts.uri.path(), "/envoy.service.auth.v3.Authorization/Check");
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let check = auth::CheckRequest::decode(&body[5..]).unwrap();
    let http = check.attributes.clone().unwrap().request.unwrap().http.unwrap();
    checks.lock().unwrap().push((parts.headers, check));
    let response = Response::builder().header("content-type", "application/grpc");
    if http.path.starts_with("/unavailable") {
        return Ok(response.header("grpc-status", "14").body(crate::harness::empty()).unwrap());
    }
    if http.path.starts_with("/silent") {
        std::future::pending::<()>().await;
    }
    let message = verdict(&http.path).encode_to_vec();
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(&message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    Ok(response.body(chunks(vec![framed.freeze()], Some(trailers))).unwrap())
}

#[expect(deprecated, reason = "Envoy looks at it")]
fn option(name: &str, value: &str, append: Option<bool>) -> core::HeaderValueOption {
    let header = core::HeaderValue { key: name.into(), value: value.into(), ..Default::default() };
    core::HeaderValueOption {
        header: Some(header),
        append: append.map(|value| BoolValue { value }),
        ..Default::default()
    }
}

fn verdict(path: &str) -> auth::CheckResponse {
    let status = |code| Some(Status { code, ..Default::default() });
    let denied = |code, headers| auth::DeniedHttpResponse {
        status: Some(HttpStatus { code }),
        headers,
        body: "the server's words".into(),
    };
    let (status, http_response) = if path.starts_with("/deny") {
        let headers = vec![
            option("x-set", "1", None),
            option("x-set", "2", Some(false)),
            option("x-left-out", "1", Some(true)),
        ];
        (status(7), Some(HttpResponse::DeniedResponse(denied(418, headers))))
    } else if path.starts_with("/refuse") {
        (status(16), None)
    } else if path.starts_with("/error") {
        (status(13), Some(HttpResponse::ErrorResponse(denied(502, vec![option("x-e", "1", None)]))))
    } else if path.starts_with("/invalid") {
        let headers = vec![option("x-in\nvalid", "1", None)];
        (status(0), Some(HttpResponse::OkResponse(auth::OkHttpResponse { headers, ..Default::default() })))
    } else if path.starts_with("/framing") {
        let headers = vec![option("content-length", "1", None)];
        (status(0), Some(HttpResponse::OkResponse(auth::OkHttpResponse { headers, ..Default::default() })))
    } else if path.starts_with("/path") {
        let query_parameters_to_set = vec![core::QueryParameter { key: "a".into(), value: "b c\r\n".into() }];
        let ok = auth::OkHttpResponse { query_parameters_to_set, ..Default::default() };
        (status(0), Some(HttpResponse::OkResponse(ok)))
    } else if path.starts_with("/plain") {
        (None, None)
    } else {
        let ok = auth::OkHttpResponse {
            headers: vec![
                option("x-set", "server", None),
                option("x-joined", "server", Some(true)),
                option("x-absent", "server", Some(true)),
            ],
            headers_to_remove: vec!["x-secret".into(), "host".into(), ":path".into()],
            response_headers_to_add: vec![option("x-for-client", "1", None)],
            query_parameters_to_set: vec![core::QueryParameter { key: "set".into(), value: "new".into() }],
            query_parameters_to_remove: vec!["gone".into()],
            ..Default::default()
        };
        (status(0), Some(HttpResponse::OkResponse(ok)))
    };
    auth::CheckResponse { status, http_response, ..Default::default() }
}

struct Ground {
    checks: Checks,
    setup: Setup,
    proxy: Proxy,
    _origin: Origin,
}

impl Ground {
    async fn start(change: impl FnOnce(&mut authz::ExtAuthz)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, checks) = (listener.local_addr().unwrap(), Checks::default());
        let kept = checks.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let kept = kept.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(request, kept.clone()));
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(tcp), service).await;
                });
            }
        });
        let mut config = by_grpc();
        change(&mut config);
        let origin = Origin::start().await;
        let mut setup = Setup::new();
        setup.cluster("auth", &[address], protocol(UpstreamProtocol::Http2));
        setup.cluster("app", &[origin.address], |_| {});
        let says = |key: &str, value: &str| {
            let context_extensions = HashMap::from([(key.to_owned(), value.to_owned())]);
            let settings = authz::CheckSettings { context_extensions, ..Default::default() };
            let special = authz::ext_authz_per_route::Override::CheckSettings(settings);
            overrides("authz", &authz::ExtAuthzPerRoute { r#override: Some(special) })
        };
        let all = vec![at("/of-route", says("route", "r"), |_| {}), at("/", Overrides::new(), |_| {})];
        route_config(&mut setup, Overrides::new(), says("host", "h"), all);
        let filter = read(&any(&config), &mut setup.registry).unwrap();
        let filters = vec![HttpFilter { name: "authz".into(), filter }];
        setup.http_listener(|manager| manager.filters = HttpFilters::new(filters, Some(Router::default())));
        let proxy = setup.start().await;
        Self { checks, setup, proxy, _origin: origin }
    }

    async fn ask(&self, path: &str, headers: &[(&'static str, &str)]) -> Answer {
        super::ask(&mut self.proxy.h1().await, Method::GET, path, headers).await
    }

    fn last(&self) -> (HeaderMap, auth::AttributeContext) {
        let (headers, check) = self.checks.lock().unwrap().last().expect("the server was asked").clone();
        (headers, check.attributes.unwrap())
    }

    async fn value(&mut self, name: &str) -> i64 {
        let totals = self.proxy.engine().stats().await;
        self.setup.value(&totals, name)
    }
}

pub fn by_grpc() -> authz::ExtAuthz {
    let target = core::grpc_service::EnvoyGrpc { cluster_name: "auth".into(), ..Default::default() };
    let service = core::GrpcService {
        target_specifier: Some(core::grpc_service::TargetSpecifier::EnvoyGrpc(target)),
        timeout: Some(WireDuration { seconds: 10, nanos: 0 }),
        ..Default::default()
    };
    authz::ExtAuthz {
        services: Some(authz::ext_authz::Services::GrpcService(service)),
        transport_api_version: core::ApiVersion::V3.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_server_is_told_of_the_whole_head_and_changes_it() {
    let mut ground = Ground::start(|_| {}).await;
    let headers = [
        ("x-set", "mine"),
        ("x-joined", "mine"),
        ("x-secret", "s"),
        ("x-twice", "1"),
        ("x-twice", "2"),
        ("x-envoy-downstream-service-cluster", "web"),
    ];
    let answer = ground.ask("/head?gone=1&b=2&a=1", &headers).await;
    assert_eq!((answer.status, text(&answer.headers, "x-for-client")), (StatusCode::OK, "1"));
    assert!(answer.text().starts_with("GET /head?a=1&b=2&set=new "), "{}", answer.text());
    let seen = answer.seen();
    assert_eq!((seen["x-set"], seen["x-joined"], seen["host"]), ("server", "mine,server", "app.test"));
    assert_eq!((seen.get("x-secret"), seen.get("x-absent")), (None, None));
    let (metadata, told) = ground.last();
    assert_eq!((text(&metadata, "content-type"), text(&metadata, "te")), ("application/grpc", "trailers"));
    assert_eq!(metadata["grpc-timeout"], "10000m");
    let source = told.source.unwrap();
    let Some(core::address::Address::SocketAddress(address)) = source.address.unwrap().address else {
        panic!("no socket address")
    };
    assert_eq!((&*address.address, &*source.service, &*source.principal), ("127.0.0.1", "web", ""));
    let request = told.request.unwrap();
    assert!(request.time.is_some());
    let http = request.http.unwrap();
    assert_eq!((&*http.method, &*http.path), ("GET", "/head?gone=1&b=2&a=1"));
    assert_eq!((&*http.host, &*http.scheme, &*http.protocol), ("app.test", "http", "HTTP/1.1"));
    assert_eq!((&*http.headers["x-twice"], &*http.headers[":authority"]), ("1,2", "app.test"));
    assert_eq!(http.headers[":path"], "/head?gone=1&b=2&a=1");
    assert_eq!(told.context_extensions, HashMap::from([("host".to_owned(), "h".to_owned())]));
    ground.ask("/of-route", &[]).await;
    assert_eq!(ground.last().1.context_extensions["route"], "r");
    assert_eq!(ground.last().1.context_extensions["host"], "h");
    assert_eq!(ground.ask("/plain", &[]).await.status, StatusCode::OK);
    assert_eq!(ground.value("http.in.ext_authz.ok").await, 3);
    assert_eq!(ground.value("cluster.auth.upstream_cx_total").await, 1);
}

#[tokio::test]
async fn refusals_and_failures_are_told_apart() {
    let soon = |config: &mut authz::ExtAuthz| {
        if let Some(authz::ext_authz::Services::GrpcService(service)) = &mut config.services {
            service.timeout = Some(WireDuration { seconds: 0, nanos: 200_000_000 });
        }
    };
    let mut ground = Ground::start(soon).await;
    for (path, status, text) in [
        ("/deny", 418, "the server's words"),
        ("/refuse", 403, ""),
        ("/error", 502, "the server's words"),
        ("/unavailable", 403, ""),
        ("/silent", 403, ""),
        ("/invalid", 500, ""),
        ("/framing", 500, ""),
        ("/path", 500, ""),
    ] {
        let answer = ground.ask(path, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (status, text), "{path}");
    }
    let answer = ground.ask("/deny", &[]).await;
    assert_eq!(answer.headers.get_all("x-set").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(answer.headers.get("x-left-out"), None);
    for (name, value) in [("ok", 0), ("denied", 3), ("error", 3), ("invalid", 3)] {
        assert_eq!(ground.value(&format!("http.in.ext_authz.{name}")).await, value, "{name}");
    }
    assert_eq!(ground.value("cluster.app.upstream_rq_total").await, 0);
    let ground = Ground::start(|config| config.failure_mode_allow = true).await;
    assert_eq!(ground.ask("/error", &[]).await.status, StatusCode::OK);
    assert_eq!(ground.ask("/deny", &[]).await.status.as_u16(), 418);
}

#[tokio::test]
async fn content_is_told_as_text_or_as_bytes() {
    for as_bytes in [false, true] {
        let ground = Ground::start(|config| {
            config.with_request_body = Some(authz::BufferSettings {
                max_request_bytes: 4,
                allow_partial_message: true,
                pack_as_bytes: as_bytes,
            });
        })
        .await;
        let content = Bytes::from_static(b"a\xffbcde");
        let mut client = ground.proxy.h2().await;
        assert_eq!(client.post("/echo", full(content.clone())).await.body, content);
        let http = ground.last().1.request.unwrap().http.unwrap();
        assert_eq!(http.headers["x-envoy-auth-partial-body"], "true");
        assert_eq!((&*http.protocol, http.size), ("HTTP/2", 6));
        let told = (&*http.body, &*http.raw_body);
        assert_eq!(told, if as_bytes { ("", &b"a\xffbc"[..]) } else { ("a!bc", &b""[..]) });
    }
}
