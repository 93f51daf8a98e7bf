//! `xds D1` to `D3`: a member refuses what it is sent. It keeps what it has, is not asked again and again, and what does
//! not use the refused resource is not held back.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use prost::Message as _;
use tokio::time::Instant;
use tonic::Code;
use weft_api::ResourceKind;
use weft_api::ResourceKind::{Cluster as Cds, Endpoint as Eds, Listener as Lds, Route as Rds};
use weft_api::client::ApplyOptions;
use weft_api::rest::Sync;
use weft_e2e::harness::{Joined, Mesh, XdsStream, until};

use crate::ground::{ANSWER, member, on_both_stores, service};

/// Longer than any change takes to arrive, and shorter than the 20 s after which a gate opens by itself.
const QUIET: Duration = Duration::from_secs(3);
const WORDS: &str = "Error adding/updating cluster(s) shop/cart/http: no such socket";

on_both_stores!(
    client_that_comes_back_and_refuses_keeps_what_it_has,
    refusal_is_remembered_across_streams,
    refused_cluster_holds_back_no_routes,
);

/// Names of the clusters of shop in an answer.
fn clusters(answer: &DiscoveryResponse) -> anyhow::Result<Vec<String>> {
    let all = answer.resources.iter().map(|any| Ok(Cluster::decode(any.value.as_slice())?.name));
    let mut all = all.collect::<anyhow::Result<Vec<String>>>()?;
    all.retain(|name| name.starts_with("shop/"));
    all.sort();
    Ok(all)
}

async fn silent(stream: &mut XdsStream, what: &str) -> anyhow::Result<()> {
    match stream.expect(Cds, QUIET).await {
        Err(status) if status.code() == Code::DeadlineExceeded => Ok(()),
        Err(status) => bail!("{what}: {status}"),
        Ok(answer) => bail!("{what}: {:?} came", clusters(&answer)?),
    }
}

/// A member whose first stream took clusters of web and catalog; with the version that it has.
async fn served(mesh: &mut Mesh) -> anyhow::Result<(Joined, String)> {
    mesh.apply(&[service("web"), service("catalog")].concat()).await?;
    let web = member(mesh, "web", "web-1").await?;
    let mut stream = web.stream(mesh.xds()).await?;
    stream.ask(Cds, &[]).await;
    let first = stream.expect(Cds, ANSWER).await?;
    ensure!(clusters(&first)? == ["shop/catalog/http", "shop/web/http"], "{:?}", clusters(&first)?);
    stream.ack(Cds, &[], &first).await;
    until("the first set is acknowledged", ANSWER, async || {
        ensure!(mesh.client().proxy(&web.id()).await?.sync == Sync::Synced, "not yet");
        Ok(())
    })
    .await?;
    Ok((web, first.version_info))
}

/// D1: state of the world is whole sets; one without the refused cluster would delete what works.
async fn client_that_comes_back_and_refuses_keeps_what_it_has(mesh: &mut Mesh) -> anyhow::Result<()> {
    let (web, version) = served(mesh).await?;
    mesh.client().apply(&service("cart"), &ApplyOptions::default()).await?;
    let mut stream = web.stream(mesh.xds()).await?;
    stream.ask_with(Cds, &[], &version).await;
    let refused = stream.expect(Cds, ANSWER).await?;
    ensure!(clusters(&refused)?.len() == 3, "{:?}", clusters(&refused)?);
    stream.nack(Cds, &[], &refused, &version, WORDS).await;
    silent(&mut stream, "after the refusal").await?;
    mesh.client().apply(&service("orders"), &ApplyOptions::default()).await?;
    silent(&mut stream, "after another change").await?;
    let shown = mesh.client().proxy(&web.id()).await?;
    let clusters_of = shown.types.get("CDS").context("nothing is said of clusters")?;
    ensure!(
        clusters_of.refused.iter().any(|one| one.resources.iter().any(|name| name == "shop/cart/http")),
        "{shown:?}"
    );
    ensure!(clusters_of.held_back >= 1, "{shown:?}");

    let policy = "apiVersion: weft.dev/v1\nkind: TrafficPolicy\nmetadata: {name: cart, namespace: shop}\n\
                  spec: {targetRefs: [{kind: Service, name: cart}], connection: {connectTimeout: 2s}}\n";
    mesh.client().apply(policy, &ApplyOptions::default()).await?;
    let end = Instant::now() + ANSWER;
    loop {
        let whole = stream.expect(Cds, end.saturating_duration_since(Instant::now())).await?;
        let names = clusters(&whole)?;
        ensure!(names.len() == 4, "{names:?}");
        stream.ack(Cds, &[], &whole).await;
        let shown = mesh.client().proxy(&web.id()).await?;
        if shown.types.get("CDS").is_some_and(|one| one.held_back == 0) {
            return Ok(());
        }
    }
}

