//! Why a TLS context cannot be prepared.

use crate::peer::PeerCertificateError;

/// A TLS context that cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate, key or revocation list is not what it should be.
    #[error("{what} cannot be read: {reason}")]
    Unreadable { what: &'static str, reason: String },
    /// The leaf cannot be parsed.
    #[error(transparent)]
    Certificate(#[from] PeerCertificateError),
    /// The key does not fit the certificate, or rustls refuses the combination.
    #[error("TLS context is refused: {0}")]
    Refused(#[from] rustls::Error),
    /// `sni` is neither a DNS name nor an address.
    #[error("sni {0:?} is not a host name")]
    BadServerName(String),
    /// A server without certificate.
    #[error("a listener's TLS context needs a certificate")]
    NoCertificate,
    /// Client certificates are required without anything to check them against.
    #[error("require_client_certificate needs a trusted_ca")]
    NoTrust,
}

/// An input that is not what it should be, for `map_err`.
pub(super) fn unreadable(what: &'static str) -> impl FnOnce(String) -> TlsError {
    move |reason| TlsError::Unreadable { what, reason }
}
