//! One workload: a demo application with a sidecar of either kind.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;

use super::{Calls, Mesh, Process, free_port, program, until};

/// Fixed ports of a sidecar on its own address.
const INBOUND: u16 = 15_006;
const OUTBOUND: u16 = 15_001;
const ADMIN: u16 = 15_000;
const START: Duration = Duration::from_secs(30);
/// Longer than a sidecar may drain.
const END: Duration = Duration::from_secs(45);
/// How long callers may take to hear that an endpoint is gone.
const WORD_GETS_AROUND: Duration = Duration::from_secs(2);

/// Which proxy stands beside an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sidecar {
    /// weft-proxy.
    Weft,
    /// Stock Envoy.
    Envoy,
}

impl Sidecar {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Weft, Self::Envoy];

    /// As part of a name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Weft => "weft",
            Self::Envoy => "envoy",
        }
    }
}

/// Who calls whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// The caller's sidecar.
    pub caller: Sidecar,
    /// The server's sidecar.
    pub server: Sidecar,
}

impl Pair {
    /// All four.
    pub const ALL: [Self; 4] = [
        Self { caller: Sidecar::Weft, server: Sidecar::Weft },
        Self { caller: Sidecar::Weft, server: Sidecar::Envoy },
        Self { caller: Sidecar::Envoy, server: Sidecar::Weft },
        Self { caller: Sidecar::Envoy, server: Sidecar::Envoy },
    ];
}

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.caller.word(), self.server.word())
    }
}

/// A workload to be started.
#[derive(Debug)]
pub struct Builder<'a> {
    mesh: &'a mut Mesh,
    service: String,
    name: Option<String>,
    version: String,
    serves: bool,
    is_client: bool,
    sidecar: Sidecar,
    upstreams: Vec<String>,
    app_ports: Vec<(&'static str, u16)>,
    calls: Vec<String>,
    token: Option<String>,
    access_log_dir: Option<PathBuf>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(mesh: &'a mut Mesh, service: &str) -> Self {
        Self {
            mesh,
            service: service.to_owned(),
            name: None,
            version: "v1".to_owned(),
            serves: false,
            is_client: false,
            sidecar: Sidecar::Weft,
            upstreams: Vec::new(),
            app_ports: Vec::new(),
            calls: Vec::new(),
            token: None,
            access_log_dir: None,
        }
    }

    /// Names it; the service's name and its version otherwise.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Its version, told by the application and by the label `version`.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// An application answers on the ports `http`, `h2`, `grpc` and `tcp`. Without, the workload only calls others.
    #[must_use]
    pub fn serving(mut self) -> Self {
        self.serves = true;
        self
    }

    /// An application of the test's own, or nobody, answers on a port of 127.0.0.1.
    #[must_use]
    pub fn app_port(mut self, name: &'static str, port: u16) -> Self {
        self.app_ports.push((name, port));
        self
    }

    /// Joins as one that only calls others, of which peers are never told.
    #[must_use]
    pub fn client(mut self) -> Self {
        self.is_client = true;
        self
    }

    /// Gives a TCP service a port on this workload's address: `NAMESPACE/SERVICE:PORT`, and the number.
    #[must_use]
    pub fn upstream(mut self, service_port: &str, port: u16) -> Self {
        self.upstreams.push(format!("{service_port}={{address}}:{port}"));
        self
    }

    /// The application calls this URL through its sidecar, for each request that it answers.
    #[must_use]
    pub fn calling(mut self, url: &str) -> Self {
        self.calls.push(url.to_owned());
        self
    }

    /// Joins with this token in place of one that is made now; for weft-proxy.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Its sidecar may write access logs into this directory.
    #[must_use]
    pub fn logging_into(mut self, dir: &Path) -> Self {
        self.access_log_dir = Some(dir.to_owned());
        self
    }

    /// Which proxy stands beside it.
    #[must_use]
    pub fn beside(mut self, sidecar: Sidecar) -> Self {
        self.sidecar = sidecar;
        self
    }

    /// Starts application and sidecar, and waits until the sidecar has its configuration.
    ///
    /// # Errors
    /// When a program is missing, the join is refused, or the sidecar does not become ready.
    pub async fn start(self) -> anyhow::Result<Workload> {
        let mesh = &mut *self.mesh;
        let address = mesh.next_address();
        let (namespace, service) = self.service.split_once('/').unwrap_or(("default", &self.service));
        let name = self.name.unwrap_or_else(|| format!("{service}-{}", self.version));
        let mut workload = Workload {
            id: format!("{namespace}/{name}"),
            service: self.service.clone(),
            address,
            sidecar: self.sidecar,
            identity_dir: mesh.dir().join(&name),
            app_ports: self.app_ports,
            flags: Vec::new(),
            app: None,
            keep: None,
            proxy: None,
        };
        if self.serves {
            workload.start_app(mesh, service, &self.version, &self.calls)?;
        }
        let upstreams: Vec<String> =
            self.upstreams.iter().map(|text| text.replace("{address}", &address.to_string())).collect();
        workload.flags = workload.flags(&name, &self.version, &upstreams);
        workload.flags.extend(self.access_log_dir.map(|dir| format!("--access-log-dir={}", dir.display())));
        if self.is_client {
            workload.flags.retain(|flag| !flag.starts_with("--inbound="));
            workload.flags.push("--client".to_owned());
        }
        match self.sidecar {
            Sidecar::Weft => {
                let token = match self.token {
                    Some(token) => token,
                    None => mesh.token(&workload.service).await?.token,
                };
                workload.start_weft(mesh, &format!("{name}-weft"), Some(&token))?;
            }
            Sidecar::Envoy => workload.start_envoy(mesh, &name).await?,
        }
        workload.wait_until_ready().await?;
        Ok(workload)
    }
}

