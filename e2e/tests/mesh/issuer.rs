//! A new issuer signs, certificates are revoked under both, and the control plane goes away: nobody else is refused.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use weft_e2e::harness::{
    CONVERGES, Calls, Mesh, Options, Pair, Sidecar, StoreKind, Workload, dial, serial, until,
};

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

    let (first, firsts) = (issuers(mesh).await?, signer(&servers[0]).await?);
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
    mesh.in_sync(&newcomers.iter().map(Workload::id).collect::<Vec<_>>()).await?;
    for newcomer in &newcomers {
        ensure!(signer(newcomer).await? != firsts, "{} shows a leaf of the first issuer", newcomer.id());
    }
    everyone_connects(&callers).await.context("with leaves of two issuers")?;
    newcomers_answer(&callers).await.context("with leaves of two issuers")?;

    mesh.control_plane().kill()?;
    for _ in 0..10 {
        everyone_connects(&callers).await.context("without a control plane")?;
    }
    newcomers_answer(&callers).await.context("without a control plane")
}

/// Whose leaf a sidecar shows to those who connect: the serial number of the issuer's certificate.
async fn signer(server: &Workload) -> anyhow::Result<String> {
    let (service, _) = server.name().rsplit_once('-').context("a name with its version")?;
    let stream = dial(server.inbound(), &format!("http.{service}.shop.mesh.local"), b"h2", None).await?;
    let chain = stream.get_ref().1.peer_certificates().context("no certificate")?;
    serial(chain.get(1).context("the chain ends with the leaf")?)
}

/// When the issuer that signs now ends, in seconds since 1970.
async fn issuers(mesh: &Mesh) -> anyhow::Result<i64> {
    Ok(mesh.client().ca().await?.issuer.expires_at)
}

/// Each TCP connection is a new one between the sidecars too: a handshake with the lists of this moment.
async fn connect(callers: &Callers, pair: Pair) -> anyhow::Result<String> {
    let local = (callers.of(pair).address(), tcp_port(pair.server)).into();
    let greeting = Calls::tcp(local).await.with_context(|| format!("{pair}"))?;
    ensure!(greeting.contains(&catalog(pair.server)), "{pair}: {greeting:?}");
    Ok(greeting)
}

async fn everyone_connects(callers: &Callers) -> anyhow::Result<()> {
    for pair in Pair::ALL {
        for _ in 0..4 {
            connect(callers, pair).await?;
        }
    }
    Ok(())
}

/// In each pair a newcomer is among those who answer, and its leaf is taken.
async fn newcomers_answer(callers: &Callers) -> anyhow::Result<()> {
    for pair in Pair::ALL {
        let newcomer = format!("{}-v3", catalog(pair.server));
        // A connection that is refused is no reason to try again.
        until(&format!("{pair}: {newcomer} answers"), CONVERGES, async || {
            match connect(callers, pair).await {
                Ok(greeting) if !greeting.contains(&newcomer) => bail!("{greeting:?}"),
                connected => Ok(connected),
            }
        })
        .await??;
    }
    Ok(())
}
