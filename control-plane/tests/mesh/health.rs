//! What sidecars report: health of their applications, and statistics of their edges.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use envoy_types::pb::envoy::config::core::v3::health_check::HealthChecker;
use envoy_types::pb::envoy::service::health::v3::health_check_request_or_endpoint_health_response::RequestType;
use envoy_types::pb::envoy::service::health::v3::health_discovery_service_client::HealthDiscoveryServiceClient;
use envoy_types::pb::envoy::service::health::v3::{
    ClusterEndpointsHealth, EndpointHealth, EndpointHealthResponse, HealthCheckRequest,
    HealthCheckRequestOrEndpointHealthResponse, HealthCheckSpecifier, LocalityEndpointsHealth,
};
use envoy_types::pb::envoy::service::metrics::v3::StreamMetricsMessage;
use envoy_types::pb::envoy::service::metrics::v3::metrics_service_client::MetricsServiceClient;
use envoy_types::pb::io::prometheus::client::{Counter, Metric, MetricFamily, MetricType};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::peer::{Member, declared, join};
use crate::plane::{DEADLINE, Plane, service};
use crate::proxy::{Sidecar, node};

/// The sidecar's end of the health discovery service.
pub struct Checker {
    requests: mpsc::Sender<HealthCheckRequestOrEndpointHealthResponse>,
    assignments: Streaming<HealthCheckSpecifier>,
}

