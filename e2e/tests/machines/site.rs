//! Three machines: `alpha` with the control plane, `beta` and `gamma`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tempfile::TempDir;
use weft_e2e::harness::{
    ControlPlane, Machine, MachineNetwork, Process, envoy_flags, envoy_program, ours, process_tails, until,
};

const START: Duration = Duration::from_secs(60);
const OUTBOUND: &str = "127.0.0.1:15001";
const APP: &str = "127.0.0.1:8080";

pub const SERVICES: &str = r"
{apiVersion: weft.dev/v1, kind: Service, metadata: {name: store, namespace: shop}, spec: {ports: [{name: http, port: 80, protocol: HTTP}]}}
---
{apiVersion: weft.dev/v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{name: http, port: 80, protocol: HTTP}]}}
---
{apiVersion: weft.dev/v1, kind: Service, metadata: {name: cart, namespace: shop}, spec: {ports: [{name: http, port: 80, protocol: HTTP}]}}
";

pub struct Site {
    machines: BTreeMap<&'static str, Machine>,
    control_plane: ControlPlane,
    processes: Vec<Process>,
    _wire: MachineNetwork,
    dir: TempDir,
}

impl Site {
    /// Runs a test. When it fails, the ends of all logs are printed.
    pub async fn run(test: impl AsyncFnOnce(&mut Self) -> anyhow::Result<()>) {
        let dir = tempfile::Builder::new().prefix("weft-machines-").tempdir().expect("a directory");
        let path = dir.path().to_owned();
        let ended = async {
            let mut site = Self::start(dir).await?;
            test(&mut site).await.map_err(|error| error.context(process_tails(&path)))
        };
        if let Err(error) = ended.await {
            panic!("{error:#}");
        }
    }

    async fn start(dir: TempDir) -> anyhow::Result<Self> {
        let mut wire = MachineNetwork::start(dir.path()).await?;
        let mut machines = BTreeMap::new();
        for name in ["alpha", "beta", "gamma"] {
            machines.insert(name, wire.machine(name).await?);
        }
        let alpha = &machines["alpha"];
        let advertise = format!("--advertise={}", alpha.address());
        let mut control_plane =
            ControlPlane::on(alpha, dir.path(), &[&advertise, "--api-listen=0.0.0.0:7400"]);
        control_plane.start().await?;
        Ok(Self { machines, control_plane, processes: Vec::new(), _wire: wire, dir })
    }

    pub fn machine(&self, name: &str) -> &Machine {
        &self.machines[name]
    }

