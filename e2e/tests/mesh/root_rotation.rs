//! The root is replaced while the mesh works: no request fails, no connection breaks, and one root is left.
//!
//! Leaves live for 20 s here, so that the old root is out of use soon.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use weft_api::rest::{AuthorityStatus, RotationRequest, RotationStageName};
use weft_e2e::harness::{Conversations, Mesh, Options, Pair, Sidecar, StoreKind, short_or_long, until};

use crate::shop::{Callers, catalog, ids, start_both_versions, start_catalog, tcp_port};
use crate::steady::Loads;

const LEAF_TTL: &str = "20s";
/// A tunnel lives as long as the certificates of its connections, one of which may have been there before it.
const LASTS: Duration = Duration::from_secs(1);
/// Renewals, a leaf's life, and what the stages wait for each other, with a loaded machine in mind.
pub const ROTATED: Duration = Duration::from_secs(120);

#[tokio::test]
async fn root_is_replaced_under_load_on_the_embedded_store() {
    Mesh::run(Options::new(StoreKind::Embedded).leaf_ttl(LEAF_TTL), async |mesh: &mut Mesh| {
        let callers = Callers::start(mesh).await?;
        let servers = start_both_versions(mesh).await?;
        mesh.in_sync(&ids(&callers, &servers)).await?;
        // One for each kind of sidecar, made before: they name the root that is going to leave.
        let token = mesh.token("shop/catalog-weft").await?;
        let (loads, held) = (Loads::start(&callers).await?, hold(&callers));

        let mut roots = BTreeSet::from([mesh.client().ca().await?.root.serial]);
        for _ in 0..short_or_long(1, 2) {
            rotate(mesh).await?;
            let now = mesh.client().ca().await?;
            ensure!(roots.insert(now.root.serial.clone()), "the root is one that was there before");
            ensure!(now.roots.len() == 1 && now.issuers.len() == 1, "{now:#?}");
            loads.next_era(200).await?;
        }

        // Whoever knows the mesh by the old root alone finds the way: a token, and the file of a machine that was off.
        let late = mesh.workload("shop/catalog-weft").named("catalog-late").with_token(&token.token);
        let late = late.serving().start().await.context("a join with a token of the old root")?;
        mesh.in_sync(&[late.id()]).await?;
        loads.next_era(200).await?;
        held.end().await?;
        loads.end_without_failure().await
    })
    .await;
}

/// Two replicas, one of which is killed in each stage while it leads; one proxy is away from beginning to end and comes back.
#[tokio::test]
async fn rotation_goes_on_at_another_replica_on_etcd() {
    let options = Options::new(StoreKind::Etcd).replicas(2).leaf_ttl(LEAF_TTL);
    Mesh::run(options, async |mesh: &mut Mesh| {
        let callers = Callers::start(mesh).await?;
        let servers = start_both_versions(mesh).await?;
        let mut away = mesh.workload("shop/web-weft").named("web-away").start().await?;
        mesh.in_sync(&[away.id()]).await?;
        away.kill_proxy();
        let loads = Loads::start(&callers).await?;
        let held = hold(&callers);

        let old = mesh.client().ca().await?.root.serial;
        begin(mesh, "5s").await?;
        let stages = [
            RotationStageName::DistributingRoot,
            RotationStageName::RenewingLeaves,
            RotationStageName::MovingControlPlanes,
        ];
        for (stage, replica) in stages.into_iter().zip([0, 1, 0]) {
            reached(mesh, stage).await?;
            // One of the two leads, and which one is of no matter: the other goes on, or has to begin.
            mesh.use_api_of(1 - replica)?;
            mesh.replica(replica)?.kill()?;
            tokio::time::sleep(Duration::from_millis(500)).await;
            mesh.replica(replica)?.start().await?;
        }
        ended(mesh).await?;
        let now = mesh.client().ca().await?;
        ensure!(now.root.serial != old && now.roots.len() == 1, "{now:#?}");

        // Its certificate has ended meanwhile: it joins again, and calls on.
        away.kill();
        let returned = mesh.workload("shop/web-weft").named("web-away").start().await?;
        let url = format!("http://{}/", catalog(Sidecar::Weft));
        until("it calls again", ROTATED, async || {
            let answer = returned.calls().get(&url).await?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })
        .await?;
        loads.next_era(200).await?;
        held.end().await?;
        loads.end_without_failure().await?;
        drop(servers);
        Ok(())
    })
    .await;
}

