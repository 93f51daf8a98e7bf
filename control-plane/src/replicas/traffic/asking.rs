//! Asking the other replicas.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;
use weft_api::{HostPort, LogThrottle, SpiffeId};

use super::REPLICA;
use crate::ca::Authority;
use crate::replicas::directory::Others;
use crate::tls::{identify, provider};

/// How long all of them have.
const PATIENCE: Duration = Duration::from_secs(2);
/// What one may answer: a mesh of many thousand edges.
const MOST_BYTES: usize = 64 << 20;

/// The other replicas, as they come and go. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OtherReplicas {
    known: watch::Receiver<Others>,
    authority: Arc<Authority>,
    unheard: Arc<LogThrottle<HostPort>>,
}

/// An answer that comes as long as it is read.
#[derive(Debug)]
pub struct LongAnswer {
    body: Incoming,
    /// Drives the connection, and ends with the answer.
    _connection: AbortOnDropHandle<()>,
}

impl LongAnswer {
    /// The next piece; none when the answer has ended.
    pub async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match self.body.frame().await?.map(Frame::into_data) {
                Ok(Ok(piece)) => return Some(Ok(piece)),
                // Trailers.
                Ok(Err(_)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Why a replica does not answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no identity to ask with: {0}")]
    Identity(#[from] crate::ca::CaError),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error("who answers is not a control plane of this mesh")]
    Stranger,
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("it answers {0}")]
    Status(hyper::StatusCode),
    #[error("its answer cannot be read: {0}")]
    Garbled(String),
    #[error("no answer in time")]
    Late,
}

fn question_for(
    id: &str,
    address: &HostPort,
    path: &str,
    question: Bytes,
) -> Result<Request<Full<Bytes>>, AskError> {
    Request::post(format!("https://{address}{path}"))
        .header(REPLICA, id)
        .header("content-type", "application/json")
        .body(Full::new(question))
        .map_err(|error| AskError::Garbled(error.to_string()))
}

impl OtherReplicas {
    /// Those of a directory. `authority` gives the identity to ask with.
    #[must_use]
    pub fn new(known: watch::Receiver<Others>, authority: Arc<Authority>) -> Self {
        Self { known, authority, unheard: Arc::default() }
    }

    /// Which there are now.
    #[must_use]
    pub fn known(&self) -> Others {
        self.known.borrow().clone()
    }

    /// Asks one for an answer that goes on.
    ///
    /// # Errors
    /// When it does not begin to answer.
    pub async fn open(
        &self,
        id: &str,
        address: &HostPort,
        path: &str,
        question: Bytes,
    ) -> Result<LongAnswer, AskError> {
        let stream = self.connect(address).await?;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        let driving = async {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a replica was lost");
            }
        };
        let connection = AbortOnDropHandle::new(tokio::spawn(driving));
        let answer = sender.send_request(question_for(id, address, path, question)?).await?;
        if !answer.status().is_success() {
            return Err(AskError::Status(answer.status()));
        }
        Ok(LongAnswer { body: answer.into_body(), _connection: connection })
    }

    /// Asks all at once. Gives the answers that came in time, and how many did not.
    pub async fn ask<A: DeserializeOwned>(&self, path: &str, question: &impl Serialize) -> (Vec<A>, usize) {
        let others = self.known.borrow().clone();
        if others.is_empty() {
            return (Vec::new(), 0);
        }
        let body = Bytes::from(serde_json::to_vec(question).expect("strings and numbers always encode"));
        let asked = others.iter().map(|(id, address)| self.ask_one(id, address, path, body.clone()));
        let answers = join_all(asked).await;
        let heard: Vec<A> = answers.into_iter().flatten().collect();
        let unheard = others.len() - heard.len();
        (heard, unheard)
    }

    async fn ask_one<A: DeserializeOwned>(
        &self,
        id: &str,
        address: &HostPort,
        path: &str,
        body: Bytes,
    ) -> Option<A> {
        let asking = tokio::time::timeout(PATIENCE, self.answer_of(id, address, path, body)).await;
        let answer = asking.unwrap_or(Err(AskError::Late));
        if let Err(error) = &answer
            && let Some(more) = self.unheard.speaks(address.clone())
        {
            tracing::warn!(
                event = "replica_unheard",
                %error, replica = id, %address, more,
                "a replica was not heard: what its proxies told is missing"
            );
        }
        answer.ok()
    }

    /// Asks all others something at once, each for as long as `limit`: what each answers, or why it does not.
    pub async fn ask_each<A: DeserializeOwned>(
        &self,
        path: &str,
        question: &Bytes,
        limit: Duration,
    ) -> Vec<(HostPort, Result<A, AskError>)> {
        let asked = self.known().into_iter().map(|(id, address)| async move {
            let answer =
                tokio::time::timeout(limit, self.answer_of(&id, &address, path, question.clone())).await;
            (address, answer.unwrap_or(Err(AskError::Late)))
        });
        join_all(asked).await
    }

    async fn answer_of<A: DeserializeOwned>(
        &self,
        id: &str,
        address: &HostPort,
        path: &str,
        body: Bytes,
    ) -> Result<A, AskError> {
        let stream = self.connect(address).await?;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        let asked = question_for(id, address, path, body)?;
        let conversation = async {
            let answer = sender.send_request(asked).await?;
            if !answer.status().is_success() {
                return Err(AskError::Status(answer.status()));
            }
            let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await;
            let body = body.map_err(|error| AskError::Garbled(error.to_string()))?.to_bytes();
            serde_json::from_slice(&body).map_err(|error| AskError::Garbled(error.to_string()))
        };
        // The connection is driven for as long as the conversation lasts, and ends with it.
        let mut conversation = std::pin::pin!(conversation);
        tokio::select! {
            answer = &mut conversation => answer,
            ended = connection => {
                ended?;
                conversation.await
            }
        }
    }

    async fn connect(&self, address: &HostPort) -> Result<TlsStream<TcpStream>, AskError> {
        connect(&self.authority, address).await
    }
}

/// Whether a control plane of this mesh answers at an address, within `limit`.
///
/// # Errors
/// When nobody does, or somebody else.
pub async fn reach(authority: &Authority, address: &HostPort, limit: Duration) -> Result<(), AskError> {
    let connected = tokio::time::timeout(limit, connect(authority, address)).await;
    connected.unwrap_or(Err(AskError::Late)).map(drop)
}

async fn connect(authority: &Authority, address: &HostPort) -> Result<TlsStream<TcpStream>, AskError> {
    let host = address.host.bare();
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((host, address.port)).await?;
    stream.set_nodelay(true)?;
    let stream = TlsConnector::from(Arc::new(client_config(authority)?)).connect(name, stream).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let peer = shown.and_then(|leaf| identify(leaf, authority.trust_domain()).ok());
    match peer.map(|peer| peer.spiffe) {
        Some(SpiffeId::ControlPlane { .. }) => Ok(stream),
        Some(SpiffeId::Service { .. }) | None => Err(AskError::Stranger),
    }
}

/// An identity of its own for each question: nothing has to be renewed.
fn client_config(authority: &Authority) -> Result<ClientConfig, AskError> {
    let mut roots = RootCertStore::empty();
    for root in authority.bundle() {
        roots.add(root)?;
    }
    let identity = authority.issue_control_plane(&[])?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain, identity.key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
