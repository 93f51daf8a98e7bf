//! A joined workload: key, certificate, and connections with them.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use weft_api::JoinToken;
use weft_api::join::join_service_client::JoinServiceClient;
use weft_api::join::{JoinRequest, LeaveRequest, ProxyType, RenewRequest, ReturnRequest, Workload};
use weft_control_plane::clock::Clock;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A member of the mesh.
#[derive(Clone)]
pub struct Member {
    pub id: String,
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    root: CertificateDer<'static>,
    clock: Clock,
}

/// What a workload says of itself when it joins.
pub fn declared(name: &str, address: &str) -> Workload {
    Workload {
        name: name.to_owned(),
        address: address.to_owned(),
        proxy_type: ProxyType::Weft.into(),
        app_ports: [("http".to_owned(), 8080)].into(),
        ..Workload::default()
    }
}

/// Joins as a joiner does: nothing is trusted but what the token pins.
pub async fn join(token: &JoinToken, workload: Workload) -> Result<Member, tonic::Status> {
    join_by(token, workload, Clock::system()).await
}

/// Joins by another clock than the machine's.
pub async fn join_by(token: &JoinToken, workload: Workload, clock: Clock) -> Result<Member, tonic::Status> {
    let (key, csr) = new_key();
    let request = JoinRequest {
        token_id: token.id.clone(),
        secret: token.secret.to_vec(),
        csr_der: csr,
        workload: Some(workload),
    };
    let verifier = Arc::new(Pinned { root_spki_sha256: token.root_spki_sha256 });
    let address = token.control_planes.to_string().parse().unwrap();
    let channel = connect(address, config(verifier, None, &clock)).await;
    let joined = JoinServiceClient::new(channel).join(request).await?.into_inner();
    Ok(Member {
        id: format!("{}/{}", joined.namespace, joined.workload),
        chain: joined.certificate_chain_der.into_iter().map(CertificateDer::from).collect(),
        key,
        root: joined.bundle_der.into_iter().next().unwrap().into(),
        clock,
    })
}

/// A key, and a request for a certificate.
fn new_key() -> (Vec<u8>, Vec<u8>) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    (key.serialize_der(), csr.der().to_vec())
}

impl Member {
    /// Mutual TLS with a control plane.
    pub async fn channel(&self, control_plane: std::net::SocketAddr) -> Channel {
        let identity = (self.chain.clone(), PrivateKeyDer::Pkcs8(self.key.clone().into()));
        connect(control_plane, config(self.verifier(), Some(identity), &self.clock)).await
    }

    /// TLS without a client certificate.
    pub async fn anonymous(&self, control_plane: std::net::SocketAddr) -> Channel {
        connect(control_plane, config(self.verifier(), None, &self.clock)).await
    }

    /// A connection without a certificate that makes no call; it ends with what is returned.
    pub async fn idle(&self, control_plane: std::net::SocketAddr) -> std::io::Result<JoinHandle<()>> {
        let connector = TlsConnector::from(Arc::new(config(self.verifier(), None, &self.clock)));
        let stream = TcpStream::connect(control_plane).await?;
        let stream = connector.connect(ServerName::from(control_plane.ip()), stream).await?;
        let handshake = hyper::client::conn::http2::handshake::<_, _, http_body_util::Empty<bytes::Bytes>>(
            TokioExecutor::new(),
            TokioIo::new(stream),
        );
        let (calls, connection) = handshake.await.map_err(std::io::Error::other)?;
        Ok(tokio::spawn(async move {
            drop(connection.await);
            drop(calls);
        }))
    }

    pub async fn leave(&self, control_plane: std::net::SocketAddr) {
        let channel = self.channel(control_plane).await;
        JoinServiceClient::new(channel).leave(LeaveRequest {}).await.unwrap();
    }

    /// Takes its goodbye back.
    pub async fn come_back(&self, control_plane: std::net::SocketAddr) {
        let channel = self.channel(control_plane).await;
        JoinServiceClient::new(channel).r#return(ReturnRequest::default()).await.unwrap();
    }

    /// Takes a new certificate for a new key.
    pub async fn renew(&self, control_plane: std::net::SocketAddr) -> Result<Self, tonic::Status> {
        let (key, csr) = new_key();
        let channel = self.channel(control_plane).await;
        let renewed =
            JoinServiceClient::new(channel).renew(RenewRequest { csr_der: csr }).await?.into_inner();
        let chain = renewed.certificate_chain_der.into_iter().map(CertificateDer::from).collect();
        Ok(Self { chain, key, ..self.clone() })
    }

    /// The member whose proxy keeps these files.
    pub fn load(id: &str, directory: &std::path::Path, clock: Clock) -> Self {
        let pem = std::fs::read(directory.join("identity.pem")).unwrap();
        let key = PrivatePkcs8KeyDer::from_pem_slice(&pem).unwrap().secret_pkcs8_der().to_vec();
        let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().unwrap();
        let root = CertificateDer::from_pem_file(directory.join("bundle.pem")).unwrap();
        Self { id: id.to_owned(), chain, key, root, clock }
    }

    /// SHA-256 of the key of the root that it trusts, in hexadecimal.
    pub fn root_spki_sha256(&self) -> String {
        let (_, root) = X509Certificate::from_der(&self.root).unwrap();
        Sha256::digest(root.public_key().raw).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn verifier(&self) -> Arc<WebPkiServerVerifier> {
        trusting(&self.root)
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn config(verifier: Arc<dyn ServerCertVerifier>, identity: Option<Identity>, clock: &Clock) -> ClientConfig {
    let time = Arc::new(Time(clock.clone()));
    let builder = ClientConfig::builder_with_details(weft_control_plane::tls::provider(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

async fn connect(address: std::net::SocketAddr, config: ClientConfig) -> Channel {
    let connector = TlsConnector::from(Arc::new(config));
    let connect = tower::service_fn(move |_: http::Uri| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let stream = connector.connect(ServerName::from(address.ip()), stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    // The connector does TLS; tonic without its own refuses an https URI.
    Endpoint::from_static("http://control-plane").connect_with_connector_lazy(connect)
}

fn trusting(root: &CertificateDer<'static>) -> Arc<WebPkiServerVerifier> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = weft_control_plane::tls::provider();
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap()
}

#[derive(Debug)]
struct Time(Clock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.unix_seconds()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// Trusts the root whose key the token names, which the server sends along.
#[derive(Debug)]
struct Pinned {
    root_spki_sha256: [u8; 32],
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_root = |certificate: &&CertificateDer<'_>| {
            X509Certificate::from_der(certificate)
                .is_ok_and(|(_, read)| Sha256::digest(read.public_key().raw)[..] == self.root_spki_sha256)
        };
        let root = chain.iter().find(is_root).ok_or(Error::General("the pinned root was not sent".into()))?;
        trusting(&root.clone().into_owned()).verify_server_cert(leaf, chain, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = weft_control_plane::tls::provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        weft_control_plane::tls::provider().signature_verification_algorithms.supported_schemes()
    }
}
