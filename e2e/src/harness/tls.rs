//! TLS as an outsider or an intruder would speak it: any certificate shown, any certificate taken.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const LIMIT: Duration = Duration::from_secs(5);

/// A certificate chain with its key, to be shown to others.
#[derive(Clone, Debug)]
pub struct Presented {
    chain: Vec<CertificateDer<'static>>,
    key_pkcs8: Vec<u8>,
    version: &'static SupportedProtocolVersion,
}

impl Presented {
    /// Leaf first.
    #[must_use]
    pub fn new(chain: Vec<CertificateDer<'static>>, key_pkcs8: Vec<u8>) -> Self {
        Self { chain, key_pkcs8, version: &rustls::version::TLS13 }
    }

    /// The same, of a server that knows TLS 1.2 alone.
    #[must_use]
    pub fn over_tls12(mut self) -> Self {
        self.version = &rustls::version::TLS12;
        self
    }

    /// A certificate with an identity of the caller's choice, signed by an authority that nobody knows.
    ///
    /// # Errors
    /// When the identity is no URI.
    pub fn forged(spiffe: &str) -> anyhow::Result<Self> {
        let key = rcgen::KeyPair::generate()?;
        let mut authority = rcgen::CertificateParams::new(Vec::new())?;
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_key = rcgen::KeyPair::generate()?;
        let root = authority.self_signed(&authority_key)?;
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let mut leaf = rcgen::CertificateParams::new(Vec::new())?;
        leaf.subject_alt_names.push(rcgen::SanType::URI(spiffe.try_into()?));
        let leaf = leaf.signed_by(&key, &issuer)?;
        Ok(Self::new(vec![leaf.der().clone(), root.der().clone()], key.serialize_der()))
    }

    /// What `weft-proxy` keeps in its identity directory.
    ///
    /// # Errors
    /// When the file is not there or holds something else.
    pub fn load(identity_dir: &Path) -> anyhow::Result<Self> {
        let pem = std::fs::read(identity_dir.join("identity.pem")).context("identity.pem")?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(&pem).context("the key in identity.pem")?;
        let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::new(chain, key.secret_pkcs8_der().to_vec()))
    }

    /// Sends the mesh's root too, as the control plane does.
    ///
    /// # Errors
    /// When the bundle is not there.
    pub fn with_root(mut self, identity_dir: &Path) -> anyhow::Result<Self> {
        let bundle = CertificateDer::pem_file_iter(identity_dir.join("bundle.pem"))?;
        self.chain.extend(bundle.collect::<Result<Vec<_>, _>>()?);
        Ok(self)
    }

    /// The chain, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The key of the leaf, PKCS #8.
    #[must_use]
    pub fn key_pkcs8(&self) -> &[u8] {
        &self.key_pkcs8
    }

    /// Another chain for the same key, whether it fits or not.
    #[must_use]
    pub fn with_chain(mut self, chain: Vec<CertificateDer<'static>>) -> Self {
        self.chain = chain;
        self
    }

    /// Certificate and key, without a look at whether they belong together.
    fn resolver(&self) -> anyhow::Result<Arc<SingleCertAndKey>> {
        let key = provider().key_provider.load_private_key(self.key())?;
        Ok(Arc::new(CertifiedKey::new(self.chain.clone(), key).into()))
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key_pkcs8.clone()).into()
    }

    /// For a server that shows this certificate to everyone.
    ///
    /// # Errors
    /// When the key cannot be read.
    pub fn server_config(&self) -> anyhow::Result<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[self.version])?
            .with_no_client_auth()
            .with_cert_resolver(self.resolver()?);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// The serial number of a certificate, in hexadecimal.
///
/// # Errors
/// When it is no certificate.
pub fn serial(certificate: &CertificateDer<'_>) -> anyhow::Result<String> {
    let (_, parsed) = X509Certificate::from_der(certificate)?;
    Ok(parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Connects by TLS 1.3, takes whatever certificate is shown, and shows one if there is one.
///
/// # Errors
/// When the connection or the handshake fails. A server that refuses the client's certificate says so only on the first
/// read, for that is how TLS 1.3 works.
pub async fn dial(
    address: SocketAddr,
    server_name: &str,
    alpn: &[u8],
    presented: Option<&Presented>,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TakesAnything(provider())));
    let mut config = match presented {
        Some(presented) => builder.with_client_cert_resolver(presented.resolver()?),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = ServerName::try_from(server_name.to_owned())?;
    let stream = tokio::time::timeout(LIMIT, TcpStream::connect(address)).await??;
    let shaking = TlsConnector::from(Arc::new(config)).connect(name, stream);
    Ok(tokio::time::timeout(LIMIT, shaking).await.context("the handshake takes too long")??)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[derive(Debug)]
struct TakesAnything(Arc<CryptoProvider>);

impl ServerCertVerifier for TakesAnything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
