//! A member on its own stream asks for what is another's; a stranger asks for anything.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::envoy::service::health::v3::health_check_request_or_endpoint_health_response::RequestType;
use envoy_types::pb::envoy::service::health::v3::health_discovery_service_client::HealthDiscoveryServiceClient;
use envoy_types::pb::envoy::service::health::v3::{
    ClusterEndpointsHealth, EndpointHealth, EndpointHealthResponse,
    HealthCheckRequestOrEndpointHealthResponse, HealthCheckSpecifier, LocalityEndpointsHealth,
};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;
use tokio::time::error::Elapsed;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use weft_api::ResourceKind;
use weft_api::join::ProxyType;
use weft_e2e::harness::{Calls, Joined, Mesh, Presented, XdsStream, channel, described, dial, until};

use crate::ground::{
    ANSWER, Attacks, beside, enter, everything_is_served, member, nothing_is_served, on_the_embedded_store,
    service,
};

on_the_embedded_store!(
    node_is_a_claim_that_must_fit_the_certificate,
    stream_brings_nothing_of_others,
    strangers_are_served_nothing,
    nobody_reports_the_health_of_others,
    garbage_ends_the_call_and_nothing_else,
);

async fn node_is_a_claim_that_must_fit_the_certificate(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&[service("web"), service("catalog")].concat()).await?;
    let (spy, _) = (member(mesh, "web", "spy").await?, member(mesh, "catalog", "catalog-1").await?);
    let channel = spy.channel(mesh.xds());
    let long = format!("shop/{}", "a".repeat(100_000));
    let mut attacks = Attacks::default();
    for node in [
        "shop/catalog-1",
        "",
        "/",
        "shop/",
        "/spy",
        "spy",
        "shop/spy/",
        "shop//spy",
        " shop/spy",
        "shop/spy ",
        "SHOP/SPY",
        "shop/spy\0",
        "shop/spy\nshop/catalog-1",
        "../shop/catalog-1",
        "shop/spy,shop/catalog-1",
        "control-plane",
        &long,
    ] {
        let outcome = async {
            let mut stream = XdsStream::open(channel.clone(), node).await?;
            stream.ask(ResourceKind::Listener, &[]).await;
            stream.next(ANSWER).await
        };
        let held = match outcome.await {
            Err(status) if matches!(status.code(), Code::PermissionDenied | Code::InvalidArgument) => Ok(()),
            Err(status)
                if status.code() == Code::ResourceExhausted && status.message().contains("stream") =>
            {
                // The identity's own admission; what is asked here is who it is.
                Ok(())
            }
            other => Err(anyhow::anyhow!("{other:?}")),
        };
        attacks.held(format!("{:?}", node.chars().take(40).collect::<String>()), held);
    }
    attacks.end()
}

/// What is catalog's alone, under the names that it has there.
const CATALOGS: [(ResourceKind, &[&str]); 3] = [
    (ResourceKind::Cluster, &["inbound/shop/catalog/http"]),
    (ResourceKind::Listener, &["inbound"]),
    (ResourceKind::Route, &["inbound/shop/catalog/http"]),
];

