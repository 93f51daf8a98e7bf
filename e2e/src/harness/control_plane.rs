//! A control plane process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use weft_api::client::Client;

use super::{Calls, Process, program, until};

const START: Duration = Duration::from_secs(30);

/// What a control plane is started with; the same after a restart.
#[derive(Debug)]
pub struct ControlPlane {
    dir: PathBuf,
    data: PathBuf,
    address: Ipv4Addr,
    etcd: Option<String>,
    flags: Vec<String>,
    process: Option<Process>,
}

impl ControlPlane {
    /// Describes one; nothing runs yet.
    #[must_use]
    pub fn new(dir: &Path, address: Ipv4Addr, etcd: Option<String>, flags: Vec<String>) -> Self {
        Self { dir: dir.to_owned(), data: dir.join("data"), address, etcd, flags, process: None }
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let program = program::ours("weft-control-plane")?;
        let process = Process::start(&self.dir, "control-plane", &program, |command| {
            command.env("RUST_LOG", "info").args(["--log-format", "text"]);
            command.arg("--data-dir").arg(&self.data);
            command.args(["--api-listen", &self.at(7400).to_string()]);
            command.args(["--xds-listen", &self.at(7401).to_string()]);
            command.args(["--admin-listen", &self.at(7402).to_string()]);
            if let Some(etcd) = &self.etcd {
                command.args(["--etcd", etcd]);
            }
            command.args(&self.flags);
        })?;
        let process = self.process.insert(process);
        let ready = format!("http://{}:7402/ready", self.address);
        let calls = Calls::direct();
        until("the control plane is ready", START, async || {
            process.check()?;
            let answer = calls.get(&ready).await?;
            anyhow::ensure!(answer.status == 200, "{}", answer.body);
            Ok(())
        })
        .await
    }

    /// A client of its API with the operator's token.
    ///
    /// # Errors
    /// When the token cannot be read.
    pub fn client(&self) -> anyhow::Result<Client> {
        let token = self.token_file();
        let token = std::fs::read_to_string(&token).with_context(|| token.display().to_string())?;
        Ok(Client::try_new(&self.api(), token.trim(), &[])?)
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

    /// Where xDS and join are.
    #[must_use]
    pub fn xds(&self) -> SocketAddr {
        self.at(7401)
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
