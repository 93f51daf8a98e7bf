//! A member on its own stream asks for what is another's; a stranger asks for anything.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::envoy::service::health::v3::health_check_request_or_endpoint_health_response::RequestType;
use envoy_types::pb::envoy::service::health::v3::health_discovery_service_client::HealthDiscoveryServiceClient;
use envoy_types::pb::envoy::service::health::v3::{
    ClusterEndpointsHealth, EndpointHealth, EndpointHealthResponse,
    HealthCheckRequestOrEndpointHealthResponse, LocalityEndpointsHealth,
};
use futures::StreamExt as _;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tonic::Code;
use weft_api::ResourceKind;
use weft_e2e::harness::{Mesh, Presented, XdsStream, channel, dial};

use crate::ground::{
    ANSWER, Attacks, beside, everything_is_served, member, nothing_is_served, on_the_embedded_store, service,
    until_told,
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

/// Listeners, routes, clusters and secrets of another workload, by wildcard, by name, and by another name in the middle.
async fn stream_brings_nothing_of_others(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&[service("web"), service("catalog")].concat()).await?;
    let (spy, catalog) = (member(mesh, "web", "spy").await?, member(mesh, "catalog", "catalog-1").await?);
    let mut stream = spy.stream(mesh.xds()).await?;
    for kind in [ResourceKind::Cluster, ResourceKind::Listener] {
        stream.ask(kind, &[]).await;
        let own = stream.expect(kind, ANSWER).await?;
        ensure!(!own.resources.is_empty(), "its own {kind} does not come");
        let text: Vec<u8> = own.resources.iter().flat_map(|any| any.value.clone()).collect();
        let text = String::from_utf8_lossy(&text).into_owned();
        ensure!(!text.contains("inbound/shop/catalog"), "{kind} of catalog came");
        stream.ack(kind, &[], &own).await;
    }
    let mut attacks = Attacks::default();
    for (kind, names) in [
        (ResourceKind::Route, &["inbound/shop/catalog/http", "inbound/catalog", "*"][..]),
        (ResourceKind::Cluster, &["inbound/shop/catalog/http"]),
        (ResourceKind::Listener, &["inbound/catalog", "shop/catalog-1"]),
        (
            ResourceKind::Secret,
            &[
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
            ],
        ),
    ] {
        for name in names {
            let mut stream = spy.stream(mesh.xds()).await;
            for _ in 0..40 {
                if stream.as_ref().is_err_and(|status| status.code() == Code::ResourceExhausted) {
                    tokio::time::sleep(std::time::Duration::from_millis(250)).await;
                    stream = spy.stream(mesh.xds()).await;
                }
            }
            let mut stream = stream?;
            stream.ask(kind, &[name]).await;
            // What does not exist is not answered, or with an empty answer.
            let held = match stream.next(std::time::Duration::from_millis(300)).await {
                Ok(answer) if is_of_catalog(&answer) => Err(anyhow::anyhow!("it came")),
                Ok(_) | Err(_) => Ok(()),
            };
            attacks.held(format!("{kind} {name:?}"), held);
        }
    }
    attacks.end()?;

    // A stream stays its certificate's when it calls itself something else later.
    stream.rename(&catalog.id());
    stream.ask(ResourceKind::Route, &["inbound/shop/catalog/http"]).await;
    match stream.next(std::time::Duration::from_secs(1)).await {
        Ok(answer) => ensure!(!is_of_catalog(&answer), "renamed, it got {answer:?}"),
        Err(status) => ensure!(status.code() != Code::Ok, "{status}"),
    }
    Ok(())
}

/// Whether an answer brings what only `catalog` may have. A wildcard brings what is one's own.
fn is_of_catalog(answer: &DiscoveryResponse) -> bool {
    let text: Vec<u8> = answer.resources.iter().flat_map(|any| any.value.clone()).collect();
    let text = String::from_utf8_lossy(&text);
    let is_secret = answer.type_url == ResourceKind::Secret.type_url() && !answer.resources.is_empty();
    is_secret || text.contains("inbound/shop/catalog") || text.contains("catalog-1")
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

/// HDS: a member reports on the application beside it, and on nobody else's.
async fn nobody_reports_the_health_of_others(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&[service("web"), service("catalog")].concat()).await?;
    let (liar, victim) = (member(mesh, "web", "web-1").await?, member(mesh, "catalog", "catalog-1").await?);
    let _victim = beside(mesh, &victim).await?;
    let unhealthy = |cluster: &str| ClusterEndpointsHealth {
        cluster_name: cluster.to_owned(),
        locality_endpoints_health: vec![LocalityEndpointsHealth {
            endpoints_health: vec![EndpointHealth { health_status: 2, ..EndpointHealth::default() }],
            ..LocalityEndpointsHealth::default()
        }],
    };
    let spellings =
        ["inbound/shop/catalog/http", "shop/catalog/http", "inbound/shop/catalog/*", "inbound/shop//http"];
    let report = EndpointHealthResponse {
        cluster_endpoints_health: spellings.map(unhealthy).to_vec(),
        ..EndpointHealthResponse::default()
    };
    let message = HealthCheckRequestOrEndpointHealthResponse {
        request_type: Some(RequestType::EndpointHealthResponse(report)),
    };
    let reports = futures::stream::iter(vec![message; 20]).chain(futures::stream::pending());
    let mut client = HealthDiscoveryServiceClient::new(liar.channel(mesh.xds()));
    let _open = client.stream_health_check(reports).await?;
    until_told(mesh, &liar, "catalog", |told| {
        ensure!(told.addresses.len() == 1, "members at {:?}", told.addresses);
        Ok(())
    })
    .await?;
    let proxy = mesh.client().proxy(&victim.id()).await?;
    ensure!(proxy.health == "Healthy", "{proxy:?}");
    Ok(())
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
                Err(error) if error.to_string().contains("no answer") => Err(error),
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
