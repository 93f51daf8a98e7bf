//! H5: somebody holds the key of a workload that was revoked, or deleted. The mesh forgets it at once, wherever it shows
//! the certificate, and whether the control plane is there or not. What a new issuer means for all this is in the test
//! `issuer` of the whole meshes.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use weft_e2e::harness::{CONVERGES, Door, Joined, Mesh, Sidecar, Workload, until};

use crate::ground::{ANSWER, beside, member, nothing_is_served, on_both_stores, service, until_told};

/// Two seconds are the goal, and measured by the benchmark `revocation`; this machine may be busy.
const SOON: Duration = Duration::from_secs(10);
/// weft-proxy ends live connections of a revoked peer within 10 s.
const LIVE: Duration = Duration::from_secs(20);

on_both_stores!(revoked_workload_is_out_everywhere, deleted_workload_is_out_everywhere);

pub(crate) async fn revoked_workload_is_out_everywhere(mesh: &mut Mesh) -> anyhow::Result<()> {
    is_out_everywhere(mesh, "revoked", async |mesh: &Mesh, victim: &Joined| {
        mesh.client().revoke_proxy(&victim.id()).await?;
        Ok(())
    })
    .await
}

async fn deleted_workload_is_out_everywhere(mesh: &mut Mesh) -> anyhow::Result<()> {
    is_out_everywhere(mesh, "deleted", async |mesh: &Mesh, victim: &Joined| {
        mesh.client().delete("workloads", "shop", &victim.answer.workload).await?;
        Ok(())
    })
    .await
}

/// A server beside each proxy, and how a peer finds it.
async fn servers(mesh: &mut Mesh) -> anyhow::Result<(Vec<Workload>, [(Sidecar, Door); 2])> {
    mesh.apply(&[service("web"), service("catalog-weft"), service("catalog-envoy")].concat()).await?;
    let mut servers = Vec::new();
    for sidecar in Sidecar::ALL {
        let service = format!("shop/catalog-{}", sidecar.word());
        servers.push(mesh.workload(&service).serving().beside(sidecar).start().await?);
    }
    mesh.in_sync(&servers.iter().map(Workload::id).collect::<Vec<_>>()).await?;
    let door = |server: usize, sidecar: Sidecar| {
        (sidecar, Door::new(servers[server].inbound(), &format!("shop/catalog-{}", sidecar.word())))
    };
    let doors = [door(0, Sidecar::Weft), door(1, Sidecar::Envoy)];
    Ok((servers, doors))
}

async fn is_out_everywhere(
    mesh: &mut Mesh,
    how: &str,
    end: impl AsyncFnOnce(&Mesh, &Joined) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (_servers, doors) = servers(mesh).await?;
    let (victim, other) = (member(mesh, "web", "web-1").await?, member(mesh, "web", "web-2").await?);
    let (_victim, _other) = (beside(mesh, &victim).await?, beside(mesh, &other).await?);
    let renewed = victim.renew(mesh.xds()).await?;
    let mut live = Vec::new();
    for (sidecar, door) in &doors {
        for certificate in [&victim, &renewed, &other] {
            door.enter(Some(&certificate.presented)).await.with_context(|| format!("{sidecar:?}: before"))?;
        }
        live.push(door.enter(Some(&victim.presented)).await?);
    }

    end(mesh, &victim).await?;
    for (sidecar, door) in &doors {
        // Every certificate of the instance, not only the newest.
        for certificate in [&victim, &renewed] {
            is_refused(door, certificate).await.with_context(|| format!("{sidecar:?}: {how}"))?;
        }
        door.enter(Some(&other.presented)).await.with_context(|| format!("{sidecar:?}: its neighbour"))?;
    }
    ensure!(
        live.remove(0).ends_within(LIVE).await,
        "weft-proxy keeps the live connection of a peer that was {how}"
    );
    // SECURITY.md says so, and would have to be changed.
    live[0].ask().await.context("stock Envoy keeps the connections that it has")?;
    for certificate in [&victim, &renewed] {
        nothing_is_served(&certificate.channel(mesh.xds()), &victim.id())
            .await
            .with_context(|| how.to_owned())?;
    }
    until_told(mesh, &other, "web", |told| {
        ensure!(told.addresses.len() == 1, "members at {:?}", told.addresses);
        Ok(())
    })
    .await?;

    mesh.control_plane().kill()?;
    for (sidecar, door) in &doors {
        let away = format!("{sidecar:?}: without a control plane");
        ensure!(door.enter(Some(&victim.presented)).await.is_err(), "{away}, it is let in");
        door.enter(Some(&other.presented)).await.context(away)?;
    }
    mesh.control_plane().start().await?;
    let again = until("the name is free", ANSWER, async || member(mesh, "web", "web-1").await).await?;
    let _again = beside(mesh, &again).await?;
    for (sidecar, door) in &doors {
        until("the new instance is let in", CONVERGES, async || {
            door.enter(Some(&again.presented)).await.map(drop)
        })
        .await
        .with_context(|| format!("{sidecar:?}"))?;
        ensure!(door.enter(Some(&victim.presented)).await.is_err(), "{sidecar:?}: the old one is back");
    }
    Ok(())
}

async fn is_refused(door: &Door, certificate: &Joined) -> anyhow::Result<()> {
    until("new connections are refused", SOON, async || {
        ensure!(door.enter(Some(&certificate.presented)).await.is_err(), "it is let in");
        Ok(())
    })
    .await
}
