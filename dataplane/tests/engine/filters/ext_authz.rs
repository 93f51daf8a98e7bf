//! Another server decides which requests go on.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as wire;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3 as authz;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{ListStringMatcher, StringMatcher};
use envoy_types::pb::google::protobuf::{Any, BoolValue, Duration as WireDuration, UInt32Value};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use weft_dataplane::filter::HttpFilter;
use weft_dataplane::runtime::{Cluster, HttpFilters, Router, UpstreamProtocol};

use super::header_mutation::{append, mutates};
use super::{Overrides, any, at, overrides, read, route_config, runtime_percent, text};
use crate::harness::{Answer, Body, Origin, Proxy, Setup, empty, full, prefix, protocol, to_cluster};

/// What a server was asked.
#[derive(Debug, Clone)]
struct Asked {
    method: Method,
    path: String,
    authority: String,
    headers: HeaderMap,
    body: Bytes,
}

/// A server that decides by the path that it is asked for.
struct AuthServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl AuthServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<_>>>::default());
        let kept = asked.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let kept = kept.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| decide(request, kept.clone()));
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(tcp), service).await;
                });
            }
        });
        Self { address, asked }
    }

    fn last(&self) -> Asked {
        self.asked.lock().unwrap().last().expect("the server was asked").clone()
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

async fn decide(
    request: Request<Incoming>,
    asked: Arc<Mutex<Vec<Asked>>>,
) -> Result<Response<Body>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let host = parts.headers.get("host").map(|host| host.to_str().unwrap().to_owned());
    let authority = parts.uri.authority().map(ToString::to_string).or(host).unwrap_or_default();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let path = parts.uri.path().to_owned();
    let of = Asked { method: parts.method, path: path.clone(), authority, headers: parts.headers, body };
    asked.lock().unwrap().push(of);
    let response = Response::builder();
    let response = if path.contains("deny") {
        response
            .status(401)
            .header("www-authenticate", "Basic")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
            .header("x-why", "because")
            .body(full("not you"))
    } else if path.contains("broken") {
        response.status(500).body(full("oops"))
    } else if path.contains("large") {
        response.body(full(vec![b'x'; 2 * 1024 * 1024]))
    } else if path.contains("silent") {
        std::future::pending::<()>().await;
        response.body(empty())
    } else {
        response
            .header("x-set", "by server")
            .header("x-appended", "by server")
            .header("x-for-client", "1")
            .header("x-route", "other")
            .header("content-length", "0")
            .header("x-envoy-auth-headers-to-remove", "x-secret, host , x-other")
            .body(empty())
    };
    Ok(response.unwrap())
}

fn patterns(names: &[&str]) -> Option<ListStringMatcher> {
    let each = names.iter().map(|name| StringMatcher {
        match_pattern: Some(MatchPattern::Exact((*name).into())),
        ..Default::default()
    });
    Some(ListStringMatcher { patterns: each.collect() })
}

pub fn by_http(change: impl FnOnce(&mut authz::HttpService)) -> authz::ExtAuthz {
    let mut service = authz::HttpService {
        server_uri: Some(core::HttpUri {
            uri: "http://auth.test".into(),
            timeout: Some(WireDuration { seconds: 10, nanos: 0 }),
            http_upstream_type: Some(core::http_uri::HttpUpstreamType::Cluster("auth".into())),
        }),
        path_prefix: "/check".into(),
        ..Default::default()
    };
    change(&mut service);
    authz::ExtAuthz { services: Some(authz::ext_authz::Services::HttpService(service)), ..Default::default() }
}

struct Ground {
    server: AuthServer,
    setup: Setup,
    proxy: Proxy,
    _origins: [Origin; 2],
}

impl Ground {
    async fn start(config: authz::ExtAuthz) -> Self {
        Self::with(config, |_| {}, |_| {}, Vec::new()).await
    }

