//! Tokens whose keys another server has. What tokens may be stands in the filter's own tests, and beside Envoy.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3 as jwt;
use envoy_types::pb::google::protobuf::Duration as WireDuration;
use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use weft_dataplane::filter::HttpFilter;
use weft_dataplane::runtime::{HttpFilters, Router, UpstreamProtocol};

use super::{Overrides, any, ask, at, read, route_config};
use crate::harness::{Origin, Proxy, Setup, prefix, protocol};

const SECRET: &[u8] = b"a secret of the test";

fn token() -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let text = format!("{}.{}", encode(r#"{"alg":"HS256"}"#), encode(r#"{"iss":"me"}"#));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), text.as_bytes());
    format!("Bearer {text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A server of keys, which takes its time.
struct KeyServer {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl KeyServer {
    async fn start(status: &'static str, text: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let counted = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && tcp.read_buf(&mut head).await.unwrap() > 0 {}
                assert!(head.starts_with(b"GET /keys HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&head));
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(200)).await;
                let length = text.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
                );
                // Whoever finds it too large goes.
                let _ = tcp.write_all(answer.as_bytes()).await;
            }
        });
        Self { address, asked }
    }

    fn count(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

pub fn authenticates(change: impl FnOnce(&mut jwt::JwtProvider)) -> jwt::JwtAuthentication {
    let remote = jwt::RemoteJwks {
        http_uri: Some(core::HttpUri {
            uri: "http://keys.test/keys".into(),
            timeout: Some(WireDuration { seconds: 5, nanos: 0 }),
            http_upstream_type: Some(core::http_uri::HttpUpstreamType::Cluster("keys".into())),
        }),
        // Its failures are not to end while the test looks at them.
        async_fetch: Some(jwt::JwksAsyncFetch {
            fast_listener: true,
            failed_refetch_duration: Some(WireDuration { seconds: 60, nanos: 0 }),
        }),
        ..Default::default()
    };
    let mut provider = jwt::JwtProvider {
        issuer: "me".into(),
        jwks_source_specifier: Some(jwt::jwt_provider::JwksSourceSpecifier::RemoteJwks(remote)),
        ..Default::default()
    };
    change(&mut provider);
    let requires = jwt::jwt_requirement::RequiresType::ProviderName("me".into());
    let requires = jwt::JwtRequirement { requires_type: Some(requires) };
    jwt::JwtAuthentication {
        providers: HashMap::from([("me".to_owned(), provider)]),
        rules: vec![jwt::RequirementRule {
            r#match: Some(prefix("/")),
            requirement_type: Some(jwt::requirement_rule::RequirementType::Requires(requires)),
        }],
        ..Default::default()
    }
}

struct Ground {
    _origin: Origin,
    setup: Setup,
    proxy: Proxy,
    keys: KeyServer,
}

async fn beside(keys: KeyServer) -> Ground {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], protocol(UpstreamProtocol::Http1));
    setup.cluster("keys", &[keys.address], protocol(UpstreamProtocol::Http1));
    route_config(&mut setup, Overrides::new(), Overrides::new(), vec![at("/", Overrides::new(), |_| {})]);
    let filter = read(&any(&authenticates(|_| {})), &mut setup.registry).unwrap();
    let clusters: Vec<&str> = filter.clusters().into_iter().map(AsRef::as_ref).collect();
    assert_eq!(clusters, ["keys"], "a listener waits for it");
    let filters = vec![HttpFilter { name: "jwt".into(), filter }];
    setup.http_listener(|manager| manager.filters = HttpFilters::new(filters, Some(Router::default())));
    let proxy = setup.start().await;
    Ground { _origin: origin, setup, proxy, keys }
}

#[tokio::test]
async fn keys_are_fetched_once_for_all_who_wait_for_them() {
    let keys = format!(r#"{{"keys":[{{"kty":"oct","k":"{}"}}]}}"#, URL_SAFE_NO_PAD.encode(SECRET));
    let mut ground = beside(KeyServer::start("200 OK", keys).await).await;
    let asking = (0..20).map(|_| async {
        let mut client = ground.proxy.h1().await;
        ask(&mut client, Method::GET, "/hello", &[("authorization", &token())]).await.status
    });
    let statuses = futures::future::join_all(asking).await;
    assert!(statuses.iter().all(|status| *status == StatusCode::OK), "{statuses:?}");
    let mut client = ground.proxy.h1().await;
    let again = ask(&mut client, Method::GET, "/hello", &[("authorization", &token())]).await;
    assert_eq!((again.status, ground.keys.count()), (StatusCode::OK, 1));
    let totals = ground.proxy.engine().stats().await;
    assert_eq!(ground.setup.value(&totals, "http.in.jwt_authn.jwks_fetch_success"), 1);
}

#[tokio::test]
async fn a_server_without_keys_is_not_asked_by_every_request() {
    for (status, text) in
        [("500 Oops", String::new()), ("200 OK", "{}".into()), ("200 OK", "x".repeat(300_000))]
    {
        let ground = beside(KeyServer::start(status, text).await).await;
        let mut client = ground.proxy.h1().await;
        for _ in 0..5 {
            let refused = ask(&mut client, Method::GET, "/hello", &[("authorization", &token())]).await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
            assert_eq!(refused.text(), "Jwks remote fetch is failed");
        }
        assert_eq!(ground.keys.count(), 1, "{status}");
    }
}
