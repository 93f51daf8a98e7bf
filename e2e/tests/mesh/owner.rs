//! A stock Envoy whose owner wrote the bootstrap: own listener, own routes, state of the world, and only clusters and
//! endpoints from the control plane.

use std::collections::BTreeMap;

use anyhow::ensure;
use weft_e2e::harness::{CONVERGES, Calls, Mesh, Options, OwnerEnvoy, Sidecar, StoreKind, until};

use crate::shop::{SERVICES, catalog, service, start_catalog};

#[tokio::test]
async fn envoy_with_its_owners_bootstrap_balances_on_the_embedded_store() {
    Mesh::run(Options::new(StoreKind::Embedded), balances).await;
}

#[tokio::test]
async fn envoy_with_its_owners_bootstrap_balances_on_etcd() {
    Mesh::run(Options::new(StoreKind::Etcd), balances).await;
}

async fn balances(mesh: &mut Mesh) -> anyhow::Result<()> {
    let served = Sidecar::Weft;
    mesh.apply(&[SERVICES, &service(&catalog(served))].join("\n---\n")).await?;
    let first = start_catalog(mesh, served, "v1").await?;
    // The members of one service may stand beside different proxies.
    let service = format!("shop/{}", catalog(served));
    let second = mesh.workload(&service).version("v2").serving().beside(Sidecar::Envoy).start().await?;
    let envoy = OwnerEnvoy::start(mesh, "shop/web-envoy", &format!("shop/{}/http", catalog(served))).await?;
    answered_by(&envoy, &[first.name(), second.name()]).await?;

    let third = mesh.workload(&service).named("late").serving().beside(served).start().await?;
    answered_by(&envoy, &[first.name(), second.name(), third.name()]).await?;
    third.leave().await?;
    answered_by(&envoy, &[first.name(), second.name()]).await?;
    // It takes no listener, so nobody listens for others: however long it has been there, peers are not told of it.
    let own = mesh.client().proxy("shop/web-envoy-own").await?;
    ensure!(own.health == "Starting", "{own:?}");
    let endpoints = mesh.endpoints(first.id(), "shop/web-envoy/http").await?;
    ensure!(endpoints.is_empty(), "peers are told of {endpoints:?}");
    Ok(())
}

/// Waits until of 60 requests each of these gets a fair share, and nobody else anything.
async fn answered_by(envoy: &OwnerEnvoy, expected: &[&str]) -> anyhow::Result<()> {
    let calls = Calls::direct();
    until(&format!("{expected:?} share the requests"), CONVERGES, async || {
        let mut answers: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..60 {
            let tree = calls.get(&format!("{}/", envoy.url())).await?.tree()?;
            ensure!(
                tree.peer == "spiffe://mesh.local/ns/shop/svc/web-envoy",
                "the server saw {:?}",
                tree.peer
            );
            *answers.entry(tree.workload).or_default() += 1;
        }
        let fair = 60 / expected.len() / 3;
        let all = expected.iter().all(|name| answers.get(*name).is_some_and(|count| *count >= fair));
        ensure!(all && answers.len() == expected.len(), "{answers:?}");
        Ok(())
    })
    .await
}
