//! Who a peer must be: chain, revocation, and exact names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{
    EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder,
    UnknownStatusPolicy,
};

use super::revocation::RevocationLists;
use super::san::SanMatch;
use crate::peer::{PeerCertificate, PeerCertificateError};
use crate::stats::{CounterId, TlsStats};

/// Why a peer is refused although its chain is good.
#[derive(Debug, thiserror::Error)]
enum PeerRefusal {
    #[error("certificate has {0} URI names, a SPIFFE identity has exactly one")]
    ManyUris(usize),
    #[error("certificate may sign certificates, so it is no workload's")]
    IsCa,
    #[error("certificate names {0:?}, none of which is expected here")]
    Unexpected(Vec<Arc<str>>),
    #[error("certificate's hash is not one of those that are pinned")]
    NotPinned,
    #[error("certificate cannot be read: {0}")]
    Malformed(#[from] PeerCertificateError),
}

/// Checks a peer's chain against roots, revocation lists and names, for either side of a handshake.
#[derive(Debug)]
pub(crate) struct PeerVerifier {
    roots: RootCertStore,
    revocations: Arc<RevocationLists>,
    depth: RevocationCheckDepth,
    sans: Vec<SanMatch>,
    pinned: Vec<[u8; 32]>,
    requirement: CertificateRequirement,
    algorithms: WebPkiSupportedAlgorithms,
    hints: Vec<DistinguishedName>,
    /// Equal for verifiers that differ in revocation lists at most.
    digest: [u8; 32],
    /// Whom each thread has refused last. rustls tells why a handshake failed, and not with whom; who runs the handshake
    /// asks for it at once. A lock, since contexts are shared; it is taken where a peer is refused, and nothing is done
    /// under it.
    refused: Mutex<HashMap<ThreadId, String>>,
}

/// What of a context changed, as far as connections that it let in are concerned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TrustChange {
    /// Nothing: a new certificate of our own, or the same again.
    #[default]
    Nothing,
    /// Revocation lists alone: looking a serial number up is enough.
    Revocations,
    /// What peers are checked against.
    Anchors,
}

impl TrustChange {
    pub(super) fn between(before: Option<&PeerVerifier>, now: Option<&PeerVerifier>) -> Self {
        match (before, now) {
            (_, None) => Self::Nothing,
            (None, Some(_)) => Self::Anchors,
            (Some(before), Some(now)) if before.digest != now.digest => Self::Anchors,
            (Some(before), Some(now)) if before.revocations.digest() != now.revocations.digest() => {
                Self::Revocations
            }
            (Some(_), Some(_)) => Self::Nothing,
        }
    }
}

/// Whether a client must present a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CertificateRequirement {
    Required,
    Optional,
}

impl PeerVerifier {
    pub(crate) fn new(
        roots: RootCertStore,
        revocations: Arc<RevocationLists>,
        depth: RevocationCheckDepth,
        sans: Vec<SanMatch>,
        requirement: CertificateRequirement,
    ) -> Self {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        Self {
            roots,
            revocations,
            depth,
            sans,
            pinned: Vec::new(),
            requirement,
            algorithms,
            hints: Vec::new(),
            digest: [0; 32],
            refused: Mutex::default(),
        }
    }

    pub(crate) fn with_digest(mut self, digest: [u8; 32]) -> Self {
        self.digest = digest;
        self
    }

