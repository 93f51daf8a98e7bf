//! What the local mesh consists of, and how it is brought up.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use weft_api::client::{ApiClient, ApplyOptions, ClientError};
use weft_api::flags::TokenSource;
use weft_api::rest::{CHANGED_MEANWHILE, TokenRequest};

use super::binaries;
use super::processes::Processes;
use crate::access;
use crate::args::{BootstrapArgs, Up};
use crate::commands::bootstrap;

/// The policies of the local mesh: shipped examples, as they are.
const POLICIES: [&str; 3] = [
    include_str!("../../../policies/examples/shop.yaml"),
    include_str!("../../../policies/examples/catalog-split.yaml"),
    include_str!("../../../policies/examples/local-mesh.yaml"),
];

const API: &str = "http://127.0.0.1:7400";
const LISTENERS: [u16; 3] = [7400, 7401, 7402];

/// One workload: a demo service (or the load) with a sidecar.
struct DemoWorkload {
    service: &'static str,
    version: &'static str,
    /// Last byte of its 127.7.0.N, where its sidecar listens.
    host: u8,
    beside_envoy: bool,
    calls: &'static [&'static str],
}

const WORKLOADS: [DemoWorkload; 6] = [
    DemoWorkload { service: "payments", version: "v1", host: 5, beside_envoy: false, calls: &[] },
    DemoWorkload { service: "catalog", version: "v1", host: 3, beside_envoy: false, calls: &[] },
    DemoWorkload { service: "catalog", version: "v2", host: 4, beside_envoy: true, calls: &[] },
    DemoWorkload {
        service: "cart",
        version: "v1",
        host: 2,
        beside_envoy: false,
        calls: &["http://payments/"],
    },
    DemoWorkload {
        service: "web",
        version: "v1",
        host: 1,
        beside_envoy: true,
        calls: &["http://cart/", "http://catalog/"],
    },
    // The load may call web; that it tries payments too shows the Deny.
    DemoWorkload { service: "load", version: "v1", host: 9, beside_envoy: false, calls: &[] },
];

impl DemoWorkload {
    fn name(&self) -> String {
        format!("{}-{}", self.service, self.version)
    }

    fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, 7, 0, self.host)
    }

    fn listener(&self, port: u16) -> SocketAddr {
        (self.address(), port).into()
    }

    /// What the application serves: the service's port, the flag of the demo, the port on 127.0.0.1.
    fn faces(&self) -> Vec<(&'static str, &'static str, u16)> {
        let at = |base: u16| base + u16::from(self.host);
        match self.service {
            "load" => vec![],
            "catalog" => vec![("http", "--http", at(18_080)), ("grpc", "--grpc", at(19_080))],
            "payments" => vec![("http", "--http", at(18_080)), ("ledger", "--tcp", at(19_080))],
            _ => vec![("http", "--http", at(18_080))],
        }
    }

    fn app_ports(&self) -> Vec<String> {
        self.faces().into_iter().map(|(name, _, port)| format!("{name}={port}")).collect()
    }
}

/// A mesh that runs.
pub struct LocalMesh {
    pub client: ApiClient,
    /// What it is, in a line.
    pub title: String,
    /// What to try next.
    pub hints: Vec<String>,
}

