//! What a joiner cannot do: enter another service, take another identity, or pass for the control plane.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use rustix::process::Signal;
use tonic::{Code, Status};
use weft_api::ResourceKind;
use weft_api::join::join_service_client::JoinServiceClient;
use weft_api::join::{LeaveRequest, RenewRequest};
use weft_e2e::harness::{
    CONVERGES, Impostor, Mesh, NewKey, Options, Presented, Process, Sidecar, StoreKind, channel, described,
    join, ours, until,
};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::shop::{SERVICES, catalog, service, start_catalog};

const WEB: &str = "shop/web-weft";
const WEB_ID: &str = "spiffe://mesh.local/ns/shop/svc/web-weft";
const ANSWER: Duration = Duration::from_secs(5);

#[tokio::test]
async fn joiners_stay_within_their_token_on_the_embedded_store() {
    Mesh::run(Options::new(StoreKind::Embedded), joiners_stay_within_their_token).await;
}

#[tokio::test]
async fn joiners_stay_within_their_token_on_etcd() {
    Mesh::run(Options::new(StoreKind::Etcd), joiners_stay_within_their_token).await;
}

async fn joiners_stay_within_their_token(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&[SERVICES, &service("catalog-weft")].join("\n---\n")).await?;
    let server = start_catalog(mesh, Sidecar::Weft, "v1").await?;
    takes_no_other_name(mesh).await.context("names")?;
    enters_no_other_service(mesh, server.id()).await.context("services")?;
    uses_no_token_twice(mesh).await.context("tokens")?;
    sees_nothing_of_others(mesh, server.id()).await.context("discovery")?;
    speaks_for_nobody_else(mesh, &server).await.context("goodbyes")
}

/// A certificate request may claim what it likes: the leaf carries what the token says.
async fn takes_no_other_name(mesh: &mut Mesh) -> anyhow::Result<()> {
    for (name, claimed) in [
        ("thief-1", "spiffe://mesh.local/control-plane"),
        ("thief-2", "spiffe://mesh.local/ns/shop/svc/catalog-weft"),
        ("thief-3", "spiffe://other.mesh/ns/shop/svc/web-weft"),
    ] {
        let key = NewKey::claiming(claimed, "control-plane.mesh.local")?;
        let token = mesh.token(WEB).await?.token;
        let address = mesh.next_address();
        let joined = join(&token, &key, described(name, address)).await?;
        ensure!(
            joined.answer.service == "web-weft" && joined.answer.namespace == "shop",
            "{:?}",
            joined.answer
        );
        let names = names_of(&joined.presented.chain()[0])?;
        let own = format!("{name}.web-weft.shop.mesh.local");
        ensure!(names == [format!("URI {WEB_ID}"), format!("DNS {own}")], "the leaf carries {names:?}");
    }
    Ok(())
}

fn names_of(leaf: &[u8]) -> anyhow::Result<Vec<String>> {
    let (_, leaf) = X509Certificate::from_der(leaf)?;
    let names = leaf.subject_alternative_name()?.context("no alternative names")?;
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => format!("URI {uri}"),
        GeneralName::DNSName(dns) => format!("DNS {dns}"),
        other => format!("{other:?}"),
    };
    Ok(names.value.general_names.iter().map(name).collect())
}

/// The name of a workload of another service cannot be taken over, and no label that the token does not permit.
async fn enters_no_other_service(mesh: &mut Mesh, other: &str) -> anyhow::Result<()> {
    let key = NewKey::claiming(WEB_ID, "x.mesh.local")?;
    let token = mesh.token(WEB).await?.token;
    let address = mesh.next_address();
    let name = other.trim_start_matches("shop/");
    let taken = join(&token, &key, described(name, address)).await;
    refused(taken.map(|_| ()), &[Code::AlreadyExists]).context("another service's workload")?;
    let mut labelled = described("labelled", address);
    labelled.labels.insert("team".to_owned(), "root".to_owned());
    let label = join(&token, &key, labelled).await;
    refused(label.map(|_| ()), &[Code::PermissionDenied]).context("a label")?;
    let endpoints = mesh.endpoints(other, "shop/catalog-weft/http").await?;
    ensure!(endpoints.len() == 1, "somebody entered the service: {endpoints:?}");
    Ok(())
}

