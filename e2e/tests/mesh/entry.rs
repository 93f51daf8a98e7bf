//! Entering the mesh: a start that fails changes nothing, a token stays secret, names do not collide.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use weft_e2e::harness::{Calls, Mesh, Options, Process, Sidecar, StoreKind, ours, until};

use crate::shop::service;

const SOON: Duration = Duration::from_secs(30);
const USAGE: i32 = 64;

/// D5: another start takes the name of a live workload, and fails for each reason that this machine can have.
#[tokio::test]
async fn start_that_fails_joins_nothing_and_changes_nothing() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        mesh.apply(&[service("web"), service("front")].join("\n---\n")).await?;
        let live = mesh.workload("shop/web").named("web-1").serving().start().await?;
        let caller = mesh.workload("shop/front").named("caller").start().await?;
        mesh.in_sync(&[live.id(), caller.id()]).await?;
        let endpoints = mesh.endpoints(caller.id(), "shop/web/http").await?;
        let certificate = serial(mesh, live.id()).await?;

        let address = mesh.next_address();
        let file = mesh.dir().join("a-file");
        std::fs::write(&file, "")?;
        for (flag, status) in [
            ("--admin-listen", 1),
            ("--inbound", 1),
            ("--outbound", 1),
            ("--upstream", 1),
            ("--identity-dir", 1),
            ("--app-port", USAGE),
            ("--label", USAGE),
        ] {
            let start = Start::new(mesh, address, "web-1").await?;
            let (taken, _held) = taken(address)?;
            let (start, named) = match flag {
                "--upstream" => (start.with(flag, &format!("shop/web:tcp={taken}")), taken.to_string()),
                "--identity-dir" => (start.with(flag, file.to_str().context("path")?), "a-file".to_owned()),
                "--app-port" => (start.with(flag, "http"), flag.to_owned()),
                "--label" => (start.with(flag, "=x"), flag.to_owned()),
                _ => (start.with(flag, &taken.to_string()), taken.to_string()),
            };
            let (code, said) = start.run(mesh, flag).await?;
            ensure!(code == Some(status), "{flag}: {code:?}: {said}");
            ensure!(said.contains(flag) && said.contains(&named), "{flag} {named}: {said}");
            let tokens = mesh.client().tokens().await?.items;
            let token = tokens.iter().find(|token| token.id == start.token).context("the token is listed")?;
            ensure!(token.uses_left == 1, "{flag}: the token is used up");
            ensure!(mesh.endpoints(caller.id(), "shop/web/http").await? == endpoints, "{flag}: moved");
            ensure!(serial(mesh, live.id()).await? == certificate, "{flag}: another instance");
        }
        let answer = caller.calls().get("http://web/").await?;
        ensure!(answer.tree()?.workload == "web-1", "{}", answer.body);
        Ok(())
    })
    .await;
}

/// An operator revokes a workload, and lets it in again: with a new token, in the directory that it had.
#[tokio::test]
async fn revoked_workload_comes_back_with_a_new_token() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        mesh.apply(&service("web")).await?;
        for sidecar in Sidecar::ALL {
            let name = format!("web-{}", sidecar.word());
            let mut first = mesh.workload("shop/web").named(&name).serving().beside(sidecar).start().await?;
            mesh.in_sync(&[first.id()]).await?;
            let before = serial(mesh, first.id()).await?;
            mesh.client().revoke_proxy(first.id()).await?;
            first.kill();
            let again = mesh.workload("shop/web").named(&name).serving().beside(sidecar).start().await?;
            mesh.in_sync(&[again.id()]).await?;
            ensure!(serial(mesh, again.id()).await? != before, "{name} has the certificate that was revoked");
        }
        Ok(())
    })
    .await;
}

/// Two starts at the same moment on the same ports: the kernel would let them share, for the engine's sockets do.
#[tokio::test]
async fn second_proxy_on_the_ports_of_a_running_one_is_refused_and_the_first_serves_on() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        mesh.apply(&service("web")).await?;
        let live = mesh.workload("shop/web").named("web-1").serving().start().await?;
        mesh.in_sync(&[live.id()]).await?;
        for (flag, bound) in [("--inbound", live.inbound()), ("--outbound", live.outbound())] {
            let own = mesh.next_address();
            let start = Start::new(mesh, own, "web-2").await?.with(flag, &bound.to_string());
            let (code, said) = start.run(mesh, &format!("second{flag}")).await?;
            ensure!(code == Some(1), "{code:?}: {said}");
            ensure!(said.contains(flag) && said.contains(&bound.to_string()), "{said}");
        }
        ensure!(live.calls().get("http://web/").await?.tree()?.workload == "web-1");
        ensure!(!mesh.proxies().await?.contains_key("shop/web-2"), "web-2 joined");
        Ok(())
    })
    .await;
}

