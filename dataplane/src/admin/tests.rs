//! The admin endpoints against a running control thread and engine.

use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::query::QueryParameters;
use super::{AdminResponse, bind, route, serve};
use crate::bootstrap::Bootstrap;
use crate::control::{Config, Control, ControlHandle, DrainTimes, LogControl};
use crate::engine::{Engine, EngineConfig, Pinning};

const BOOTSTRAP: &str = r#"
node: {id: shop/web-1, cluster: shop/web}
static_resources:
  secrets:
  - name: own
    tls_certificate:
      certificate_chain: {inline_string: "CHAIN"}
      private_key: {inline_string: "KEY"}
  clusters:
  - name: app
    respect_dns_ttl: true
    load_assignment:
      cluster_name: app
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 9}}}}]}]
"#;

fn bootstrap(listeners: &str) -> Bootstrap {
    let authority = crate::identity::testing::Authority::new();
    let life = std::time::Duration::from_secs(3600);
    let identity = authority.identity("spiffe://mesh.local/ns/shop/svc/web", life);
    let quoted = |pem: String| serde_json::to_string(&pem).unwrap();
    let text = BOOTSTRAP
        .replace("\"CHAIN\"", &quoted(identity.chain_pem()))
        .replace("\"KEY\"", &quoted(identity.key_pem()))
        + listeners;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Bootstrap::load(file.path()).unwrap()
}

async fn with_proxy<F: Future<Output = ()>>(test: impl FnOnce(ControlHandle) -> F) {
    with_listeners("", test).await;
}

async fn with_listeners<F: Future<Output = ()>>(listeners: &str, test: impl FnOnce(ControlHandle) -> F) {
    let engine = Engine::start(&EngineConfig { workers: 1, pinning: Pinning::Free }).unwrap();
    let stop = CancellationToken::new();
    let config = Config {
        bootstrap: bootstrap(listeners),
        config_path: None,
        identity: None,
        snapshots: None,
        log: LogControl::fixed(),
        stop: stop.clone(),
    };
    let (control, handle) = Control::try_new(config, engine).unwrap();
    let times = DrainTimes { minimum: std::time::Duration::ZERO, limit: std::time::Duration::from_secs(1) };
    let running = control.run(None, std::future::ready(()), times);
    let testing = async {
        while handle.phase() != crate::control::Phase::Live {
            tokio::task::yield_now().await;
        }
        test(handle).await;
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(running, testing);
    ran.unwrap();
}

async fn get(handle: &ControlHandle, path: &str, query: &str) -> AdminResponse {
    route(&Method::GET, path, &QueryParameters::parse(query), handle).await
}

#[tokio::test]
async fn the_dump_shows_resources_and_never_a_key() {
    with_proxy(async |handle: ControlHandle| {
        let page = get(&handle, "/config_dump", "").await;
        assert!(!page.body.contains("PRIVATE KEY"), "the key is redacted everywhere");
        assert!(page.body.contains("[redacted]"));
        let dump: serde_json::Value = serde_json::from_str(&page.body).unwrap();
        let types: Vec<_> = dump["configs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|config| config["@type"].as_str().unwrap())
            .collect();
        assert!(types[0].ends_with("BootstrapConfigDump") && types[1].ends_with("ClustersConfigDump"));
        assert_eq!(dump["configs"][1]["static_clusters"][0]["cluster"]["name"], "app");
        assert_eq!(dump["ignored_fields"]["cluster/app"][0], "respect_dns_ttl");
        let part = get(&handle, "/config_dump", "resource=static_clusters&name_regex=nothing").await;
        let part: serde_json::Value = serde_json::from_str(&part.body).unwrap();
        assert_eq!(part["configs"].as_array().unwrap().len(), 0);
    })
    .await;
}

#[tokio::test]
async fn an_override_of_another_filters_type_is_shown_as_ignored() {
    const LISTENERS: &str = r#"  listeners:
  - name: in
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          http_filters:
          - {name: checks, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC}}
          - {name: faults, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault}}
          - {name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {prefix: /}
                route: {cluster: app}
                typed_per_filter_config:
                  checks: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault}
                  faults: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault}
                  nobody: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault}
"#;
    with_listeners(LISTENERS, async |handle: ControlHandle| {
        let dump = get(&handle, "/config_dump", "").await;
        let shown: serde_json::Value = serde_json::from_str(&dump.body).unwrap();
        let ignored = &shown["ignored_fields"]["listener/in"];
        assert_eq!(
            *ignored,
            serde_json::json!(["typed_per_filter_config.checks (of another filter's type)"])
        );
    })
    .await;
}

#[tokio::test]
async fn clusters_and_certificates_have_envoys_shapes() {
    with_proxy(async |handle: ControlHandle| {
        let text = get(&handle, "/clusters", "").await.body;
        assert!(text.contains("app::default_priority::max_requests::1024\n"), "{text}");
        assert!(text.contains("app::127.0.0.1:9::health_flags::healthy\n"), "{text}");
        let shown: serde_json::Value =
            serde_json::from_str(&get(&handle, "/clusters", "format=json").await.body).unwrap();
        let host = &shown["cluster_statuses"][0]["host_statuses"][0];
        assert_eq!(host["address"]["socket_address"]["port_value"], 9);
        assert_eq!(host["health_status"]["eds_health_status"], "HEALTHY");
        let certs: serde_json::Value = serde_json::from_str(&get(&handle, "/certs", "").await.body).unwrap();
        let names = &certs["certificates"][0]["cert_chain"][0]["subject_alt_names"];
        assert_eq!(names[0]["uri"], "spiffe://mesh.local/ns/shop/svc/web");
    })
    .await;
}

#[tokio::test]
async fn statistics_carry_envoys_names_and_can_be_filtered() {
    with_proxy(async |handle: ControlHandle| {
        let text = get(&handle, "/stats", "filter=membership_total").await.body;
        assert_eq!(text, "cluster.app.membership_total: 1\n");
        let text = get(&handle, "/stats/prometheus", "filter=membership_total").await.body;
        assert!(text.contains("envoy_cluster_membership_total{envoy_cluster_name=\"app\"} 1"), "{text}");
        let refused = get(&handle, "/stats", "filter=(").await;
        assert_eq!(refused.status, http::StatusCode::BAD_REQUEST);
    })
    .await;
}

#[tokio::test]
async fn what_changes_something_wants_post() {
    with_proxy(async |handle: ControlHandle| {
        for path in ["/quitquitquit", "/drain_listeners", "/logging", "/healthcheck/fail"] {
            let page = get(&handle, path, "").await;
            assert_eq!(page.status, http::StatusCode::METHOD_NOT_ALLOWED, "{path}");
        }
        assert_eq!(get(&handle, "/ready", "").await.status, http::StatusCode::OK);
        route(&Method::POST, "/healthcheck/fail", &QueryParameters::default(), &handle).await;
        let page = get(&handle, "/ready", "").await;
        assert_eq!((page.status, page.body.as_str()), (http::StatusCode::SERVICE_UNAVAILABLE, "DRAINING\n"));
        route(&Method::POST, "/healthcheck/ok", &QueryParameters::default(), &handle).await;
        assert_eq!(get(&handle, "/ready", "").await.body, "LIVE\n");
        assert_eq!(get(&handle, "/nowhere", "").await.status, http::StatusCode::NOT_FOUND);
    })
    .await;
}

#[tokio::test]
async fn answers_over_http() {
    with_proxy(async |handle: ControlHandle| {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, handle, stop.clone()));
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("LIVE\n"), "{answer}");
        stop.cancel();
        server.await.unwrap();
    })
    .await;
}
