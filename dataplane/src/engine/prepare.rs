//! A request's head is checked and brought into the form that routing, authorization and the upstream see.

use base64::Engine as _;
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use weft_routing::path::{Normal, normalize};

use super::reply::Reply;
use super::request_context::RequestContext;
use super::request_head::{head, set_authority};
use super::{forwarded, xfcc};
use crate::format::ResponseFlags;
use crate::runtime::{HttpManager, StripPort, Underscores};
use crate::stats::Shard;

impl RequestContext {
    /// Checks the head and brings it into the form that routing, authorization and the upstream see.
    pub(super) fn prepare(&mut self, manager: &HttpManager, parts: &mut Parts) -> Result<(), Reply> {
        forwarded::identify(manager, &self.connection.worker, &mut parts.headers);
        if manager.request_ids.in_response {
            self.stream.request_id = parts.headers.get(&forwarded::REQUEST_ID).cloned();
        }
        if parts.version < Version::HTTP_11 && !manager.http1.accept_http_10 {
            let reply = Reply::new(StatusCode::UPGRADE_REQUIRED, "low_version").body("Upgrade Required");
            return Err(reply.flag(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR));
        }
        check_framing(manager, parts)?;
        self.as_upgrade(parts);
        underscores(manager, &mut parts.headers)?;
        set_host(parts)?;
        if manager.strip_port != StripPort::Keep {
            strip_port(parts, manager.strip_port, self.connection.downstream.facts.local.port());
        }
        if parts.method != Method::CONNECT {
            normalize_path(manager, parts, &self.connection.worker.shard)?;
        }
        self.remote = forwarded::apply(manager, &self.connection, &mut parts.headers, self.scheme);
        xfcc::apply(manager, &self.connection.downstream.facts, &mut parts.headers);
        Ok(())
    }

    /// Extended CONNECT (RFC 8441) becomes the upgrade that it stands for, so that paths are normalised, and routes
    /// and policies see the method that they see over HTTP/1.1.
    fn as_upgrade(&self, parts: &mut Parts) {
        if parts.method != Method::CONNECT {
            return;
        }
        let Some(protocol) = parts.extensions.get::<hyper::ext::Protocol>() else { return };
        let Ok(protocol) = HeaderValue::from_str(protocol.as_str()) else { return };
        parts.method = Method::GET;
        let headers = &mut parts.headers;
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        if protocol == "websocket" && !headers.contains_key(SEC_WEBSOCKET_KEY) {
            // Servers that speak HTTP/1.1 insist on a key, which h2 does not have.
            let random = [self.connection.worker.random(), self.connection.worker.random()];
            let key: Vec<u8> = random.iter().flat_map(|half| half.to_be_bytes()).collect();
            let key = base64::engine::general_purpose::STANDARD.encode(key);
            if let Ok(key) = HeaderValue::from_str(&key) {
                headers.insert(SEC_WEBSOCKET_KEY, key);
            }
        }
        headers.insert(UPGRADE, protocol);
    }
}

