//! TLS contexts as prepared rustls configurations.
//!
//! A `…Spec` is what a resource and its secrets say; `prepare` makes of it what a handshake needs, off the
//! request path. There is no session resumption: an identity is checked on each connection.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs as provider};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use webpki::RevocationCheckDepth;

use super::revocation::RevocationLists;
use super::san::SanMatch;
use super::tls_error::{TlsError, unreadable};
use super::verify::{AcceptAny, CertificateRequirement, PeerRole, PeerVerifier, TrustChange};
use crate::peer::PeerCertificate;

/// A certificate chain with its private key.
#[derive(Debug, Clone)]
pub struct CertifiedIdentity {
    key: Arc<CertifiedKey>,
    certificate: Arc<PeerCertificate>,
}

impl CertifiedIdentity {
    /// From DER: the chain leaf first, and the key.
    ///
    /// # Errors
    /// The leaf or the key cannot be parsed, or they do not belong together.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let certificate = Arc::new(PeerCertificate::parse(&chain)?);
        let signer = provider::sign::any_supported_type(key)?;
        let key = CertifiedKey::new(chain, signer);
        match key.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self { key: Arc::new(key), certificate })
    }

    /// From PEM, as in a `tls_certificate`.
    ///
    /// # Errors
    /// As [`CertifiedIdentity::from_der`].
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|error| unreadable("certificate_chain")(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| unreadable("private_key")(error.to_string()))?;
        Self::from_der(chain, &key)
    }

    pub fn certificate(&self) -> &Arc<PeerCertificate> {
        &self.certificate
    }
}

/// `CertificateValidationContext`.
#[derive(Debug, Clone, Default)]
pub struct TrustSpec {
    /// `trusted_ca` in DER.
    pub roots: Vec<CertificateDer<'static>>,
    /// `crl`.
    pub crls: Arc<RevocationLists>,
    /// `only_verify_leaf_cert_crl`.
    pub only_leaf_crl: bool,
    /// `match_typed_subject_alt_names`: any must match; empty accepts all names.
    pub sans: Vec<SanMatch>,
    /// `verify_certificate_hash`: SHA-256 of accepted leaves.
    pub certificate_hashes: Vec<[u8; 32]>,
}

impl TrustSpec {
    /// Roots from a PEM bundle; revocation lists from PEM, which may be empty.
    ///
    /// # Errors
    /// Either is not what it should be.
    pub fn from_pem(roots: &[u8], crls: &[u8]) -> Result<Self, TlsError> {
        let roots = CertificateDer::pem_slice_iter(roots)
            .collect::<Result<_, _>>()
            .map_err(|error| unreadable("trusted_ca")(error.to_string()))?;
        Ok(Self { roots, crls: RevocationLists::from_pem(crls)?, ..Self::default() })
    }

    fn verifier(&self, requirement: CertificateRequirement) -> Result<PeerVerifier, TlsError> {
        let mut roots = RootCertStore::empty();
        for root in &self.roots {
            roots.add(root.clone())?;
        }
        let depth =
            if self.only_leaf_crl { RevocationCheckDepth::EndEntity } else { RevocationCheckDepth::Chain };
        let verifier = PeerVerifier::new(roots, self.crls.clone(), depth, self.sans.clone(), requirement);
        Ok(verifier.with_pins(self.certificate_hashes.clone()).with_digest(self.digest()))
    }

    /// Equal for contexts that are equal in all but revocation lists.
    fn digest(&self) -> [u8; 32] {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for root in &self.roots {
            context.update(&root.len().to_be_bytes());
            context.update(root);
        }
        context
            .update(format!("{:?}", (self.only_leaf_crl, &self.sans, &self.certificate_hashes)).as_bytes());
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }
}

