//! Certificates that peers do not accept, on either side of a connection.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use weft_e2e::harness::{
    CONVERGES, Door, Mesh, NewKey, Pair, Presented, Responder, Sidecar, Workload, described, join, until,
};

use super::notebook::Notebook;
use crate::shop::{Callers, catalog, start_catalog};

/// How long a certificate lives.
pub const LIFE: &str = "20s";
/// Once it has ended, and a second is over: times of certificates are whole seconds.
const AFTER_ITS_END: Duration = Duration::from_secs(22);

/// Plants them all.
pub async fn plant(mesh: &mut Mesh, notebook: &mut Notebook) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let [mut beside_weft, mut beside_envoy] =
        [start_catalog(mesh, Sidecar::Weft, "v1").await?, start_catalog(mesh, Sidecar::Envoy, "v1").await?];
    let token = mesh.token("shop/web-weft").await?.token;
    let stale = join(&token, &NewKey::plain()?, described("stale", mesh.next_address())).await?.presented;
    mesh.in_sync(&[beside_weft.id(), beside_envoy.id()]).await?;
    let (weft, address) = (Presented::load(beside_weft.identity_dir())?, beside_weft.inbound());
    tokio::time::sleep(AFTER_ITS_END).await;
    for (server, beside) in [(&beside_weft, Sidecar::Weft), (&beside_envoy, Sidecar::Envoy)] {
        clients(mesh, notebook, server, beside, &stale)
            .await
            .with_context(|| format!("{beside:?}: clients"))?;
    }
    // Nobody renews the files by which an Envoy reaches the control plane. Until these end, it is given the certificate that
    // it shows its peers, which may end a whole life later.
    beside_envoy.stop_renewing()?;
    tokio::time::sleep(AFTER_ITS_END).await;
    // A weft-proxy renews its own: that of one that is gone ends as well.
    beside_weft.kill_proxy();
    tokio::time::sleep(AFTER_ITS_END).await;
    for beside in Sidecar::ALL {
        let caller = callers.of(Pair { caller: beside, server: beside });
        let mut scene = Scene { mesh, notebook, caller, beside, address };
        scene.not_renewed(&beside_envoy).await.with_context(|| format!("{beside:?}: not renewed"))?;
        scene.servers(&weft).await.with_context(|| format!("{beside:?}: servers"))?;
    }
    Ok(())
}

/// Who shows a server a certificate that does not count.
async fn clients(
    mesh: &Mesh,
    notebook: &mut Notebook,
    server: &Workload,
    beside: Sidecar,
    stale: &Presented,
) -> anyhow::Result<()> {
    let service = format!("shop/{}", catalog(beside));
    let door = Door::new(server.inbound(), &service);
    let stranger = Presented::forged("spiffe://mesh.local/ns/shop/svc/web-weft")?;
    let from = format!("{}: no connection from ", server.id());
    for (failure, presented, words) in [
        ("client with an expired certificate", stale, "the certificate of the other side has expired"),
        ("client of another mesh", &stranger, "unknown root"),
    ] {
        let answer = door.ask(Some(presented)).await;
        ensure!(
            answer.as_ref().is_err() || answer.as_ref().is_ok_and(String::is_empty),
            "{failure}: {answer:?}"
        );
        let recent = ["explain", "--recent", "-", &service];
        notebook.find(mesh, (failure, beside), &[&recent], &[&from, words]).await?;
    }
    Ok(())
}

struct Scene<'a> {
    mesh: &'a Mesh,
    notebook: &'a mut Notebook,
    caller: &'a Workload,
    beside: Sidecar,
    /// Where the callers look for `catalog-weft`.
    address: SocketAddr,
}

impl Scene<'_> {
    /// An Envoy whose `weft-proxy join --keep` nobody runs.
    async fn not_renewed(&mut self, server: &Workload) -> anyhow::Result<()> {
        let answer = self.caller.calls().get(&format!("http://{}/", catalog(Sidecar::Envoy))).await?;
        ensure!(answer.status == 503, "{} {}", answer.status, answer.body);
        let id = answer.headers.get("x-request-id").context("no x-request-id")?.to_str()?.to_owned();
        let commands: [&[&str]; 2] = [&["explain", "--request-id", &id], &["proxy", "list"]];
        let words =
            ["the certificate of the other side has expired", server.id(), "its certificate has expired"];
        self.notebook.find(self.mesh, ("member that is not renewed", self.beside), &commands, &words).await
    }

    /// Others in the place of a server.
    async fn servers(&mut self, expired: &Presented) -> anyhow::Result<()> {
        let expected = format!("spiffe://mesh.local/ns/shop/svc/{}", catalog(Sidecar::Weft));
        let forged = Presented::forged(&expected)?;
        let other = Presented::load(self.caller.identity_dir())?;
        let found = self.caller.spiffe();
        let wrong = format!("the other side has the wrong identity: expected {expected}, got {found}");
        for (failure, presented, words) in [
            ("server with an expired certificate", expired, "the certificate of the other side has expired"),
            ("server of another mesh", &forged, "unknown root"),
            ("server of another service", &other, &*wrong),
        ] {
            let _other = self.in_its_place(Some(presented)).await?;
            self.refused(failure, words).await?;
        }
        let _plain = self.in_its_place(None).await?;
        self.refused("server without TLS", "plain text where TLS is expected").await
    }

    /// Somebody who answers where the server was, once whoever did so before is gone.
    async fn in_its_place(&self, presented: Option<&Presented>) -> anyhow::Result<Responder> {
        until("the place of the server is free", CONVERGES, async || {
            Responder::start(self.address, presented, "hello").await
        })
        .await
    }

    async fn refused(&mut self, failure: &'static str, words: &str) -> anyhow::Result<()> {
        let answer = self.caller.calls().get(&format!("http://{}/", catalog(Sidecar::Weft))).await?;
        ensure!(answer.status == 503, "{failure}: {} {}", answer.status, answer.body);
        let found = self.notebook.find_by_id(self.mesh, (failure, self.beside), &answer, &[words]).await;
        found.with_context(|| answer.body)
    }
}
