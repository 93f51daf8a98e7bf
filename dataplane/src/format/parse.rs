//! From text to commands.

use super::command::{
    AddressPart, CommandOperator, Fact, FormatOp, GrpcForm, HeaderSource, Number, PeerField, TimeOf,
};
use super::part::FormatPart;
use super::time::TimeFormat;

/// Why a format does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A percent sign begins no command; a literal one is written twice.
    #[error("{0:?} begins no command of the form %NAME(ARGUMENT):LENGTH%; write %% for a percent sign")]
    Syntax(String),
    /// No command has this name.
    #[error("command {0:?} is unknown")]
    Unknown(String),
    /// The command does not take this argument.
    #[error("command {0} does not take the argument {1:?}")]
    Argument(String, String),
}

/// Commands of Envoy whose subject does not exist here: they parse and are always absent.
const ABSENT: &[&str] = &[
    "DYNAMIC_METADATA",
    "UPSTREAM_METADATA",
    "CLUSTER_METADATA",
    "METADATA",
    "FILTER_STATE",
    "UPSTREAM_FILTER_STATE",
    "CUSTOM_FLAGS",
    "SPAN_ID",
    "DOWNSTREAM_TLS_SESSION_ID",
    "UPSTREAM_TLS_SESSION_ID",
    "FILTER_CHAIN_NAME",
    "ACCESS_LOG_TYPE",
    "UPSTREAM_CONNECTION_ID",
    "UPSTREAM_CONNECTION_POOL_READY_DURATION",
    "UPSTREAM_DETECTED_CLOSE_TYPE",
    "DOWNSTREAM_DETECTED_CLOSE_TYPE",
    "DOWNSTREAM_LOCAL_CLOSE_REASON",
    "UPSTREAM_LOCAL_CLOSE_REASON",
    "DOWNSTREAM_LOCAL_EMAIL_SAN",
    "DOWNSTREAM_PEER_EMAIL_SAN",
    "DOWNSTREAM_LOCAL_OTHERNAME_SAN",
    "DOWNSTREAM_PEER_OTHERNAME_SAN",
    "DOWNSTREAM_PEER_IP_SAN",
    "DOWNSTREAM_LOCAL_IP_SAN",
    "DOWNSTREAM_PEER_FINGERPRINT_1",
    "DOWNSTREAM_PEER_CHAIN_SERIALS",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256",
    "TLS_JA3_FINGERPRINT",
    "TLS_JA4_FINGERPRINT",
    "UNIQUE_ID",
    "COMMON_DURATION",
    "ROUNDTRIP_DURATION",
    "UPSTREAM_WIRE_BYTES_SENT",
    "UPSTREAM_WIRE_BYTES_RECEIVED",
    "UPSTREAM_HEADER_BYTES_SENT",
    "UPSTREAM_HEADER_BYTES_RECEIVED",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_WIRE_BYTES_SENT",
    "DOWNSTREAM_WIRE_BYTES_RECEIVED",
    "DOWNSTREAM_HEADER_BYTES_SENT",
    "DOWNSTREAM_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "UPSTREAM_HOSTS_ATTEMPTED",
    "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT",
    "UPSTREAM_HOST_NAMES_ATTEMPTED",
    "UPSTREAM_CONNECTION_IDS_ATTEMPTED",
];

/// Splits a format into literals and commands.
pub(super) fn parts(text: &str) -> Result<Vec<FormatPart>, FormatError> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        literal.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        let (command, after) = command(rest)?;
        if !literal.is_empty() {
            parts.push(FormatPart::Literal(std::mem::take(&mut literal).into()));
        }
        parts.push(FormatPart::CommandOperator(command));
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(FormatPart::Literal(literal.into()));
    }
    Ok(parts)
}

/// Reads `NAME(ARGUMENT):LENGTH%`, the opening percent sign being read.
fn command(text: &str) -> Result<(CommandOperator, &str), FormatError> {
    let syntax = || FormatError::Syntax(format!("%{}", text.chars().take(40).collect::<String>()));
    let end = text
        .find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
        .ok_or_else(syntax)?;
    let (name, mut rest) = text.split_at(end);
    if name.is_empty() {
        return Err(syntax());
    }
    let mut argument = None;
    if let Some(inside) = rest.strip_prefix('(') {
        let (inside, after) = inside.split_once(')').ok_or_else(syntax)?;
        (argument, rest) = (Some(inside), after);
    }
    let mut limit = None;
    if let Some(digits) = rest.strip_prefix(':') {
        let (digits, after) = digits.split_at(digits.find('%').ok_or_else(syntax)?);
        (limit, rest) = (Some(digits.parse().map_err(|_| syntax())?), after);
    }
    let rest = rest.strip_prefix('%').ok_or_else(syntax)?;
    Ok((CommandOperator { op: op(name, argument)?, limit }, rest))
}