/// Undone in the first stage nothing has happened; undone in the second, leaves go back under the old root.
#[tokio::test]
async fn undone_rotation_leaves_the_old_root() {
    Mesh::run(Options::new(StoreKind::Embedded).leaf_ttl(LEAF_TTL), async |mesh: &mut Mesh| {
        let callers = Callers::start(mesh).await?;
        let mut servers = Vec::new();
        for beside in Sidecar::ALL {
            servers.push(start_catalog(mesh, beside, "v1").await?);
        }
        let ids = ids(&callers, &servers);
        mesh.in_sync(&ids).await?;
        let loads = Loads::start(&callers).await?;
        let old = mesh.client().ca().await?.root.serial;
        let refused = mesh.client().abort_rotation().await.unwrap_err().to_string();
        ensure!(refused.contains("no rotation"), "{refused}");

        begin(mesh, "2s").await?;
        let refused = mesh.client().rotate_root(&RotationRequest::default()).await.unwrap_err().to_string();
        ensure!(refused.contains("under way") && refused.contains("weft ca status"), "{refused}");
        let undone = mesh.client().abort_rotation().await?;
        ensure!(undone.rotation.is_none() && undone.roots.len() == 1, "{undone:#?}");

        begin(mesh, "2s").await?;
        reached(mesh, RotationStageName::RenewingLeaves).await?;
        until("a leaf below the new root", ROTATED, async || {
            let now = mesh.client().ca().await?;
            let new = now.roots.iter().find(|root| root.serial != old).context("there is no new root")?;
            ensure!(new.leaves > 0, "no leaf yet");
            Ok(())
        })
        .await?;
        mesh.client().abort_rotation().await?;
        ended(mesh).await?;
        let now = mesh.client().ca().await?;
        ensure!(now.root.serial == old && now.roots.len() == 1, "{now:#?}");
        mesh.in_sync(&ids).await?;
        loads.next_era(200).await?;
        loads.end_without_failure().await
    })
    .await;
}

/// Holds a connection of each kind in each pair.
fn hold(callers: &Callers) -> Conversations {
    let mut held = Conversations::lasting(LASTS);
    for pair in Pair::ALL {
        let (caller, host) = (callers.of(pair), catalog(pair.server));
        let name = pair.to_string();
        held.hold_tcp(&name, (caller.address(), tcp_port(pair.server)).into());
        held.hold_web_socket(&name, caller.outbound(), &host);
        held.hold_grpc(&name, caller.calls(), &format!("{host}:9000"));
    }
    held
}

/// Replaces the root as an operator does.
async fn rotate(mesh: &Mesh) -> anyhow::Result<()> {
    let said = mesh.weft(&["ca", "rotate", "--spread=5s", "--wait=120s"]).await?;
    ensure!(said.contains("stage 3 of 3") && said.contains("Signing") && !said.contains("waits"), "{said}");
    Ok(())
}

async fn begin(mesh: &Mesh, spread: &str) -> anyhow::Result<AuthorityStatus> {
    let request = RotationRequest { spread: Some(spread.to_owned()) };
    Ok(mesh.client().rotate_root(&request).await?)
}

async fn reached(mesh: &Mesh, stage: RotationStageName) -> anyhow::Result<()> {
    until(&format!("{stage:?}"), ROTATED, async || match mesh.client().ca().await?.rotation {
        Some(rotation) if rotation.stage == stage => Ok(()),
        Some(rotation) => bail!("{rotation:#?}"),
        None => bail!("no rotation is under way"),
    })
    .await
}

async fn ended(mesh: &Mesh) -> anyhow::Result<()> {
    until("the rotation is over", ROTATED, async || {
        let now = mesh.client().ca().await?.rotation;
        ensure!(now.is_none(), "{now:#?}");
        Ok(())
    })
    .await
}