impl LocalMesh {
    /// Starts everything and says what it is doing.
    pub async fn start(args: &Up, processes: &mut Processes) -> anyhow::Result<Self> {
        let envoy = binaries::find_envoy(args.envoy.as_deref())?;
        ensure_free()?;
        say("starting the control plane");
        processes.start("control-plane", &binaries::find("weft-control-plane")?, |command| {
            command.arg("--data-dir").arg(&args.data_dir);
        })?;
        let client = control_plane(API, &args.data_dir, processes).await?;
        apply_to_a_new_mesh(args, &client).await?;
        for workload in &WORKLOADS {
            let beside = envoy.as_deref().filter(|_| workload.beside_envoy);
            let sidecar = if beside.is_some() { "Envoy" } else { "weft-proxy" };
            say(&format!("starting {} beside {sidecar}", workload.name()));
            start_application(processes, workload)?;
            match beside {
                Some(envoy) => start_envoy(args, processes, &client, workload, envoy).await?,
                None => start_weft_proxy(args, processes, &client, workload).await?,
            }
        }
        say("waiting until all sidecars have their configuration");
        if !in_sync(&client, processes, WORKLOADS.len()).await? {
            say("not all sidecars are in sync after 30 s; the screen shows which");
        }
        Ok(Self { client, title: title(envoy.is_some()), hints: hints() })
    }
}

fn say(what: &str) {
    eprintln!("weft up: {what}");
}

/// A port that is taken is the most common reason for a mesh that does not start: say so at once.
fn ensure_free() -> anyhow::Result<()> {
    for port in LISTENERS {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
            format!("127.0.0.1:{port} is taken: is another mesh running here? End it, then try again")
        })?;
    }
    Ok(())
}

