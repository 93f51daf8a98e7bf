//! Which names a peer's certificate must have.

use std::sync::Arc;

use regex::bytes::Regex;

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
    /// Matches as a whole: made by [`crate::matcher::whole_regex`].
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
            Self::Regex(regex) => regex.is_match(name.as_bytes()),
        }
    }
}

impl SanMatch {
    pub(super) fn matches(&self, peer: &PeerCertificate) -> bool {
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
