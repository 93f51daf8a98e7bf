//! What the attacks share: a mesh with something to take, who is inside, and what counts as held.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::service::accesslog::v3::StreamAccessLogsMessage;
use envoy_types::pb::envoy::service::accesslog::v3::access_log_service_client::AccessLogServiceClient;
use envoy_types::pb::envoy::service::cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::envoy::service::health::v3::HealthCheckRequestOrEndpointHealthResponse;
use envoy_types::pb::envoy::service::health::v3::health_discovery_service_client::HealthDiscoveryServiceClient;
use envoy_types::pb::envoy::service::metrics::v3::StreamMetricsMessage;
use envoy_types::pb::envoy::service::metrics::v3::metrics_service_client::MetricsServiceClient;
use futures::StreamExt as _;
use prost::Message as _;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use weft_api::ResourceKind;
use weft_api::join::join_service_client::JoinServiceClient;
use weft_api::join::{LeaveRequest, RenewRequest, ReturnRequest, Workload};
use weft_api::rest::TokenRequest;
use weft_e2e::harness::{Joined, Mesh, NewKey, XdsStream, described, join, until};

/// How long an answer may take.
pub const ANSWER: Duration = Duration::from_secs(10);

/// Makes `embedded::NAME` and `etcd::NAME` of tests that take a mesh.
macro_rules! on_both_stores {
    ($($test:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $test() {
                let options = weft_e2e::harness::Options::new(weft_e2e::harness::StoreKind::Embedded);
                weft_e2e::harness::Mesh::run(options, super::$test).await;
            })+
        }
        mod etcd {
            $(#[tokio::test]
            async fn $test() {
                let options = weft_e2e::harness::Options::new(weft_e2e::harness::StoreKind::Etcd);
                weft_e2e::harness::Mesh::run(options, super::$test).await;
            })+
        }
    };
}
pub(crate) use on_both_stores;

/// Makes `anywhere::NAME` of tests where the store plays no part.
macro_rules! on_the_embedded_store {
    ($($test:ident),+ $(,)?) => {
        mod anywhere {
            $(#[tokio::test]
            async fn $test() {
                let options = weft_e2e::harness::Options::new(weft_e2e::harness::StoreKind::Embedded);
                weft_e2e::harness::Mesh::run(options, super::$test).await;
            })+
        }
    };
}
pub(crate) use on_the_embedded_store;

/// Many attacks in one test: all are tried, and all that got through are told.
#[derive(Default)]
pub struct Attacks {
    tried: usize,
    through: Vec<String>,
}

impl Attacks {
    /// Notes how one went.
    pub fn held(&mut self, attack: impl std::fmt::Display, outcome: anyhow::Result<()>) {
        self.tried += 1;
        if let Err(error) = outcome {
            self.through.push(format!("{attack}: {error:#}"));
        }
    }

    /// Fails when any got through, or none was tried.
    pub fn end(self) -> anyhow::Result<()> {
        ensure!(self.tried > 0, "nothing was tried");
        ensure!(
            self.through.is_empty(),
            "{} of {} got through:\n  {}",
            self.through.len(),
            self.tried,
            self.through.join("\n  ")
        );
        Ok(())
    }
}

/// Refused with one of these codes.
pub fn refused<T>(outcome: anyhow::Result<T>, codes: &[Code]) -> anyhow::Result<()> {
    let Err(error) = outcome else { bail!("it was let in") };
    let status =
        error.downcast_ref::<Status>().with_context(|| format!("refused without a status: {error:#}"))?;
    ensure!(codes.contains(&status.code()), "refused for another reason: {status}");
    Ok(())
}

/// Not served, whether by a status or by the end of the connection. Silence is no refusal.
pub fn not_served<T>(outcome: Result<T, Status>) -> anyhow::Result<()> {
    match outcome {
        Ok(_) => bail!("it was served"),
        Err(status) if status.code() == Code::DeadlineExceeded => bail!("it hangs: {status}"),
        Err(status) if status.code() == Code::ResourceExhausted => bail!("only a limit held it: {status}"),
        Err(_) => Ok(()),
    }
}

/// A service with one HTTP port.
pub fn service(name: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{ports: [{{name: http, port: 80, protocol: HTTP}}]}}\n---\n"
    )
}

