//! The control plane is killed under load and comes back: nothing fails, everything is in sync, no endpoint is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use weft_e2e::harness::{CONVERGES, Mesh, Options, Pair, Sidecar, StoreKind, Workload, short_or_long, until};

use crate::shop::{Callers, SERVICES, catalog, ids, service, start_both_versions, start_catalog};
use crate::steady::{Loads, rate};

#[tokio::test]
async fn control_plane_outage_fails_no_request_on_the_embedded_store() {
    Mesh::run(Options::new(StoreKind::Embedded), survives_an_outage).await;
}

#[tokio::test]
async fn control_plane_outage_fails_no_request_on_etcd() {
    Mesh::run(Options::new(StoreKind::Etcd), survives_an_outage).await;
}

/// Both ends of a call are restarted while nobody can tell them anything: each serves what it had.
#[tokio::test]
async fn weft_proxy_that_restarts_in_an_outage_serves_what_it_had() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        mesh.apply(&[SERVICES, &service(&catalog(Sidecar::Weft))].join("\n---\n")).await?;
        let mut server = start_catalog(mesh, Sidecar::Weft, "v1").await?;
        let mut caller = mesh.workload("shop/web-weft").start().await?;
        mesh.in_sync(&[server.id(), caller.id()]).await?;
        let url = format!("http://{}/", catalog(Sidecar::Weft));
        until("the server answers", CONVERGES, async || caller.calls().get(&url).await?.tree().map(drop))
            .await?;
        for (workload, word) in
            [(&caller, server.address().to_string()), (&server, "inbound/shop/catalog-weft".to_owned())]
        {
            keeps(workload, &word).await?;
        }

        mesh.control_plane().kill()?;
        for workload in [&mut server, &mut caller] {
            let id = workload.id().to_owned();
            workload.restart(mesh).await.with_context(|| format!("{id} restarts"))?;
        }
        let tree = caller.calls().get(&url).await?.tree()?;
        ensure!(tree.workload == server.name() && tree.peer == caller.spiffe(), "{tree:?}");
        // The same policies hold: what it had says who may call it, and what is no service.
        let unknown = caller.calls().get("http://unknown/").await?;
        ensure!(unknown.status == 502 && unknown.body.contains("RegistryOnly"), "{unknown:?}");
        Ok(())
    })
    .await;
}

/// Waits until the configuration that a sidecar keeps for its next start has a word in it.
async fn keeps(workload: &Workload, word: &str) -> anyhow::Result<()> {
    until(&format!("{} keeps {word}", workload.id()), CONVERGES, async || {
        let kept = std::fs::read(workload.identity_dir().join("snapshot.bin"))?;
        ensure!(kept.windows(word.len()).any(|window| window == word.as_bytes()), "not yet");
        Ok(())
    })
    .await
}

async fn survives_an_outage(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let servers = start_both_versions(mesh).await?;
    let ids = ids(&callers, &servers);
    mesh.in_sync(&ids).await?;
    let endpoints = healthy_endpoints(mesh, &callers).await?;
    ensure!(endpoints.values().all(|members| members.len() == 2), "{endpoints:?}");
    let loads = Loads::start(&callers).await?;
    loads.next_era(50).await?;

    mesh.control_plane().kill()?;
    let outage = Duration::from_secs(short_or_long(10, 60));
    loads.next_era(outage.as_secs() * u64::from(rate())).await.context("during the outage")?;

    mesh.control_plane().start().await?;
    mesh.in_sync(&ids).await.context("after the outage")?;
    until("all endpoints are healthy as before", CONVERGES, async || {
        let after = healthy_endpoints(mesh, &callers).await?;
        ensure!(after == endpoints, "before {endpoints:?}, now {after:?}");
        Ok(())
    })
    .await?;
    for (pair, era) in loads.next_era(200).await.context("after the outage")? {
        for version in ["v1", "v2"] {
            let name = format!("{}-{version}", catalog(pair.server));
            ensure!(era.percent(&name) > 0.0, "{pair}: {name} answers no more: {era:?}");
        }
    }
    still_takes_changes(mesh, &callers).await.context("a change after the outage")?;
    loads.end_without_failure().await
}

async fn healthy_endpoints(
    mesh: &Mesh,
    callers: &Callers,
) -> anyhow::Result<BTreeMap<String, BTreeMap<String, String>>> {
    let mut found = BTreeMap::new();
    for pair in Pair::ALL {
        let cluster = format!("shop/{}/http", catalog(pair.server));
        let endpoints = mesh.endpoints(callers.of(pair).id(), &cluster).await?;
        let healthy = endpoints.into_iter().filter(|(_, status)| status == "HEALTHY").collect();
        found.insert(pair.to_string(), healthy);
    }
    Ok(found)
}

async fn still_takes_changes(mesh: &Mesh, callers: &Callers) -> anyhow::Result<()> {
    for server in Sidecar::ALL {
        let name = catalog(server);
        mesh.apply(&format!(
            r"
apiVersion: weft.dev/v1
kind: HTTPRoute
metadata: {{name: {name}-gone, namespace: shop}}
spec:
  parentRefs: [{{kind: Service, name: {name}, port: 80}}]
  rules:
  - matches: [{{path: {{type: Exact, value: /gone}}}}]
    filters:
    - type: RequestRedirect
      requestRedirect: {{statusCode: 301, path: {{type: ReplaceFullPath, replaceFullPath: /echo}}}}
  - backendRefs: [{{name: {name}, port: 80}}]
"
        ))
        .await?;
    }
    for pair in Pair::ALL {
        let url = format!("http://{}/gone", catalog(pair.server));
        let answer = callers.of(pair).calls().get(&url).await?;
        ensure!(answer.status == 301, "{pair}: {} {}", answer.status, answer.body);
    }
    Ok(())
}
