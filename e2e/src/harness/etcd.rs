//! A real etcd for one mesh.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use super::{Process, program, until};

const START: Duration = Duration::from_secs(30);

/// A server with one member.
#[derive(Debug)]
pub struct Etcd {
    process: Process,
    endpoint: String,
}

impl Etcd {
    /// Starts it with its data in `dir`.
    ///
    /// # Errors
    /// When etcd is missing or does not become ready.
    pub async fn start(dir: &Path, address: Ipv4Addr) -> anyhow::Result<Self> {
        let client = format!("http://{address}:2379");
        let peer = format!("http://{address}:2380");
        let process = Process::start(dir, "etcd", &program::etcd()?, |command| {
            command.args(["--name", "test", "--data-dir"]).arg(dir.join("etcd"));
            command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
            command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            command.args(["--initial-cluster", &format!("test={peer}")]);
        })?;
        let mut etcd = Self { process, endpoint: client };
        let health = format!("{}/health", etcd.endpoint);
        let calls = super::Calls::direct();
        until("etcd is healthy", START, async || {
            etcd.process.check()?;
            let answer = calls.get(&health).await?;
            anyhow::ensure!(answer.body.contains("true"), "{}", answer.body);
            Ok(())
        })
        .await?;
        Ok(etcd)
    }

    /// Where clients find it.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        self.process.kill_now();
    }
}
