//! A control plane process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use weft_api::client::ApiClient;

use super::program::clock_off_by;
use super::{Age, Etcd, Machine, Place, Process, until};

const START: Duration = Duration::from_secs(30);
const END: Duration = Duration::from_secs(15);

/// What a control plane is started with; the same after a restart.
#[derive(Debug)]
pub struct ControlPlane {
    name: String,
    dir: PathBuf,
    data: PathBuf,
    address: Ipv4Addr,
    etcd: Option<String>,
    place: Place,
    flags: Vec<String>,
    age: Age,
    clock: Option<String>,
    process: Option<Process>,
}

impl ControlPlane {
    /// Describes one; nothing runs yet.
    #[must_use]
    pub fn new(dir: &Path, address: Ipv4Addr, etcd: Option<String>, flags: Vec<String>) -> Self {
        let (data, name, place) = (dir.join("data"), "control-plane".to_owned(), Place::here());
        let dir = dir.to_owned();
        let (age, clock, process) = (Age::Now, None, None);
        let mut described = Self { name, dir, data, address, etcd, place, flags, age, clock, process };
        described.flags.extend([
            format!("--api-listen={}", described.at(7400)),
            format!("--xds-listen={}", described.at(7401)),
            format!("--admin-listen={}", described.at(7402)),
        ]);
        described
    }

    /// One on a machine of its own, which listens as `flags` say and as it does by default.
    #[must_use]
    pub fn on(machine: &Machine, dir: &Path, flags: &[&str]) -> Self {
        Self {
            place: machine.place().clone(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            ..Self::new(dir, Ipv4Addr::LOCALHOST, None, Vec::new())
        }
    }

    /// The replica of that number, with data of its own.
    #[must_use]
    pub fn replica(mut self, number: usize) -> Self {
        self.name = format!("control-plane-{number}");
        self.data = self.dir.join(format!("data-{number}"));
        self
    }

    /// Says more than where it listens.
    #[must_use]
    pub fn with_flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Its machine's clock is off by so much: `-1h`.
    #[must_use]
    pub fn with_clock(mut self, offset: Option<String>) -> Self {
        self.clock = offset;
        self
    }

    /// Its machine's clock is off by so much from the next start on.
    pub fn set_clock(&mut self, offset: &str) {
        self.clock = Some(offset.to_owned());
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let program = self.age.program("weft-control-plane")?;
        let clock = self.clock.as_deref().map(clock_off_by).transpose()?;
        let process = Process::start_at(&self.place, &self.dir, &self.name, &program, |command| {
            command.envs(clock.into_iter().flatten()).env("RUST_LOG", "info").args(["--log-format", "text"]);
            command.arg("--data-dir").arg(&self.data);
            if let Some(etcd) = &self.etcd {
                command.args(["--etcd", etcd]);
            }
            command.args(&self.flags);
        })?;
        let ready = format!("http://{}/ready", self.at(7402));
        let process = self.process.insert(process);
        until("the control plane is ready", START, async || {
            process.check()?;
            self.place.get(&ready).await
        })
        .await
    }

    /// Runs it for something else than serving, on the same store; what it says.
    ///
    /// # Errors
    /// When it cannot be run or refuses.
    pub async fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut command = tokio::process::Command::new(self.age.program("weft-control-plane")?);
        command.arg("--data-dir").arg(&self.data);
        if let Some(etcd) = &self.etcd {
            command.args(["--etcd", etcd]);
        }
        let output = command.args(args).output().await?;
        let words = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "weft-control-plane {args:?}: {words}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// When it does not run, or does not end in time.
    pub async fn end(&mut self) -> anyhow::Result<()> {
        let process = self.process.take().context("the control plane does not run")?;
        process.end(END).await.map(drop)
    }

    /// Is a program of that age from the next start on.
    pub fn change_to(&mut self, age: Age) {
        self.age = age;
    }

    /// Keeps its state in this etcd from the next start on.
    pub fn move_to(&mut self, etcd: &Etcd) {
        self.etcd = Some(etcd.endpoint().to_owned());
    }

    /// A client of its API with the operator's token.
    ///
    /// # Errors
    /// When the token cannot be read.
    pub fn client(&self) -> anyhow::Result<ApiClient> {
        let token = self.token_file();
        let token = std::fs::read_to_string(&token).with_context(|| token.display().to_string())?;
        Ok(ApiClient::try_new(&self.api(), token.trim(), &[])?)
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    /// When it had ended by itself before.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let mut process = self.process.take().context("the control plane does not run")?;
        process.check()?;
        process.kill();
        Ok(())
    }

    /// `http://…` of the REST API.
    #[must_use]
    pub fn api(&self) -> String {
        format!("http://{}", self.at(7400))
    }

    /// `http://…` of `/ready` and the like.
    #[must_use]
    pub fn admin(&self) -> String {
        format!("http://{}", self.at(7402))
    }

    /// Where xDS and join are.
    #[must_use]
    pub fn xds(&self) -> SocketAddr {
        self.at(7401)
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The file with the operator's token.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.data.join("operator.token")
    }

    fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }
}
