//! Verifies client certificates: the chain by webpki, then the identity by the mesh's own rules.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use weft_api::TrustDomain;

use super::peer::identify;
use super::shown::{ExpiredCertificate, note_shown};

/// Whether a client may come without a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Asked for, and verified when there is one: a joiner has none yet.
    Optional,
    /// A connection without one ends in the handshake.
    Required,
    Ignored,
}

/// The verifier of one bundle.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    trust_domain: TrustDomain,
}

impl ClientVerifier {
    pub(super) fn try_new(
        bundle: &[CertificateDer<'static>],
        trust_domain: TrustDomain,
        clients: ClientCertificates,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        if clients == ClientCertificates::Ignored {
            return Ok(WebPkiClientVerifier::no_client_auth());
        }
        let mut roots = RootCertStore::empty();
        for root in bundle {
            roots.add(root.clone())?;
        }
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        // A client has one identity in the mesh; hints would only tell strangers the root's name.
        builder = builder.clear_root_hint_subjects();
        if clients == ClientCertificates::Optional {
            builder = builder.allow_unauthenticated();
        }
        let chain = builder.build().map_err(|error| Error::General(error.to_string()))?;
        Ok(Arc::new(Self { chain, trust_domain }))
    }
}

impl ClientVerifier {
    /// Leaves word of whom a certificate named that is only too old: for the log, and if it held a moment before its end.
    fn note(&self, error: &Error, end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) {
        let Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) =
            error
        else {
            return;
        };
        let Ok(peer) = identify(end_entity, &self.trust_domain) else { return };
        let Ok(before) = u64::try_from(peer.not_after.unix_timestamp() - 1) else { return };
        let before = UnixTime::since_unix_epoch(Duration::from_secs(before));
        if self.chain.verify_client_cert(end_entity, intermediates, before).is_ok() {
            note_shown(ExpiredCertificate { workload: peer.workload, not_after: peer.not_after });
        }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)
            .inspect_err(|error| self.note(error, end_entity, intermediates))?;
        identify(end_entity, &self.trust_domain)
            .map_err(|error| CertificateError::Other(OtherError(Arc::new(error))))?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
