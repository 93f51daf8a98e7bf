//! A server that shows a workload's certificate where the control plane should be.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::Presented;

/// What clients did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visits {
    /// Clients that broke off the handshake, because they do not believe the certificate.
    pub refused: usize,
    /// Clients that believed it and sent something.
    pub fooled: usize,
}

/// Serves until dropped.
#[derive(Debug)]
pub struct Impostor {
    address: SocketAddr,
    visits: watch::Receiver<Visits>,
    task: JoinHandle<()>,
}

impl Impostor {
    /// Listens, and shows a certificate to whoever comes.
    ///
    /// # Errors
    /// When the address cannot be bound or the certificate not be used.
    pub async fn start(address: SocketAddr, presented: &Presented) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let acceptor = TlsAcceptor::from(Arc::new(presented.server_config()?));
        let (told, visits) = watch::channel(Visits::default());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, told) = (acceptor.clone(), told.clone());
                tokio::spawn(async move {
                    let fooled = match acceptor.accept(stream).await {
                        Ok(mut stream) => {
                            // In TLS 1.3 a client's refusal may come after the server is done: what counts is a word.
                            let mut word = [0; 1];
                            matches!(tokio::io::AsyncReadExt::read(&mut stream, &mut word).await, Ok(1))
                        }
                        Err(_) => false,
                    };
                    told.send_modify(|visits| {
                        if fooled {
                            visits.fooled += 1;
                        } else {
                            visits.refused += 1;
                        }
                    });
                });
            }
        });
        Ok(Self { address, visits, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients did so far.
    #[must_use]
    pub fn visits(&self) -> Visits {
        *self.visits.borrow()
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.task.abort();
    }
}
