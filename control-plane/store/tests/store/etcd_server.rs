//! A real etcd server on loopback, with free ports and a directory of its own.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use weft_store::{EtcdConfig, EtcdStore, EtcdTls};

const PROGRAM: &str = "/usr/bin/etcd";

/// Starts etcd, says its process id, and kills it when stdin closes: also if the test is killed.
const KEEPER: &str = r#""$@" & echo $!; read -r _; kill -9 $!"#;

/// A server that lives until dropped. Stopping is always kill -9.
pub struct EtcdServer {
    directory: TempDir,
    client_port: u16,
    peer_port: u16,
    tls: Option<ServerTls>,
    keeper: Option<Child>,
}

/// PEM texts for a server that also asks its clients for a certificate.
pub struct ServerTls {
    pub ca: String,
    pub server: (String, String),
    pub client: (String, String),
}

impl EtcdServer {
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    pub async fn start_with(tls: Option<ServerTls>) -> Self {
        assert!(
            Path::new(PROGRAM).exists(),
            "{PROGRAM} is missing, and these tests run against a real etcd: apt-get install etcd-server"
        );
        let mut server = Self {
            directory: TempDir::new().unwrap(),
            client_port: free_port(),
            peer_port: free_port(),
            tls,
            keeper: None,
        };
        server.write_tls();
        server.run();
        server.wait_until_ready().await;
        server
    }

    /// The endpoint for clients.
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.client_port)
    }

    /// A configuration that reaches it.
    pub fn config(&self) -> EtcdConfig {
        let mut config = EtcdConfig::new([self.endpoint()]);
        config.tls = self.tls.as_ref().map(|tls| EtcdTls {
            ca_pem: tls.ca.clone().into_bytes(),
            identity_pem: Some((tls.client.0.clone().into_bytes(), tls.client.1.clone().into_bytes())),
            server_name: None,
        });
        config
    }

    /// Kills the server.
    pub fn stop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            keeper.wait().unwrap();
        }
    }

    /// Starts it again with the same ports and data.
    pub async fn restart(&mut self) {
        self.stop();
        self.run();
        self.wait_until_ready().await;
    }

    /// Starts it again with the same ports and nothing in it.
    pub async fn restart_empty(&mut self) {
        self.stop();
        std::fs::remove_dir_all(self.directory.path().join("data")).unwrap();
        self.restart().await;
    }

    fn run(&mut self) {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{}", self.client_port);
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let at = |name: &str| self.directory.path().join(name).display().to_string();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEPER, "keeper", PROGRAM]);
        command.args(["--name", "test", "--data-dir", &at("data")]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("test={peer}"), "--auth-token-ttl", "2"]);
        if self.tls.is_some() {
            command.args(["--cert-file", &at("server.pem"), "--key-file", &at("server.key")]);
            command.args(["--trusted-ca-file", &at("ca.pem"), "--client-cert-auth"]);
        }
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut keeper = command.spawn().unwrap();
        let mut pid = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        self.keeper = Some(keeper);
    }

    async fn wait_until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut config = self.config();
        config.request_timeout = Duration::from_secs(1);
        loop {
            match EtcdStore::connect(config.clone()).await {
                Ok(_) => return,
                // With authentication on, this is as ready as it gets.
                Err(error) if error.to_string().contains("user name is empty") => return,
                Err(error) if Instant::now() > deadline => {
                    let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                    panic!("etcd did not start: {error}\n{log}");
                }
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn write_tls(&self) {
        if let Some(tls) = &self.tls {
            let write =
                |name: &str, text: &str| std::fs::write(self.directory.path().join(name), text).unwrap();
            write("ca.pem", &tls.ca);
            write("server.pem", &tls.server.0);
            write("server.key", &tls.server.1);
        }
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