/// Listeners, routes, clusters and secrets of another workload, by wildcard, by name, and by another name in the middle.
/// Who has them gets them by the same questions.
async fn stream_brings_nothing_of_others(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&[service("web"), service("catalog")].concat()).await?;
    let (spy, catalog) =
        (with_envoy(mesh, "web", "spy").await?, with_envoy(mesh, "catalog", "catalog-1").await?);
    let mut owners = catalog.stream(mesh.xds()).await?;
    for (kind, names) in CATALOGS {
        owners.ask(kind, names).await;
        let own = owners.expect(kind, ANSWER).await?;
        ensure!(is_of_catalog(&own), "catalog does not get its own {kind} by {names:?}: {own:?}");
        owners.ack(kind, names, &own).await;
    }
    let secret = own_secret(&mut owners).await.context("catalog's secret")?;
    let mut stream = spy.stream(mesh.xds()).await?;
    for kind in [ResourceKind::Cluster, ResourceKind::Listener] {
        stream.ask(kind, &[]).await;
        let own = stream.expect(kind, ANSWER).await?;
        ensure!(text(&own).contains("shop/web"), "its own {kind} does not come");
        ensure!(!is_of_catalog(&own), "{kind} of catalog came");
        stream.ack(kind, &[], &own).await;
    }
    let own = own_secret(&mut stream).await.context("the spy's secret")?;
    ensure!(own != secret, "one secret for both");

    let mut attacks = Attacks::default();
    let made_up = [
        (ResourceKind::Route, &["inbound/catalog", "*"][..]),
        (ResourceKind::Listener, &["inbound/catalog", "shop/catalog-1"]),
        (ResourceKind::Secret, SECRETS),
    ];
    for (kind, names) in CATALOGS.into_iter().chain(made_up) {
        for name in names {
            let mut stream = spy.stream(mesh.xds()).await;
            for _ in 0..40 {
                if stream.as_ref().is_err_and(|status| status.code() == Code::ResourceExhausted) {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                    stream = spy.stream(mesh.xds()).await;
                }
            }
            let mut stream = stream?;
            stream.ask(kind, &[name]).await;
            // What does not exist is not answered, or with an empty answer.
            let held = match stream.next(Duration::from_millis(300)).await {
                Ok(answer) if is_of_catalog(&answer) => Err(anyhow::anyhow!("it came")),
                Err(status) if status.code() != Code::DeadlineExceeded => {
                    Err(anyhow::anyhow!("the question was not looked at: {status}"))
                }
                Ok(_) | Err(_) => Ok(()),
            };
            attacks.held(format!("{kind} {name:?}"), held);
        }
    }
    attacks.end()?;

    // A stream stays its certificate's when it calls itself something else later.
    stream.rename(&catalog.id());
    stream.ask(ResourceKind::Route, &["inbound/shop/catalog/http"]).await;
    match stream.next(Duration::from_secs(1)).await {
        Ok(answer) => ensure!(!is_of_catalog(&answer), "renamed, it got {answer:?}"),
        Err(status) => ensure!(status.code() != Code::Ok, "{status}"),
    }
    Ok(())
}

/// Names under which somebody might look for another's secret. Each has its own as `identity`.
const SECRETS: &[&str] = &[
    "shop/catalog-1",
    "catalog-1",
    "identity/shop/catalog-1",
    "identity-of-catalog",
    "spiffe://mesh.local/ns/shop/svc/catalog",
    "spiffe://mesh.local/control-plane",
    "mesh/root",
    "mesh/issuer",
    "../identity",
    "identity\0",
    "IDENTITY",
    "operator",
    "seal.key",
    "xdstp://mesh/envoy.extensions.transport_sockets.tls.v3.Secret/identity",
];

/// A member beside a stock Envoy, which gets its key by SDS.
async fn with_envoy(mesh: &mut Mesh, service: &str, name: &str) -> anyhow::Result<Joined> {
    let mut workload = described(name, mesh.next_address());
    workload.proxy_type = ProxyType::Envoy.into();
    workload.app_ports.insert("http".to_owned(), 8080);
    enter(mesh, &format!("shop/{service}"), workload).await
}

/// Asks for the one secret that a workload has.
async fn own_secret(stream: &mut XdsStream) -> anyhow::Result<String> {
    stream.ask(ResourceKind::Secret, &["identity"]).await;
    loop {
        let answer = stream.expect(ResourceKind::Secret, ANSWER).await?;
        stream.ack(ResourceKind::Secret, &["identity"], &answer).await;
        if text(&answer).contains("PRIVATE KEY") {
            return Ok(text(&answer));
        }
    }
}

