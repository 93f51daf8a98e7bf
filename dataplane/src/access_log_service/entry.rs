//! What a log is told, as Envoy's access log service has it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::config::core::v3::{
    Address, RequestMethod, SocketAddress, address, socket_address::PortSpecifier,
};
use envoy_types::pb::envoy::data::accesslog::v3::http_access_log_entry::HttpVersion;
use envoy_types::pb::envoy::data::accesslog::v3::response_flags::{Unauthorized, unauthorized};
use envoy_types::pb::envoy::data::accesslog::v3::tls_properties::certificate_properties::{
    SubjectAltName, subject_alt_name,
};
use envoy_types::pb::envoy::data::accesslog::v3::tls_properties::{CertificateProperties, TlsVersion};
use envoy_types::pb::envoy::data::accesslog::v3::{
    AccessLogCommon, ConnectionProperties, HttpAccessLogEntry, HttpRequestProperties, HttpResponseProperties,
    ResponseFlags as PbFlags, TcpAccessLogEntry, TlsProperties,
};
use envoy_types::pb::google::protobuf::{self, UInt32Value};
use http::{HeaderMap, HeaderName};
use prost::Message as _;

use crate::format::{FormatContext, ResponseFlags};
use crate::peer::PeerCertificate;
use crate::runtime::{EntryKind, LogService};

/// Bytes of a text that a tap is told.
const LONGEST_SHOWN: usize = 1024;
const GRPC_STATUS: &str = "grpc-status";

/// One entry of either kind.
#[derive(Debug)]
pub(crate) enum LogEntry {
    Request(Box<HttpAccessLogEntry>),
    Connection(Box<TcpAccessLogEntry>),
}

impl LogEntry {
    /// Its bytes on the wire.
    pub(super) fn encoded_len(&self) -> usize {
        match self {
            Self::Request(entry) => entry.encoded_len(),
            Self::Connection(entry) => entry.encoded_len(),
        }
    }

    /// What a service is told of these facts.
    pub(crate) fn of(service: &LogService, at: &FormatContext<'_>) -> Self {
        match service.entries {
            EntryKind::Requests => Self::Request(Box::new(HttpAccessLogEntry {
                common_properties: Some(common(at)),
                protocol_version: version(at.protocol).into(),
                request: Some(request(&service.request_headers, at)),
                response: Some(response(&service.response_headers, &service.response_trailers, at)),
            })),
            EntryKind::Connections => Self::Connection(Box::new(TcpAccessLogEntry {
                common_properties: Some(common(at)),
                connection_properties: Some(ConnectionProperties {
                    received_bytes: at.bytes_received,
                    sent_bytes: at.bytes_sent,
                }),
            })),
        }
    }
}

impl LogEntry {
    /// What a tap is told of these facts: whatever it is, it is short.
    pub(crate) fn shown(headers: &[HeaderName], at: &FormatContext<'_>) -> Self {
        let (mut request, mut response) = (request(headers, at), response(headers, headers, at));
        let texts = [&mut request.path, &mut request.original_path, &mut request.authority];
        let headers =
            [&mut request.request_headers, &mut response.response_headers, &mut response.response_trailers];
        let values = headers.into_iter().flat_map(HashMap::values_mut);
        texts.into_iter().chain(values).for_each(cut);
        let status = at.grpc_status.map(|status| (GRPC_STATUS.to_owned(), status.to_string()));
        response.response_trailers.extend(status);
        Self::Request(Box::new(HttpAccessLogEntry {
            common_properties: Some(common(at)),
            protocol_version: version(at.protocol).into(),
            request: Some(request),
            response: Some(response),
        }))
    }
}

fn cut(text: &mut String) {
    text.truncate(weft_api::text::cut(text, LONGEST_SHOWN).len());
}