/// A service with one HTTP port that also takes whoever has this label.
pub fn selecting(name: &str, version: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{ports: [{{name: http, port: 80, protocol: HTTP}}], selector: {{matchLabels: {{version: {version}}}}}}}\n---\n"
    )
}

/// A machine without a sidecar, member of one service.
pub fn bare_machine(name: &str, service: &str, address: Ipv4Addr) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: Workload\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{address: {address}, ports: {{http: 8080}}, services: [{service}], proxy: {{type: None}}}}\n---\n"
    )
}

/// Joins a service with a new token.
pub async fn enter(mesh: &Mesh, service: &str, workload: Workload) -> anyhow::Result<Joined> {
    let token = mesh.token(service).await?.token;
    join(&token, &NewKey::plain()?, workload).await
}

/// Joins `shop/SERVICE` as `shop/NAME`, on an address of its own.
pub async fn member(mesh: &mut Mesh, service: &str, name: &str) -> anyhow::Result<Joined> {
    let address = mesh.next_address();
    enter(mesh, &format!("shop/{service}"), described(name, address)).await
}

/// A token for so many joins.
pub async fn token_for(mesh: &Mesh, service: &str, uses: u32) -> anyhow::Result<String> {
    let request = TokenRequest {
        service: service.to_owned(),
        uses: Some(uses),
        allow_labels: vec!["version=*".to_owned()],
        ..TokenRequest::default()
    };
    Ok(mesh.client().create_token(&request).await?.token)
}

/// What stands beside a joined workload, as far as the control plane can tell: takes everything, and acknowledges it.
pub async fn beside(mesh: &Mesh, joined: &Joined) -> anyhow::Result<AbortOnDropHandle<()>> {
    let mut stream = joined.stream(mesh.xds()).await?;
    for kind in [ResourceKind::Cluster, ResourceKind::Listener] {
        stream.ask(kind, &[]).await;
    }
    let task = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok(answer) = stream.next(Duration::MAX).await {
            if let Some(kind) = ResourceKind::from_type_url(&answer.type_url) {
                stream.ack(kind, &[], &answer).await;
            }
        }
    }));
    let id = joined.id();
    until(&format!("{id} is there"), ANSWER, async || {
        let proxy = mesh.client().proxy(&id).await?;
        ensure!(proxy.health == "Healthy" && proxy.streams == 1, "{proxy:?}");
        Ok(())
    })
    .await?;
    Ok(task)
}

/// What a member is told of a service: addresses of its endpoints, and the text of its cluster.
#[derive(Debug, Default)]
pub struct Told {
    pub addresses: Vec<String>,
    pub cluster: String,
}

/// Waits until a member is told of `shop/SERVICE`, port `http`, what it should be.
pub async fn until_told(
    mesh: &Mesh,
    joined: &Joined,
    service: &str,
    looks: impl Fn(&Told) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut stream = joined.stream(mesh.xds()).await?;
    let name = format!("shop/{service}/http");
    let kinds = [ResourceKind::Cluster, ResourceKind::Endpoint];
    for kind in kinds {
        stream.ask(kind, &[&name]).await;
    }
    let (mut told, mut heard) = (Told::default(), 0);
    let end = Instant::now() + ANSWER;
    loop {
        let outcome = looks(&told);
        if heard >= kinds.len() && outcome.is_ok() {
            return Ok(());
        }
        let answer = match stream.next(end.saturating_duration_since(Instant::now())).await {
            Ok(answer) => answer,
            Err(status) if heard < kinds.len() => bail!("{service} is not told of: {status}"),
            Err(_) => return outcome.with_context(|| format!("what is told of {service}")),
        };
        heard += 1;
        let Some(kind) = ResourceKind::from_type_url(&answer.type_url) else { continue };
        stream.ack(kind, &[&name], &answer).await;
        let bodies = answer.resources.iter().map(|resource| resource.value.as_slice());
        if kind == ResourceKind::Cluster {
            told.cluster = String::from_utf8_lossy(&bodies.collect::<Vec<_>>().concat()).into_owned();
        } else {
            told.addresses.clear();
            for body in bodies {
                told.addresses.extend(addresses_of(&ClusterLoadAssignment::decode(body)?)?);
            }
            told.addresses.sort();
        }
    }
}