/// `DownstreamTlsContext` with its secrets.
#[derive(Debug, Clone, Default)]
pub struct DownstreamTlsSpec {
    /// The certificate; of several, the first serves.
    pub identity: Option<CertifiedIdentity>,
    /// What clients' certificates are checked against.
    pub trust: Option<TrustSpec>,
    /// `require_client_certificate`.
    pub require_client_certificate: bool,
    /// `alpn_protocols`, preferred first.
    pub alpn: Vec<Vec<u8>>,
    /// `tls_minimum_protocol_version` allows TLS 1.2. This proxy speaks 1.3 all the same.
    pub allow_tls12: bool,
}

/// A listener's prepared TLS.
#[derive(Debug)]
pub struct DownstreamTls {
    /// What a handshake uses.
    pub config: Arc<ServerConfig>,
    /// Our own certificate: XFCC's `By`, and the end of each connection's life.
    pub certificate: Arc<PeerCertificate>,
    verifier: Option<Arc<PeerVerifier>>,
}

impl DownstreamTls {
    /// Builds the rustls configuration.
    ///
    /// # Errors
    /// A certificate is missing, or something in the spec cannot be used.
    pub fn prepare(spec: &DownstreamTlsSpec) -> Result<Self, TlsError> {
        let identity = spec.identity.as_ref().ok_or(TlsError::NoCertificate)?;
        let builder = ServerConfig::builder_with_provider(crypto()).with_protocol_versions(&VERSIONS)?;
        let requirement = if spec.require_client_certificate {
            CertificateRequirement::Required
        } else {
            CertificateRequirement::Optional
        };
        let verifier = match &spec.trust {
            Some(trust) => Some(Arc::new(trust.verifier(requirement)?)),
            None if spec.require_client_certificate => return Err(TlsError::NoTrust),
            None => None,
        };
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(identity.key.clone()));
        let mut config = builder.with_cert_resolver(resolver);
        config.alpn_protocols.clone_from(&spec.alpn);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), certificate: identity.certificate.clone(), verifier })
    }

    /// What a connection that was let in by `before` has to be asked again.
    pub(crate) fn change_since(&self, before: &Self) -> TrustChange {
        TrustChange::between(before.verifier.as_deref(), self.verifier.as_deref())
    }

    /// Why a client that was let in earlier would not be let in now.
    pub(crate) fn refusal(&self, peer: &PeerCertificate, change: TrustChange) -> Option<String> {
        self.verifier.as_ref()?.refusal(peer, PeerRole::Client, change)
    }

    /// The revocation lists that peers are looked up on.
    pub(crate) fn revocations(&self) -> Option<&Arc<RevocationLists>> {
        self.verifier.as_deref().map(PeerVerifier::revocations)
    }

    /// Who was refused last, on this thread.
    pub(crate) fn take_refused(&self) -> Option<String> {
        self.verifier.as_ref()?.take_refused()
    }
}

/// `UpstreamTlsContext` with its secrets.
#[derive(Debug, Clone, Default)]
pub struct UpstreamTlsSpec {
    pub identity: Option<CertifiedIdentity>,
    /// What servers are checked against. Without it any certificate is accepted, as Envoy does.
    pub trust: Option<TrustSpec>,
    /// `sni`.
    pub sni: Option<String>,
    /// `alpn_protocols`. Empty: `h2` or `http/1.1` by the protocol of the connection, none for TCP.
    pub alpn: Vec<Vec<u8>>,
    /// `tls_minimum_protocol_version` allows TLS 1.2.
    pub allow_tls12: bool,
}

/// A cluster's prepared TLS: one configuration for each protocol, since ALPN differs.
#[derive(Debug)]
pub struct UpstreamTls {
    /// For HTTP/1.1 connections.
    pub http1: Arc<ClientConfig>,
    /// For HTTP/2 connections.
    pub http2: Arc<ClientConfig>,
    /// For connections whose protocol ALPN decides.
    pub auto: Arc<ClientConfig>,
    /// For TCP.
    pub tcp: Arc<ClientConfig>,
    /// The name to ask for; an address stands for none.
    pub server_name: ServerName<'static>,
    /// The client certificate, whose expiry ends connections.
    pub certificate: Option<Arc<PeerCertificate>>,
    verifier: Option<Arc<PeerVerifier>>,
}

