//! The programs as services of systemd: they say when they are ready, that they are alive, and that they end.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use weft_e2e::harness::{Mesh, Options, Process, StoreKind, SupervisorSocket, ours};

use crate::shop::service;

const SOON: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_millis(400);
const AWAY: &str = "STATUS=cannot join yet: ";

#[tokio::test]
async fn control_plane_is_ready_once_it_has_read_its_store_and_alive_until_it_ends() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let supervisor = SupervisorSocket::listen(dir.path(), "control-plane")?;
    let process = Process::start(dir.path(), "control-plane", &ours("weft-control-plane")?, |command| {
        supervisor.watch(command, SILENCE);
        command.arg("--data-dir").arg(dir.path().join("data"));
        command.args(["api", "xds", "admin"].map(|port| format!("--{port}-listen=127.0.0.1:0")));
    })?;
    let before = supervisor.hears("READY=1\nSTATUS=", SOON).await?;
    ensure!(before.len() == 2 && before.iter().all(|line| line.starts_with("STATUS=")), "{before:?}");
    supervisor.hears("WATCHDOG=1", SOON).await?;
    supervisor.hears("WATCHDOG=1", SOON).await?;
    ensure!(process.end(SOON).await?.success());
    supervisor.hears("STOPPING=1", SOON).await?;
    Ok(())
}

/// The start has no end while the control plane is away, and says what it waits for; a later one needs no control plane.
#[tokio::test]
async fn proxy_is_ready_with_its_first_configuration_and_without_a_control_plane_with_the_last() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        mesh.apply(&service("web")).await?;
        let token = mesh.token("shop/web").await?.token;
        mesh.control_plane().kill()?;
        let address = mesh.next_address();
        let flags: Vec<String> = [("inbound", 15_006), ("outbound", 15_001), ("admin-listen", 15_000)]
            .map(|(flag, port)| format!("--{flag}={address}:{port}"))
            .into();

        let supervisor = SupervisorSocket::listen(mesh.dir(), "first")?;
        let proxy = start(mesh.dir(), "first", &["run", "--workers=1"], &flags, &supervisor, &token)?;
        let before = supervisor.hears(AWAY, SOON).await?;
        ensure!(before.iter().all(|line| line.starts_with("STATUS=")), "{before:?}");
        mesh.control_plane().start().await?;
        let before = supervisor.hears("READY=1\n", SOON).await?;
        ensure!(before.iter().any(|line| line.contains("first configuration")), "{before:?}");
        supervisor.hears("WATCHDOG=1", SOON).await?;
        supervisor.hears("WATCHDOG=1", SOON).await?;
        ensure!(proxy.end(SOON).await?.success());
        supervisor.hears("STOPPING=1", SOON).await?;

        mesh.control_plane().kill()?;
        let supervisor = SupervisorSocket::listen(mesh.dir(), "second")?;
        let proxy = start(mesh.dir(), "second", &["run", "--workers=1"], &flags, &supervisor, &token)?;
        supervisor.hears("READY=1\n", SOON).await?;
        ensure!(proxy.end(SOON).await?.success());
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn joiner_beside_an_envoy_is_ready_once_the_identity_is_there() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        mesh.apply(&service("web")).await?;
        let token = mesh.token("shop/web").await?.token;
        mesh.control_plane().kill()?;
        let supervisor = SupervisorSocket::listen(mesh.dir(), "keep")?;
        let joiner = start(mesh.dir(), "keep", &["join", "--keep"], &[], &supervisor, &token)?;
        supervisor.hears(AWAY, SOON).await?;
        let identity = mesh.dir().join("identity/identity.sds.json");
        ensure!(!identity.exists(), "joined with nobody");
        mesh.control_plane().start().await?;
        supervisor.hears("READY=1\n", SOON).await?;
        ensure!(identity.exists(), "ready without an identity");
        supervisor.hears("WATCHDOG=1", SOON).await?;
        supervisor.hears("WATCHDOG=1", SOON).await?;
        ensure!(joiner.end(SOON).await?.success());
        supervisor.hears("STOPPING=1", SOON).await?;
        Ok(())
    })
    .await;
}

fn start(
    dir: &Path,
    name: &str,
    command: &[&str],
    flags: &[String],
    supervisor: &SupervisorSocket,
    token: &str,
) -> anyhow::Result<Process> {
    Process::start(dir, name, &ours("weft-proxy")?, |program| {
        supervisor.watch(program, SILENCE);
        program.args(command).args(flags).env("WEFT_JOIN", token);
        program.arg("--identity-dir").arg(dir.join("identity"));
    })
}
