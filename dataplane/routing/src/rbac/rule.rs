//! The tree of a permission or a principal.

use super::attributes::Attributes;
use crate::matcher::{HeaderMatch, StringMatch, UndecidedAs};
use crate::metadata::MetadataMatch;
use crate::network::IpPrefix;

/// A permission or a principal: both are trees of the same kind.
#[derive(Clone, Debug)]
pub(crate) enum RbacRule {
    Any,
    And(Vec<RbacRule>),
    Or(Vec<RbacRule>),
    Not(Box<RbacRule>),
    Header(HeaderMatch),
    Path(StringMatch),
    DestinationIp(IpPrefix),
    DestinationPorts(std::ops::Range<u32>),
    ServerName(StringMatch),
    Authenticated(Option<StringMatch>),
    DirectRemoteIp(IpPrefix),
    RemoteIp(IpPrefix),
    /// What a filter before found out, such as the claims of a token.
    Metadata(MetadataMatch),
    /// Where the request would go; no range is any.
    Upstream(Option<IpPrefix>, Option<std::ops::Range<u32>>),
}

impl RbacRule {
    /// Whether the rule holds; `lean` is the safe answer in doubt.
    pub(super) fn matches(&self, at: &Attributes<'_>, undecided: UndecidedAs) -> bool {
        match self {
            Self::Any => true,
            Self::And(rules) => rules.iter().all(|rule| rule.matches(at, undecided)),
            Self::Or(rules) => rules.iter().any(|rule| rule.matches(at, undecided)),
            Self::Not(rule) => !rule.matches(at, undecided.flipped()),
            Self::Header(header) => at.request.is_some_and(|request| header.matches(&request, undecided)),
            Self::Path(text) => {
                at.request.is_some_and(|request| text.matches(request.path_only().as_bytes(), undecided))
            }
            Self::DestinationIp(range) => range.contains(at.local.ip()),
            Self::DestinationPorts(ports) => ports.contains(&u32::from(at.local.port())),
            Self::ServerName(text) => text.matches(at.server_name.unwrap_or_default().as_bytes(), undecided),
            Self::Authenticated(None) => at.peer.is_some(),
            Self::Authenticated(Some(name)) => at.peer.is_some_and(|peer| {
                let any = |names: &[std::sync::Arc<str>]| {
                    names.iter().any(|n| name.matches(n.as_bytes(), undecided))
                };
                any(&peer.uri_sans) || any(&peer.dns_sans) || name.matches(peer.subject.as_bytes(), undecided)
            }),
            Self::DirectRemoteIp(range) => range.contains(at.direct_remote),
            Self::RemoteIp(range) => range.contains(at.remote),
            Self::Metadata(matcher) => matcher.matches(at.metadata),
            Self::Upstream(range, ports) => {
                let fits = |address: &std::net::SocketAddr| {
                    range.as_ref().is_none_or(|range| range.contains(address.ip()))
                        && ports.as_ref().is_none_or(|ports| ports.contains(&u32::from(address.port())))
                };
                // Any of the addresses may be the one: one of them is enough where the answer refuses.
                match undecided {
                    UndecidedAs::Match => at.upstream.iter().any(fits),
                    UndecidedAs::Miss => !at.upstream.is_empty() && at.upstream.iter().all(fits),
                }
            }
        }
    }
}