fn op(name: &str, argument: Option<&str>) -> Result<FormatOp, FormatError> {
    let wrong = || FormatError::Argument(name.to_owned(), argument.unwrap_or_default().to_owned());
    let header = |side| header(side, argument.ok_or_else(wrong)?).ok_or_else(wrong);
    Ok(match name {
        "START_TIME" => FormatOp::Time(TimeOf::Start, TimeFormat::parse(argument.unwrap_or_default())),
        "EMIT_TIME" => FormatOp::Time(TimeOf::Now, TimeFormat::parse(argument.unwrap_or_default())),
        "DOWNSTREAM_PEER_CERT_V_START" => certificate_time(TimeOf::PeerNotBefore, argument),
        "DOWNSTREAM_PEER_CERT_V_END" => certificate_time(TimeOf::PeerNotAfter, argument),
        "UPSTREAM_PEER_CERT_V_START" => certificate_time(TimeOf::UpstreamNotBefore, argument),
        "UPSTREAM_PEER_CERT_V_END" => certificate_time(TimeOf::UpstreamNotAfter, argument),
        "REQ" | "REQUEST_HEADER" => header(HeaderSource::Request)?,
        "RESP" | "RESPONSE_HEADER" => header(HeaderSource::Response)?,
        "TRAILER" | "RESPONSE_TRAILER" => header(HeaderSource::Trailer)?,
        "REQ_WITHOUT_QUERY" => header(HeaderSource::RequestWithoutQuery)?,
        "GRPC_STATUS" => FormatOp::GrpcStatus(match argument {
            None | Some("CAMEL_STRING") => GrpcForm::Camel,
            Some("SNAKE_STRING") => GrpcForm::Snake,
            Some("NUMBER") => GrpcForm::Number,
            Some(_) => return Err(wrong()),
        }),
        "GRPC_STATUS_NUMBER" => FormatOp::GrpcStatus(GrpcForm::Number),
        "ENVIRONMENT" => {
            let (variable, default) = match argument.ok_or_else(wrong)?.split_once('=') {
                Some((variable, default)) => (variable, Some(default.to_owned())),
                None => (argument.unwrap_or_default(), None),
            };
            std::env::var(variable)
                .ok()
                .or(default)
                .map_or(FormatOp::Absent, |value| FormatOp::Fixed(value.into()))
        }
        "PATH" => return Ok(path(argument)),
        "QUERY_PARAM" => {
            FormatOp::QueryParameter(argument.filter(|name| !name.is_empty()).ok_or_else(wrong)?.into())
        }
        _ if ABSENT.contains(&name) => FormatOp::Absent,
        _ => plain(name).ok_or_else(|| FormatError::Unknown(name.to_owned()))?,
    })
}

fn path(argument: Option<&str>) -> FormatOp {
    match argument.and_then(|argument| argument.split(':').next()) {
        Some("NQ") => {
            FormatOp::Header { side: HeaderSource::RequestWithoutQuery, name: ":path".into(), other: None }
        }
        _ => FormatOp::Header { side: HeaderSource::Request, name: ":path".into(), other: None },
    }
}

/// Validity of certificates has its own default form in Envoy.
fn certificate_time(of: TimeOf, argument: Option<&str>) -> FormatOp {
    FormatOp::Time(of, TimeFormat::parse(argument.unwrap_or_default()))
}

fn header(side: HeaderSource, argument: &str) -> Option<FormatOp> {
    let lower = |name: &str| -> Option<Box<str>> {
        let name = name.to_ascii_lowercase();
        let bare = name.strip_prefix(':').unwrap_or(&name);
        http::HeaderName::try_from(bare).ok().map(|_| name.as_str().into())
    };
    Some(match argument.split_once('?') {
        Some((name, other)) => FormatOp::Header { side, name: lower(name)?, other: Some(lower(other)?) },
        None => FormatOp::Header { side, name: lower(argument)?, other: None },
    })
}

