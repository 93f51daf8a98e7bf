//! A joined workload: key, certificate, and connections with them.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use weft_api::JoinToken;
use weft_api::join::join_service_client::JoinServiceClient;
use weft_api::join::{JoinRequest, LeaveRequest, ProxyType, Workload};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A member of the mesh.
#[derive(Clone)]
pub struct Member {
    pub id: String,
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    root: CertificateDer<'static>,
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
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let request = JoinRequest {
        token_id: token.id.clone(),
        secret: token.secret.to_vec(),
        csr_der: csr.der().to_vec(),
        workload: Some(workload),
    };
    let verifier = Arc::new(Pinned { root_spki_sha256: token.root_spki_sha256 });
    let channel = connect(token.control_plane.parse().unwrap(), config(verifier, None)).await;
    let joined = JoinServiceClient::new(channel).join(request).await?.into_inner();
    Ok(Member {
        id: format!("{}/{}", joined.namespace, joined.workload),
        chain: joined.certificate_chain_der.into_iter().map(CertificateDer::from).collect(),
        key: key.serialize_der(),
        root: joined.bundle_der.into_iter().next().unwrap().into(),
    })
}

impl Member {
    /// Mutual TLS with a control plane.
    pub async fn channel(&self, control_plane: std::net::SocketAddr) -> Channel {
        let identity = (self.chain.clone(), PrivateKeyDer::Pkcs8(self.key.clone().into()));
        connect(control_plane, config(self.verifier(), Some(identity))).await
    }

    /// TLS without a client certificate.
    pub async fn anonymous(&self, control_plane: std::net::SocketAddr) -> Channel {
        connect(control_plane, config(self.verifier(), None)).await
    }

    pub async fn leave(&self, control_plane: std::net::SocketAddr) {
        let channel = self.channel(control_plane).await;
        JoinServiceClient::new(channel).leave(LeaveRequest {}).await.unwrap();
    }

    fn verifier(&self) -> Arc<WebPkiServerVerifier> {
        trusting(&self.root)
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn config(verifier: Arc<dyn ServerCertVerifier>, identity: Option<Identity>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(weft_control_plane::tls::provider())
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