    async fn with(
        config: authz::ExtAuthz,
        cluster: impl FnOnce(&mut Cluster),
        routes: impl FnOnce(&mut Setup),
        behind: Vec<(&str, Any)>,
    ) -> Self {
        let (server, origins) = (AuthServer::start().await, [Origin::start().await, Origin::start().await]);
        let mut setup = Setup::new();
        setup.cluster("auth", &[server.address], cluster);
        setup.cluster("app", &[origins[0].address], |_| {});
        setup.cluster("other", &[origins[1].address], |_| {});
        let all = vec![at("/", Overrides::new(), |_| {})];
        route_config(&mut setup, Overrides::new(), Overrides::new(), all);
        routes(&mut setup);
        let mut filters = Vec::new();
        for (name, config) in std::iter::once(("authz", any(&config))).chain(behind) {
            let filter = read(&config, &mut setup.registry).unwrap();
            filters.push(HttpFilter { name: name.into(), filter });
        }
        setup.http_listener(|manager| manager.filters = HttpFilters::new(filters, Some(Router::default())));
        let proxy = setup.start().await;
        Self { server, setup, proxy, _origins: origins }
    }

    async fn ask(&self, path: &str, headers: &[(&'static str, &str)]) -> Answer {
        super::ask(&mut self.proxy.h1().await, Method::GET, path, headers).await
    }

    async fn value(&mut self, name: &str) -> i64 {
        let totals = self.proxy.engine().stats().await;
        self.setup.value(&totals, name)
    }
}

#[tokio::test]
async fn a_server_is_told_of_what_is_allowed_and_changes_the_request() {
    for upstream in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        let mut config = by_http(|service| {
            let header =
                core::HeaderValue { key: "x-added".into(), value: "yes".into(), ..Default::default() };
            let to_add = vec![header];
            service.authorization_request =
                Some(authz::AuthorizationRequest { headers_to_add: to_add, ..Default::default() });
            service.authorization_response = Some(authz::AuthorizationResponse {
                allowed_upstream_headers: patterns(&["x-set", "content-length"]),
                allowed_upstream_headers_to_append: patterns(&["x-appended"]),
                allowed_client_headers_on_success: patterns(&["x-for-client"]),
                ..Default::default()
            });
        });
        config.allowed_headers = patterns(&["x-in", "x-out"]);
        config.disallowed_headers = patterns(&["x-out"]);
        let mut ground = Ground::with(config, protocol(upstream), |_| {}, Vec::new()).await;
        let headers = [
            ("x-in", "1"),
            ("x-in", "2"),
            ("x-out", "1"),
            ("x-other", "1"),
            ("authorization", "me"),
            ("x-secret", "s"),
            ("x-set", "mine"),
            ("x-appended", "mine"),
        ];
        let answer = ground.ask("/head", &headers).await;
        assert_eq!((answer.status, text(&answer.headers, "x-for-client")), (StatusCode::OK, "1"));
        let seen = answer.seen();
        assert_eq!((seen["x-set"], seen["host"], seen["x-in"]), ("by server", "app.test", "2"));
        assert!(answer.text().contains("x-appended: mine\nx-appended: by server\n"), "{}", answer.text());
        for gone in ["x-secret", "x-other", "content-length"] {
            assert_eq!(seen.get(gone), None, "{gone}");
        }
        let asked = ground.server.last();
        assert_eq!((asked.method, &*asked.path, &*asked.authority), (Method::GET, "/check/head", "app.test"));
        assert_eq!(asked.headers["x-in"], "1,2");
        let mut told: Vec<&str> = asked.headers.keys().map(|name| name.as_str()).collect();
        told.retain(|name| *name != "host");
        told.sort_unstable();
        let wanted = [
            "authorization",
            "content-length",
            "x-added",
            "x-envoy-expected-rq-timeout-ms",
            "x-envoy-internal",
            "x-in",
        ];
        assert_eq!(told, wanted);
        for (name, value) in [
            ("http.in.ext_authz.ok", 1),
            ("cluster.app.ext_authz.ok", 1),
            ("cluster.auth.upstream_rq_200", 1),
            ("cluster.auth.upstream_rq_total", 1),
            ("cluster.auth.upstream_rq_active", 0),
        ] {
            assert_eq!(ground.value(name).await, value, "{name}");
        }
    }
}

#[tokio::test]
async fn a_refusal_is_the_callers_answer() {
    let mut ground = Ground::start(by_http(|_| {})).await;
    let answer = ground.ask("/deny", &[]).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::UNAUTHORIZED, "not you"));
    assert_eq!(
        (text(&answer.headers, "www-authenticate"), text(&answer.headers, "x-why")),
        ("Basic", "because")
    );
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 2);
    for (name, value) in [
        ("http.in.ext_authz.denied", 1),
        ("cluster.app.ext_authz.denied", 1),
        ("cluster.app.upstream_rq_401", 1),
        ("cluster.app.upstream_rq_total", 0),
    ] {
        assert_eq!(ground.value(name).await, value, "{name}");
    }
    let some = by_http(|service| {
        service.authorization_response = Some(authz::AuthorizationResponse {
            allowed_client_headers: patterns(&["x-why"]),
            ..Default::default()
        });
    });
    let some = authz::ExtAuthz { max_denied_response_body_bytes: 3, ..some };
    let answer = Ground::start(some).await.ask("/deny", &[]).await;
    assert_eq!((answer.text(), answer.headers.get("set-cookie")), ("not", None));
    assert_eq!(
        (text(&answer.headers, "www-authenticate"), text(&answer.headers, "x-why")),
        ("Basic", "because")
    );
}