async fn uses_no_token_twice(mesh: &mut Mesh) -> anyhow::Result<()> {
    let token = mesh.token(WEB).await?;
    let address = mesh.next_address();
    let key = || NewKey::claiming(WEB_ID, "x.mesh.local");
    join(&token.token, &key()?, described("once", address)).await?;
    let twice = join(&token.token, &key()?, described("twice", address)).await;
    refused(twice.map(|_| ()), &[Code::PermissionDenied]).context("a used token")?;
    let revoked = mesh.token(WEB).await?;
    mesh.client().revoke_token(&revoked.info.id).await?;
    let late = join(&revoked.token, &key()?, described("late", address)).await;
    refused(late.map(|_| ()), &[Code::PermissionDenied, Code::Unauthenticated]).context("a revoked token")
}

/// A stream is its certificate's: another node id is refused, no certificate too, and of other workloads nothing comes.
async fn sees_nothing_of_others(mesh: &mut Mesh, other: &str) -> anyhow::Result<()> {
    let key = NewKey::claiming(WEB_ID, "x.mesh.local")?;
    let token = mesh.token(WEB).await?.token;
    let address = mesh.next_address();
    let joined = join(&token, &key, described("spy", address)).await?;
    let spy = Some(&joined.presented);

    let nobody = ask(mesh, None, "shop/spy", ResourceKind::Cluster, &[]).await;
    refused(nobody.map(|_| ()), &[Code::Unauthenticated]).context("without a certificate")?;
    let forged = Presented::forged(WEB_ID)?;
    let forged = ask(mesh, Some(&forged), "shop/spy", ResourceKind::Cluster, &[]).await;
    ensure!(forged.is_err(), "a forged certificate got {forged:?}");
    let posing = ask(mesh, spy, other, ResourceKind::Cluster, &[]).await;
    refused(posing.map(|_| ()), &[Code::PermissionDenied]).context("as another node")?;

    let honest = ask(mesh, spy, "shop/spy", ResourceKind::Cluster, &[]).await?;
    ensure!(!honest.resources.is_empty(), "its own configuration does not come");
    let text = String::from_utf8_lossy(
        &honest.resources.iter().flat_map(|any| any.value.clone()).collect::<Vec<_>>(),
    )
    .into_owned();
    ensure!(!text.contains("inbound/shop/catalog-weft"), "it got another workload's clusters");
    for name in ["shop/catalog-weft", "identity-of-catalog", "spiffe://mesh.local/ns/shop/svc/catalog-weft"] {
        let secret = ask(mesh, spy, "shop/spy", ResourceKind::Secret, &[name]).await;
        let came = secret.is_ok_and(|answer| !answer.resources.is_empty());
        ensure!(!came, "a secret came for {name}");
    }
    Ok(())
}

/// Opens an aggregated stream, asks once, and returns the first answer.
async fn ask(
    mesh: &Mesh,
    presented: Option<&Presented>,
    node: &str,
    kind: ResourceKind,
    names: &[&str],
) -> anyhow::Result<DiscoveryResponse> {
    let request = DiscoveryRequest {
        node: Some(Node { id: node.to_owned(), cluster: "shop/web-weft".to_owned(), ..Default::default() }),
        type_url: kind.type_url().to_owned(),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    };
    let requests = futures::StreamExt::chain(
        futures::stream::once(async { request }),
        futures::stream::pending::<DiscoveryRequest>(),
    );
    let mut client = AggregatedDiscoveryServiceClient::new(channel(mesh.xds(), presented));
    let mut answers = client.stream_aggregated_resources(requests).await?.into_inner();
    let answer = tokio::time::timeout(ANSWER, answers.message()).await.context("no answer in time")??;
    answer.context("the stream ended")
}

