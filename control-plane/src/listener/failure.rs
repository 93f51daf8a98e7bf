//! Why a handshake failed, in words for the operator's log.

use std::fmt;
use std::io;

use rustls::{CertificateError, Error};
use time::OffsetDateTime;

use crate::metrics::HandshakeFailure;
use crate::tls::ExpiredCertificate;

/// A handshake that failed.
#[derive(Debug)]
pub(super) struct FailedHandshake {
    pub(super) reason: HandshakeFailure,
    pub(super) shown: Option<ExpiredCertificate>,
    text: String,
}

impl FailedHandshake {
    pub(super) fn new(reason: HandshakeFailure, text: &str) -> Self {
        Self { reason, shown: None, text: text.to_owned() }
    }

    /// What went wrong in a handshake, and what the client showed in it.
    pub(super) fn of(error: &io::Error, shown: Option<ExpiredCertificate>, now: OffsetDateTime) -> Self {
        use HandshakeFailure as F;
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        let Some(tls) = tls else {
            let reason = if error.kind() == io::ErrorKind::TimedOut { F::timed_out } else { F::closed };
            return Self { reason, shown: None, text: format!("it went away in the handshake: {error}") };
        };
        let (reason, text) = match tls {
            Error::InvalidCertificate(error) => of_certificate(error, shown.as_ref(), now),
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => (
                F::nothing_in_common,
                format!("it speaks another TLS than this port, which is TLS 1.3: {tls}"),
            ),
            Error::AlertReceived(alert) => (
                F::refused_by_client,
                format!(
                    "it does not accept our certificate ({alert:?}); does it trust this mesh's roots, and is this \
                         an address that they name?"
                ),
            ),
            Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
                (F::not_tls, "it does not speak TLS; this port wants https".to_owned())
            }
            other => (F::other, other.to_string()),
        };
        Self { reason, shown, text }
    }
}

fn of_certificate(
    error: &CertificateError,
    shown: Option<&ExpiredCertificate>,
    now: OffsetDateTime,
) -> (HandshakeFailure, String) {
    use HandshakeFailure as F;
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            let ago = shown.map(|shown| (now - shown.not_after).max(time::Duration::ZERO).unsigned_abs());
            let ago = ago.map(|ago| format!(" {} ago", humantime::format_duration(coarse(ago))));
            let ago = ago.unwrap_or_default();
            (
                F::expired,
                format!("its certificate expired{ago}; is `weft-proxy join --keep` running beside it?"),
            )
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            (F::not_yet_valid, "its certificate does not hold yet; do the clocks agree?".to_owned())
        }
        CertificateError::Revoked => {
            (F::revoked, "its certificate was revoked; it may join again with a new token".to_owned())
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            (F::unknown_issuer, "its certificate is not of this mesh; it may join with a token".to_owned())
        }
        CertificateError::Other(other) => (F::not_an_identity, other.to_string()),
        other => (F::other, format!("its certificate is refused: {other:?}")),
    }
}

/// As a person would say it: two units would be one too many.
fn coarse(ago: std::time::Duration) -> std::time::Duration {
    let seconds = ago.as_secs();
    let unit = [86_400, 3600, 60, 1].into_iter().find(|unit| seconds >= *unit).unwrap_or(1);
    std::time::Duration::from_secs(seconds - seconds % unit)
}

impl fmt::Display for FailedHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