    /// Gives the names in a file as /etc/hosts to what runs on the machines from now on.
    pub fn know_hosts(&mut self, hosts: &Path) -> anyhow::Result<()> {
        self.machines.values_mut().try_for_each(|machine| machine.know_hosts(hosts))
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What an operator took from the control plane's machine: the roots and the token.
    pub fn ca(&self) -> PathBuf {
        self.control_plane.data().join("ca.pem")
    }

    pub fn operator_token(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.control_plane.token_file())?.trim().to_owned())
    }

    pub fn api(&self) -> String {
        format!("https://{}:7400", self.machine("alpha").address())
    }

    /// `weft` as an operator on that machine uses it; returns what it printed.
    pub async fn weft(&self, machine: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let (api, ca) = (self.api(), self.ca());
        let access = ["--api", &api, "--ca", ca.to_str().context("path")?];
        let said = self.try_weft(machine, &[&access, arguments].concat(), self.dir()).await?;
        said.map_err(|error| anyhow::anyhow!("weft {arguments:?}: {error}"))
    }

    /// What it printed, or what it said when it failed.
    pub async fn try_weft(
        &self,
        machine: &str,
        arguments: &[&str],
        dir: &Path,
    ) -> anyhow::Result<Result<String, String>> {
        let token = self.operator_token()?;
        let environment = [("WEFT_TOKEN", token.as_str())];
        let place = self.machine(machine).place();
        let output = place.output(&ours("weft")?, arguments, &environment, dir).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
    }

    pub async fn apply(&self, documents: &str) -> anyhow::Result<()> {
        let file = self.dir().join("documents.yaml");
        std::fs::write(&file, documents)?;
        self.weft("alpha", &["apply", "-f", file.to_str().context("path")?]).await.map(drop)
    }

    pub async fn workloads(&self) -> anyhow::Result<Vec<String>> {
        let list = self.weft("gamma", &["proxy", "list", "-o", "json"]).await?;
        let list: Value = serde_json::from_str(&list)?;
        let items = list["items"].as_array().context("no items")?;
        Ok(items.iter().filter_map(|item| item["id"].as_str().map(str::to_owned)).collect())
    }

    /// Calls a service from a machine, through its sidecar, as soon as it is known there.
    pub async fn call(&self, machine: &str, service: &str) -> anyhow::Result<Value> {
        let url = format!("http://{service}/");
        let place = self.machine(machine).place();
        until(&format!("{service} answers"), START, async || {
            Ok(serde_json::from_str(&place.call(&url, Some(OUTBOUND)).await?)?)
        })
        .await
    }

    /// README, "Add a workload".
    pub async fn start_weft_proxy(&mut self, machine: &str, service: &str) -> anyhow::Result<()> {
        let token = self.token_file(machine, service).await?;
        self.start_application(machine, service)?;
        let identity = self.dir().join(format!("{machine}-identity"));
        self.start_process(machine, "proxy", &ours("weft-proxy")?, |command| {
            command.args(["run", "--log-format", "text", "--join-file"]).arg(&token);
            command.arg("--identity-dir").arg(&identity).arg("--app-port=http=8080");
        })?;
        self.is_ready(machine).await
    }

    /// README, beside the Envoy that you have.
    pub async fn start_envoy(&mut self, machine: &str, service: &str) -> anyhow::Result<()> {
        let token = self.token_file(machine, service).await?;
        self.start_application(machine, service)?;
        let out = self.dir().join(format!("{machine}-envoy"));
        let (token, out) = (token.to_str().context("path")?, out.to_str().context("path")?);
        let bootstrap =
            ["proxy", "bootstrap", "--envoy", "--join-file", token, "--out", out, "--app-port=http=8080"];
        let place = self.machine(machine).place();
        let output = place.output(&ours("weft")?, bootstrap, &[], self.dir()).await?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let keep = format!("weft-proxy join --keep --identity-dir {out}");
        ensure!(said.contains(&keep) && said.contains("certificate ends at"), "{said}");
        self.start_process(machine, "keep", &ours("weft-proxy")?, |command| {
            command.args(["join", "--keep", "--log-format", "text", "--identity-dir", out]);
        })?;
        self.start_process(machine, "envoy", &envoy_program()?, |command| {
            command.arg("-c").arg(format!("{out}/envoy.yaml"));
            envoy_flags(command);
        })?;
        self.is_ready(machine).await
    }

    async fn token_file(&self, machine: &str, service: &str) -> anyhow::Result<PathBuf> {
        let file = self.dir().join(format!("{machine}.token"));
        let (service, out) = (format!("shop/{service}"), file.to_str().context("path")?);
        self.weft("alpha", &["token", "create", "--service", &service, "--out", out]).await?;
        Ok(file)
    }

    /// An application that is in no mesh.
    pub fn serve(&mut self, machine: &str, service: &str, http: &str) -> anyhow::Result<()> {
        self.start_process(machine, service, &ours("weft-demo")?, |command| {
            command.args(["serve", "--service", service, "--workload", machine, "--http", http]);
        })
    }

    fn start_application(&mut self, machine: &str, service: &str) -> anyhow::Result<()> {
        self.start_process(machine, "app", &ours("weft-demo")?, |command| {
            command.args(["serve", "--service", service, "--workload", machine, "--http", APP]);
        })
    }

    fn start_process(
        &mut self,
        machine: &str,
        what: &str,
        program: &Path,
        arrange: impl FnOnce(&mut std::process::Command),
    ) -> anyhow::Result<()> {
        let name = format!("{machine}-{what}");
        let place = self.machine(machine).place();
        let process = Process::start_at(place, self.dir(), &name, program, arrange)?;
        self.processes.push(process);
        Ok(())
    }

    async fn is_ready(&mut self, machine: &str) -> anyhow::Result<()> {
        let place = self.machines[machine].place();
        let processes = &mut self.processes;
        until(&format!("the sidecar on {machine} is ready"), START, async || {
            for process in processes.iter_mut() {
                process.check()?;
            }
            place.get("http://127.0.0.1:15000/ready").await?;
            place.get(&format!("http://{APP}/healthz")).await
        })
        .await
    }
}

/// Every address in endpoints, wherever they stand.
pub fn addresses(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("socket_address").and_then(|socket| socket["address"].as_str());
            let own = own.map(str::to_owned).into_iter();
            own.chain(fields.values().flat_map(addresses)).collect()
        }
        Value::Array(items) => items.iter().flat_map(addresses).collect(),
        _ => Vec::new(),
    }
}