/// A workload that runs.
#[derive(Debug)]
pub struct Workload {
    id: String,
    service: String,
    address: Ipv4Addr,
    sidecar: Sidecar,
    identity_dir: PathBuf,
    app_ports: Vec<(&'static str, u16)>,
    flags: Vec<String>,
    app: Option<Process>,
    keep: Option<Process>,
    proxy: Option<Process>,
}

impl Workload {
    /// `NAMESPACE/NAME`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its name without the namespace, as the application tells it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.id.split_once('/').map_or(&self.id, |(_, name)| name)
    }

    /// The SPIFFE identity that its service has.
    #[must_use]
    pub fn spiffe(&self) -> String {
        let (namespace, service) = self.service.split_once('/').unwrap_or(("default", &self.service));
        format!("spiffe://mesh.local/ns/{namespace}/svc/{service}")
    }

    /// The address that is its own.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The sidecar's listener for other workloads.
    #[must_use]
    pub fn inbound(&self) -> SocketAddr {
        (self.address, INBOUND).into()
    }

    /// The sidecar's listener for its application's calls.
    #[must_use]
    pub fn outbound(&self) -> SocketAddr {
        (self.address, OUTBOUND).into()
    }

    /// `http://…` of the sidecar's admin endpoint.
    #[must_use]
    pub fn admin(&self) -> String {
        format!("http://{}:{ADMIN}", self.address)
    }

    /// Calls as its application makes them, through its sidecar.
    #[must_use]
    pub fn calls(&self) -> Calls {
        Calls::through(self.outbound())
    }

    /// `http://…` of the application itself, past the sidecar.
    #[must_use]
    pub fn app(&self) -> String {
        format!("http://127.0.0.1:{}", self.port_of("http"))
    }

    /// Where its application listens for a port of the service, on 127.0.0.1.
    #[must_use]
    pub fn port_of(&self, name: &str) -> u16 {
        self.app_ports.iter().find(|(known, _)| *known == name).map_or(0, |(_, number)| *number)
    }

    /// Key, certificate and bundle of the sidecar.
    #[must_use]
    pub fn identity_dir(&self) -> &Path {
        &self.identity_dir
    }