/// Renewal and goodbye are for the certificate's own workload only.
async fn speaks_for_nobody_else(mesh: &mut Mesh, server: &weft_e2e::harness::Workload) -> anyhow::Result<()> {
    let key = NewKey::claiming(WEB_ID, "x.mesh.local")?;
    let mut nobody = JoinServiceClient::new(channel(mesh.xds(), None));
    let renewed = nobody.renew(RenewRequest { csr_der: key.csr().to_vec() }).await;
    refused(renewed.map(|_| ()).map_err(Into::into), &[Code::Unauthenticated]).context("renewal")?;
    let left = nobody.leave(LeaveRequest {}).await;
    refused(left.map(|_| ()).map_err(Into::into), &[Code::Unauthenticated]).context("goodbye")?;
    let health = mesh.client().proxy(server.id()).await?.health;
    ensure!(health == "Healthy", "{} is {health}", server.id());
    Ok(())
}

fn refused(outcome: anyhow::Result<()>, codes: &[Code]) -> anyhow::Result<()> {
    let Err(error) = outcome else { anyhow::bail!("it was let in") };
    let status =
        error.downcast_ref::<Status>().with_context(|| format!("refused without a status: {error:#}"))?;
    ensure!(codes.contains(&status.code()), "refused for another reason: {status}");
    Ok(())
}

#[tokio::test]
async fn no_workload_passes_for_the_control_plane() {
    Mesh::run(Options::new(StoreKind::Embedded), nobody_passes_for_the_control_plane).await;
}

/// Every leaf of the mesh may serve TLS under the same root. Both proxies refuse one in the control plane's place, and a
/// joiner does not give its token away.
async fn nobody_passes_for_the_control_plane(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(
        &[SERVICES, &service(&catalog(Sidecar::Envoy)), &service(&catalog(Sidecar::Weft))].join("\n---\n"),
    )
    .await?;
    let envoy = start_catalog(mesh, Sidecar::Envoy, "v1").await?;
    let weft = start_catalog(mesh, Sidecar::Weft, "v1").await?;
    mesh.in_sync(&[envoy.id(), weft.id()]).await?;
    let insider = Presented::load(weft.identity_dir())?.with_root(weft.identity_dir())?;
    let xds = mesh.xds();
    let token = mesh.token(WEB).await?.token;
    mesh.control_plane().kill()?;
    let impostor = until("the control plane's address is free", CONVERGES, async || {
        Impostor::start(xds, &insider).await
    })
    .await?;

    let dir = mesh.dir().to_owned();
    let joiner = Process::start(&dir, "fooled-joiner", &ours("weft-proxy")?, |command| {
        command.args(["join", "--log-format", "text", "--name", "fooled", "--identity-dir"]);
        command.arg(dir.join("fooled")).env("WEFT_JOIN", &token);
    })?;
    // Two running sidecars, the keeper beside Envoy and the joiner try again and again.
    until("all of them have tried", Duration::from_secs(60), async || {
        let visits = impostor.visits();
        ensure!(visits.refused >= 6, "{visits:?}");
        let failed = envoy.stat("cluster.weft_control_plane.ssl.fail_verify_san").await?;
        ensure!(failed > 0, "Envoy has not refused a name yet");
        ensure!(joiner.log().contains("not the mesh's control plane"), "the joiner has not refused yet");
        ensure!(weft.proxy_log().contains("not the mesh's control plane"), "weft-proxy has not refused yet");
        Ok(())
    })
    .await?;
    joiner.signal(Signal::KILL);
    ensure!(impostor.visits().fooled == 0, "somebody believed it: {:?}", impostor.visits());
    drop(impostor);
    mesh.control_plane().start().await?;
    mesh.in_sync(&[envoy.id(), weft.id()]).await.context("the true one is believed again")?;
    Ok(())
}