fn text(answer: &DiscoveryResponse) -> String {
    let bytes: Vec<u8> = answer.resources.iter().flat_map(|any| any.value.clone()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether an answer brings what only `catalog` may have. A wildcard brings what is one's own.
fn is_of_catalog(answer: &DiscoveryResponse) -> bool {
    let is_secret = answer.type_url == ResourceKind::Secret.type_url() && !answer.resources.is_empty();
    is_secret || text(answer).contains("inbound/shop/catalog") || text(answer).contains("catalog-1")
}

/// All calls of the port, and those that other control planes have, without a certificate; and those that nobody serves.
async fn strangers_are_served_nothing(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let web = member(mesh, "web", "web-1").await?;
    everything_is_served(&web.channel(mesh.xds()), &web.id()).await?;
    nothing_is_served(&channel(mesh.xds(), None), &web.id()).await?;
    let mut attacks = Attacks::default();
    for (paths, codes) in [(SERVED, &[16][..]), (UNKNOWN, &[12, 16])] {
        for path in paths {
            let status = grpc_status(mesh, None, path, &[]).await?;
            let held = if codes.contains(&status) { Ok(()) } else { Err(anyhow::anyhow!("status {status}")) };
            attacks.held(path, held);
        }
    }
    for path in UNKNOWN {
        let status = grpc_status(mesh, Some(&web.presented), path, &[]).await?;
        let held = if status == 12 { Ok(()) } else { Err(anyhow::anyhow!("status {status} for a member")) };
        attacks.held(path, held);
    }
    attacks.end()
}

/// gRPC 16 is UNAUTHENTICATED.
const SERVED: &[&str] = &[
    "/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters",
    "/envoy.service.listener.v3.ListenerDiscoveryService/FetchListeners",
    "/envoy.service.route.v3.RouteDiscoveryService/FetchRoutes",
    "/envoy.service.endpoint.v3.EndpointDiscoveryService/FetchEndpoints",
    "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets",
];

/// 12 is UNIMPLEMENTED.
const UNKNOWN: &[&str] = &[
    "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats",
    "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/grpc.health.v1.Health/Check",
    "/weft.join.v1.JoinService/Nothing",
    "/v1/tokens",
    "/",
];

/// Posts one message to a path of the xDS port; the status of the answer.
async fn grpc_status(
    mesh: &Mesh,
    presented: Option<&Presented>,
    path: &str,
    message: &[u8],
) -> anyhow::Result<u16> {
    let stream = dial(mesh.xds(), "localhost", b"h2", presented).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let task = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let length = u32::try_from(message.len())?.to_be_bytes();
    let body = [&[0], &length[..], message].concat();
    let request = Request::post(format!("https://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(body)))?;
    let answer = tokio::time::timeout(ANSWER, sender.send_request(request)).await.context("no answer")??;
    let (head, body) = answer.into_parts();
    if let Some(status) = head.headers.get("grpc-status") {
        return Ok(status.to_str()?.parse()?);
    }
    if head.status == http::StatusCode::NOT_FOUND {
        return Ok(12);
    }
    let body = tokio::time::timeout(ANSWER, body.collect()).await.context("no end")??;
    drop(task);
    let trailers = body.trailers().context("no trailers")?;
    Ok(trailers.get("grpc-status").context("no status")?.to_str()?.parse()?)
}

/// HDS: a member reports on the application beside it, and on nobody else's. The reports of both are heard: of the victim's
/// own, its health changes, and of the liar's, the liar's.
async fn nobody_reports_the_health_of_others(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&["web", "catalog"].map(checked).concat()).await?;
    let (liar, victim) = (serving(mesh, "web", "web-1").await?, serving(mesh, "catalog", "catalog-1").await?);
    let (_liar, _victim) = (beside(mesh, &liar).await?, beside(mesh, &victim).await?);
    let mut theirs = Reports::open(&victim, mesh).await?;
    let mut lies = Reports::open(&liar, mesh).await?;
    for health in [HealthStatus::Unhealthy, HealthStatus::Healthy] {
        theirs.send("inbound/shop/catalog/http", health).await?;
        until_health(mesh, &liar, "catalog", health).await.context("the victim's own report")?;
    }
    for cluster in
        ["inbound/shop/catalog/http", "shop/catalog/http", "inbound/shop/catalog/*", "inbound/shop//http"]
    {
        lies.send(cluster, HealthStatus::Unhealthy).await?;
    }
    // Reports of a stream are read one after the other: when this one counts, so would those before.
    lies.send("inbound/shop/web/http", HealthStatus::Unhealthy).await?;
    until_health(mesh, &victim, "web", HealthStatus::Unhealthy).await.context("the liar's own report")?;
    let told = mesh.endpoints(&liar.id(), "shop/catalog/http").await?;
    ensure!(told.len() == 1 && told.values().all(|health| health == "HEALTHY"), "{told:?}");
    let proxies = mesh.proxies().await?;
    let health = [&victim, &liar].map(|member| proxies[&member.id()].health.as_str());
    // It has never told of an application that answers.
    ensure!(health == ["Healthy", "Starting"], "{health:?}");
    let metrics = Calls::direct().get(&format!("{}/metrics", mesh.admin())).await?.body;
    ensure!(metrics.contains("weft_limited_total{limit=\"ports_not_asked\"} 4"), "the lies are not counted");
    Ok(())
}

/// A service whose members are asked how their applications are.
fn checked(name: &str) -> String {
    service(name).replace("spec: {", "spec: {healthCheck: {http: {path: /healthz}}, ")
}

/// Joins with an application beside it.
async fn serving(mesh: &mut Mesh, service: &str, name: &str) -> anyhow::Result<Joined> {
    let mut workload = described(name, mesh.next_address());
    workload.app_ports.insert("http".to_owned(), 8080);
    enter(mesh, &format!("shop/{service}"), workload).await
}

async fn until_health(
    mesh: &Mesh,
    witness: &Joined,
    service: &str,
    wanted: HealthStatus,
) -> anyhow::Result<()> {
    let cluster = format!("shop/{service}/http");
    until(&format!("{service} is {wanted:?}"), ANSWER, async || {
        let told = mesh.endpoints(&witness.id(), &cluster).await?;
        ensure!(told.len() == 1 && told.values().all(|health| health == wanted.as_str_name()), "{told:?}");
        Ok(())
    })
    .await
}

/// A member's end of the health discovery service.
struct Reports {
    requests: mpsc::Sender<HealthCheckRequestOrEndpointHealthResponse>,
    _assignments: Streaming<HealthCheckSpecifier>,
}

impl Reports {
    /// Opens it and waits until it is told what to check, for what comes before that is not heard.
    async fn open(member: &Joined, mesh: &Mesh) -> anyhow::Result<Self> {
        let (requests, outgoing) = mpsc::channel(8);
        let mut client = HealthDiscoveryServiceClient::new(member.channel(mesh.xds()));
        let mut assignments = client.stream_health_check(ReceiverStream::new(outgoing)).await?.into_inner();
        let asked =
            tokio::time::timeout(ANSWER, assignments.message()).await.context("nothing to check")??;
        ensure!(asked.is_some_and(|asked| asked.cluster_health_checks.len() == 1), "another check");
        Ok(Self { requests, _assignments: assignments })
    }

    async fn send(&mut self, cluster: &str, health: HealthStatus) -> anyhow::Result<()> {
        let endpoint = EndpointHealth { health_status: health.into(), ..EndpointHealth::default() };
        let cluster = ClusterEndpointsHealth {
            cluster_name: cluster.to_owned(),
            locality_endpoints_health: vec![LocalityEndpointsHealth {
                endpoints_health: vec![endpoint],
                ..LocalityEndpointsHealth::default()
            }],
        };
        let report = EndpointHealthResponse {
            cluster_endpoints_health: vec![cluster],
            ..EndpointHealthResponse::default()
        };
        let request_type = Some(RequestType::EndpointHealthResponse(report));
        let report = HealthCheckRequestOrEndpointHealthResponse { request_type };
        self.requests.send(report).await.context("the stream of reports was ended")
    }
}

/// Bytes that are no message, deep and long ones: the call ends with a status, and the next one is served.
async fn garbage_ends_the_call_and_nothing_else(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let web = member(mesh, "web", "web-1").await?;
    let before = channel(mesh.xds(), Some(&web.presented));
    let mut deep = Vec::new();
    // A group within a group within a group.
    deep.resize(100_000, 0x0b);
    let mut attacks = Attacks::default();
    for path in [
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        "/envoy.service.health.v3.HealthDiscoveryService/StreamHealthCheck",
        "/envoy.service.metrics.v3.MetricsService/StreamMetrics",
        "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
        "/weft.join.v1.JoinService/Join",
        "/weft.join.v1.JoinService/Renew",
    ] {
        for (what, message) in
            [("noise", vec![0xff; 100]), ("nested groups", deep.clone()), ("5 MiB", vec![0x0a; 5 << 20])]
        {
            let status = grpc_status(mesh, Some(&web.presented), path, &message).await;
            // A message that is too long may end the connection instead.
            // A stream of reports ends with its last message, whatever that was.
            let is_report = path.ends_with("StreamHealthCheck");
            let held = match status {
                Ok(0) if !is_report => Err(anyhow::anyhow!("it was taken")),
                Err(error) if error.is::<Elapsed>() => Err(error),
                Ok(_) | Err(_) => Ok(()),
            };
            attacks.held(format!("{what} to {path}"), held);
        }
    }
    attacks.end()?;
    let mut stream = XdsStream::open(before, &web.id()).await?;
    stream.ask(ResourceKind::Cluster, &[]).await;
    stream.next(ANSWER).await.context("an honest stream afterwards")?;
    Ok(())
}
