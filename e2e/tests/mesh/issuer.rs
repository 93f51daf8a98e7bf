//! A new issuer signs, certificates are revoked under both, and the control plane goes away: nobody else is refused.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use weft_e2e::harness::{Calls, Mesh, Options, Pair, Sidecar, StoreKind, Workload, until};

use crate::shop::{Callers, catalog, start_catalog, tcp_port};

/// Half of an issuer's life, an announcement and its acknowledgement, with a loaded machine in mind.
const RENEWED: Duration = Duration::from_secs(90);

#[tokio::test]
async fn new_issuer_and_its_list_refuse_nobody_on_the_embedded_store() {
    let options = Options::new(StoreKind::Embedded).leaf_ttl("60s").issuer_ttl("100s");
    Mesh::run(options, refuses_nobody).await;
}

async fn refuses_nobody(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let mut servers = Vec::new();
    for beside in Sidecar::ALL {
        servers.push(start_catalog(mesh, beside, "v1").await?);
    }
    let mut doomed = start_catalog(mesh, Sidecar::Weft, "v2").await?;
    let ids: Vec<&str> = callers.ids().into_iter().chain(servers.iter().map(Workload::id)).collect();
    mesh.in_sync(&ids).await?;
    everyone_connects(&callers).await.context("before")?;
    // From now on the list of the first issuer is not empty.
    mesh.client().revoke_proxy(doomed.id()).await?;
    doomed.kill();
    everyone_connects(&callers).await.context("after a revocation")?;

    let first = issuers(mesh).await?;
    until("a new issuer signs", RENEWED, async || {
        everyone_connects(&callers).await.context("while the issuer is renewed")?;
        let now = issuers(mesh).await?;
        ensure!(now != first, "the issuer ends at {now} as before");
        Ok(())
    })
    .await?;
    // Leaves of both issuers live now: the new one's are those of newcomers.
    let newcomers =
        [start_catalog(mesh, Sidecar::Weft, "v3").await?, start_catalog(mesh, Sidecar::Envoy, "v3").await?];
    let newcomers: Vec<&str> = newcomers.iter().map(Workload::id).collect();
    mesh.in_sync(&newcomers).await?;
    everyone_connects(&callers).await.context("with leaves of two issuers")?;

    mesh.control_plane().kill()?;
    for _ in 0..10 {
        everyone_connects(&callers).await.context("without a control plane")?;
    }
    Ok(())
}

/// When the issuer that signs now ends, in seconds since 1970.
async fn issuers(mesh: &Mesh) -> anyhow::Result<i64> {
    let status = mesh.client().ca().await?;
    status["issuer"]["expiresAt"].as_i64().context("the issuer has no end")
}

/// Each TCP connection is a new one between the sidecars too: a handshake with the lists of this moment.
async fn everyone_connects(callers: &Callers) -> anyhow::Result<()> {
    for pair in Pair::ALL {
        for _ in 0..4 {
            let local = (callers.of(pair).address(), tcp_port(pair.server)).into();
            let greeting = Calls::tcp(local).await.with_context(|| format!("{pair}"))?;
            ensure!(greeting.contains(&catalog(pair.server)), "{pair}: {greeting:?}");
        }
    }
    Ok(())
}