    /// The value of a statistic of the sidecar, by its whole name; zero when there is none.
    ///
    /// # Errors
    /// When the admin endpoint does not answer.
    pub async fn stat(&self, name: &str) -> anyhow::Result<u64> {
        let answer = Calls::direct().get(&format!("{}/stats", self.admin())).await?;
        let found = answer.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        Ok(found.and_then(|value| value.trim().parse().ok()).unwrap_or(0))
    }

    /// Takes the workload out of the mesh as an orchestrator does: goodbye, then the end of its processes.
    ///
    /// # Errors
    /// When a process does not end in time.
    pub async fn leave(mut self) -> anyhow::Result<()> {
        match self.sidecar {
            Sidecar::Weft => {
                if let Some(proxy) = self.proxy.take() {
                    proxy.end(END).await?;
                }
            }
            Sidecar::Envoy => {
                // Envoy knows no goodbye: the process beside it says it. Then Envoy takes what is on its way.
                if let Some(keep) = self.keep.take() {
                    keep.end(END).await?;
                }
                tokio::time::sleep(WORD_GETS_AROUND).await;
                Calls::direct().post(&format!("{}/drain_listeners?graceful", self.admin()), "").await?;
                tokio::time::sleep(WORD_GETS_AROUND).await;
                if let Some(proxy) = self.proxy.take() {
                    proxy.end(END).await?;
                }
            }
        }
        Ok(())
    }

    /// Restarts what says goodbye, as a service manager does: weft-proxy, or what keeps Envoy's identity. Both find the
    /// identity of the first start.
    ///
    /// # Errors
    /// When a process does not end, or the sidecar does not become ready again.
    pub async fn restart(&mut self, mesh: &Mesh) -> anyhow::Result<()> {
        match self.sidecar {
            Sidecar::Weft => {
                if let Some(proxy) = self.proxy.take() {
                    proxy.end(END).await?;
                }
                self.start_weft(mesh, &format!("{}-weft-again", self.name()), None)?;
            }
            Sidecar::Envoy => {
                if let Some(keep) = self.keep.take() {
                    keep.end(END).await?;
                }
                self.keep = Some(self.keep_identity(mesh)?);
            }
        }
        self.wait_until_ready().await
    }