/// L8, and two services on one host.
#[tokio::test]
async fn token_of_a_file_or_the_environment_stays_out_of_the_process_list() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        mesh.apply(&[service("web"), service("db")].join("\n---\n")).await?;
        let mut proxies = Vec::new();
        for (of, by_file) in [("web", true), ("db", false)] {
            let address = mesh.next_address();
            let mut start = Start::new(mesh, address, "").await?;
            start.token_for(mesh, &format!("shop/{of}")).await?;
            start.by_file = by_file;
            let mut process = start.spawn(mesh, of)?;
            until("the proxy is ready", SOON, async || {
                process.check()?;
                let url = format!("http://{address}:15000/ready");
                ensure!(Calls::direct().get(&url).await?.status == 200, "not yet");
                Ok(())
            })
            .await?;
            let command_line = std::fs::read(format!("/proc/{}/cmdline", process.id()))?;
            let command_line = String::from_utf8_lossy(&command_line).into_owned();
            ensure!(
                command_line.contains("weft-proxy") && !command_line.contains("weft1."),
                "{command_line}"
            );
            proxies.push(process);
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
        let host = host.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
        let known = mesh.proxies().await?;
        for of in ["web", "db"] {
            let id = known.keys().find(|id| id.starts_with(&format!("shop/{of}-")));
            let id = id.with_context(|| format!("no workload of {of}: {:?}", known.keys()))?;
            ensure!(id.contains(&host) || host.len() > 50 || host.contains('_'), "{id} on {host}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn token_from_two_places_is_refused_and_both_are_named() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        mesh.apply(&service("web")).await?;
        let address = mesh.next_address();
        let mut start = Start::new(mesh, address, "web-1").await?;
        start.by_file = true;
        let start = start.with("--join", "weft1.another");
        let (code, said) = start.run(mesh, "twice").await?;
        ensure!(code == Some(USAGE), "{code:?}: {said}");
        let words: Vec<&str> = said.split(|c: char| c != '-' && !c.is_ascii_alphanumeric()).collect();
        ensure!(["--join", "--join-file"].iter().all(|flag| words.contains(flag)), "{said}");
        Ok(())
    })
    .await;
}

async fn serial(mesh: &Mesh, id: &str) -> anyhow::Result<String> {
    let certificate = mesh.client().proxy(id).await?.certificate;
    Ok(certificate.with_context(|| format!("{id} has no certificate"))?.serial)
}

/// An address that somebody listens on while the guard lives.
fn taken(address: Ipv4Addr) -> anyhow::Result<(SocketAddr, TcpListener)> {
    let listener = TcpListener::bind((address, 0))?;
    Ok((listener.local_addr()?, listener))
}

/// One `weft-proxy run`.
struct Start {
    address: Ipv4Addr,
    token: String,
    secret: String,
    by_file: bool,
    dir: PathBuf,
    flags: Vec<(String, String)>,
}

impl Start {
    async fn new(mesh: &Mesh, address: Ipv4Addr, name: &str) -> anyhow::Result<Self> {
        let dir = mesh.dir().join(format!("start-{:08x}", rand::random::<u32>()));
        let mut start = Self {
            address,
            token: String::new(),
            secret: String::new(),
            by_file: false,
            dir,
            flags: Vec::new(),
        };
        start.token_for(mesh, "shop/web").await?;
        if name.is_empty() { Ok(start) } else { Ok(start.with("--name", name)) }
    }

    async fn token_for(&mut self, mesh: &Mesh, service: &str) -> anyhow::Result<()> {
        let token = mesh.token(service).await?;
        (self.token, self.secret) = (token.info.id, token.token);
        Ok(())
    }

    fn with(mut self, flag: &str, value: &str) -> Self {
        self.flags.push((flag.to_owned(), value.to_owned()));
        self
    }

    fn spawn(&self, mesh: &Mesh, name: &str) -> anyhow::Result<Process> {
        let file = self.dir.with_extension("token");
        std::fs::write(&file, &self.secret)?;
        Process::start(mesh.dir(), &format!("start-{name}"), &ours("weft-proxy")?, |command| {
            command.args(["run", "--workers", "1", "--log-format", "text"]);
            if self.by_file {
                command.arg("--join-file").arg(&file);
            } else {
                command.env("WEFT_JOIN", &self.secret);
            }
            let given = |flag: &str| self.flags.iter().any(|(name, _)| name == flag);
            for (flag, value) in self.defaults(&self.dir) {
                if !given(flag) {
                    command.arg(format!("{flag}={value}"));
                }
            }
            command.args(self.flags.iter().map(|(flag, value)| format!("{flag}={value}")));
        })
    }

    fn defaults(&self, dir: &Path) -> [(&'static str, String); 4] {
        let at = |port: u16| SocketAddr::from((self.address, port)).to_string();
        [
            ("--identity-dir", dir.display().to_string()),
            ("--inbound", at(15_006)),
            ("--outbound", at(15_001)),
            ("--admin-listen", at(15_000)),
        ]
    }

    /// Exit code, and what it said.
    async fn run(&self, mesh: &Mesh, name: &str) -> anyhow::Result<(Option<i32>, String)> {
        let process = self.spawn(mesh, name)?;
        let log = process.log_path().to_owned();
        let status = process.ended(SOON).await?;
        Ok((status.code(), std::fs::read_to_string(log)?))
    }
}
