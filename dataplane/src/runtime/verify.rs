//! Who a peer must be: chain, revocation, and exact names.

use std::sync::Arc;
use std::time::Duration;

use regex::Regex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};

use super::PeerCertificate;

/// One entry of `match_typed_subject_alt_names`.
#[derive(Debug, Clone)]
pub enum SanMatch {
    /// A URI name.
    Uri(SanMatcher),
    /// A DNS name.
    Dns(SanMatcher),
    /// An IP address or an e-mail address, compared as text.
    Other(SanMatcher),
}

/// How a name is compared.
#[derive(Debug, Clone)]
pub enum SanMatcher {
    /// Equal.
    Exact(Arc<str>),
    /// Equal but for ASCII case.
    ExactIgnoreCase(Arc<str>),
    /// Begins with.
    Prefix(Arc<str>),
    /// Ends with.
    Suffix(Arc<str>),
    /// Contains.
    Contains(Arc<str>),
    /// Matches as a whole; the caller anchors the expression.
    Regex(Regex),
}

impl SanMatcher {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(value) => **value == *name,
            Self::ExactIgnoreCase(value) => value.eq_ignore_ascii_case(name),
            Self::Prefix(value) => name.starts_with(&**value),
            Self::Suffix(value) => name.ends_with(&**value),
            Self::Contains(value) => name.contains(&**value),
            Self::Regex(regex) => regex.is_match(name),
        }
    }
}

impl SanMatch {
    fn matches(&self, peer: &PeerCertificate) -> bool {
        let any = |names: &[Arc<str>], matcher: &SanMatcher| names.iter().any(|name| matcher.matches(name));
        match self {
            Self::Uri(matcher) => any(&peer.uri_sans, matcher),
            Self::Dns(SanMatcher::Exact(value)) => peer
                .dns_sans
                .iter()
                .any(|name| name.eq_ignore_ascii_case(value) || wildcard_covers(name, value)),
            Self::Dns(matcher) => any(&peer.dns_sans, matcher),
            Self::Other(matcher) => any(&peer.other_sans, matcher),
        }
    }
}

/// A certificate's `*.example.org` covers exactly one more label.
fn wildcard_covers(pattern: &str, name: &str) -> bool {
    let (Some(suffix), Some((first, rest))) = (pattern.strip_prefix("*."), name.split_once('.')) else {
        return false;
    };
    !first.is_empty() && rest.eq_ignore_ascii_case(suffix)
}

/// Why a peer is refused although its chain is good.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("certificate has {0} URI names, a SPIFFE identity has exactly one")]
    ManyUris(usize),
    #[error("certificate may sign certificates, so it is no workload's")]
    IsCa,
    #[error("certificate names {0:?}, none of which is expected here")]
    Unexpected(Vec<Arc<str>>),
    #[error("certificate's hash is not one of those that are pinned")]
    NotPinned,
    #[error("certificate cannot be read: {0}")]
    Malformed(#[from] super::PeerError),
}

/// Checks a peer's chain against roots, revocation lists and names, for either side of a handshake.
#[derive(Debug)]
pub(crate) struct PeerVerifier {
    roots: RootCertStore,
    crls: Vec<CertRevocationList<'static>>,
    depth: RevocationCheckDepth,
    sans: Vec<SanMatch>,
    pinned: Vec<[u8; 32]>,
    presence: Presence,
    algorithms: WebPkiSupportedAlgorithms,
    hints: Vec<DistinguishedName>,
}

/// Whether a client must present a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    Optional,
}

impl PeerVerifier {
    pub(crate) fn new(
        roots: RootCertStore,
        crls: Vec<OwnedCertRevocationList>,
        depth: RevocationCheckDepth,
        sans: Vec<SanMatch>,
        presence: Presence,
    ) -> Self {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        let crls = crls.into_iter().map(CertRevocationList::from).collect();
        Self { roots, crls, depth, sans, pinned: Vec::new(), presence, algorithms, hints: Vec::new() }
    }

    pub(crate) fn with_pins(mut self, pins: Vec<[u8; 32]>) -> Self {
        self.pinned = pins;
        self
    }

    /// The whole check, at a handshake or again for a live connection after the trust bundle changed.
    pub(crate) fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
    ) -> Result<(), Error> {
        self.check_chain(leaf, intermediates, now, usage)?;
        self.check_names(leaf).map_err(|refusal| {
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
        })
    }

    fn check_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
    ) -> Result<(), Error> {
        let lists: Vec<&CertRevocationList<'_>> = self.crls.iter().collect();
        let revocation = if lists.is_empty() {
            None
        } else {
            let builder = RevocationOptionsBuilder::new(&lists)
                .map_err(|_| Error::General("no revocation list to check against".into()))?;
            Some(
                builder
                    .with_depth(self.depth)
                    .with_status_policy(UnknownStatusPolicy::Allow)
                    .with_expiration_policy(ExpirationPolicy::Ignore)
                    .build(),
            )
        };
        let usage = match usage {
            Usage::Server => KeyUsage::server_auth(),
            Usage::Client => KeyUsage::client_auth(),
        };
        EndEntityCert::try_from(leaf)
            .and_then(|cert| {
                cert.verify_for_usage(
                    self.algorithms.all,
                    &self.roots.roots,
                    intermediates,
                    now,
                    usage,
                    revocation,
                    None,
                )
                .map(|_| ())
            })
            .map_err(chain_error)
    }

    fn check_names(&self, leaf: &CertificateDer<'_>) -> Result<(), Refusal> {
        let peer = PeerCertificate::parse(std::slice::from_ref(leaf))?;
        if peer.is_ca {
            return Err(Refusal::IsCa);
        }
        let spiffe = peer.uri_sans.iter().any(|uri| uri.starts_with("spiffe://"));
        if spiffe && peer.uri_sans.len() != 1 {
            return Err(Refusal::ManyUris(peer.uri_sans.len()));
        }
        if !self.pinned.is_empty() {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
            if !self.pinned.iter().any(|pin| pin == digest.as_ref()) {
                return Err(Refusal::NotPinned);
            }
        }
        if self.sans.is_empty() || self.sans.iter().any(|san| san.matches(&peer)) {
            return Ok(());
        }
        Err(Refusal::Unexpected(peer.uri_sans.iter().chain(&peer.dns_sans).cloned().collect()))
    }

    /// Whether a live connection's peer would still be accepted, all but its expiry, which ends connections
    /// by its own timer.
    pub(crate) fn still_accepts(&self, peer: &PeerCertificate, usage: Usage) -> bool {
        let Some((leaf, rest)) = peer.chain.split_first() else { return false };
        let at = peer.not_after - Duration::from_secs(1);
        let now = std::time::SystemTime::now().min(at).max(peer.not_before);
        let since = now.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.check(leaf, rest, UnixTime::since_unix_epoch(since), usage).is_ok()
    }
}

/// Which side the peer is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    Server,
    Client,
}

fn chain_error(error: webpki::Error) -> Error {
    let reason = match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::CertRevoked => CertificateError::Revoked,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    Error::InvalidCertificate(reason)
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(leaf, intermediates, now, Usage::Server).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.presence == Presence::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(leaf, intermediates, now, Usage::Client).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Upstream TLS without a validation context: Envoy accepts any certificate then, and so must we.
#[derive(Debug)]
pub(crate) struct AcceptAny(pub(crate) WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