/// Takes what comes as a proxy does that cannot have the cluster of cart, until `wanted` comes.
async fn drive(stream: &mut XdsStream, wanted: ResourceKind, limit: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + limit;
    let mut held = String::new();
    let names = |kind| match kind {
        Eds => &["shop/web/http"][..],
        Rds => &["outbound/shop"],
        _ => &[],
    };
    loop {
        let answer = stream.next(end.saturating_duration_since(Instant::now())).await?;
        let kind = ResourceKind::from_type_url(&answer.type_url).context("of which type?")?;
        if kind == Cds && clusters(&answer)?.iter().any(|name| name == "shop/cart/http") {
            stream.nack(Cds, &[], &answer, &held, WORDS).await;
            continue;
        }
        stream.ack(kind, names(kind), &answer).await;
        if kind == wanted {
            return Ok(());
        }
        match kind {
            Cds if std::mem::replace(&mut held, answer.version_info).is_empty() => {
                stream.ask(Eds, names(Eds)).await;
                stream.ask(Lds, &[]).await;
            }
            Lds => stream.ask(Rds, names(Rds)).await,
            _ => {}
        }
    }
}

/// D2: what was refused is not sent again on the next stream, whether that begins with nothing or with what it has.
async fn refusal_is_remembered_across_streams(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&[service("web"), service("cart")].concat()).await?;
    let web = member(mesh, "web", "web-1").await?;
    let mut stream = web.stream(mesh.xds()).await?;
    stream.ask(Cds, &[]).await;
    let mut offered = 0;
    let mut version = String::new();
    while let Ok(answer) = stream.expect(Cds, QUIET).await {
        if clusters(&answer)?.iter().any(|name| name == "shop/cart/http") {
            offered += 1;
            stream.nack(Cds, &[], &answer, &version, WORDS).await;
        } else {
            stream.ack(Cds, &[], &answer).await;
            version = answer.version_info;
        }
    }
    ensure!((1..=2).contains(&offered), "with the others, and alone: {offered}");
    drop(stream);

    let mut empty = web.stream(mesh.xds()).await?;
    empty.ask(Cds, &[]).await;
    let answer = empty.expect(Cds, ANSWER).await?;
    ensure!(clusters(&answer)? == ["shop/web/http"], "it is sent again: {:?}", clusters(&answer)?);
    let mut back = web.stream(mesh.xds()).await?;
    back.ask_with(Cds, &[], &version).await;
    silent(&mut back, "it has everything but what it refused").await?;
    mesh.client().apply(&service("orders"), &ApplyOptions::default()).await?;
    let answer = back.expect(Cds, ANSWER).await.context("later changes come")?;
    ensure!(clusters(&answer)? == ["shop/orders/http", "shop/web/http"], "{:?}", clusters(&answer)?);
    let shown = mesh.client().proxy(&web.id()).await?;
    let refused = &shown.types["CDS"].refused;
    ensure!(refused.iter().any(|one| one.resources.iter().any(|name| name == "shop/cart/http")), "{shown:?}");
    Ok(())
}

/// D3: all routes of a namespace refer to all of its clusters; one that was refused does not keep them waiting 20 s, on
/// this stream and on the next.
async fn refused_cluster_holds_back_no_routes(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&[service("web"), service("cart")].concat()).await?;
    let web = member(mesh, "web", "web-1").await?;
    for round in 0..2 {
        let mut stream = web.stream(mesh.xds()).await?;
        stream.ask(Cds, &[]).await;
        drive(&mut stream, Rds, ANSWER).await.with_context(|| format!("routes of stream {round}"))?;
    }
    Ok(())
}
