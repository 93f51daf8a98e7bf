//! Which names a peer's certificate must have.

use std::sync::Arc;

use weft_routing::matcher::{StringMatch, UndecidedAs};

use crate::peer::PeerCertificate;

/// One entry of `match_typed_subject_alt_names`.
#[derive(Debug, Clone)]
pub enum SanMatch {
    /// A URI name.
    Uri(StringMatch),
    /// A DNS name. An exact one is compared as DNS compares: without regard to case, and a certificate's wildcard covers it.
    Dns(StringMatch),
    /// An IP address or an e-mail address, compared as text.
    Other(StringMatch),
}

impl SanMatch {
    pub(super) fn matches(&self, peer: &PeerCertificate) -> bool {
        let any = |names: &[Arc<str>], matcher: &StringMatch| {
            names.iter().any(|name| matcher.matches(name.as_bytes(), UndecidedAs::Miss))
        };
        match self {
            Self::Uri(matcher) => any(&peer.names.uri_sans, matcher),
            Self::Dns(matcher) => match matcher.as_exact() {
                Some(value) => peer
                    .names
                    .dns_sans
                    .iter()
                    .any(|name| name.eq_ignore_ascii_case(value) || wildcard_covers(name, value)),
                None => any(&peer.names.dns_sans, matcher),
            },
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
