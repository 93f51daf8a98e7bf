//! Verification of the control plane: its reserved identity, exactly, under a known root.
//!
//! Every workload's leaf carries serverAuth under the same root, so the name decides: only
//! `spiffe://TRUST-DOMAIN/control-plane` passes, host names do not count.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use sha2::{Digest as _, Sha256};
use weft_api::{SpiffeId, TrustDomain};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::IdentityError;

/// How the root is known.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Before the join: the token carries SHA-256 of the root's `SubjectPublicKeyInfo`, and the server sends its
    /// root with its chain.
    Pin([u8; 32]),
    /// After it: the bundle and the mesh's trust domain.
    Bundle { roots: Vec<CertificateDer<'static>>, trust_domain: TrustDomain },
}

/// Accepts the control plane and nobody else.
#[derive(Debug)]
pub struct ControlPlaneVerifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ControlPlaneVerifier {
    /// A verifier that uses the provider's algorithms.
    #[must_use]
    pub fn new(trust: Trust, provider: &CryptoProvider) -> Arc<Self> {
        Arc::new(Self { trust, algorithms: provider.signature_verification_algorithms })
    }

    fn verify_name(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?;
        let name = super::spiffe_of(&parsed).map_err(refusal)?;
        let SpiffeId::ControlPlane { trust_domain } = &name else {
            return Err(refusal(ServerRefusal::NotControlPlane(name.to_string())));
        };
        match &self.trust {
            Trust::Bundle { trust_domain: own, .. } if own != trust_domain => {
                Err(refusal(ServerRefusal::NotControlPlane(name.to_string())))
            }
            Trust::Bundle { .. } | Trust::Pin(_) => Ok(()),
        }
    }
}

/// Why the server is refused although the handshake is sound.
#[derive(thiserror::Error)]
enum ServerRefusal {
    #[error("the server is {0}, not the mesh's control plane")]
    NotControlPlane(String),
    #[error("the server's root is not the one that the token names: another mesh, or somebody between")]
    OtherRoot,
    #[error(transparent)]
    Names(#[from] IdentityError),
    #[error(transparent)]
    Chain(#[from] webpki::Error),
}

// rustls shows the debug form of foreign errors; people should read the words.
impl std::fmt::Debug for ServerRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

fn refusal(refusal: impl Into<ServerRefusal>) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal.into()))))
}

/// SHA-256 of a certificate's `SubjectPublicKeyInfo`.
#[must_use]
pub fn spki_sha256(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(Sha256::digest(parsed.tbs_certificate.subject_pki.raw).into())
}

impl ServerCertVerifier for ControlPlaneVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let roots: Vec<CertificateDer<'_>> = match &self.trust {
            Trust::Bundle { roots, .. } => roots.clone(),
            Trust::Pin(pin) => {
                let pinned = intermediates.iter().find(|sent| spki_sha256(sent) == Some(*pin));
                vec![pinned.ok_or_else(|| refusal(ServerRefusal::OtherRoot))?.clone()]
            }
        };
        let bad = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
        let anchors =
            roots.iter().map(webpki::anchor_from_trusted_cert).collect::<Result<Vec<_>, _>>().map_err(bad)?;
        let leaf = webpki::EndEntityCert::try_from(end_entity).map_err(bad)?;
        leaf.verify_for_usage(
            self.algorithms.all,
            &anchors,
            intermediates,
            now,
            webpki::KeyUsage::server_auth(),
            None,
            None,
        )
        .map_err(|error| match error {
            webpki::Error::CertExpired { .. } => CertificateError::Expired.into(),
            webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet.into(),
            webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer.into(),
            other => refusal(other),
        })?;
        self.verify_name(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("the control plane is spoken to over TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Authority;
    use super::*;
    use std::time::Duration;

    const CONTROL_PLANE: &str = "spiffe://mesh.local/control-plane";

    fn verify(trust: Trust, uri: &str, authority: &Authority, life: Duration) -> Result<(), String> {
        let identity = authority.identity(uri, life);
        let provider = super::super::channel::provider();
        ControlPlaneVerifier::new(trust, &provider)
            .verify_server_cert(
                &identity.chain()[0],
                &[authority.root()],
                &ServerName::try_from("anything").unwrap(),
                &[],
                UnixTime::now(),
            )
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    fn bundle(authority: &Authority, domain: &str) -> Trust {
        Trust::Bundle { roots: vec![authority.root()], trust_domain: domain.parse().unwrap() }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn accepts_the_control_plane_by_bundle_and_by_pin() {
        let authority = Authority::new();
        assert_eq!(verify(bundle(&authority, "mesh.local"), CONTROL_PLANE, &authority, HOUR), Ok(()));
        let pin = spki_sha256(&authority.root()).unwrap();
        assert_eq!(verify(Trust::Pin(pin), CONTROL_PLANE, &authority, HOUR), Ok(()));
    }

    #[test]
    fn refuses_a_workload_that_poses_as_the_control_plane() {
        let authority = Authority::new();
        let pin = Trust::Pin(spki_sha256(&authority.root()).unwrap());
        for trust in [bundle(&authority, "mesh.local"), pin] {
            let refused = verify(trust, "spiffe://mesh.local/ns/shop/svc/web", &authority, HOUR).unwrap_err();
            assert!(refused.contains("not the mesh's control plane"), "{refused}");
        }
    }

    #[test]
    fn refuses_the_control_plane_of_another_mesh() {
        let authority = Authority::new();
        assert!(verify(bundle(&authority, "other.local"), CONTROL_PLANE, &authority, HOUR).is_err());
        let stranger = Authority::new();
        assert!(verify(bundle(&stranger, "mesh.local"), CONTROL_PLANE, &authority, HOUR).is_err());
    }

    #[test]
    fn refuses_a_root_that_the_token_does_not_name() {
        let authority = Authority::new();
        let refused = verify(Trust::Pin([7; 32]), CONTROL_PLANE, &authority, HOUR).unwrap_err();
        assert!(refused.contains("token"), "{refused}");
    }
}
