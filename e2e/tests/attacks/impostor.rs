//! A server stands where the control plane should be. Nobody believes it: neither proxies that run nor joiners, and a
//! joiner does not give its token away.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use weft_api::JoinToken;
use weft_e2e::harness::{CONVERGES, Forger, Impostor, Mesh, Presented, Process, Sidecar, ours, until};

use crate::ground::{member, on_the_embedded_store, service};

const CONTROL_PLANE: &str = "spiffe://mesh.local/control-plane";
/// Joiners and proxies try again and again, with pauses.
const TRIES: Duration = Duration::from_secs(60);

on_the_embedded_store!(no_workload_passes_for_the_control_plane, no_stranger_passes_for_the_control_plane);

/// Every leaf of the mesh may serve TLS under the same root.
async fn no_workload_passes_for_the_control_plane(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&[service("web"), service("catalog-envoy"), service("catalog-weft")].concat()).await?;
    let envoy = mesh.workload("shop/catalog-envoy").serving().beside(Sidecar::Envoy).start().await?;
    let weft = mesh.workload("shop/catalog-weft").serving().beside(Sidecar::Weft).start().await?;
    mesh.in_sync(&[envoy.id(), weft.id()]).await?;
    let insider = Presented::load(weft.identity_dir())?.with_root(weft.identity_dir())?;
    let xds = mesh.xds();
    let token = mesh.token("shop/web").await?.token;
    mesh.control_plane().kill()?;
    let impostor = until("the control plane's address is free", CONVERGES, async || {
        Impostor::start(xds, &insider).await
    })
    .await?;
    let joiner = joiner(mesh, "fooled", &token)?;
    // Two running sidecars, the keeper beside Envoy and the joiner try again and again.
    until("all of them have tried", TRIES, async || {
        let visits = impostor.visits();
        ensure!(visits.refused >= 6, "{visits:?}");
        let failed = envoy.stat("cluster.weft_control_plane.ssl.fail_verify_san").await?;
        ensure!(failed > 0, "Envoy has not refused a name yet");
        ensure!(joiner.log().contains("not the mesh's control plane"), "the joiner has not refused yet");
        ensure!(weft.proxy_log().contains("not the mesh's control plane"), "weft-proxy has not refused yet");
        Ok(())
    })
    .await?;
    joiner.signal(Signal::KILL);
    ensure!(impostor.visits().fooled == 0, "somebody believed it: {:?}", impostor.visits());
    drop(impostor);
    mesh.control_plane().start().await?;
    mesh.in_sync(&[envoy.id(), weft.id()]).await.context("the true one is believed again")?;
    Ok(())
}

/// Whoever can answer in the control plane's place, and has all that a stranger can have: the true root's certificate,
/// and one of its own over the true root's public key, which is what a token pins.
pub(crate) async fn no_stranger_passes_for_the_control_plane(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let web = member(mesh, "web", "web-1").await?;
    let root = rustls::pki_types::CertificateDer::from(web.answer.bundle_der[0].clone());
    let forger = Forger::stranger(Some(&root))?;
    let dns = |params: &mut rcgen::CertificateParams| {
        params.subject_alt_names.push(rcgen::SanType::DnsName("localhost".try_into().expect("a name")));
    };
    let forged = forger.leaf(&[CONTROL_PLANE], dns)?;
    let with = |more: Vec<_>| {
        let chain = forged.chain().iter().cloned().chain(more).collect();
        forged.clone().with_chain(chain)
    };
    let leaf_only = |more: Vec<_>| {
        let chain = forged.chain()[..1].iter().cloned().chain(more).collect();
        forged.clone().with_chain(chain)
    };
    let pinned = forger.over_the_key_of(&root)?;
    let mut attempts = Vec::new();
    for (attack, presented) in [
        ("its-own-root", with(Vec::new())),
        ("the-true-root-behind-it", with(vec![root.clone()])),
        ("the-true-root-alone", leaf_only(vec![root.clone()])),
        ("its-own-over-the-pinned-key", leaf_only(vec![pinned.clone()])),
        ("both", with(vec![pinned, root.clone()])),
    ] {
        let impostor = Impostor::start((mesh.next_address(), 7401).into(), &presented).await?;
        let made = mesh.token("shop/web").await?;
        let mut token: JoinToken = made.token.parse()?;
        token.control_planes = impostor.address().to_string().parse()?;
        attempts.push((attack, impostor, joiner(mesh, attack, &token.to_string())?, made.info.id));
    }
    for (attack, impostor, joiner, id) in attempts {
        until(&format!("{attack}: it was tried twice"), TRIES, async || {
            ensure!(impostor.visits().refused >= 2, "{:?}: {}", impostor.visits(), joiner.log());
            Ok(())
        })
        .await?;
        joiner.signal(Signal::KILL);
        ensure!(impostor.visits().fooled == 0, "{attack} was believed: {:?}", impostor.visits());
        let tokens = mesh.client().tokens().await?.items;
        ensure!(tokens.iter().any(|token| token.id == id && token.uses_left == 1), "{attack}: {tokens:?}");
    }
    Ok(())
}

fn joiner(mesh: &Mesh, name: &str, token: &str) -> anyhow::Result<Process> {
    let dir = mesh.dir();
    Process::start(dir, &format!("joiner-{name}"), &ours("weft-proxy")?, |command| {
        command.args(["join", "--log-format", "text", "--name", name, "--identity-dir"]);
        command.arg(dir.join(name)).env("WEFT_JOIN", token);
    })
}
