//! Going back while requests flow: not one of them fails, and they go where they went.

use anyhow::{Context as _, ensure};
use weft_api::client::HistoryPart;
use weft_e2e::harness::{CONVERGES, Mesh, Options, Sidecar, StoreKind, until};

use crate::shop::{Callers, catalog, ids, start_both_versions};
use crate::steady::Loads;

#[tokio::test]
async fn rollback_under_load_fails_no_request_and_undoes_the_change() {
    Mesh::run(Options::new(StoreKind::Embedded), rolls_back).await;
}

/// Everything to one subset.
fn all_to(server: Sidecar, subset: &str) -> String {
    let name = catalog(server);
    format!(
        "apiVersion: weft.dev/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{parentRefs: [{{kind: Service, name: {name}, port: 80}}], \
         rules: [{{backendRefs: [{{name: {name}, port: 80, subset: {subset}}}]}}]}}\n"
    )
}

async fn rolls_back(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let servers = start_both_versions(mesh).await?;
    mesh.in_sync(&ids(&callers, &servers)).await?;
    let without = mesh.client().history(&HistoryPart::default()).await?.newest;
    let loads = Loads::start(&callers).await?;
    mesh.apply(&Sidecar::ALL.map(|server| all_to(server, "v1")).join("---\n")).await?;
    gets_all(&loads, "v1").await?;
    mesh.apply(&Sidecar::ALL.map(|server| all_to(server, "v2")).join("---\n")).await?;
    gets_all(&loads, "v2").await?;

    let said = mesh.weft(&["rollback", "--to", &(without + 1).to_string(), "--wait"]).await?;
    ensure!(said.contains("proxies have it") && said.contains("HTTPRoute"), "{said}");
    gets_all(&loads, "v1").await.context("back to the first route")?;
    mesh.weft(&["rollback", "--to", &without.to_string(), "--wait", "-m", "no route at all"]).await?;
    for (pair, era) in loads.next_era(200).await? {
        let both = ["v1", "v2"].map(|version| era.percent(&format!("{}-{version}", catalog(pair.server))));
        ensure!(both.iter().all(|share| *share > 10.0), "{pair}: no route splits nothing off: {both:?}");
    }
    mesh.weft(&["rollback", "--to", &(without + 2).to_string(), "--wait"]).await?;
    gets_all(&loads, "v2").await.context("forth to the second route")?;

    let history = mesh.weft(&["history", "httproute", "--limit", "2"]).await?;
    ensure!(history.contains("rollback to") && history.contains("no route at all"), "{history}");
    loads.end_without_failure().await
}

/// Waits until one subset answers everything.
async fn gets_all(loads: &Loads, version: &str) -> anyhow::Result<()> {
    until(&format!("{version} answers everything"), CONVERGES, async || {
        for (pair, era) in loads.next_era(50).await? {
            let share = era.percent(&format!("{}-{version}", catalog(pair.server)));
            ensure!(share >= 100.0, "{pair}: {share} %: {era:?}");
        }
        Ok(())
    })
    .await
}
