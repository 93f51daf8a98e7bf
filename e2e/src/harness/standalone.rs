//! One proxy of either kind with a bootstrap file of the test's own, and no control plane.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use super::{Calls, Process, Sidecar, envoy_program, free_port, ours};

/// A running proxy. It ends when dropped.
#[derive(Debug)]
pub struct Standalone {
    /// Where its listener takes connections.
    pub address: SocketAddr,
    admin: u16,
    _process: Process,
    _dir: tempfile::TempDir,
}

impl Standalone {
    /// Starts a proxy; `bootstrap` is given the ports of its admin endpoint and of its listener.
    ///
    /// # Errors
    /// When the program is missing or does not start.
    pub fn start(sidecar: Sidecar, bootstrap: impl FnOnce(u16, u16) -> String) -> anyhow::Result<Self> {
        let (port, admin, dir) = (free_port()?, free_port()?, tempfile::tempdir()?);
        let file = dir.path().join("bootstrap.yaml");
        std::fs::write(&file, bootstrap(admin, port))?;
        let process = start(sidecar, dir.path(), &file)?;
        Ok(Self { address: (Ipv4Addr::LOCALHOST, port).into(), admin, _process: process, _dir: dir })
    }

    /// Its statistics, a line each: `name: value`.
    ///
    /// # Errors
    /// When the admin endpoint does not answer.
    pub async fn statistics(&self) -> anyhow::Result<Vec<String>> {
        let answer = Calls::direct().get(&format!("http://127.0.0.1:{}/stats", self.admin)).await?;
        Ok(answer.body.lines().map(str::to_owned).collect())
    }
}

fn start(sidecar: Sidecar, dir: &Path, file: &Path) -> anyhow::Result<Process> {
    match sidecar {
        Sidecar::Envoy => Process::start(dir, "envoy", &envoy_program()?, |command| {
            command.args(["--concurrency", "1", "--disable-hot-restart", "-c"]).arg(file);
        }),
        Sidecar::Weft => Process::start(dir, "weft-proxy", &ours("weft-proxy")?, |command| {
            command.args(["run", "--workers", "1", "-c"]).arg(file);
        }),
    }
}
