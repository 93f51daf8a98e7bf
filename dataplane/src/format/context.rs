//! What a format can tell of a request or connection.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use weft_routing::matcher::RequestHead;

use super::flags::ResponseFlags;
use crate::peer::PeerCertificate;

/// The facts of one request, or of one connection without the request. Fill in what is known; the rest is absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct FormatContext<'a> {
    /// The request's head as the caller sent it, normalised.
    pub request: Option<RequestHead<'a>>,
    /// Headers of the response.
    pub response: Option<&'a HeaderMap>,
    /// Trailers of the response.
    pub trailers: Option<&'a HeaderMap>,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub protocol: Option<&'a str>,
    /// Status of the response; 0 when none was sent.
    pub response_code: u16,
    /// Why the response is what it is, such as `via_upstream` or `route_not_found`.
    pub response_code_details: Option<&'a str>,
    pub flags: ResponseFlags,
    /// Bytes of the request's body.
    pub bytes_received: u64,
    /// Bytes of the response's body.
    pub bytes_sent: u64,
    /// When the request or connection began.
    pub start: Option<SystemTime>,
    /// How long things took from there.
    pub timing: Timing,
    pub downstream: DownstreamInfo<'a>,
    pub upstream: UpstreamInfo<'a>,
    /// Name of the route.
    pub route_name: &'a str,
    /// Name of the virtual host.
    pub virtual_host: &'a str,
    pub hostname: &'a str,
    /// The text that the proxy answers by itself.
    pub local_reply_body: &'a str,
    /// Why the proxy closed the connection.
    pub connection_termination_details: Option<&'a str>,
    /// `x-request-id`, else a number.
    pub stream_id: &'a str,
    /// The trace that the request is part of, where that is recorded, in hexadecimal digits.
    pub trace_id: &'a str,
    /// `grpc-status` of the response, from its head or its trailers.
    pub grpc_status: Option<u32>,
}

/// Times since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    pub total: Option<Duration>,
    /// To the last byte of the request.
    pub request: Option<Duration>,
    /// To the last byte of the request sent upstream.
    pub request_sent: Option<Duration>,
    /// To the first byte of the upstream's response.
    pub response: Option<Duration>,
    /// To the first byte of the response sent to the caller.
    pub response_sent: Option<Duration>,
}

/// The caller's side of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct DownstreamInfo<'a> {
    /// The proxy's address of the connection.
    pub local: Option<SocketAddr>,
    /// The other end of the connection.
    pub direct_remote: Option<SocketAddr>,
    /// The caller after trusted `x-forwarded-for` hops; the other end where absent.
    pub remote: Option<IpAddr>,
    /// Server name of the TLS handshake.
    pub server_name: Option<&'a str>,
    /// The caller's certificate, where it showed one.
    pub peer: Option<&'a PeerCertificate>,
    /// The certificate that the proxy showed.
    pub certificate: Option<&'a PeerCertificate>,
    /// For instance `TLSv1.3`.
    pub tls_version: Option<&'a str>,
    /// For instance `TLS_AES_128_GCM_SHA256`.
    pub tls_cipher: Option<&'a str>,
    /// Why the TLS handshake failed.
    pub transport_failure: Option<&'a str>,
    /// A number of the connection.
    pub connection_id: u64,
}

/// The endpoint's side of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct UpstreamInfo<'a> {
    pub host: Option<SocketAddr>,
    pub host_name: Option<&'a str>,
    /// The proxy's address of the connection.
    pub local: Option<SocketAddr>,
    pub cluster: Option<&'a str>,
    /// Why the connection failed.
    pub transport_failure: Option<&'a str>,
    /// How often the request was sent.
    pub attempts: u32,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: Option<&'a str>,
    /// The endpoint's certificate, where TLS is spoken.
    pub peer: Option<&'a PeerCertificate>,
    /// As for the caller's side.
    pub tls_version: Option<&'a str>,
    /// As for the caller's side.
    pub tls_cipher: Option<&'a str>,
}
