//! `weft drain` under load, in every pair: no request fails, none reaches the workload afterwards, and it stays so through a
//! restart of the control plane, a reconnection, and another joining of its name.

use anyhow::{Context as _, ensure};
use weft_e2e::harness::{CONVERGES, Mesh, Options, Sidecar, StoreKind, Workload, until};

use crate::shop::{Callers, catalog, ids, start_both_versions, start_catalog};
use crate::steady::Loads;

/// Requests of each pair in which a drained workload must not show.
const NONE_OF: u64 = 300;

#[tokio::test]
async fn drained_workload_gets_nothing_and_no_request_fails() {
    Mesh::run(Options::new(StoreKind::Embedded), drains).await;
}

async fn drains(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let servers = start_both_versions(mesh).await?;
    let ids = ids(&callers, &servers);
    mesh.in_sync(&ids).await?;
    let loads = Loads::start(&callers).await?;
    both_answer(&loads).await.context("before")?;
    let drained = Sidecar::ALL.map(|beside| format!("shop/{}-v2", catalog(beside)));

    for id in &drained {
        let said = mesh.weft(&["drain", id, "--wait"]).await?;
        ensure!(said.contains("is drained") && said.contains("proxies have it"), "{said}");
    }
    gets_nothing(&loads).await.context("drained")?;
    shown(mesh, &drained, true).await?;
    // Once more changes nothing, and is no error.
    let said = mesh.weft(&["drain", &drained[0]]).await?;
    ensure!(said.contains("was drained before"), "{said}");

    mesh.control_plane().end().await?;
    mesh.control_plane().start().await?;
    mesh.in_sync(&ids).await?;
    gets_nothing(&loads).await.context("after a restart of the control plane")?;
    shown(mesh, &drained, true).await?;

    the_last_one_stays(mesh).await?;
    for id in &drained {
        let said = mesh.weft(&["drain", id, "--undo", "--wait=20s"]).await?;
        ensure!(said.contains("takes requests again"), "{said}");
    }
    both_answer(&loads).await.context("taken back")?;
    shown(mesh, &drained, false).await?;
    loads.end_without_failure().await?;
    is_kept_by_the_next_of_its_name(mesh, servers).await
}

/// Waits until both versions answer in each pair.
async fn both_answer(loads: &Loads) -> anyhow::Result<()> {
    until("both versions answer", CONVERGES, async || {
        for (pair, era) in loads.next_era(100).await? {
            let both =
                ["v1", "v2"].map(|version| era.percent(&format!("{}-{version}", catalog(pair.server))));
            ensure!(both.iter().all(|share| *share > 10.0), "{pair}: {both:?}");
        }
        Ok(())
    })
    .await
}

/// Requests that were under way when the proxies took it may still end there; of those behind them none does.
async fn gets_nothing(loads: &Loads) -> anyhow::Result<()> {
    let all_elsewhere = async |requests| {
        for (pair, era) in loads.next_era(requests).await? {
            let share = era.percent(&format!("{}-v1", catalog(pair.server)));
            ensure!(share >= 100.0, "{pair}: the drained one answers: {era:?}");
        }
        Ok(())
    };
    until("the other answers everything", CONVERGES, async || all_elsewhere(20).await).await?;
    all_elsewhere(NONE_OF).await
}

/// Whether lists, findings and records say so.
async fn shown(mesh: &Mesh, drained: &[String], is_drained: bool) -> anyhow::Result<()> {
    for id in drained {
        let name = id.rsplit('/').next().unwrap_or(id);
        for list in [&["proxy", "list"][..], &["get", "workloads"]] {
            let text = mesh.weft(list).await?;
            let line = text.lines().find(|line| line.contains(name)).context("no such line")?;
            ensure!(line.contains("Drained") == is_drained, "{line}");
        }
        let found = mesh.weft_ended(&["check", "-o", "json"]).await?;
        let found: weft_api::rest::CheckResult = serde_json::from_slice(&found.stdout)?;
        let told =
            found.findings.iter().any(|finding| finding.code == "workload_drained" && finding.place == *id);
        ensure!(told == is_drained, "{:#?}", found.findings);
        let away = found
            .findings
            .iter()
            .any(|finding| finding.code == "service_without_healthy" && finding.place.contains("catalog"));
        ensure!(!away, "{:#?}", found.findings);
        let audit = mesh.weft(&["audit", "--limit", "50"]).await?;
        let words = if is_drained { "is drained" } else { "takes requests again" };
        ensure!(audit.contains(&format!("{id} {words}")), "{audit}");
    }
    Ok(())
}

/// The last healthy instance is drained by force only; who may not write proxies does not drain at all.
async fn the_last_one_stays(mesh: &Mesh) -> anyhow::Result<()> {
    let last = format!("shop/{}-v1", catalog(Sidecar::Weft));
    let refused = mesh.weft(&["drain", &last]).await.err().context("the last one was drained")?.to_string();
    ensure!(refused.contains("last healthy instance") && refused.contains("--force"), "{refused}");
    let missing = mesh.weft(&["drain", "shop/nobody"]).await.err().context("nobody was drained")?.to_string();
    ensure!(missing.contains("there is no workload shop/nobody"), "{missing}");
    let reader = mesh.client().create_principal("reader").await?;
    mesh.apply(READER).await?;
    let client = weft_api::client::ApiClient::try_new(&mesh.api(), &reader.token, &[])?;
    let request = weft_api::rest::DrainRequest { force: true, ..Default::default() };
    let forbidden = client.drain(&last, &request).await.err().context("a reader drains")?.to_string();
    ensure!(forbidden.contains("no role of yours allows Write Proxy"), "{forbidden}");
    let check = client.check().await?;
    ensure!(!check.complete, "a reader of one namespace sees all: {check:?}");
    Ok(())
}

const READER: &str = r"
{apiVersion: weft.dev/v1, kind: Role, metadata: {name: reader}, spec: {rules: [{verbs: [Read], kinds: ['*'], namespaces: [shop]}]}}
---
{apiVersion: weft.dev/v1, kind: RoleBinding, metadata: {name: reader}, spec: {role: reader, subjects: [{principal: reader}]}}
";

/// A machine that joins anew is the same machine: whoever drained it meant it.
async fn is_kept_by_the_next_of_its_name(mesh: &mut Mesh, mut servers: Vec<Workload>) -> anyhow::Result<()> {
    let id = format!("shop/{}-v2", catalog(Sidecar::Weft));
    mesh.weft(&["drain", &id]).await?;
    let at = servers.iter().position(|server| server.id() == id).context("it is among the servers")?;
    servers.remove(at).leave().await?;
    let again = start_catalog(mesh, Sidecar::Weft, "v2").await?;
    mesh.in_sync(&[again.id()]).await?;
    shown(mesh, &[id], true).await
}