    /// Ends the application; its sidecar stays.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn end_app(&mut self) -> anyhow::Result<()> {
        if let Some(app) = self.app.take() {
            app.end(END).await?;
        }
        Ok(())
    }

    /// Ends what renews Envoy's certificate; Envoy stays.
    ///
    /// # Errors
    /// When there is nothing of the kind.
    pub fn stop_renewing(&mut self) -> anyhow::Result<()> {
        self.keep.take().context("nothing renews it")?.kill();
        Ok(())
    }

    /// Kills the sidecar at once; the application stays.
    pub fn kill_proxy(&mut self) {
        for process in [self.proxy.take(), self.keep.take()].into_iter().flatten() {
            process.kill();
        }
    }

    /// Kills everything at once, as a machine that loses power does.
    pub fn kill(&mut self) {
        for process in [self.proxy.take(), self.keep.take(), self.app.take()].into_iter().flatten() {
            process.signal(Signal::KILL);
        }
    }

    /// What the proxy has said so far.
    #[must_use]
    pub fn proxy_log(&self) -> String {
        self.proxy.as_ref().map(Process::log).unwrap_or_default()
    }

    fn start_app(
        &mut self,
        mesh: &Mesh,
        service: &str,
        version: &str,
        calls: &[String],
    ) -> anyhow::Result<()> {
        let (http, grpc, tcp) = (free_port()?, free_port()?, free_port()?);
        self.app_ports = vec![("http", http), ("h2", http), ("grpc", grpc), ("tcp", tcp)];
        let outbound = self.outbound();
        let app =
            Process::start(mesh.dir(), &format!("{}-app", self.name()), &program::ours("weft-demo")?, |c| {
                c.args(["serve", "--service", service, "--version", version, "--workload", self.name()]);
                c.args(["--http", &format!("127.0.0.1:{http}"), "--grpc", &format!("127.0.0.1:{grpc}")]);
                c.args(["--tcp", &format!("127.0.0.1:{tcp}"), "--sidecar", &outbound.to_string()]);
                c.args(calls.iter().map(|url| format!("--call={url}")));
            })?;
        self.app = Some(app);
        Ok(())
    }

    /// What `weft-proxy` and `weft proxy bootstrap` take alike.
    fn flags(&self, name: &str, version: &str, upstreams: &[String]) -> Vec<String> {
        let mut flags = vec![
            format!("--name={name}"),
            format!("--address={}", self.address),
            format!("--inbound={}", self.inbound()),
            format!("--outbound={}", self.outbound()),
            format!("--admin-listen={}:{ADMIN}", self.address),
            format!("--label=version={version}"),
        ];
        flags.extend(self.app_ports.iter().map(|(port, number)| format!("--app-port={port}={number}")));
        flags.extend(upstreams.iter().map(|upstream| format!("--upstream={upstream}")));
        flags
    }

    /// With a token it joins; without, it finds the identity of an earlier start.
    fn start_weft(&mut self, mesh: &Mesh, process: &str, token: Option<&str>) -> anyhow::Result<()> {
        let program = mesh.proxies_age().program("weft-proxy")?;
        let proxy = Process::start(mesh.dir(), process, &program, |c| {
            c.arg("run").envs(token.map(|token| ("WEFT_JOIN", token)));
            c.arg("--identity-dir").arg(&self.identity_dir);
            c.args(["--workers", "1", "--log-format", "text"]).args(&self.flags);
        })?;
        self.proxy = Some(proxy);
        Ok(())
    }

    async fn start_envoy(&mut self, mesh: &Mesh, name: &str) -> anyhow::Result<()> {
        let (api, token_file) = mesh.access();
        let program = mesh.proxies_age().program("weft")?;
        let bootstrap = Process::start(mesh.dir(), &format!("{name}-bootstrap"), &program, |c| {
            c.args(["--api", &api]).arg("--token-file").arg(token_file);
            c.args(["proxy", "bootstrap", "--envoy", "--service", &self.service, "--out"]);
            c.arg(&self.identity_dir).args(&self.flags);
        })?;
        let log = bootstrap.log();
        let status = bootstrap.ended(START).await?;
        anyhow::ensure!(status.success(), "weft proxy bootstrap failed ({status}): {log}");
        self.keep = Some(self.keep_identity(mesh)?);
        self.proxy =
            Some(Process::start(mesh.dir(), &format!("{name}-envoy"), &program::envoy()?, |command| {
                command.arg("-c").arg(self.identity_dir.join("envoy.yaml"));
                envoy_flags(command);
            })?);
        Ok(())
    }

    fn keep_identity(&self, mesh: &Mesh) -> anyhow::Result<Process> {
        let name = format!("{}-keep", self.name());
        let program = mesh.proxies_age().program("weft-proxy")?;
        Process::start(mesh.dir(), &name, &program, |command| {
            command
                .args(["join", "--keep", "--log-format", "text", "--identity-dir"])
                .arg(&self.identity_dir);
        })
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let calls = Calls::direct();
        let ready = format!("{}/ready", self.admin());
        let app = self.app.is_some().then(|| format!("{}/healthz", self.app()));
        until(&format!("{} is ready", self.id), START, async || {
            for process in [&mut self.app, &mut self.keep, &mut self.proxy].into_iter().flatten() {
                process.check()?;
            }
            for url in app.iter().chain([&ready]) {
                let answer = calls.get(url).await?;
                anyhow::ensure!(answer.status == 200, "{url}: {} {}", answer.status, answer.body.trim());
            }
            Ok(())
        })
        .await
    }
}

/// Several Envoys share the machine: one thread each, and no shared memory for hot restarts.
pub fn envoy_flags(command: &mut Command) {
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]);
    // What drains should be gone while the test still looks.
    command.args(["--drain-time-s", "2", "--parent-shutdown-time-s", "3"]);
}