impl Checker {
    pub async fn open(member: &Member, control_plane: std::net::SocketAddr) -> Self {
        let mut client = HealthDiscoveryServiceClient::new(member.channel(control_plane).await);
        let (requests, outgoing) = mpsc::channel(4);
        let hello = HealthCheckRequest { node: Some(node(&member.id)), ..HealthCheckRequest::default() };
        let hello = RequestType::HealthCheckRequest(hello);
        requests
            .send(HealthCheckRequestOrEndpointHealthResponse { request_type: Some(hello) })
            .await
            .unwrap();
        let assignments =
            client.stream_health_check(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        Self { requests, assignments }
    }

    pub async fn assignment(&mut self) -> HealthCheckSpecifier {
        let next = tokio::time::timeout(DEADLINE, self.assignments.message());
        next.await.expect("an assignment in time").unwrap().unwrap()
    }

    pub async fn report(&self, cluster: &str, health: HealthStatus) {
        let endpoint = EndpointHealth { health_status: health.into(), ..EndpointHealth::default() };
        let locality = LocalityEndpointsHealth {
            endpoints_health: vec![endpoint],
            ..LocalityEndpointsHealth::default()
        };
        let cluster = ClusterEndpointsHealth {
            cluster_name: cluster.to_owned(),
            locality_endpoints_health: vec![locality],
        };
        let report = EndpointHealthResponse {
            cluster_endpoints_health: vec![cluster],
            ..EndpointHealthResponse::default()
        };
        let report = RequestType::EndpointHealthResponse(report);
        self.requests
            .send(HealthCheckRequestOrEndpointHealthResponse { request_type: Some(report) })
            .await
            .unwrap();
    }
}

pub fn checked(name: &str, path: &str) -> String {
    service(name).replace("spec: {", &format!("spec: {{healthCheck: {{http: {{path: {path}}}}}, "))
}

fn paths(assignment: &HealthCheckSpecifier) -> Vec<String> {
    let checks = assignment.cluster_health_checks.iter().flat_map(|cluster| &cluster.health_checks);
    checks
        .map(|check| match &check.health_checker {
            Some(HealthChecker::HttpHealthCheck(http)) => http.path.clone(),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_of_a_sidecar_becomes_the_health_of_its_endpoint() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &checked("cart", "/healthz"))).await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let cart = join(&plane.join_token("shop/cart").await, declared("cart-1", "127.0.0.3")).await.unwrap();
    let mut watcher = Sidecar::start(&web, plane.running.xds).await;
    let _cart = Sidecar::start(&cart, plane.running.xds).await.go_on();
    let mut checker = Checker::open(&cart, plane.running.xds).await;
    let assignment = checker.assignment().await;
    assert_eq!(assignment.cluster_health_checks[0].cluster_name, "inbound/shop/cart/http");
    assert_eq!(paths(&assignment), ["/healthz"]);
    checker.report("inbound/shop/cart/http", HealthStatus::Unhealthy).await;
    watcher.until_health("shop/cart/http", HealthStatus::Unhealthy as i32).await;
    checker.report("inbound/shop/cart/http", HealthStatus::Healthy).await;
    watcher.until_health("shop/cart/http", HealthStatus::Healthy as i32).await;
    // Another path is assigned at once; without a check, old reports do not count.
    plane.apply(&checked("cart", "/alive")).await;
    assert_eq!(paths(&checker.assignment().await), ["/alive"]);
    checker.report("inbound/shop/cart/http", HealthStatus::Unhealthy).await;
    watcher.until_health("shop/cart/http", HealthStatus::Unhealthy as i32).await;
    plane.apply(&service("cart").replace("spec: {", "spec: {healthCheck: {none: {}}, ")).await;
    assert!(checker.assignment().await.cluster_health_checks.is_empty());
    watcher.until_health("shop/cart/http", HealthStatus::Healthy as i32).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_that_says_nothing_is_checked_by_a_connection_and_one_that_never_answered_is_starting() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart"))).await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let cart = join(&plane.join_token("shop/cart").await, declared("cart-1", "127.0.0.3")).await.unwrap();
    let mut watcher = Sidecar::start(&web, plane.running.xds).await;
    let _cart = Sidecar::start(&cart, plane.running.xds).await.go_on();
    let mut checker = Checker::open(&cart, plane.running.xds).await;
    let assignment = checker.assignment().await;
    let checks = assignment.cluster_health_checks.iter().flat_map(|cluster| &cluster.health_checks);
    let checks: Vec<_> = checks.map(|check| check.health_checker.clone().unwrap()).collect();
    assert!(matches!(&checks[..], [HealthChecker::TcpHealthCheck(_)]), "{checks:?}");
    for (health, eds, word) in [
        (HealthStatus::Unhealthy, HealthStatus::Unhealthy, "Starting"),
        (HealthStatus::Healthy, HealthStatus::Healthy, "Healthy"),
        (HealthStatus::Unhealthy, HealthStatus::Unhealthy, "Unhealthy"),
    ] {
        checker.report("inbound/shop/cart/http", health).await;
        watcher.until_health("shop/cart/http", eds as i32).await;
        let proxy = plane.client.proxy("shop/cart-1").await.unwrap();
        assert_eq!(proxy.health, word);
        let reason = proxy.health_reason.unwrap_or_default();
        assert_eq!(reason.contains("the application of port http"), word != "Healthy", "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn assignment_follows_the_workload_and_not_only_the_policies() {
    let plane = Plane::start().await;
    plane.apply(&checked("cart", "/healthz")).await;
    let token = plane.join_token("shop/cart").await;
    let cart = join(&token, declared("cart-1", "127.0.0.3")).await.unwrap();
    let mut checker = Checker::open(&cart, plane.running.xds).await;
    let before = checker.assignment().await;
    let again = join(&token, declared("cart-1", "127.0.0.3")).await.err().expect("the name is taken");
    assert_eq!(again.code(), tonic::Code::AlreadyExists, "{again}");
    let file = "
---
apiVersion: weft.dev/v1
kind: Workload
metadata: {namespace: shop, name: cart-1}
spec: {address: 127.0.0.3, ports: {http: 9999}, services: [cart]}
";
    plane.apply(file).await;
    let after = checker.assignment().await;
    assert_ne!(before, after);
    assert!(format!("{after:?}").contains("9999"), "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_end_with_the_stream_that_brought_them() {
    let plane = Plane::start_with(&["--degrade-after", "1s"]).await;
    plane.apply(&(service("web") + &checked("cart", "/healthz"))).await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let cart = join(&plane.join_token("shop/cart").await, declared("cart-1", "127.0.0.3")).await.unwrap();
    let mut watcher = Sidecar::start(&web, plane.running.xds).await;
    let _proxy = Sidecar::start(&cart, plane.running.xds).await.go_on();
    let mut checker = Checker::open(&cart, plane.running.xds).await;
    // What is reported before it was asked for is not kept.
    checker.assignment().await;
    checker.report("inbound/shop/cart/http", HealthStatus::Unhealthy).await;
    watcher.until_health("shop/cart/http", HealthStatus::Unhealthy as i32).await;
    drop(checker);
    watcher.until_health("shop/cart/http", HealthStatus::Healthy as i32).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_of_a_sidecar_become_an_edge() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart"))).await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let mut client = MetricsServiceClient::new(web.channel(plane.running.xds).await);
    let (reports, outgoing) = mpsc::channel(4);
    let stream = tokio::spawn(async move { client.stream_metrics(ReceiverStream::new(outgoing)).await });
    let report = |values: &[(&str, f64)]| StreamMetricsMessage {
        envoy_metrics: values.iter().map(|(name, value)| counter(name, *value)).collect(),
        ..StreamMetricsMessage::default()
    };
    let names = ["upstream_rq_completed", "upstream_rq_5xx", "upstream_cx_total", "ssl.handshake"];
    let names = names.map(|name| format!("cluster.shop/cart/http.{name}"));
    for values in [[0.0, 0.0, 1.0, 1.0], [100.0, 25.0, 1.0, 1.0]] {
        let values: HashMap<&str, f64> = names.iter().map(String::as_str).zip(values).collect();
        reports.send(report(&values.into_iter().collect::<Vec<_>>())).await.unwrap();
    }
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let edge = loop {
        let edge = plane.client.edges().await.unwrap().items.into_iter().find(|edge| edge.success.is_some());
        match edge {
            Some(edge) => break edge,
            None => assert!(tokio::time::Instant::now() < deadline, "an edge in time"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(
        (edge.source.as_str(), edge.destination.as_str(), edge.port.as_str()),
        ("shop/web", "shop/cart", "http")
    );
    assert!((edge.success.unwrap() - 0.75).abs() < 1e-9 && edge.mtls && edge.rate > 0.0, "{edge:?}");
    drop(reports);
    stream.await.unwrap().unwrap();
}

/// M4(b): statistics of clusters that no policy knows are not kept, and the newest two streams of a workload stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m4_statistics_of_made_up_clusters_are_not_kept() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart"))).await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let open = async || {
        let mut client = MetricsServiceClient::new(web.channel(plane.running.xds).await);
        let (reports, outgoing) = mpsc::channel(4);
        (reports, tokio::spawn(async move { client.stream_metrics(ReceiverStream::new(outgoing)).await }))
    };
    let made_up = (0..50_000).map(|n| counter(&format!("cluster.shop/s{n}/http.upstream_cx_total"), 1.0));
    let real = counter("cluster.shop/cart/http.upstream_cx_total", 1.0);
    let (reports, first) = open().await;
    let envoy_metrics = made_up.chain([real]).collect();
    reports.send(StreamMetricsMessage { envoy_metrics, ..StreamMetricsMessage::default() }).await.unwrap();
    let edges = async || plane.client.edges().await.unwrap().items;
    let kept = async {
        while edges().await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, kept).await.expect("an edge in time");
    let kept = edges().await;
    assert_eq!(kept.len(), 1, "{} edges", kept.len());
    assert_eq!(kept[0].destination, "shop/cart");

    let mut newer = Vec::new();
    for _ in 0..2 {
        newer.push(open().await);
    }
    let ended = tokio::time::timeout(DEADLINE, first).await.expect("the oldest ends").unwrap().unwrap_err();
    assert_eq!(ended.code(), tonic::Code::ResourceExhausted);
    assert!(newer.iter().all(|(_, stream)| !stream.is_finished()));
    let metrics = plane.metrics().await;
    assert!(metrics.contains(r#"weft_limited_total{limit="metric_streams_of_a_workload"} 1"#), "{metrics}");
}

/// M4(c): reports about ports that a sidecar was not asked to check are passed over, and counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m4_reports_of_made_up_ports_are_not_kept() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &checked("cart", "/healthz"))).await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let cart = join(&plane.join_token("shop/cart").await, declared("cart-1", "127.0.0.3")).await.unwrap();
    let mut watcher = Sidecar::start(&web, plane.running.xds).await;
    let _proxy = Sidecar::start(&cart, plane.running.xds).await.go_on();
    let mut checker = Checker::open(&cart, plane.running.xds).await;
    checker.assignment().await;
    for cluster in ["inbound/shop/cart/made-up", "inbound/shop/web/http", "inbound/shop/cart/http"] {
        checker.report(cluster, HealthStatus::Unhealthy).await;
    }
    watcher.until_health("shop/cart/http", HealthStatus::Unhealthy as i32).await;
    let here = plane.running.reconciler.local_presence().await.unwrap();
    let health = here[&"shop/cart-1".parse().unwrap()].health.clone().unwrap();
    assert_eq!(health.len(), 1, "{health:?}");
    assert!(plane.metrics().await.contains(r#"weft_limited_total{limit="ports_not_asked"} 2"#));
    // A report of four megabytes ends the stream.
    checker.report(&"x".repeat(4 << 20), HealthStatus::Unhealthy).await;
    let ended = async { while let Ok(Some(_)) = checker.assignments.message().await {} };
    tokio::time::timeout(DEADLINE, ended).await.expect("the stream ends");
}

fn counter(name: &str, value: f64) -> MetricFamily {
    let counter = Counter { value: Some(value), ..Counter::default() };
    MetricFamily {
        name: Some(name.to_owned()),
        r#type: Some(MetricType::Counter.into()),
        metric: vec![Metric { counter: Some(counter), ..Metric::default() }],
        ..MetricFamily::default()
    }
}