/// What could be read in two ways is refused: both framings at once, codings that would be lost, and several hosts.
fn check_framing(manager: &HttpManager, parts: &Parts) -> Result<(), Reply> {
    let bad = |details| Err(Reply::new(StatusCode::BAD_REQUEST, details));
    let headers = &parts.headers;
    if headers.contains_key(http::header::TRANSFER_ENCODING)
        && headers.contains_key(http::header::CONTENT_LENGTH)
    {
        return bad("http1.content_length_and_chunked_not_allowed");
    }
    let codings = headers.get_all(http::header::TRANSFER_ENCODING);
    if codings.iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(Reply::new(StatusCode::NOT_IMPLEMENTED, "http1.invalid_transfer_encoding"));
    }
    if headers.len() > manager.limits.headers {
        return Err(Reply::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too_many_headers"));
    }
    if parts.version == Version::HTTP_2 && header_list_size(parts) > manager.limits.header_bytes {
        return Err(Reply::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large"));
    }
    if headers.get_all(HOST).iter().nth(1).is_some() {
        return bad("http1.multiple_host");
    }
    Ok(())
}

/// As RFC 9113 counts it, section 6.5.2, without the pseudo-headers but for path and authority. The codec of HTTP/1.1 counts
/// what it reads by itself.
fn header_list_size(parts: &Parts) -> usize {
    let fields = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
    let path = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    path + parts.uri.authority().map_or(0, |authority| authority.as_str().len()) + fields.sum::<usize>()
}

/// An absolute-form target replaces `host`, and so does `:authority`; a request without either is refused.
fn set_host(parts: &mut Parts) -> Result<(), Reply> {
    match parts.uri.authority() {
        Some(authority) => {
            if parts.version <= Version::HTTP_11 && parts.method != Method::CONNECT {
                let value = HeaderValue::from_str(authority.as_str())
                    .map_err(|_| Reply::new(StatusCode::BAD_REQUEST, "invalid_authority"))?;
                parts.headers.insert(HOST, value);
            } else if parts.version > Version::HTTP_11 {
                // `:authority` is what was judged; the server must not hear of another.
                parts.headers.remove(HOST);
            }
            Ok(())
        }
        None if parts.headers.contains_key(HOST) => Ok(()),
        None => Err(Reply::new(StatusCode::BAD_REQUEST, "missing_host_header")),
    }
}

fn strip_port(parts: &mut Parts, strip: StripPort, own: u16) {
    let current = head(parts, "http").authority.to_owned();
    let bare = weft_routing::route::without_port(&current);
    if bare.len() == current.len() {
        return;
    }
    let port = current[bare.len() + 1..].parse::<u16>().ok();
    if strip == StripPort::Matching && port != Some(own) {
        return;
    }
    set_authority(parts, bare);
}

fn underscores(manager: &HttpManager, headers: &mut HeaderMap) -> Result<(), Reply> {
    if manager.underscores == Underscores::Allow {
        return Ok(());
    }
    let with: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().contains('_')).cloned().collect();
    if with.is_empty() {
        return Ok(());
    }
    if manager.underscores == Underscores::RejectRequest {
        return Err(Reply::new(StatusCode::BAD_REQUEST, "http1.unexpected_underscore"));
    }
    with.iter().for_each(|name| drop(headers.remove(name)));
    Ok(())
}

/// Normalises the path in place; an answer where the request goes no further.
fn normalize_path(manager: &HttpManager, parts: &mut Parts, shard: &Shard) -> Result<(), Reply> {
    let Some(path) = parts.uri.path_and_query() else { return Ok(()) };
    let changed = match normalize(path.as_str(), &manager.path) {
        Ok(Normal::Forward(std::borrow::Cow::Borrowed(_))) => return Ok(()),
        Ok(Normal::Forward(std::borrow::Cow::Owned(changed))) => changed,
        Ok(Normal::Redirect(to)) => {
            shard.inc(manager.stats.downstream_rq_redirected_with_normalized_path);
            let reply = Reply::new(StatusCode::TEMPORARY_REDIRECT, "path_normalization_failed");
            return Err(match HeaderValue::from_str(&to) {
                Ok(value) => reply.header(http::header::LOCATION, value),
                Err(_) => reply,
            });
        }
        Err(_) => {
            shard.inc(manager.stats.downstream_rq_failed_path_normalization);
            return Err(Reply::new(StatusCode::BAD_REQUEST, "path_normalization_failed"));
        }
    };
    let refused = || Reply::new(StatusCode::BAD_REQUEST, "path_normalization_failed");
    let mut uri = parts.uri.clone().into_parts();
    uri.path_and_query = Some(changed.parse().map_err(|_| refused())?);
    parts.uri = Uri::from_parts(uri).map_err(|_| refused())?;
    Ok(())
}