impl UpstreamTls {
    /// Builds the rustls configurations.
    ///
    /// # Errors
    /// Something in the spec cannot be used.
    pub fn prepare(spec: &UpstreamTlsSpec) -> Result<Self, TlsError> {
        let versions: &[&SupportedProtocolVersion] =
            if spec.allow_tls12 { &VERSIONS_OUTSIDE } else { &VERSIONS };
        let builder =
            ClientConfig::builder_with_provider(crypto()).with_protocol_versions(versions)?.dangerous();
        let verifier = spec
            .trust
            .as_ref()
            .map(|trust| trust.verifier(CertificateRequirement::Required))
            .transpose()?
            .map(Arc::new);
        let builder = match &verifier {
            Some(verifier) => builder.with_custom_certificate_verifier(verifier.clone()),
            None => {
                let any = AcceptAny(provider::default_provider().signature_verification_algorithms);
                builder.with_custom_certificate_verifier(Arc::new(any))
            }
        };
        let mut config = match &spec.identity {
            Some(identity) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.key.clone())))
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config.enable_sni = spec.sni.is_some();
        let server_name = match &spec.sni {
            Some(name) => {
                ServerName::try_from(name.clone()).map_err(|_| TlsError::BadServerName(name.clone()))?
            }
            None => ServerName::IpAddress(std::net::IpAddr::from([0, 0, 0, 0]).into()),
        };
        let with_alpn = |fallback: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = if spec.alpn.is_empty() {
                fallback.iter().map(|protocol| protocol.to_vec()).collect()
            } else {
                spec.alpn.clone()
            };
            Arc::new(config)
        };
        Ok(Self {
            http1: with_alpn(&[b"http/1.1"]),
            http2: with_alpn(&[b"h2"]),
            auto: with_alpn(&[b"h2", b"http/1.1"]),
            tcp: with_alpn(&[]),
            server_name,
            certificate: spec.identity.as_ref().map(|identity| identity.certificate.clone()),
            verifier,
        })
    }

    /// What a connection that was made by `before` has to be asked again.
    pub(crate) fn change_since(&self, before: &Self) -> TrustChange {
        TrustChange::between(before.verifier.as_deref(), self.verifier.as_deref())
    }

    /// Why a server that was accepted earlier would not be accepted now.
    pub(crate) fn refusal(&self, peer: &PeerCertificate, change: TrustChange) -> Option<String> {
        self.verifier.as_ref()?.refusal(peer, PeerRole::Server, change)
    }

    /// The revocation lists that peers are looked up on.
    pub(crate) fn revocations(&self) -> Option<&Arc<RevocationLists>> {
        self.verifier.as_deref().map(PeerVerifier::revocations)
    }

    /// Who was refused last, on this thread.
    pub(crate) fn take_refused(&self) -> Option<String> {
        self.verifier.as_ref()?.take_refused()
    }

    /// When the client certificate expires.
    pub fn expires(&self) -> Option<SystemTime> {
        self.certificate.as_ref().map(|certificate| certificate.not_after)
    }
}

/// TLS 1.3 only, on listeners also where a resource would accept 1.2.
static VERSIONS: [&SupportedProtocolVersion; 1] = [&TLS13];
/// Of servers whose cluster accepts 1.2, which are never those of the mesh: not all out there know 1.3.
static VERSIONS_OUTSIDE: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// The key exchanges of the mesh in their order: hybrid post-quantum first.
fn crypto() -> Arc<CryptoProvider> {
    let groups: Vec<&'static dyn SupportedKxGroup> =
        vec![provider::kx_group::X25519MLKEM768, provider::kx_group::X25519, provider::kx_group::SECP256R1];
    Arc::new(CryptoProvider { kx_groups: groups, ..provider::default_provider() })
}