fn common(at: &FormatContext<'_>) -> AccessLogCommon {
    let (down, up, timing) = (&at.downstream, &at.upstream, &at.timing);
    let remote = down.remote.map(|ip| SocketAddr::new(ip, 0)).or(down.direct_remote);
    AccessLogCommon {
        downstream_remote_address: remote.map(socket),
        downstream_local_address: down.local.map(socket),
        downstream_direct_remote_address: down.direct_remote.map(socket),
        tls_properties: down.tls_version.is_some().then(|| tls(at)),
        start_time: at.start.and_then(timestamp),
        time_to_last_rx_byte: timing.request.map(duration),
        time_to_last_upstream_tx_byte: timing.request_sent.map(duration),
        time_to_first_upstream_rx_byte: timing.response.map(duration),
        time_to_first_downstream_tx_byte: timing.response_sent.map(duration),
        time_to_last_downstream_tx_byte: timing.total.map(duration),
        duration: timing.total.map(duration),
        upstream_remote_address: up.host.map(socket),
        upstream_local_address: up.local.map(socket),
        upstream_cluster: text(up.cluster),
        upstream_transport_failure_reason: text(up.transport_failure),
        downstream_transport_failure_reason: text(down.transport_failure),
        upstream_request_attempt_count: up.attempts,
        response_flags: Some(flags(at.flags)),
        route_name: at.route_name.to_owned(),
        connection_termination_details: text(at.connection_termination_details),
        stream_id: at.stream_id.to_owned(),
        ..Default::default()
    }
}

fn request(headers: &[HeaderName], at: &FormatContext<'_>) -> HttpRequestProperties {
    let Some(head) = &at.request else { return HttpRequestProperties::default() };
    let of = |name: &str| head.headers.get(name).map(|value| lossy(value.as_bytes())).unwrap_or_default();
    HttpRequestProperties {
        request_method: RequestMethod::from_str_name(head.method).unwrap_or_default().into(),
        scheme: head.scheme.to_owned(),
        authority: head.authority.to_owned(),
        path: head.path.to_owned(),
        user_agent: of("user-agent"),
        referer: of("referer"),
        forwarded_for: of("x-forwarded-for"),
        original_path: of("x-envoy-original-path"),
        request_id: at.stream_id.to_owned(),
        request_body_bytes: at.bytes_received,
        request_headers: named(headers, Some(head.headers)),
        ..Default::default()
    }
}

fn response(
    headers: &[HeaderName],
    trailers: &[HeaderName],
    at: &FormatContext<'_>,
) -> HttpResponseProperties {
    let code = UInt32Value { value: at.response_code.into() };
    HttpResponseProperties {
        response_code: (at.response_code != 0).then_some(code),
        response_code_details: text(at.response_code_details),
        response_body_bytes: at.bytes_sent,
        response_headers: named(headers, at.response),
        response_trailers: named(trailers, at.trailers),
        ..Default::default()
    }
}

fn named(names: &[HeaderName], headers: Option<&HeaderMap>) -> HashMap<String, String> {
    let Some(headers) = headers else { return HashMap::new() };
    let value = |name: &HeaderName| {
        let values: Vec<String> = headers.get_all(name).iter().map(|value| lossy(value.as_bytes())).collect();
        (!values.is_empty()).then(|| (name.as_str().to_owned(), values.join(",")))
    };
    names.iter().filter_map(value).collect()
}

fn tls(at: &FormatContext<'_>) -> TlsProperties {
    let version = match at.downstream.tls_version {
        Some("TLSv1.2") => TlsVersion::TlSv12,
        Some(_) => TlsVersion::TlSv13,
        None => TlsVersion::VersionUnspecified,
    };
    TlsProperties {
        tls_version: version.into(),
        tls_sni_hostname: text(at.downstream.server_name),
        local_certificate_properties: at.downstream.certificate.map(certificate),
        peer_certificate_properties: at.downstream.peer.map(certificate),
        ..Default::default()
    }
}

