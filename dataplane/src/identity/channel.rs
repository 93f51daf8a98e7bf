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
use weft_api::TrustDomain;

use super::Identity;
use super::verify::{ControlPlaneVerifier, Trust};

/// A TLS handshake that takes longer is given up.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// What is wrong with a control plane's address or with the TLS settings.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// `HOST:PORT` cannot be read.
    #[error("{0:?} is not the control plane's HOST:PORT")]
    Address(String),
    /// The identity cannot be used for TLS.
    #[error("TLS towards the control plane cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

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
        /// The newest identity.
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

/// A channel that dials when it is first used, and again after a loss, with the credentials of that time.
///
/// # Errors
/// When the address is not `HOST:PORT`.
pub fn channel(control_plane: &str, credentials: Credentials) -> Result<Channel, ChannelError> {
    let wrong = || ChannelError::Address(control_plane.to_owned());
    let uri: Uri = format!("http://{control_plane}").parse().map_err(|_| wrong())?;
    let (host, port) = (uri.host().ok_or_else(wrong)?, uri.port_u16().ok_or_else(wrong)?);
    let host = host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
    let endpoint = Endpoint::from(uri)
        .connect_timeout(CONNECT_LIMIT + HANDSHAKE_LIMIT)
        .http2_keep_alive_interval(Duration::from_secs(15))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(2 << 20)
        .user_agent(concat!("weft-proxy/", env!("CARGO_PKG_VERSION")))
        .map_err(|_| wrong())?;
    let connector = tower::service_fn(move |_: Uri| {
        let (credentials, host, name) = (credentials.clone(), host.clone(), name.clone());
        async move { dial(&credentials, &host, port, name).await }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

async fn dial(
    credentials: &Credentials,
    host: &str,
    port: u16,
    name: ServerName<'static>,
) -> std::io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
    let config = credentials.client_config().map_err(std::io::Error::other)?;
    let timed_out = |what: &str| {
        let message = format!("{what} with {host}:{port} took too long");
        std::io::Error::new(std::io::ErrorKind::TimedOut, message)
    };
    let connecting = TcpStream::connect((host, port));
    let stream =
        tokio::time::timeout(CONNECT_LIMIT, connecting).await.map_err(|_| timed_out("connecting"))??;
    stream.set_nodelay(true)?;
    let shaking = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = tokio::time::timeout(HANDSHAKE_LIMIT, shaking)
        .await
        .map_err(|_| timed_out("the TLS handshake"))??;
    Ok(TokioIo::new(stream))
}
