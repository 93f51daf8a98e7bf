//! A sidecar's inbound listener, as a peer with any certificate finds it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{Presented, dial};

const LIMIT: Duration = Duration::from_secs(10);

/// The HTTP port of one workload's inbound listener.
#[derive(Clone, Debug)]
pub struct Door {
    address: SocketAddr,
    server_name: String,
}

/// A connection through it that stays open.
#[derive(Debug)]
pub struct Visit(TlsStream<TcpStream>);

impl Door {
    /// The listener at an address, for the service `NAMESPACE/SERVICE`.
    #[must_use]
    pub fn new(address: SocketAddr, service: &str) -> Self {
        let (namespace, name) = service.split_once('/').unwrap_or(("default", service));
        Self { address, server_name: format!("http.{name}.{namespace}.mesh.local") }
    }

    /// Connects, asks once, and stays connected.
    ///
    /// # Errors
    /// When there is no answer of 200: a server that refuses the certificate says so on the first read.
    pub async fn enter(&self, presented: Option<&Presented>) -> anyhow::Result<Visit> {
        let mut visit = Visit(dial(self.address, &self.server_name, b"http/1.1", presented).await?);
        visit.ask().await?;
        Ok(visit)
    }

    /// The first bytes that come back for a request on a new connection.
    ///
    /// # Errors
    /// When the connection is refused, or ends without a word.
    pub async fn ask(&self, presented: Option<&Presented>) -> anyhow::Result<String> {
        let mut stream = dial(self.address, &self.server_name, b"http/1.1", presented).await?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: door\r\nconnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await.context("no end")??;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

impl Visit {
    /// Asks on the open connection.
    ///
    /// # Errors
    /// When there is no answer of 200.
    pub async fn ask(&mut self) -> anyhow::Result<()> {
        self.0.write_all(b"GET /healthz HTTP/1.1\r\nhost: door\r\n\r\n").await?;
        let mut answer = vec![0; 16 * 1024];
        let read = tokio::time::timeout(LIMIT, self.0.read(&mut answer)).await.context("no answer")??;
        let text = String::from_utf8_lossy(&answer[..read]);
        anyhow::ensure!(text.starts_with("HTTP/1.1 200"), "answered {text:.40}");
        Ok(())
    }

    /// Waits until the other side ends the connection; says whether it did so in time.
    pub async fn ends_within(mut self, limit: Duration) -> bool {
        let mut rest = [0; 1];
        let end = async { while matches!(self.0.read(&mut rest).await, Ok(1)) {} };
        tokio::time::timeout(limit, end).await.is_ok()
    }
}