/// Waits until the control plane of that data directory answers.
pub async fn control_plane(
    api: &str,
    data_dir: &Path,
    processes: &mut Processes,
) -> anyhow::Result<ApiClient> {
    let token = data_dir.join("operator.token");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        processes.check()?;
        if let Ok(token) = access::read(&token) {
            let client = ApiClient::try_new(api, &token, &[])?;
            if client.proxies().await.is_ok() {
                return Ok(client);
            }
        }
        if Instant::now() > deadline {
            bail!("the control plane is not ready after 30 s: see {}", processes.logs().display());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A mesh that ran before has what its user made of it.
async fn apply_to_a_new_mesh(args: &Up, client: &ApiClient) -> anyhow::Result<()> {
    let options = ApplyOptions { if_revision: Some(0), ..ApplyOptions::default() };
    match client.apply(&POLICIES.join("---\n"), &options).await {
        Ok(_) => say("applied shop.yaml, catalog-split.yaml and local-mesh.yaml of policies/examples"),
        Err(ClientError::Refused(problem)) if problem.code == CHANGED_MEANWHILE => say(&format!(
            "the policies are those that this mesh had; to begin anew, remove {}",
            args.data_dir.display()
        )),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn start_application(processes: &mut Processes, workload: &DemoWorkload) -> anyhow::Result<()> {
    let demo = binaries::find("weft-demo")?;
    let sidecar = workload.listener(15_001).to_string();
    processes.start(&workload.name(), &demo, |command| {
        if workload.service == "load" {
            command.args(["load", "--rate", "40", "--url", "http://web/", "--url", "http://web/"]);
            command.args(["--url", "http://web/", "--url", "http://payments/"]);
        } else {
            command.args(["serve", "--service", workload.service, "--version", workload.version]);
            for (_, face, port) in workload.faces() {
                command.args([face, &format!("127.0.0.1:{port}")]);
            }
            for url in workload.calls {
                command.args(["--call", url]);
            }
        }
        command.args(["--sidecar", &sidecar]);
    })
}

/// A token, also where the user of an earlier mesh has deleted the Service: its workloads start, and wait for it.
async fn token(client: &ApiClient, workload: &DemoWorkload) -> anyhow::Result<String> {
    let request = TokenRequest {
        service: format!("shop/{}", workload.service),
        allow_labels: vec!["version=*".to_owned()],
        ahead: true,
        ..TokenRequest::default()
    };
    Ok(client.create_token(&request).await?.token)
}

async fn start_weft_proxy(
    args: &Up,
    processes: &mut Processes,
    client: &ApiClient,
    workload: &DemoWorkload,
) -> anyhow::Result<()> {
    let token = token(client, workload).await?;
    let identity = identity_dir(args, workload)?;
    processes.start(&format!("{}-proxy", workload.name()), &binaries::find("weft-proxy")?, |command| {
        command.arg("run").env("WEFT_JOIN", token).arg("--identity-dir").arg(identity);
        command.args(["--name", &workload.name(), "--workers", "1"]);
        command.args(["--address", &workload.address().to_string()]);
        command.args(["--inbound", &workload.listener(15_006).to_string()]);
        command.args(["--outbound", &workload.listener(15_001).to_string()]);
        command.args(["--admin-listen", &workload.listener(15_000).to_string()]);
        command.args(["--label", &format!("version={}", workload.version)]);
        for app_port in workload.app_ports() {
            command.args(["--app-port", &app_port]);
        }
    })
}

async fn start_envoy(
    args: &Up,
    processes: &mut Processes,
    client: &ApiClient,
    workload: &DemoWorkload,
    envoy: &Path,
) -> anyhow::Result<()> {
    let out = identity_dir(args, workload)?;
    let bootstrap = BootstrapArgs {
        envoy: true,
        service: None,
        token: TokenSource::default(),
        name: Some(workload.name().parse()?),
        out: out.clone(),
        merge: None,
        clusters_only: false,
        client: false,
        address: Some(workload.address().into()),
        inbound: workload.listener(15_006),
        outbound: workload.listener(15_001),
        app_ports: workload.app_ports(),
        labels: vec![format!("version={}", workload.version)],
        locality: None,
        upstreams: Vec::new(),
        access_log_dir: None,
        admin_listen: workload.listener(15_000),
        control_plane: None,
        keep: false,
    };
    let token = token(client, workload).await?;
    let file = bootstrap::write(Some(&token), &bootstrap, None).await?;
    processes.start(&format!("{}-keep", workload.name()), &binaries::find("weft-proxy")?, |command| {
        command.args(["join", "--keep", "--identity-dir"]).arg(&out);
    })?;
    processes.start(&format!("{}-envoy", workload.name()), envoy, |command| {
        command.arg("-c").arg(file).args(["--concurrency", "1", "--log-level", "warning"]);
        // Several Envoys share this machine: no shared memory for hot restarts.
        command.arg("--disable-hot-restart");
    })
}

/// Each run joins anew: an identity of an earlier run would belong to a workload that the mesh may have forgotten.
fn identity_dir(args: &Up, workload: &DemoWorkload) -> anyhow::Result<PathBuf> {
    let dir = args.data_dir.join("workloads").join(workload.name());
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    }
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    Ok(dir)
}

/// Waits until so many sidecars have everything; false when some have not within 30 s.
pub async fn in_sync(client: &ApiClient, processes: &mut Processes, sidecars: usize) -> anyhow::Result<bool> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        processes.check()?;
        let proxies = client.proxies().await?;
        let synced = |proxy: &&weft_api::rest::ProxyStatus| proxy.sync == weft_api::rest::Sync::Synced;
        if proxies.items.iter().filter(synced).count() >= sidecars {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn title(with_envoy: bool) -> String {
    let title = if with_envoy {
        "Weft: a local mesh, all of it mutual TLS"
    } else {
        "Weft: a local mesh without Envoy (`make up` gets one)"
    };
    title.to_owned()
}

fn hints() -> Vec<String> {
    let weft = std::env::args().next().unwrap_or_else(|| "weft".to_owned());
    let lines = [
        "Try next, in another terminal; README.md says more. Ctrl-C ends the mesh.",
        // The same picture and more, in a browser.
        &format!("  {weft} ui"),
        // The tree of calls behind one request, as the load sends it.
        "  curl -s -H 'Host: web' http://127.7.0.9:15001/",
        // Half of catalog's requests to version 2.
        &format!("  {weft} apply -f policies/examples/canary-50.yaml --wait"),
        // Version 2 fails; without a query it is well again.
        "  curl -s 'http://127.0.0.1:18084/fault?status=503&rate=0.3'",
    ];
    lines.map(str::to_owned).into()
}