#[tokio::test]
async fn without_a_verdict_a_request_is_refused_unless_failures_let_it_on() {
    let soon = |service: &mut authz::HttpService| {
        let server = service.server_uri.as_mut().unwrap();
        server.timeout = Some(WireDuration { seconds: 0, nanos: 200_000_000 });
    };
    let mut ground = Ground::start(by_http(soon)).await;
    for path in ["/broken", "/silent", "/large"] {
        let answer = ground.ask(path, &[]).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::FORBIDDEN, ""), "{path}");
    }
    assert_eq!(ground.value("http.in.ext_authz.error").await, 3);
    assert_eq!(ground.value("cluster.auth.upstream_rq_timeout").await, 1);
    assert_eq!(ground.value("cluster.app.upstream_rq_total").await, 0);
    let missing = by_http(|service| {
        let server = service.server_uri.as_mut().unwrap();
        server.http_upstream_type = Some(core::http_uri::HttpUpstreamType::Cluster("missing".into()));
    });
    let status = envoy_types::pb::envoy::r#type::v3::HttpStatus { code: 503 };
    let unavailable = authz::ExtAuthz { status_on_error: Some(status), ..missing };
    assert_eq!(Ground::start(unavailable).await.ask("/", &[]).await.status, StatusCode::SERVICE_UNAVAILABLE);
    let lenient = by_http(|service| {
        soon(service);
        service.path_prefix.clear();
        service.path_override = "/broken".into();
    });
    let lenient = authz::ExtAuthz {
        failure_mode_allow: true,
        failure_mode_allow_header_add: true,
        stat_prefix: "waf".into(),
        ..lenient
    };
    let mut ground = Ground::start(lenient).await;
    let answer = ground.ask("/head", &[]).await;
    assert_eq!(answer.seen()["x-envoy-auth-failure-mode-allowed"], "true");
    for name in ["error", "failure_mode_allowed"] {
        assert_eq!(ground.value(&format!("http.in.ext_authz.waf.{name}")).await, 1, "{name}");
    }
}

#[tokio::test]
async fn calls_have_their_places_in_the_circuit_breaker_of_the_servers_cluster() {
    let none = |cluster: &mut Cluster| {
        let thresholds = weft_dataplane::breaker::Thresholds { max_requests: 0, ..Default::default() };
        cluster.breaker = Arc::new(weft_dataplane::breaker::Breaker::new(thresholds));
    };
    let mut ground = Ground::with(by_http(|_| {}), none, |_| {}, Vec::new()).await;
    assert_eq!(ground.ask("/", &[]).await.status, StatusCode::FORBIDDEN);
    assert_eq!((ground.server.count(), ground.value("http.in.ext_authz.error").await), (0, 1));
    assert_eq!(ground.value("cluster.auth.upstream_rq_pending_overflow").await, 1);
}