fn plain(name: &str) -> Option<FormatOp> {
    use AddressPart as A;
    use PeerField as P;
    Some(match name {
        "PROTOCOL" => FormatOp::Fact(Fact::Protocol),
        "RESPONSE_CODE" => FormatOp::Number(Number::ResponseCode),
        "RESPONSE_CODE_DETAILS" => FormatOp::Fact(Fact::ResponseCodeDetails),
        "RESPONSE_FLAGS" => FormatOp::Flags,
        "RESPONSE_FLAGS_LONG" => FormatOp::FlagsLong,
        "CONNECTION_TERMINATION_DETAILS" => FormatOp::Fact(Fact::ConnectionTerminationDetails),
        "BYTES_RECEIVED" => FormatOp::Number(Number::BytesReceived),
        "BYTES_SENT" => FormatOp::Number(Number::BytesSent),
        "DURATION" => FormatOp::Number(Number::Duration),
        "REQUEST_DURATION" => FormatOp::Number(Number::RequestDuration),
        "REQUEST_TX_DURATION" => FormatOp::Number(Number::RequestTxDuration),
        "RESPONSE_DURATION" => FormatOp::Number(Number::ResponseDuration),
        "RESPONSE_TX_DURATION" => FormatOp::Number(Number::ResponseTxDuration),
        "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => FormatOp::UpstreamHost(A::Whole),
        "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => FormatOp::UpstreamHost(A::Ip),
        "UPSTREAM_REMOTE_PORT" => FormatOp::UpstreamHost(A::Port),
        "UPSTREAM_LOCAL_ADDRESS" => FormatOp::UpstreamLocal(A::Whole),
        "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => FormatOp::UpstreamLocal(A::Ip),
        "UPSTREAM_LOCAL_PORT" => FormatOp::UpstreamLocal(A::Port),
        "UPSTREAM_HOST_NAME" => FormatOp::Fact(Fact::UpstreamHostName),
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => FormatOp::Fact(Fact::UpstreamCluster),
        "UPSTREAM_TRANSPORT_FAILURE_REASON" => FormatOp::Fact(Fact::UpstreamTransportFailure),
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => FormatOp::Number(Number::UpstreamAttempts),
        "UPSTREAM_PROTOCOL" => FormatOp::Fact(Fact::UpstreamProtocol),
        "UPSTREAM_TLS_VERSION" => FormatOp::Fact(Fact::UpstreamTlsVersion),
        "UPSTREAM_TLS_CIPHER" => FormatOp::Fact(Fact::UpstreamTlsCipher),
        "UPSTREAM_PEER_URI_SAN" => FormatOp::UpstreamPeer(P::UriSans),
        "UPSTREAM_PEER_DNS_SAN" => FormatOp::UpstreamPeer(P::DnsSans),
        "UPSTREAM_PEER_SUBJECT" => FormatOp::UpstreamPeer(P::Subject),
        "UPSTREAM_PEER_ISSUER" => FormatOp::UpstreamPeer(P::Issuer),
        "DOWNSTREAM_LOCAL_ADDRESS" => FormatOp::DownstreamLocal(A::Whole),
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => FormatOp::DownstreamLocal(A::Ip),
        "DOWNSTREAM_LOCAL_PORT" => FormatOp::DownstreamLocal(A::Port),
        "DOWNSTREAM_REMOTE_ADDRESS" => FormatOp::DownstreamRemote(A::Whole),
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => FormatOp::DownstreamRemote(A::Ip),
        "DOWNSTREAM_REMOTE_PORT" => FormatOp::DownstreamRemote(A::Port),
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => FormatOp::DownstreamDirect(A::Whole),
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => FormatOp::DownstreamDirect(A::Ip),
        "DOWNSTREAM_DIRECT_REMOTE_PORT" => FormatOp::DownstreamDirect(A::Port),
        "DOWNSTREAM_PEER_URI_SAN" => FormatOp::Peer(P::UriSans),
        "DOWNSTREAM_PEER_DNS_SAN" => FormatOp::Peer(P::DnsSans),
        "DOWNSTREAM_PEER_SUBJECT" => FormatOp::Peer(P::Subject),
        "DOWNSTREAM_PEER_ISSUER" => FormatOp::Peer(P::Issuer),
        "DOWNSTREAM_PEER_SERIAL" => FormatOp::Peer(P::Serial),
        "DOWNSTREAM_PEER_FINGERPRINT_256" => FormatOp::Peer(P::Fingerprint),
        "DOWNSTREAM_PEER_CERT" => FormatOp::Peer(P::Pem),
        "DOWNSTREAM_LOCAL_URI_SAN" => FormatOp::Certificate(P::UriSans),
        "DOWNSTREAM_LOCAL_DNS_SAN" => FormatOp::Certificate(P::DnsSans),
        "DOWNSTREAM_LOCAL_SUBJECT" => FormatOp::Certificate(P::Subject),
        "DOWNSTREAM_TLS_VERSION" => FormatOp::Fact(Fact::TlsVersion),
        "DOWNSTREAM_TLS_CIPHER" => FormatOp::Fact(Fact::TlsCipher),
        "DOWNSTREAM_TRANSPORT_FAILURE_REASON" => FormatOp::Fact(Fact::DownstreamTransportFailure),
        "REQUESTED_SERVER_NAME" => FormatOp::Fact(Fact::ServerName),
        "ROUTE_NAME" => FormatOp::Fact(Fact::RouteName),
        "VIRTUAL_CLUSTER_NAME" => FormatOp::Absent,
        "VIRTUAL_HOST_NAME" => FormatOp::Fact(Fact::VirtualHost),
        "HOSTNAME" => FormatOp::Fact(Fact::Hostname),
        "LOCAL_REPLY_BODY" => FormatOp::Fact(Fact::LocalReplyBody),
        "STREAM_ID" => FormatOp::Fact(Fact::StreamId),
        "TRACE_ID" => FormatOp::Fact(Fact::TraceId),
        "CONNECTION_ID" => FormatOp::Number(Number::ConnectionId),
        _ => return None,
    })
}
