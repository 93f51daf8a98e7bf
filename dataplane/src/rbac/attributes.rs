//! What policies are asked about.

use std::net::{IpAddr, SocketAddr};

use crate::matcher::RequestHead;
use crate::peer::PeerCertificate;

/// What is known of a request or connection.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// The peer's certificate, verified; `None` without one.
    pub peer: Option<&'a PeerCertificate>,
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
    /// The request; `None` for a connection.
    pub request: Option<RequestHead<'a>>,
}