#[tokio::test]
async fn a_caller_who_leaves_breaks_off_the_call() {
    let mut ground = Ground::start(by_http(|_| {})).await;
    let mut client = ground.proxy.h2().await;
    let request = client.request(Method::GET, "/silent", empty());
    let asking = tokio::spawn(async move { client.send(request).await });
    ground.proxy.wait_for(&ground.setup, "cluster.auth.upstream_rq_active", 1).await;
    asking.abort();
    ground.proxy.wait_for(&ground.setup, "cluster.auth.upstream_rq_cancelled", 1).await;
    ground.proxy.wait_for(&ground.setup, "http.in.downstream_rq_active", 0).await;
}

#[tokio::test]
async fn a_server_is_told_of_content_as_far_as_it_is_wanted() {
    let with_body = |most, partial| authz::ExtAuthz {
        with_request_body: Some(authz::BufferSettings {
            max_request_bytes: most,
            allow_partial_message: partial,
            pack_as_bytes: false,
        }),
        ..by_http(|_| {})
    };
    let ground = Ground::start(with_body(10, false)).await;
    for mut client in [ground.proxy.h1().await, ground.proxy.h2().await] {
        assert_eq!(client.post("/echo", full("0123456789")).await.text(), "0123456789");
        let asked = ground.server.last();
        assert_eq!((&*asked.body, text(&asked.headers, "content-length")), (&b"0123456789"[..], "10"));
        assert_eq!(asked.headers["x-envoy-auth-partial-body"], "false");
        let answer = client.post("/echo", full("0123456789a")).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
        client.get("/").await;
        assert_eq!(ground.server.last().headers.get("x-envoy-auth-partial-body"), None);
    }
    let ground = Ground::start(with_body(4, true)).await;
    let mut client = ground.proxy.h2().await;
    assert_eq!(client.post("/echo", full("0123456789")).await.text(), "0123456789");
    let asked = ground.server.last();
    assert_eq!((&*asked.body, text(&asked.headers, "x-envoy-auth-partial-body")), (&b"0123"[..], "true"));
}

