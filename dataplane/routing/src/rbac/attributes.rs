//! What policies are asked about.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::matcher::RequestHead;
use crate::metadata::KnownMetadata;

/// Whom a certificate names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerNames {
    /// URI subject alternative names, in order.
    pub uri_sans: Vec<Arc<str>>,
    /// DNS subject alternative names, in order.
    pub dns_sans: Vec<Arc<str>>,
    /// The subject in RFC 2253 form; empty for SPIFFE leaves of Weft.
    pub subject: String,
}

/// What is known of a request or connection.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Whom the peer's certificate names, verified; `None` without one.
    pub peer: Option<&'a PeerNames>,
    /// Server name of the TLS handshake.
    pub server_name: Option<&'a str>,
    /// Where the connection came in.
    pub local: SocketAddr,
    /// The other end of the connection.
    pub direct_remote: IpAddr,
    /// The caller, after trusted `x-forwarded-for` hops.
    pub remote: IpAddr,
    /// Where the request would go, where a filter found that out (`envoy.filters.http.dynamic_forward_proxy`).
    pub upstream: &'a [SocketAddr],
    /// What filters before found out.
    pub metadata: KnownMetadata<'a>,
    /// The request; `None` for a connection.
    pub request: Option<RequestHead<'a>>,
}