    /// Who was refused last on this thread, where it presented a certificate that can be read.
    pub(crate) fn take_refused(&self) -> Option<String> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.remove(&std::thread::current().id())
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
        role: PeerRole,
    ) -> Result<(), Error> {
        self.check_chain(leaf, intermediates, now, role)?;
        self.check_whom(leaf)
    }

    fn check_whom(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        self.check_names(leaf).map_err(|refusal| {
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
        })
    }

    /// The check of a handshake, which remembers whom it refused.
    fn check_new(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        role: PeerRole,
    ) -> Result<(), Error> {
        self.check(leaf, intermediates, now, role).inspect_err(|_| {
            if let Ok(peer) = PeerCertificate::parse(std::slice::from_ref(leaf)) {
                let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                refused.insert(std::thread::current().id(), peer.described());
            }
        })
    }

    fn check_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        role: PeerRole,
    ) -> Result<(), Error> {
        let chain: Vec<&CertificateDer<'_>> = std::iter::once(leaf).chain(intermediates).collect();
        let lists = self.revocations.of(&chain);
        // No list of the issuer's, or one that is past its time: see the module of the lists for why both pass.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|builder| {
            builder
                .with_depth(self.depth)
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Ignore)
                .build()
        });
        let role = match role {
            PeerRole::Server => KeyUsage::server_auth(),
            PeerRole::Client => KeyUsage::client_auth(),
        };
        EndEntityCert::try_from(leaf)
            .and_then(|cert| {
                cert.verify_for_usage(
                    self.algorithms.all,
                    &self.roots.roots,
                    intermediates,
                    now,
                    role,
                    revocation,
                    None,
                )
                .map(|_| ())
            })
            .map_err(chain_error)
    }

    fn check_names(&self, leaf: &CertificateDer<'_>) -> Result<(), PeerRefusal> {
        let peer = PeerCertificate::parse(std::slice::from_ref(leaf))?;
        if peer.is_ca {
            return Err(PeerRefusal::IsCa);
        }
        let spiffe = peer.names.uri_sans.iter().any(|uri| uri.starts_with("spiffe://"));
        if spiffe && peer.names.uri_sans.len() != 1 {
            return Err(PeerRefusal::ManyUris(peer.names.uri_sans.len()));
        }
        if !self.pinned.is_empty() {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
            if !self.pinned.iter().any(|pin| pin == digest.as_ref()) {
                return Err(PeerRefusal::NotPinned);
            }
        }
        if self.sans.is_empty() || self.sans.iter().any(|san| san.matches(&peer)) {
            return Ok(());
        }
        Err(PeerRefusal::Unexpected(
            peer.names.uri_sans.iter().chain(&peer.names.dns_sans).cloned().collect(),
        ))
    }

    pub(super) fn revocations(&self) -> &Arc<RevocationLists> {
        &self.revocations
    }

    /// Why a live connection's peer would not be accepted any more, if so. Its expiry is left out, which ends connections
    /// by its own timer.
    pub(crate) fn refusal(
        &self,
        peer: &PeerCertificate,
        role: PeerRole,
        change: TrustChange,
    ) -> Option<String> {
        match change {
            TrustChange::Nothing => None,
            TrustChange::Revocations => self.revocations.revoke(&peer.issued).then(revoked),
            TrustChange::Anchors => {
                let (leaf, rest) = peer.chain.split_first()?;
                let now = SystemTime::now();
                // A request that is under way when its connection's certificate ends goes on to its end. Roots that are taken
                // away after that say nothing about it: one leaves a mesh when no certificate below it is in its life.
                if now >= peer.not_after {
                    let is_revoked = self.revocations.revoke(&peer.issued);
                    let checked = self.check_whom(leaf).err().map(|error| reason(&error));
                    return is_revoked.then(revoked).or(checked);
                }
                let now = now.min(peer.not_after - Duration::from_secs(1)).max(peer.not_before);
                let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                let checked = self.check(leaf, rest, UnixTime::since_unix_epoch(since), role);
                checked.err().map(|error| reason(&error))
            }
        }
    }
}

/// Which side the peer is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerRole {
    Server,
    Client,
}

/// That a peer is on a list, in words.
pub(crate) fn revoked() -> String {
    reason(&CertificateError::Revoked.into())
}

/// Why a handshake failed, in words for whoever runs the mesh.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::Revoked) => "the certificate is revoked".into(),
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the certificate has expired".into()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the certificate is not valid yet; compare the clocks".into(),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "no root of the trust bundle has issued the certificate".into()
        }
        Error::InvalidCertificate(CertificateError::Other(other)) => other.to_string(),
        Error::NoCertificatesPresented => "no certificate was presented".into(),
        Error::AlertReceived(alert) => format!("the peer refused with the alert {alert:?}"),
        other => other.to_string(),
    }
}

/// Which counter of Envoy's a failed handshake belongs to.
pub(crate) fn counter_of(error: &Error, stats: &TlsStats) -> CounterId {
    match error {
        Error::NoCertificatesPresented => stats.fail_verify_no_cert,
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            match other.0.downcast_ref::<PeerRefusal>() {
                Some(PeerRefusal::Unexpected(_)) => stats.fail_verify_san,
                Some(PeerRefusal::NotPinned) => stats.fail_verify_cert_hash,
                Some(PeerRefusal::ManyUris(_) | PeerRefusal::IsCa | PeerRefusal::Malformed(_)) | None => {
                    stats.fail_verify_error
                }
            }
        }
        Error::InvalidCertificate(_) => stats.fail_verify_error,
        _ => stats.connection_error,
    }
}

fn chain_error(error: webpki::Error) -> Error {
    let reason = match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::CertRevoked => CertificateError::Revoked,
        // An issuer of the right name whose key did not sign it is another issuer.
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            CertificateError::UnknownIssuer
        }
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
        self.check_new(leaf, intermediates, now, PeerRole::Server).map(|()| ServerCertVerified::assertion())
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
        self.requirement == CertificateRequirement::Required
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
        self.check_new(leaf, intermediates, now, PeerRole::Client).map(|()| ClientCertVerified::assertion())
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