#[tokio::test]
async fn routes_say_whether_and_with_how_much_content_a_server_is_asked() {
    let routes = |setup: &mut Setup| {
        let says = |given| overrides("authz", &authz::ExtAuthzPerRoute { r#override: Some(given) });
        let settings = |change: fn(&mut authz::CheckSettings)| {
            let mut settings = authz::CheckSettings::default();
            change(&mut settings);
            says(authz::ext_authz_per_route::Override::CheckSettings(settings))
        };
        let off = says(authz::ext_authz_per_route::Override::Disabled(true));
        let without = settings(|settings| settings.disable_request_body_buffering = true);
        let more = settings(|settings| {
            let max_request_bytes = 20;
            settings.with_request_body =
                Some(authz::BufferSettings { max_request_bytes, ..Default::default() });
        });
        let all = vec![
            at("/off", off, |_| {}),
            at("/without", without, |_| {}),
            at("/more", more, |_| {}),
            at("/", Overrides::new(), |_| {}),
        ];
        route_config(setup, Overrides::new(), Overrides::new(), all);
    };
    let buffer = authz::BufferSettings { max_request_bytes: 4, ..Default::default() };
    let config = authz::ExtAuthz { with_request_body: Some(buffer), ..by_http(|_| {}) };
    let ground = Ground::with(config, |_| {}, routes, Vec::new()).await;
    for (path, status, count, body) in
        [("/", 413, 0, ""), ("/off", 200, 0, ""), ("/without", 200, 1, ""), ("/more", 200, 2, "012345")]
    {
        let answer = ground.proxy.h1().await.post(path, full("012345")).await;
        assert_eq!((answer.status.as_u16(), ground.server.count()), (status, count), "{path}");
        if count > 0 {
            assert_eq!(ground.server.last().body, body, "{path}");
        }
    }
}

#[tokio::test]
async fn a_request_that_a_server_changed_is_routed_again_and_goes_on_from_there() {
    let config = |clears| {
        let service = by_http(|service| {
            service.authorization_response = Some(authz::AuthorizationResponse {
                allowed_upstream_headers: patterns(&["x-route"]),
                allowed_client_headers_on_success: patterns(&["x-for-client"]),
                ..Default::default()
            });
        });
        authz::ExtAuthz { clear_route_cache: clears, ..service }
    };
    let routes = |setup: &mut Setup| {
        let tagged = |value: &str| {
            let mutations = mutates(|one| one.request_mutations = vec![append("x-route-of", value)]);
            let mutations = mutations.mutations;
            overrides(
                "mutation",
                &envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3::HeaderMutationPerRoute { mutations },
            )
        };
        let weighted = |action: &mut wire::RouteAction| {
            let member = wire::weighted_cluster::ClusterWeight {
                name: "other".into(),
                weight: Some(UInt32Value { value: 1 }),
                typed_per_filter_config: tagged("member"),
                ..Default::default()
            };
            let clusters = wire::WeightedCluster { clusters: vec![member], ..Default::default() };
            action.cluster_specifier = Some(wire::route_action::ClusterSpecifier::WeightedClusters(clusters));
        };
        let mut second = to_cluster("other", weighted);
        let off = authz::ext_authz_per_route::Override::Disabled(true);
        second.typed_per_filter_config =
            overrides("authz", &authz::ExtAuthzPerRoute { r#override: Some(off) });
        let has_route = wire::HeaderMatcher {
            name: "x-route".into(),
            header_match_specifier: Some(wire::header_matcher::HeaderMatchSpecifier::PresentMatch(true)),
            ..Default::default()
        };
        second.r#match = Some(wire::RouteMatch { headers: vec![has_route], ..prefix("/") });
        let all = vec![second, at("/", tagged("first"), |_| {})];
        route_config(setup, Overrides::new(), Overrides::new(), all);
    };
    for (clears, cluster, tag) in [(true, "other", "member"), (false, "app", "first")] {
        let behind = vec![("mutation", any(&mutates(|_| {})))];
        let mut ground = Ground::with(config(clears), |_| {}, routes, behind).await;
        let answer = ground.ask("/head", &[]).await;
        assert_eq!(answer.seen()["x-route-of"], tag, "{clears}");
        assert_eq!(text(&answer.headers, "x-for-client"), "1", "the filter saw the request");
        assert_eq!(ground.value(&format!("cluster.{cluster}.upstream_rq_total")).await, 1, "{clears}");
        assert_eq!(ground.value("cluster.app.ext_authz.ok").await, 1, "counted by the route before");
        assert_eq!(ground.server.count(), 1, "it is asked once");
    }
}

#[tokio::test]
async fn a_share_of_requests_is_not_checked() {
    let never = authz::ExtAuthz { filter_enabled: Some(runtime_percent(0)), ..by_http(|_| {}) };
    let mut ground = Ground::start(never.clone()).await;
    assert_eq!(ground.ask("/deny", &[]).await.status, StatusCode::OK);
    assert_eq!((ground.value("http.in.ext_authz.disabled").await, ground.server.count()), (1, 0));
    let flag =
        core::RuntimeFeatureFlag { default_value: Some(BoolValue { value: true }), ..Default::default() };
    let denies = authz::ExtAuthz { deny_at_disable: Some(flag), ..never };
    assert_eq!(Ground::start(denies).await.ask("/", &[]).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn calls_share_the_pooled_connections_of_their_cluster() {
    let mut ground = Ground::start(by_http(|_| {})).await;
    for _ in 0..3 {
        assert_eq!(ground.ask("/hello", &[]).await.status, StatusCode::OK);
    }
    assert_eq!(ground.server.count(), 3);
    assert_eq!(ground.value("cluster.auth.upstream_cx_total").await, 1);
}
