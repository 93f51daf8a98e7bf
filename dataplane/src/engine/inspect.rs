//! What a connection says about itself before a filter chain is chosen.
//!
//! Bytes are read, not peeked at, so that a ClientHello in one-byte segments costs no busy loop; what was read
//! is handed on with the connection.

use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::preface;
use crate::runtime::{Inspection, TransportProtocol};

/// The first record byte of a TLS handshake.
const HANDSHAKE: u8 = 22;
/// A ClientHello that takes more than this is refused, as Envoy's inspector does.
const LONGEST_HELLO: usize = 64 * 1024;

/// A connection and what is known of it.
pub(crate) struct Inspected {
    pub(crate) tcp: TcpStream,
    /// Bytes read so far.
    pub(crate) ahead: Vec<u8>,
    pub(crate) transport: TransportProtocol,
    /// The parsed ClientHello, to go on with the handshake.
    pub(crate) hello: Option<Accepted>,
    pub(crate) server_name: Option<String>,
    pub(crate) protocols: Vec<String>,
}

/// Why a connection ends before it was sorted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectError {
    #[error("connection closed before it said what it is")]
    Closed,
    #[error("not a ClientHello: {0}")]
    BadHello(rustls::Error),
    #[error("ClientHello is longer than 64 KiB")]
    TooLong,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Inspected {
    /// A connection of which nothing was read.
    pub(crate) fn untouched(tcp: TcpStream) -> Self {
        Self {
            tcp,
            ahead: Vec::new(),
            transport: TransportProtocol::RawBuffer,
            hello: None,
            server_name: None,
            protocols: Vec::new(),
        }
    }

    /// Reads as much as the listener's filters want to know.
    pub(crate) async fn run(&mut self, inspection: &Inspection) -> Result<(), InspectError> {
        if inspection.tls {
            self.read_some().await?;
            if self.ahead.first() == Some(&HANDSHAKE) {
                return self.read_hello().await;
            }
        }
        if inspection.http {
            let protocol = if self.read_preface().await? { "h2c" } else { "http/1.1" };
            self.protocols.push(protocol.to_owned());
        }
        Ok(())
    }

    /// Whether the connection begins with the h2 preface; reads until that is certain.
    pub(crate) async fn read_preface(&mut self) -> Result<bool, InspectError> {
        loop {
            if let Some(http2) = preface::is_http2(&self.ahead) {
                return Ok(http2);
            }
            self.read_some().await?;
        }
    }

    async fn read_some(&mut self) -> Result<(), InspectError> {
        self.ahead.reserve(2048);
        match self.tcp.read_buf(&mut self.ahead).await? {
            0 => Err(InspectError::Closed),
            _ => Ok(()),
        }
    }

    async fn read_hello(&mut self) -> Result<(), InspectError> {
        let mut acceptor = Acceptor::default();
        let mut fed = 0;
        loop {
            while fed < self.ahead.len() {
                fed += acceptor.read_tls(&mut &self.ahead[fed..])?;
            }
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    self.transport = TransportProtocol::Tls;
                    let hello = accepted.client_hello();
                    self.server_name = hello.server_name().map(str::to_ascii_lowercase);
                    self.protocols = hello
                        .alpn()
                        .map(|names| names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
                        .unwrap_or_default();
                    self.hello = Some(accepted);
                    return Ok(());
                }
                Ok(None) if self.ahead.len() > LONGEST_HELLO => return Err(InspectError::TooLong),
                Ok(None) => self.read_some().await?,
                Err((error, mut alert)) => {
                    let mut bytes = Vec::new();
                    if alert.write(&mut bytes).is_ok() {
                        // The peer is about to be closed on; whether it reads the alert changes nothing.
                        let _ = self.tcp.write_all(&bytes).await;
                    }
                    return Err(InspectError::BadHello(error));
                }
            }
        }
    }
}
