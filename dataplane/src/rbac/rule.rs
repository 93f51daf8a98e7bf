//! The tree of a permission or a principal.

use super::attributes::Attributes;
use crate::matcher::{HeaderMatch, Lean, StringMatch};
use crate::network::IpPrefix;

/// A permission or a principal: both are trees of the same kind.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    Any,
    And(Vec<Rule>),
    Or(Vec<Rule>),
    Not(Box<Rule>),
    Header(HeaderMatch),
    Path(StringMatch),
    DestinationIp(IpPrefix),
    DestinationPorts(std::ops::Range<u32>),
    ServerName(StringMatch),
    Authenticated(Option<StringMatch>),
    DirectRemoteIp(IpPrefix),
    RemoteIp(IpPrefix),
    /// Where the request would go; no range is any.
    Upstream(Option<IpPrefix>, Option<std::ops::Range<u32>>),
}

impl Rule {
    /// Whether the rule holds; `lean` is the safe answer in doubt.
    pub(super) fn matches(&self, at: &Attributes<'_>, lean: Lean) -> bool {
        match self {
            Self::Any => true,
            Self::And(rules) => rules.iter().all(|rule| rule.matches(at, lean)),
            Self::Or(rules) => rules.iter().any(|rule| rule.matches(at, lean)),
            Self::Not(rule) => !rule.matches(at, lean.flipped()),
            Self::Header(header) => at.request.is_some_and(|request| header.matches(&request, lean)),
            Self::Path(text) => {
                at.request.is_some_and(|request| text.matches(request.path_only().as_bytes(), lean))
            }
            Self::DestinationIp(range) => range.contains(at.local.ip()),
            Self::DestinationPorts(ports) => ports.contains(&u32::from(at.local.port())),
            Self::ServerName(text) => text.matches(at.server_name.unwrap_or_default().as_bytes(), lean),
            Self::Authenticated(None) => at.peer.is_some(),
            Self::Authenticated(Some(name)) => at.peer.is_some_and(|peer| {
                let any =
                    |names: &[std::sync::Arc<str>]| names.iter().any(|n| name.matches(n.as_bytes(), lean));
                any(&peer.uri_sans) || any(&peer.dns_sans) || name.matches(peer.subject.as_bytes(), lean)
            }),
            Self::DirectRemoteIp(range) => range.contains(at.direct_remote),
            Self::RemoteIp(range) => range.contains(at.remote),
            Self::Upstream(range, ports) => {
                let fits = |address: &std::net::SocketAddr| {
                    range.as_ref().is_none_or(|range| range.contains(address.ip()))
                        && ports.as_ref().is_none_or(|ports| ports.contains(&u32::from(address.port())))
                };
                // Any of the addresses may be the one: one of them is enough where the answer refuses.
                match lean {
                    Lean::Match => at.upstream.iter().any(fits),
                    Lean::Miss => !at.upstream.is_empty() && at.upstream.iter().all(fits),
                }
            }
        }
    }
}
