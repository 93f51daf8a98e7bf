//! Somebody holds a certificate of a workload that was deleted, replaced, or whose time is over. A stream and a call belong
//! to an instance, which is one join; its name may be another's by now.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use prost::Message as _;
use tokio::time::Instant;
use tonic::Code;
use weft_api::ResourceKind;
use weft_api::join::ProxyType;
use weft_e2e::harness::{Joined, Mesh, NewKey, Options, StoreKind, described, join, until};

use crate::ground::{
    ANSWER, beside, enter, everything_is_served, member, not_served, nothing_is_served, on_both_stores,
    refused, service, token_for,
};

/// The shortest that there is.
const SHORT: &str = "10s";
const LIFE: Duration = Duration::from_secs(10);

on_both_stores!(
    deleted_instance_is_cut_and_stays_out_when_its_name_is_back,
    replaced_instance_is_refused_for_good,
    live_name_is_not_taken_over,
    restart_with_the_kept_key_is_the_same_instance,
    successors_key_is_never_given_to_its_predecessor,
);

/// H2 and L7: the usual repair is to delete and join again under the same name. The old leaf is still good in time.
async fn deleted_instance_is_cut_and_stays_out_when_its_name_is_back(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let old = member(mesh, "web", "web-1").await?;
    let before = old.channel(mesh.xds());
    everything_is_served(&before, &old.id()).await?;
    old.come_back(mesh.xds()).await?;
    let mut stream = old.stream(mesh.xds()).await?;
    stream.ask(ResourceKind::Cluster, &[]).await;
    stream.next(ANSWER).await.context("its own stream")?;

    mesh.client().delete("workloads", "shop", "web-1").await?;
    let end = stream.end(ANSWER).await.context("the stream of a deleted workload")?;
    ensure!(end.code() != Code::Ok, "{end}");
    nothing_is_served(&old.channel(mesh.xds()), &old.id()).await.context("deleted")?;

    let new = member(mesh, "web", "web-1").await?;
    let stays = beside(mesh, &new).await?;
    nothing_is_served(&old.channel(mesh.xds()), &old.id()).await.context("on a new connection")?;
    nothing_is_served(&before, &old.id()).await.context("on the connection that it had")?;
    is_untouched(mesh, &new).await?;
    drop(stays);
    Ok(())
}

/// H2: an instance that answers no more loses its name to the next joiner, and does not get it back by waking up.
pub(crate) async fn replaced_instance_is_refused_for_good(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let old = member(mesh, "web", "web-1").await?;
    let before = old.channel(mesh.xds());
    everything_is_served(&before, &old.id()).await?;
    drop(before);
    // Nothing of it is connected now, so the name is free once the control plane has noticed.
    let token = token_for(mesh, "shop/web", 1).await?;
    let address = mesh.next_address();
    let new = until("the name is free", ANSWER, async || {
        join(&token, &NewKey::plain()?, described("web-1", address)).await
    })
    .await?;
    nothing_is_served(&old.channel(mesh.xds()), &old.id()).await.context("replaced")?;
    let _stays = beside(mesh, &new).await?;
    let renewed = new.renew(mesh.xds()).await?;
    nothing_is_served(&old.channel(mesh.xds()), &old.id()).await.context("after its successor's renewal")?;
    is_untouched(mesh, &new).await?;
    is_untouched(mesh, &renewed).await
}

/// `ux D5`: any holder of a token of the service may ask for the name of a workload that is well and connected.
async fn live_name_is_not_taken_over(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let live = member(mesh, "web", "web-1").await?;
    let _stays = beside(mesh, &live).await?;
    let token = token_for(mesh, "shop/web", 1).await?;
    let key = NewKey::plain()?;
    let address = mesh.next_address();
    let second = join(&token, &key, described("web-1", address)).await;
    let words = second.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
    refused(second, &[Code::AlreadyExists])?;
    ensure!(words.contains("--name"), "the refusal names no remedy: {words}");
    is_untouched(mesh, &live).await?;
    join(&token, &key, described("web-2", address))
        .await
        .context("its token is not used up by the refusal")?;
    Ok(())
}

/// The same certificate on a new connection, and a renewed one, cut nothing and are cut by nothing.
async fn restart_with_the_kept_key_is_the_same_instance(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let kept = member(mesh, "web", "web-1").await?;
    let mut first = kept.stream(mesh.xds()).await?;
    first.ask(ResourceKind::Cluster, &[]).await;
    first.next(ANSWER).await?;
    let renewed = kept.renew(mesh.xds()).await?;
    for again in [&kept, &renewed] {
        let mut second = again.stream(mesh.xds()).await?;
        second.ask(ResourceKind::Cluster, &[]).await;
        second.next(ANSWER).await.context("a second stream")?;
    }
    first.ask(ResourceKind::Listener, &[]).await;
    first.expect(ResourceKind::Listener, ANSWER).await.context("the first stream after a renewal")?;
    Ok(())
}

