//! Which filter chain serves a connection: Envoy's precedence.
//!
//! Criteria are looked at one after the other: destination port, destination address, server name, transport
//! protocol, application protocol, direct source address, source type, source address, source port. At each
//! one, only the chains with the most specific value that matches stay; there is no way back to a less specific
//! one when a later criterion fails.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weft_routing::network::IpPrefix;

use crate::runtime::{FilterChain, FilterChainMatch, Listener, SourceType, TransportProtocol};

/// What a connection is matched by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MatchInput<'a> {
    pub(crate) destination: SocketAddr,
    pub(crate) source: SocketAddr,
    pub(crate) server_name: Option<&'a str>,
    pub(crate) transport: TransportProtocol,
    pub(crate) protocols: &'a [String],
}

/// The chain for a connection, the listener's default one, or none.
pub(crate) fn find_chain<'a>(listener: &'a Listener, input: &MatchInput<'_>) -> Option<&'a Arc<FilterChain>> {
    let mut left: Vec<&Arc<FilterChain>> = listener.filter_chains.iter().collect();
    for criterion in CRITERIA {
        narrow(&mut left, |matches| criterion(matches, input));
        if left.is_empty() {
            break;
        }
    }
    left.first().copied().or(listener.default_filter_chain.as_ref())
}

/// How well a chain matches by one criterion: `None` not at all, 0 where it does not ask, more is more specific.
type Criterion = fn(&FilterChainMatch, &MatchInput<'_>) -> Option<u32>;

const CRITERIA: [Criterion; 9] = [
    |m, f| given(m.destination_port.as_ref(), |port| *port == f.destination.port()),
    |m, f| longest(&m.prefix_ranges, f.destination.ip()),
    |m, f| server_name(&m.server_names, f.server_name),
    |m, f| given(m.transport_protocol.as_ref(), |transport| *transport == f.transport),
    |m, f| {
        let asked = (!m.application_protocols.is_empty()).then_some(&m.application_protocols);
        given(asked, |wanted| f.protocols.iter().any(|offered| wanted.iter().any(|one| **one == **offered)))
    },
    |m, f| longest(&m.direct_source_prefix_ranges, f.source.ip()),
    |m, f| match m.source_type {
        SourceType::Any => Some(0),
        SourceType::SameIpOrLoopback => is_local(f).then_some(1),
        SourceType::External => (!is_local(f)).then_some(1),
    },
    |m, f| longest(&m.source_prefix_ranges, f.source.ip()),
    |m, f| {
        let asked = (!m.source_ports.is_empty()).then_some(&m.source_ports);
        given(asked, |ports| ports.contains(&f.source.port()))
    },
];

fn narrow(left: &mut Vec<&Arc<FilterChain>>, how_well: impl Fn(&FilterChainMatch) -> Option<u32>) {
    let best = left.iter().filter_map(|chain| how_well(&chain.matches)).max();
    left.retain(|chain| best.is_some() && how_well(&chain.matches) == best);
}

fn given<T>(asked: Option<&T>, matches: impl FnOnce(&T) -> bool) -> Option<u32> {
    match asked {
        None => Some(0),
        Some(value) => matches(value).then_some(1),
    }
}

fn longest(ranges: &[IpPrefix], ip: IpAddr) -> Option<u32> {
    if ranges.is_empty() {
        return Some(0);
    }
    ranges.iter().filter(|range| range.contains(ip)).map(|range| 1 + u32::from(range.length())).max()
}

/// An exact name beats a wildcard, a longer wildcard a shorter one.
fn server_name(wanted: &[Arc<str>], name: Option<&str>) -> Option<u32> {
    if wanted.is_empty() {
        return Some(0);
    }
    let name = name?;
    let score = |pattern: &Arc<str>| {
        if **pattern == *name {
            return Some(u32::MAX);
        }
        let suffix = pattern.strip_prefix('*')?;
        let covered = suffix.starts_with('.') && name.len() > suffix.len() && name.ends_with(suffix);
        covered.then(|| u32::try_from(pattern.len()).unwrap_or(u32::MAX - 1))
    };
    wanted.iter().filter_map(score).max()
}

fn is_local(input: &MatchInput<'_>) -> bool {
    input.source.ip().to_canonical().is_loopback() || input.source.ip() == input.destination.ip()
}