fn certificate(of: &PeerCertificate) -> CertificateProperties {
    let uris = of.names.uri_sans.iter().map(|uri| subject_alt_name::San::Uri(uri.to_string()));
    let names = of.names.dns_sans.iter().map(|name| subject_alt_name::San::Dns(name.to_string()));
    CertificateProperties {
        subject_alt_name: uris.chain(names).map(|san| SubjectAltName { san: Some(san) }).collect(),
        subject: of.names.subject.clone(),
        issuer: of.issuer.clone(),
    }
}

fn flags(set: ResponseFlags) -> PbFlags {
    let has = |flag| set.contains(flag);
    PbFlags {
        no_healthy_upstream: has(ResponseFlags::NO_HEALTHY_UPSTREAM),
        upstream_connection_failure: has(ResponseFlags::UPSTREAM_CONNECTION_FAILURE),
        upstream_overflow: has(ResponseFlags::UPSTREAM_OVERFLOW),
        no_route_found: has(ResponseFlags::NO_ROUTE),
        upstream_retry_limit_exceeded: has(ResponseFlags::UPSTREAM_RETRY_LIMIT),
        no_cluster_found: has(ResponseFlags::NO_CLUSTER),
        duration_timeout: has(ResponseFlags::DURATION_TIMEOUT),
        downstream_connection_termination: has(ResponseFlags::DOWNSTREAM_TERMINATION),
        failed_local_healthcheck: has(ResponseFlags::FAILED_LOCAL_HEALTH_CHECK),
        upstream_request_timeout: has(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT),
        local_reset: has(ResponseFlags::LOCAL_RESET),
        upstream_remote_reset: has(ResponseFlags::UPSTREAM_REMOTE_RESET),
        upstream_connection_termination: has(ResponseFlags::UPSTREAM_TERMINATION),
        unauthorized_details: has(ResponseFlags::UNAUTHORIZED_EXTERNAL)
            .then(|| Unauthorized { reason: unauthorized::Reason::ExternalService.into() }),
        rate_limit_service_error: has(ResponseFlags::RATE_LIMIT_SERVICE_ERROR),
        rate_limited: has(ResponseFlags::RATE_LIMITED),
        invalid_envoy_request_headers: has(ResponseFlags::INVALID_ENVOY_HEADERS),
        stream_idle_timeout: has(ResponseFlags::STREAM_IDLE_TIMEOUT),
        downstream_protocol_error: has(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR),
        upstream_protocol_error: has(ResponseFlags::UPSTREAM_PROTOCOL_ERROR),
        upstream_max_stream_duration_reached: has(ResponseFlags::UPSTREAM_MAX_DURATION),
        delay_injected: has(ResponseFlags::DELAY_INJECTED),
        fault_injected: has(ResponseFlags::FAULT_INJECTED),
        overload_manager: has(ResponseFlags::OVERLOAD_MANAGER),
        dns_resolution_failure: has(ResponseFlags::DNS_FAILURE),
        downstream_remote_reset: has(ResponseFlags::DOWNSTREAM_REMOTE_RESET),
        response_from_cache_filter: false,
        no_filter_config_found: false,
    }
}

fn version(protocol: Option<&str>) -> HttpVersion {
    match protocol {
        Some("HTTP/1.0") => HttpVersion::Http10,
        Some("HTTP/1.1") => HttpVersion::Http11,
        Some("HTTP/2") => HttpVersion::Http2,
        Some(_) | None => HttpVersion::ProtocolUnspecified,
    }
}

fn socket(at: SocketAddr) -> Address {
    let socket = SocketAddress {
        address: at.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(at.port().into())),
        ..Default::default()
    };
    Address { address: Some(address::Address::SocketAddress(socket)) }
}

fn text(value: Option<&str>) -> String {
    value.unwrap_or_default().to_owned()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn timestamp(at: SystemTime) -> Option<protobuf::Timestamp> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let protobuf::Duration { seconds, nanos } = duration(since);
    Some(protobuf::Timestamp { seconds, nanos })
}

fn duration(span: Duration) -> protobuf::Duration {
    protobuf::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(span.subsec_nanos()).unwrap_or_default(),
    }
}