/// H2: an Envoy is given its key by SDS. Whoever has its name next has another key, for the next one's eyes only.
async fn successors_key_is_never_given_to_its_predecessor(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let old = envoy(mesh, "web-1").await?;
    let mut stream = old.stream(mesh.xds()).await?;
    stream.ask(ResourceKind::Secret, &["identity"]).await;
    let first = given(&stream.next(ANSWER).await?)?;
    mesh.client().delete("workloads", "shop", "web-1").await?;
    let new = envoy(mesh, "web-1").await?;
    let mut other = new.stream(mesh.xds()).await?;
    other.ask(ResourceKind::Secret, &["identity"]).await;
    let second = given(&other.next(ANSWER).await?)?;
    ensure!(first != second, "both have one key");

    stream.ask(ResourceKind::Secret, &["identity", "bundle"]).await;
    let end = Instant::now() + ANSWER;
    loop {
        match stream.next(end.saturating_duration_since(Instant::now())).await {
            Ok(answer) => {
                ensure!(!given(&answer).is_ok_and(|key| key == second), "the old stream got the new key");
            }
            Err(status) => {
                ensure!(status.code() != Code::DeadlineExceeded, "the old stream is still open");
                break;
            }
        }
    }
    let again = async {
        let mut again = old.stream(mesh.xds()).await?;
        again.ask(ResourceKind::Secret, &["identity"]).await;
        again.next(ANSWER).await
    };
    not_served(again.await).context("a new stream of the old instance")
}

async fn envoy(mesh: &mut Mesh, name: &str) -> anyhow::Result<Joined> {
    let mut workload = described(name, mesh.next_address());
    workload.proxy_type = ProxyType::Envoy.into();
    enter(mesh, "shop/web", workload).await
}

/// The certificate in an answer that brings `identity`.
fn given(
    answer: &envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse,
) -> anyhow::Result<Vec<u8>> {
    for resource in &answer.resources {
        let secret = Secret::decode(resource.value.as_slice())?;
        if let (true, Some(Type::TlsCertificate(certificate))) = (secret.name == "identity", secret.r#type) {
            return Ok(certificate.certificate_chain.context("no chain")?.encode_to_vec());
        }
    }
    anyhow::bail!("no identity in the answer")
}

async fn is_untouched(mesh: &Mesh, member: &Joined) -> anyhow::Result<()> {
    let proxy = mesh.client().proxy(&member.id()).await?;
    ensure!(proxy.streams >= 1 && proxy.health == "Healthy", "{proxy:?}");
    let mut stream = member.stream(mesh.xds()).await?;
    stream.ask(ResourceKind::Cluster, &[]).await;
    stream.next(ANSWER).await.context("its streams are served")?;
    Ok(())
}

#[tokio::test]
async fn expired_certificate_is_served_nowhere_on_the_embedded_store() {
    let options = Options::new(StoreKind::Embedded).leaf_ttl(SHORT);
    Mesh::run(options, expired_certificate_is_served_nowhere).await;
}

#[tokio::test]
async fn expired_certificate_is_served_nowhere_on_etcd() {
    let options = Options::new(StoreKind::Etcd).leaf_ttl(SHORT);
    Mesh::run(options, expired_certificate_is_served_nowhere).await;
}

/// H3, `xds D12` and `ux D14`: a stream, a connection and a call end with the certificate that opened them, and the next one that
/// was taken in time goes on. The operator sees whose it was.
async fn expired_certificate_is_served_nowhere(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let lazy = member(mesh, "web", "web-1").await?;
    let began = Instant::now();
    let diligent = member(mesh, "web", "web-2").await?;
    let renewed_at = began + LIFE / 2;
    let channel = lazy.channel(mesh.xds());
    everything_is_served(&channel, &lazy.id()).await?;
    let mut stream = lazy.stream(mesh.xds()).await?;
    stream.ask(ResourceKind::Secret, &["bundle"]).await;
    stream.next(ANSWER).await?;

    tokio::time::sleep_until(renewed_at).await;
    let fresh = diligent.renew(mesh.xds()).await?;
    let mut goes_on = fresh.stream(mesh.xds()).await?;
    goes_on.ask(ResourceKind::Cluster, &[]).await;
    goes_on.next(ANSWER).await?;

    let end = stream.end(LIFE).await.context("the stream of an expired certificate")?;
    let lived = began.elapsed();
    ensure!(
        lived + Duration::from_secs(2) >= LIFE,
        "it ended after {lived:?}, before its certificate: {end}"
    );
    nothing_is_served(&channel, &lazy.id()).await.context("on the connection that it had")?;
    // Times of certificates are whole seconds: from the next one on it does not even get a connection.
    tokio::time::sleep(Duration::from_secs(2)).await;
    nothing_is_served(&lazy.channel(mesh.xds()), &lazy.id()).await.context("on a new connection")?;
    let listed = mesh.weft(&["proxy", "list", "-o", "wide"]).await?;
    let of = |id: &str| listed.lines().find(|line| line.contains(id)).map(str::to_owned).unwrap_or_default();
    ensure!(of(&lazy.id()).contains("expired ") && of(&lazy.id()).contains(" ago"), "{listed}");
    ensure!(!of(&diligent.id()).contains("expired"), "{listed}");
    let log = std::fs::read_to_string(mesh.dir().join("control-plane.log"))?;
    let said: Vec<&str> = log.lines().filter(|line| line.contains("its certificate expired")).collect();
    ensure!(said.len() == 1 && said[0].contains(&lazy.id()), "the log says of failed handshakes {said:?}");
    goes_on.ask(ResourceKind::Listener, &[]).await;
    goes_on.expect(ResourceKind::Listener, ANSWER).await.context("the stream of the renewed certificate")?;
    Ok(())
}
