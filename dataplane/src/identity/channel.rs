//! Connections to the control plane: HTTP/2 over TLS 1.3, dialled with the identity of the moment.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use weft_api::{HostPort, TrustDomain};

use super::Identity;
use super::replicas::Replicas;
use super::verify::{ControlPlaneVerifier, Trust};

/// Connecting and the TLS handshake together take no longer, where there is one replica only …
const ONLY_LIMIT: Duration = Duration::from_secs(10);
/// … and where another can be tried.
const EACH_LIMIT: Duration = Duration::from_secs(4);

/// The mesh's cryptography: aws-lc-rs, hybrid post-quantum exchange first.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::kx_group::{SECP256R1, X25519, X25519MLKEM768};
    let kx_groups = vec![X25519MLKEM768, X25519, SECP256R1];
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}

/// With whom a connection is made.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// No certificate yet; the root is known by its fingerprint.
    Pinned([u8; 32]),
    /// The identity at the time of each connection.
    Joined {
        identity: watch::Receiver<Arc<Identity>>,
        /// The mesh, which the control plane must belong to.
        trust_domain: TrustDomain,
    },
}

impl Credentials {
    fn client_config(&self) -> Result<rustls::ClientConfig, rustls::Error> {
        let provider = provider();
        let (trust, identity) = match self {
            Self::Pinned(pin) => (Trust::Pin(*pin), None),
            Self::Joined { identity, trust_domain } => {
                let identity = identity.borrow().clone();
                let trust =
                    Trust::Bundle { roots: identity.bundle().to_vec(), trust_domain: trust_domain.clone() };
                (trust, Some(identity))
            }
        };
        let verifier = ControlPlaneVerifier::new(trust, &provider);
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            Some(identity) => {
                builder.with_client_auth_cert(identity.chain().to_vec(), identity.private_key())?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }
}

/// A channel that dials when it is first used, and again after a loss, with the credentials of that time and to the
/// replica that answers.
#[must_use]
pub fn channel(replicas: &Replicas, credentials: Credentials) -> Channel {
    let replicas = replicas.clone();
    let count = u32::try_from(replicas.count()).unwrap_or(u32::MAX);
    let limit = if count == 1 { ONLY_LIMIT } else { EACH_LIMIT };
    let endpoint = Endpoint::from_static("http://control-plane")
        .connect_timeout(limit * count + Duration::from_secs(1))
        .http2_keep_alive_interval(Duration::from_secs(15))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(2 << 20)
        .user_agent(concat!("weft-proxy/", env!("CARGO_PKG_VERSION")))
        .expect("the name and version are valid in a header");
    let connector = tower::service_fn(move |_: Uri| {
        let (replicas, credentials) = (replicas.clone(), credentials.clone());
        async move {
            replicas
                .try_each(|address| {
                    let credentials = credentials.clone();
                    async move { within(limit, dial(&credentials, &address)).await }
                })
                .await
        }
    });
    endpoint.connect_with_connector_lazy(connector)
}

async fn within<T>(limit: Duration, dial: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    let late = |_| {
        let message = format!("no connection within {} s", limit.as_secs());
        std::io::Error::new(std::io::ErrorKind::TimedOut, message)
    };
    tokio::time::timeout(limit, dial).await.map_err(late)?
}

async fn dial(
    credentials: &Credentials,
    address: &HostPort,
) -> std::io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
    let config = credentials.client_config().map_err(std::io::Error::other)?;
    let host = address.host.bare();
    // Sent as a hint; the control plane is recognised by its identity.
    let name = ServerName::try_from(host.clone()).map_err(std::io::Error::other)?;
    let stream = TcpStream::connect((host, address.port)).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
}
