//! A server that answers everything with one word, and keeps what it was told: an application whose answer is known, or
//! an attacker whose answer nobody may get.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::Presented;

/// Serves until dropped.
#[derive(Debug)]
pub struct Responder {
    heard: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl Responder {
    /// Listens in TLS with a certificate, or in plain text without one.
    ///
    /// # Errors
    /// When the address cannot be bound or the certificate not be used.
    pub async fn start(
        address: SocketAddr,
        presented: Option<&Presented>,
        word: &'static str,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let acceptor = match presented {
            Some(presented) => {
                let mut config = presented.server_config()?;
                config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
                Some(TlsAcceptor::from(Arc::new(config)))
            }
            None => None,
        };
        // A lock, since every connection has a task of its own; held for a push.
        let heard = Arc::new(Mutex::new(Vec::new()));
        let keeps = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, heard) = (acceptor.clone(), Arc::clone(&keeps));
                tokio::spawn(async move {
                    match acceptor {
                        None => answer(stream, word, heard).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                answer(stream, word, heard).await;
                            }
                        }
                    }
                });
            }
        });
        Ok(Self { heard, _task: AbortOnDropHandle::new(task) })
    }

    /// The requests that came here, each with the caller's `Authorization`.
    #[must_use]
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    word: &'static str,
    heard: Arc<Mutex<Vec<String>>>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let authorization = request.headers().get("authorization").map(|value| format!("{value:?}"));
        let line = format!("{} {} {}", request.method(), request.uri(), authorization.unwrap_or_default());
        heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(line);
        async {
            Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from_static(word.as_bytes()))))
        }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    // A caller that breaks off is what the test hopes for.
    drop(builder.serve_connection(TokioIo::new(stream), service).await);
}
