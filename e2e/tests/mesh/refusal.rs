//! A proxy that refuses configuration shows in the API with the proxy's own words, and runs on with the rest.

use anyhow::{Context as _, ensure};
use weft_api::rest::Sync;
use weft_e2e::harness::{CONVERGES, Mesh, Options, Sidecar, StoreKind, until};

use crate::shop::{SERVICES, catalog, service, start_catalog};

#[tokio::test]
async fn refused_configuration_shows_with_the_proxys_words_on_the_embedded_store() {
    Mesh::run(Options::new(StoreKind::Embedded), shows_refusals).await;
}

#[tokio::test]
async fn refused_configuration_shows_with_the_proxys_words_on_etcd() {
    Mesh::run(Options::new(StoreKind::Etcd), shows_refusals).await;
}

/// An address of a documentation network: nobody can listen there.
const ELSEWHERE: &str = "203.0.113.7:5432";

async fn shows_refusals(mesh: &mut Mesh) -> anyhow::Result<()> {
    let server = Sidecar::Weft;
    mesh.apply(&[SERVICES, &service(&catalog(server))].join("\n---\n")).await?;
    let catalog_workload = start_catalog(mesh, server, "v1").await?;
    mesh.in_sync(&[catalog_workload.id()]).await?;
    for sidecar in Sidecar::ALL {
        let name = sidecar.word();
        let service = format!("web-{name}");
        let caller = mesh.workload(&format!("shop/{service}")).beside(sidecar).start().await?;
        mesh.in_sync(&[caller.id()]).await?;
        // A start that cannot listen joins nothing: what cannot be listened on has to come from the operator.
        let workload = caller.id().trim_start_matches("shop/");
        mesh.apply(&format!(
            "apiVersion: weft.dev/v1\nkind: Workload\nmetadata: {{name: {workload}, namespace: shop}}\n\
             spec: {{address: {}, services: [{service}], upstreams: [{{service: {}, port: tcp, bind: '{ELSEWHERE}'}}]}}\n",
            caller.address(),
            catalog(server),
        ))
        .await?;
        until(&format!("the refusal of {name} shows"), CONVERGES, async || {
            let proxy = mesh.client().proxy(caller.id()).await?;
            ensure!(proxy.sync == Sync::Refused, "it is {}: {:?}", proxy.sync, proxy.types);
            let listeners = proxy.types.get("LDS").context("no LDS")?;
            let refusal = listeners.refused.first().with_context(|| format!("{listeners:?}"))?;
            let resource = format!("upstream/shop/{}/tcp", catalog(server));
            ensure!(refusal.resources == [resource], "{refusal:?}");
            ensure!(refusal.message.contains("203.0.113.7"), "the words name no address: {refusal:?}");
            let policy = format!("Service shop/{}", catalog(server));
            ensure!(refusal.policies.iter().any(|p| p.contains(&policy)), "no policy is named: {refusal:?}");
            Ok(())
        })
        .await?;
        // What is not at fault works.
        let calls = caller.calls();
        until(&format!("{name} runs on with the rest"), CONVERGES, async || {
            calls.get(&format!("http://{}/", catalog(server))).await?.tree().map(|_| ())
        })
        .await?;
    }
    Ok(())
}
