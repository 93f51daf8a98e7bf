//! The commands of a format and how they read their facts.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use weft_routing::grpc::is_grpc;

use super::context::FormatContext;
use super::time::TimeFormat;
use crate::peer::PeerCertificate;

/// One command with its limit of length.
#[derive(Clone, Debug)]
pub(crate) struct CommandOperator {
    pub(super) op: FormatOp,
    pub(super) limit: Option<usize>,
}

#[derive(Clone, Debug)]
pub(crate) enum FormatOp {
    Time(TimeOf, TimeFormat),
    Header { side: HeaderSource, name: Box<str>, other: Option<Box<str>> },
    QueryParameter(Box<str>),
    Fact(Fact),
    Number(Number),
    Flags,
    FlagsLong,
    UpstreamHost(AddressPart),
    UpstreamLocal(AddressPart),
    DownstreamLocal(AddressPart),
    DownstreamRemote(AddressPart),
    DownstreamDirect(AddressPart),
    Peer(PeerField),
    UpstreamPeer(PeerField),
    Certificate(PeerField),
    GrpcStatus(GrpcForm),
    Fixed(Box<str>),
    Absent,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum TimeOf {
    Start,
    Now,
    PeerNotBefore,
    PeerNotAfter,
    UpstreamNotBefore,
    UpstreamNotAfter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderSource {
    Request,
    RequestWithoutQuery,
    Response,
    Trailer,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fact {
    Protocol,
    ResponseCodeDetails,
    ConnectionTerminationDetails,
    UpstreamHostName,
    UpstreamCluster,
    UpstreamTransportFailure,
    UpstreamProtocol,
    UpstreamTlsVersion,
    UpstreamTlsCipher,
    TlsVersion,
    TlsCipher,
    DownstreamTransportFailure,
    ServerName,
    RouteName,
    VirtualHost,
    Hostname,
    LocalReplyBody,
    StreamId,
    TraceId,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    ResponseCode,
    BytesReceived,
    BytesSent,
    Duration,
    RequestDuration,
    RequestTxDuration,
    ResponseDuration,
    ResponseTxDuration,
    UpstreamAttempts,
    ConnectionId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressPart {
    Whole,
    Ip,
    Port,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum PeerField {
    UriSans,
    DnsSans,
    Subject,
    Issuer,
    Serial,
    Fingerprint,
    Pem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrpcForm {
    Camel,
    Snake,
    Number,
}

impl CommandOperator {
    /// Appends the value; false, and nothing written, where it is absent.
    pub(super) fn write(&self, at: &FormatContext<'_>, out: &mut String) -> bool {
        if let Some(number) = self.number(at) {
            return write!(out, "{number}").is_ok();
        }
        match &self.op {
            FormatOp::Time(of, format) => time(*of, at).is_some_and(|time| format.write(time, out)),
            FormatOp::Header { side, name, other } => {
                let first = header(*side, name, at, out);
                first || other.as_ref().is_some_and(|other| header(*side, other, at, out))
            }
            FormatOp::QueryParameter(name) => push(out, query_parameter(name, at)),
            FormatOp::Fact(fact) => push(out, fact.read(at)),
            // Envoy writes the dash itself, so that JSON has it too.
            FormatOp::Flags => joined(out, at.flags.short_names()) || push(out, Some("-")),
            FormatOp::FlagsLong => joined(out, at.flags.long_names()) || push(out, Some("-")),
            FormatOp::UpstreamHost(part) => address(out, at.upstream.host, *part),
            FormatOp::UpstreamLocal(part) => address(out, at.upstream.local, *part),
            FormatOp::DownstreamLocal(part) => address(out, at.downstream.local, *part),
            FormatOp::DownstreamRemote(part) => address(out, remote(at), *part),
            FormatOp::DownstreamDirect(part) => address(out, at.downstream.direct_remote, *part),
            FormatOp::Peer(field) => at.downstream.peer.is_some_and(|peer| field.write(peer, out)),
            FormatOp::UpstreamPeer(field) => at.upstream.peer.is_some_and(|peer| field.write(peer, out)),
            FormatOp::Certificate(field) => {
                at.downstream.certificate.is_some_and(|own| field.write(own, out))
            }
            FormatOp::GrpcStatus(form) => {
                grpc_status(at).is_some_and(|status| write_grpc(status, *form, out))
            }
            FormatOp::Fixed(text) => push(out, Some(text)),
            FormatOp::Number(_) | FormatOp::Absent => false,
        }
    }

    /// The value of a command that is a number.
    pub(super) fn number(&self, at: &FormatContext<'_>) -> Option<u64> {
        let millis = |duration: Option<Duration>| duration.map(|duration| duration.as_millis() as u64);
        match &self.op {
            FormatOp::Number(number) => match number {
                Number::ResponseCode => Some(at.response_code.into()),
                Number::BytesReceived => Some(at.bytes_received),
                Number::BytesSent => Some(at.bytes_sent),
                Number::Duration => millis(at.timing.total),
                Number::RequestDuration => millis(at.timing.request),
                Number::RequestTxDuration => millis(at.timing.request_sent),
                Number::ResponseDuration => millis(at.timing.response),
                Number::ResponseTxDuration => {
                    let (sent, first) = (at.timing.response_sent?, at.timing.response?);
                    millis(Some(sent.saturating_sub(first)))
                }
                Number::UpstreamAttempts => Some(at.upstream.attempts.into()),
                Number::ConnectionId => Some(at.downstream.connection_id),
            },
            FormatOp::UpstreamHost(AddressPart::Port) => {
                at.upstream.host.map(|address| address.port().into())
            }
            FormatOp::UpstreamLocal(AddressPart::Port) => {
                at.upstream.local.map(|address| address.port().into())
            }
            FormatOp::DownstreamLocal(AddressPart::Port) => {
                at.downstream.local.map(|address| address.port().into())
            }
            FormatOp::DownstreamRemote(AddressPart::Port) => remote(at).map(|address| address.port().into()),
            FormatOp::DownstreamDirect(AddressPart::Port) => {
                at.downstream.direct_remote.map(|address| address.port().into())
            }
            FormatOp::GrpcStatus(GrpcForm::Number) => grpc_status(at).map(u64::from),
            _ => None,
        }
    }

    /// Cuts what was written from `start` on to the limit, at a character.
    pub(super) fn truncate(&self, out: &mut String, start: usize) {
        let Some(limit) = self.limit else { return };
        if out.len() - start > limit {
            let mut end = start + limit;
            while !out.is_char_boundary(end) {
                end -= 1;
            }
            out.truncate(end);
        }
    }
}

impl Fact {
    fn read<'a>(self, at: &FormatContext<'a>) -> Option<&'a str> {
        let named = |text: &'a str| (!text.is_empty()).then_some(text);
        match self {
            Self::Protocol => at.protocol,
            Self::ResponseCodeDetails => at.response_code_details,
            Self::ConnectionTerminationDetails => at.connection_termination_details,
            Self::UpstreamHostName => at.upstream.host_name,
            Self::UpstreamCluster => at.upstream.cluster,
            Self::UpstreamTransportFailure => at.upstream.transport_failure.and_then(named),
            Self::UpstreamProtocol => at.upstream.protocol,
            Self::UpstreamTlsVersion => at.upstream.tls_version,
            Self::UpstreamTlsCipher => at.upstream.tls_cipher,
            Self::TlsVersion => at.downstream.tls_version,
            Self::TlsCipher => at.downstream.tls_cipher,
            Self::DownstreamTransportFailure => at.downstream.transport_failure,
            Self::ServerName => at.downstream.server_name,
            Self::RouteName => named(at.route_name),
            Self::VirtualHost => named(at.virtual_host),
            Self::Hostname => named(at.hostname),
            Self::LocalReplyBody => Some(at.local_reply_body),
            Self::StreamId => named(at.stream_id),
            Self::TraceId => named(at.trace_id),
        }
    }
}

impl PeerField {
    fn write(self, peer: &PeerCertificate, out: &mut String) -> bool {
        let names = |out: &mut String, names: &[Arc<str>]| joined(out, names.iter().map(|name| &**name));
        let text = |out: &mut String, text: &str| push(out, (!text.is_empty()).then_some(text));
        match self {
            Self::UriSans => names(out, &peer.names.uri_sans),
            Self::DnsSans => names(out, &peer.names.dns_sans),
            Self::Subject => text(out, &peer.names.subject),
            Self::Issuer => text(out, &peer.issuer),
            Self::Serial => text(out, &peer.serial),
            Self::Fingerprint => text(out, &peer.fingerprint),
            Self::Pem => text(out, peer.url_encoded_pem()),
        }
    }
}

fn push(out: &mut String, text: Option<&str>) -> bool {
    text.is_some_and(|text| {
        out.push_str(text);
        true
    })
}

fn joined<'a>(out: &mut String, texts: impl Iterator<Item = &'a str>) -> bool {
    let start = out.len();
    for text in texts {
        if out.len() > start {
            out.push(',');
        }
        out.push_str(text);
    }
    out.len() > start
}

fn address(out: &mut String, address: Option<SocketAddr>, part: AddressPart) -> bool {
    address.is_some_and(|address| {
        match part {
            AddressPart::Whole => write!(out, "{address}"),
            AddressPart::Ip => write!(out, "{}", address.ip()),
            AddressPart::Port => write!(out, "{}", address.port()),
        }
        .is_ok()
    })
}

/// An address that came by a header has no port: 0, as in Envoy.
fn remote(at: &FormatContext<'_>) -> Option<SocketAddr> {
    match (at.downstream.remote, at.downstream.direct_remote) {
        (Some(ip), Some(direct)) if direct.ip() == ip => Some(direct),
        (Some(ip), _) => Some(SocketAddr::new(ip, 0)),
        (None, direct) => direct,
    }
}

fn time(of: TimeOf, at: &FormatContext<'_>) -> Option<SystemTime> {
    match of {
        TimeOf::Start => at.start,
        TimeOf::Now => match (at.start, at.timing.total) {
            (Some(start), Some(total)) => Some(start + total),
            _ => Some(SystemTime::now()),
        },
        TimeOf::PeerNotBefore => at.downstream.peer.map(|peer| peer.not_before),
        TimeOf::PeerNotAfter => at.downstream.peer.map(|peer| peer.not_after),
        TimeOf::UpstreamNotBefore => at.upstream.peer.map(|peer| peer.not_before),
        TimeOf::UpstreamNotAfter => at.upstream.peer.map(|peer| peer.not_after),
    }
}

fn header(side: HeaderSource, name: &str, at: &FormatContext<'_>, out: &mut String) -> bool {
    let found = |headers: Option<&HeaderMap>, out: &mut String| {
        let value = headers.and_then(|headers| headers.get(name));
        value.is_some_and(|value| {
            out.push_str(&String::from_utf8_lossy(value.as_bytes()));
            true
        })
    };
    match side {
        HeaderSource::Request | HeaderSource::RequestWithoutQuery => {
            let Some(request) = &at.request else { return false };
            let start = out.len();
            let written = match name {
                ":method" => push(out, Some(request.method)),
                ":scheme" => push(out, Some(request.scheme)),
                ":authority" | "host" => {
                    push(out, (!request.authority.is_empty()).then_some(request.authority))
                }
                ":path" => push(out, (!request.path.is_empty()).then_some(request.path)),
                _ => found(Some(request.headers), out),
            };
            if side == HeaderSource::RequestWithoutQuery
                && let Some(query) = out[start..].find('?')
            {
                out.truncate(start + query);
            }
            written
        }
        HeaderSource::Response if name == ":status" => {
            at.response_code != 0 && write!(out, "{}", at.response_code).is_ok()
        }
        HeaderSource::Response => found(at.response, out),
        HeaderSource::Trailer => found(at.trailers, out),
    }
}

fn query_parameter<'a>(name: &str, at: &FormatContext<'a>) -> Option<&'a str> {
    let pairs = at.request?.query()?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.into_iter().find_map(|(key, value)| (key == name).then_some(value))
}

fn grpc_status(at: &FormatContext<'_>) -> Option<u32> {
    let is_grpc = at.request.is_some_and(|request| is_grpc(request.headers));
    let of = |headers: Option<&HeaderMap>| headers?.get("grpc-status")?.to_str().ok()?.parse().ok();
    if is_grpc { of(at.trailers).or_else(|| of(at.response)) } else { None }
}

const GRPC: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

fn write_grpc(status: u32, form: GrpcForm, out: &mut String) -> bool {
    match (GRPC.get(status as usize), form) {
        (Some((camel, _)), GrpcForm::Camel) => push(out, Some(camel)),
        (Some((_, snake)), GrpcForm::Snake) => push(out, Some(snake)),
        (None, _) | (_, GrpcForm::Number) => write!(out, "{status}").is_ok(),
    }
}
