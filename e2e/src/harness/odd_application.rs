//! An application that does not answer as it should.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// What it does once it has read something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Nothing, for ever.
    Hangs,
    /// Closes the connection without a word.
    Closes,
    /// Breaks the connection off.
    Resets,
    /// Answers as a server does that knows HTTP/1.1 and nothing else, and was sent something else.
    KnowsHttp1Only,
}

/// Serves until dropped.
#[derive(Debug)]
pub struct OddApplication {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl OddApplication {
    /// Listens on a port of this machine.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(manner: Manner) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A caller that breaks off is what the test may be about.
                tokio::spawn(async move { drop(treat(stream, manner).await) });
            }
        });
        Ok(Self { address, _task: AbortOnDropHandle::new(task) })
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

async fn treat(mut stream: TcpStream, manner: Manner) -> std::io::Result<()> {
    let mut read = [0; 4096];
    let count = stream.read(&mut read).await?;
    match manner {
        Manner::Hangs => while stream.read(&mut read).await? > 0 {},
        Manner::Closes => stream.shutdown().await?,
        Manner::Resets => stream.set_zero_linger()?,
        Manner::KnowsHttp1Only => {
            let is_request = read[..count].starts_with(b"GET ");
            let status = if is_request { "200 OK" } else { "400 Bad Request" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            // What the other side still sends is taken, lest it be told of a reset before it has read the answer.
            let rest = async { while matches!(stream.read(&mut read).await, Ok(1..)) {} };
            drop(tokio::time::timeout(Duration::from_secs(5), rest).await);
        }
    }
    Ok(())
}
