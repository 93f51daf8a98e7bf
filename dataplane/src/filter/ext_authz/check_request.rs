//! A request as a server is told of it by gRPC.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::service::auth::v3 as wire;
use envoy_types::pb::google::protobuf::Timestamp;
use http::HeaderMap;
use wire::AttributeContext;
use wire::attribute_context as attributes;

use super::super::Override;
use super::super::request::{Request, levels};
use super::told::{CheckBody, matches};
use super::{ExtAuthz, GrpcService};
use crate::engine::stream_info::context;
use crate::peer::PeerCertificate;

pub(super) fn check_request(
    service: &GrpcService,
    filter: &ExtAuthz,
    name: &str,
    request: &Request<'_>,
    body: &CheckBody,
) -> wire::CheckRequest {
    let facts = &request.stream.connection.downstream.facts;
    let headers = &request.parts.headers;
    let caller = headers.get("x-envoy-downstream-service-cluster");
    let caller = caller.and_then(|caller| caller.to_str().ok()).unwrap_or_default().to_owned();
    let certificate = facts.peer_certificate().filter(|_| service.include_peer_certificate);
    let source = attributes::Peer {
        service: caller,
        certificate: certificate.map_or_else(String::new, |peer| peer.url_encoded_pem().to_owned()),
        ..peer(facts.peer, facts.peer_certificate())
    };
    let own = facts.tls.as_ref().map(|tls| &*tls.own);
    let sni = facts.tls.as_ref().map(|_| facts.server_name().unwrap_or_default().to_owned());
    let session = || attributes::TlsSession { sni: sni.unwrap_or_default() };
    wire::CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(source),
            destination: Some(peer(facts.local, own)),
            request: Some(attributes::Request {
                time: SystemTime::now().duration_since(UNIX_EPOCH).ok().map(timestamp),
                http: Some(http_request(filter, request, body)),
            }),
            context_extensions: extensions(name, request),
            tls_session: service.include_tls_session.then(session),
            ..Default::default()
        }),
    }
}

fn timestamp(since: Duration) -> Timestamp {
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Timestamp { seconds, nanos: since.subsec_nanos().cast_signed() }
}

fn peer(address: SocketAddr, certificate: Option<&PeerCertificate>) -> attributes::Peer {
    let socket = core::SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(address.port().into())),
        ..Default::default()
    };
    let principal = certificate.map(|certificate| {
        let name = certificate.names.uri_sans.first().or(certificate.names.dns_sans.first());
        name.map_or_else(|| certificate.names.subject.clone(), ToString::to_string)
    });
    attributes::Peer {
        address: Some(core::Address { address: Some(core::address::Address::SocketAddress(socket)) }),
        principal: principal.unwrap_or_default(),
        ..Default::default()
    }
}

fn http_request(filter: &ExtAuthz, request: &Request<'_>, body: &CheckBody) -> attributes::HttpRequest {
    let head = request.head();
    let mut headers = head.headers.clone();
    body.announce(&mut headers);
    let told = headers.keys().filter(|name| {
        (filter.allowed_headers.is_empty() || matches(&filter.allowed_headers, name))
            && !matches(&filter.disallowed_headers, name)
            && *name != http::header::HOST
    });
    let pseudo = [
        (":authority", head.authority),
        (":method", head.method),
        (":path", head.path),
        (":scheme", head.scheme),
    ];
    let told = told.map(|name| (name.as_str().to_owned(), joined(&headers, name.as_str())));
    let told = told.chain(pseudo.map(|(name, value)| (name.to_owned(), value.to_owned()))).collect();
    let read = request.stream.progress.as_ref().map_or(0, |progress| progress.bytes.get());
    let (text, bytes) = if body.as_bytes {
        (String::new(), body.content.to_vec())
    } else {
        (sanitized(&body.content), Vec::new())
    };
    attributes::HttpRequest {
        id: request.stream.connection.worker.random().to_string(),
        method: head.method.to_owned(),
        headers: told,
        path: head.path.to_owned(),
        host: head.authority.to_owned(),
        scheme: head.scheme.to_owned(),
        size: i64::try_from(read).unwrap_or(i64::MAX),
        protocol: context(request.stream, None, None).protocol.unwrap_or_default().to_owned(),
        body: text,
        raw_body: bytes,
        ..Default::default()
    }
}

fn joined(headers: &HeaderMap, name: &str) -> String {
    let values: Vec<String> = headers
        .get_all(name)
        .iter()
        .map(|value| sanitized(&Bytes::copy_from_slice(value.as_bytes())))
        .collect();
    values.join(",")
}

/// Messages carry text: what is none is replaced as in Envoy.
fn sanitized(bytes: &Bytes) -> String {
    bytes.utf8_chunks().fold(String::with_capacity(bytes.len()), |mut text, chunk| {
        text.push_str(chunk.valid());
        text.extend(std::iter::repeat_n('!', chunk.invalid().len()));
        text
    })
}

/// What all levels of the route say, where a more specific one wins.
fn extensions(name: &str, request: &Request<'_>) -> HashMap<String, String> {
    let Some((found, weighted)) = levels(request.view, request.stream) else { return HashMap::new() };
    let special = request.view.routes.filter_overrides(found, weighted, name).rev();
    let settings = special.filter_map(Override::ext_authz);
    let each = settings.flat_map(|settings| settings.context_extensions.iter());
    each.map(|(key, value)| (key.clone(), value.clone())).collect()
}