fn addresses_of(assignment: &ClusterLoadAssignment) -> anyhow::Result<Vec<String>> {
    let all = assignment.endpoints.iter().flat_map(|locality| &locality.lb_endpoints);
    all.map(|endpoint| {
        let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else {
            bail!("no endpoint")
        };
        let address = endpoint.address.as_ref().and_then(|address| address.address.as_ref());
        let Some(Address::SocketAddress(address)) = address else { bail!("no address") };
        Ok(address.address.clone())
    })
    .collect()
}

/// Every call that the xDS port serves, tried once each on a channel, with how each was answered.
pub async fn every_call(channel: &Channel, node: &str) -> Vec<(&'static str, Result<(), Status>)> {
    let id = Node { id: node.to_owned(), ..Node::default() };
    let mut outcomes = Vec::new();
    let type_url = ResourceKind::Cluster.type_url().to_owned();

    let sotw = async {
        let mut stream = XdsStream::open(channel.clone(), node).await?;
        stream.ask(ResourceKind::Cluster, &[]).await;
        stream.next(ANSWER).await.map(|_| ())
    };
    outcomes.push(("StreamAggregatedResources", sotw.await));
    let request =
        DeltaDiscoveryRequest { node: Some(id.clone()), type_url: type_url.clone(), ..Default::default() };
    let delta = async {
        let requests = futures::stream::iter([request.clone()]).chain(futures::stream::pending());
        let mut client = AggregatedDiscoveryServiceClient::new(channel.clone());
        first(client.delta_aggregated_resources(requests).await?.into_inner()).await
    };
    outcomes.push(("DeltaAggregatedResources", delta.await));
    let delta = async {
        let requests = futures::stream::iter([request.clone()]).chain(futures::stream::pending());
        let mut client = ClusterDiscoveryServiceClient::new(channel.clone());
        first(client.delta_clusters(requests).await?.into_inner()).await
    };
    outcomes.push(("DeltaClusters", delta.await));
    let sotw = async {
        let request = DiscoveryRequest { node: Some(id.clone()), type_url, ..Default::default() };
        let requests = futures::stream::iter([request]).chain(futures::stream::pending());
        let mut client = ClusterDiscoveryServiceClient::new(channel.clone());
        first(client.stream_clusters(requests).await?.into_inner()).await
    };
    outcomes.push(("StreamClusters", sotw.await));

    let health = async {
        let requests = futures::stream::pending::<HealthCheckRequestOrEndpointHealthResponse>();
        HealthDiscoveryServiceClient::new(channel.clone()).stream_health_check(requests).await.map(|_| ())
    };
    outcomes.push(("StreamHealthCheck", health.await));
    let metrics = async {
        let report = futures::stream::iter([StreamMetricsMessage::default()]);
        MetricsServiceClient::new(channel.clone()).stream_metrics(report).await.map(|_| ())
    };
    outcomes.push(("StreamMetrics", metrics.await));
    let logs = async {
        let report = futures::stream::iter([StreamAccessLogsMessage::default()]);
        AccessLogServiceClient::new(channel.clone()).stream_access_logs(report).await.map(|_| ())
    };
    outcomes.push(("StreamAccessLogs", logs.await));
    let csr_der = NewKey::plain().map(|key| key.csr().to_vec()).unwrap_or_default();
    let mut joining = JoinServiceClient::new(channel.clone());
    outcomes.push(("Renew", joining.renew(RenewRequest { csr_der }).await.map(|_| ())));
    outcomes.push(("Return", joining.r#return(ReturnRequest::default()).await.map(|_| ())));
    outcomes.push(("Leave", joining.leave(LeaveRequest {}).await.map(|_| ())));
    outcomes
}

async fn first<T>(mut answers: Streaming<T>) -> Result<(), Status> {
    match tokio::time::timeout(ANSWER, answers.message()).await {
        Ok(Ok(Some(_))) => Ok(()),
        Ok(Ok(None)) => Err(Status::aborted("the stream ended without words")),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(Status::deadline_exceeded("nothing came")),
    }
}

/// None of the calls is served.
pub async fn nothing_is_served(channel: &Channel, node: &str) -> anyhow::Result<()> {
    let mut attacks = Attacks::default();
    for (call, outcome) in every_call(channel, node).await {
        attacks.held(call, not_served(outcome));
    }
    attacks.end()
}

/// All of the calls are served.
pub async fn everything_is_served(channel: &Channel, node: &str) -> anyhow::Result<()> {
    for (call, outcome) in every_call(channel, node).await {
        outcome.with_context(|| format!("{call} of a good member"))?;
    }
    Ok(())
}
