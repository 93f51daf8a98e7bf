//! Who may not: no certificate, another's name, calls that are not served.

use envoy_types::pb::envoy::service::cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::health::v3::HealthCheckRequestOrEndpointHealthResponse;
use envoy_types::pb::envoy::service::health::v3::health_discovery_service_client::HealthDiscoveryServiceClient;
use envoy_types::pb::envoy::service::metrics::v3::StreamMetricsMessage;
use envoy_types::pb::envoy::service::metrics::v3::metrics_service_client::MetricsServiceClient;
use tonic::Code;
use weft_api::ResourceKind;

use crate::peer::{Member, declared, join};
use crate::plane::{Plane, service};
use crate::proxy::Delta;

async fn mesh() -> (Plane, Member) {
    let plane = Plane::start().await;
    plane.apply(&service("web")).await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    (plane, web)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_workloads_name_is_refused() {
    let (plane, web) = mesh().await;
    join(&plane.join_token("shop/web").await, declared("web-2", "127.0.0.3")).await.unwrap();
    let mut stream = Delta::open_as(&web, "shop/web-2", plane.running.xds).await.unwrap();
    stream.subscribe(ResourceKind::Listener, &[]).await;
    let refused = stream.next().await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("set node.id to shop/web-1"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_certificate_nothing_is_served() {
    let (plane, web) = mesh().await;
    let channel = web.anonymous(plane.running.xds).await;
    let codes = [
        AggregatedDiscoveryServiceClient::new(channel.clone())
            .stream_aggregated_resources(tokio_stream::pending::<DiscoveryRequest>())
            .await
            .unwrap_err()
            .code(),
        ClusterDiscoveryServiceClient::new(channel.clone())
            .fetch_clusters(DiscoveryRequest::default())
            .await
            .unwrap_err()
            .code(),
        HealthDiscoveryServiceClient::new(channel.clone())
            .stream_health_check(tokio_stream::pending::<HealthCheckRequestOrEndpointHealthResponse>())
            .await
            .unwrap_err()
            .code(),
        MetricsServiceClient::new(channel)
            .stream_metrics(tokio_stream::pending::<StreamMetricsMessage>())
            .await
            .unwrap_err()
            .code(),
    ];
    assert_eq!(codes, [Code::Unauthenticated; 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetch_is_not_served_to_members_either() {
    let (plane, web) = mesh().await;
    let mut client = ClusterDiscoveryServiceClient::new(web.channel(plane.running.xds).await);
    let refused = client.fetch_clusters(DiscoveryRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secret_of_another_does_not_exist() {
    let (plane, web) = mesh().await;
    let mut stream = Delta::open(&web, plane.running.xds).await;
    stream.subscribe(ResourceKind::Secret, &["bundle", "shop/web-2", "identity"]).await;
    let response = stream.expect(ResourceKind::Secret).await;
    assert_eq!(crate::proxy::names(&response), ["bundle"]);
}
