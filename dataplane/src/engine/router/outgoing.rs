//! A request as it goes to the upstream.

use std::time::Duration;

use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};

use super::super::active_stream::ActiveStream;
use super::super::body::{OnceBody, Replay, RequestBody, RequestContent};
use super::super::pool::ConnectionLease;
use super::super::request_context::RequestContext;
use super::super::request_head::{set_authority, set_path, with_authority};
use super::super::stream_info;
use super::hop_by_hop;
use super::routed::Routed;
use crate::route::{Forward, HostRewrite, WeightedCluster};
use crate::runtime::Cluster;

const ATTEMPTS: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// What has been decided of the request's head before any endpoint is known.
pub(super) struct HeadPlan {
    /// `auto_host_rewrite`: the endpoint decides.
    auto_host: bool,
    counts_attempts: bool,
    upgrades: bool,
}

impl HeadPlan {
    /// Applies the route's rewrites and header operations.
    pub(super) fn prepare(
        context: &RequestContext,
        routed: &Routed<'_>,
        weighted: Option<&WeightedCluster>,
        parts: &mut Parts,
        timeout: Option<Duration>,
    ) -> Self {
        let Routed { routes, found, forward, .. } = routed;
        let suppress = routed.router.suppress_envoy_headers;
        let upgrades = routed.upgrade.is_some();
        hop_by_hop::remove_from_request(&mut parts.headers, upgrades);
        if !suppress && let Some(timeout) = timeout {
            parts.headers.insert(EXPECTED_TIMEOUT, HeaderValue::from(timeout.as_millis() as u64));
        }
        let head = context.head(parts);
        let ops = stream_info::request_ops(&context.stream, routes, *found, weighted, &head);
        let new_host = host(forward, weighted, &head);
        let new_path = forward
            .path_rewrite
            .as_ref()
            .map(|rewrite| (rewrite.apply(head.path, &routes.route(*found).matches), head.path.to_owned()));
        let old_host = forward.append_forwarded_host.then(|| head.authority.to_owned());
        for (ops, values) in ops {
            ops.apply(&mut parts.headers, values);
        }
        if let Some((path, original)) = new_path
            && path != original
        {
            set_path(parts, &path);
            if !suppress && let Ok(value) = HeaderValue::from_str(&original) {
                parts.headers.insert(ORIGINAL_PATH, value);
            }
        }
        if let Some(host) = new_host {
            let original = context.head(parts).authority;
            if !suppress && let Ok(value) = HeaderValue::from_str(original) {
                parts.headers.insert(ORIGINAL_HOST, value);
            }
            set_authority(parts, &host);
        }
        if let Some(value) = old_host.and_then(|host| HeaderValue::from_str(&host).ok())
            && (forward.host_rewrite.is_some()
                || weighted.is_some_and(|cluster| cluster.options.host_rewrite.is_some()))
        {
            parts.headers.append(FORWARDED_HOST, value);
        }
        let counts_attempts = routes.virtual_host(*found).options.attempt_count_in_request;
        Self { auto_host: matches!(forward.host_rewrite, Some(HostRewrite::Auto)), counts_attempts, upgrades }
    }
}

fn host(
    forward: &Forward,
    weighted: Option<&WeightedCluster>,
    head: &weft_routing::matcher::RequestHead<'_>,
) -> Option<String> {
    if let Some(host) = weighted.and_then(|cluster| cluster.options.host_rewrite.as_ref()) {
        return Some(host.to_string());
    }
    forward.host_rewrite.as_ref()?.authority(head, None)
}

/// A request that can be made several times.
pub(super) struct RepeatableRequest {
    parts: Parts,
    head: HeadPlan,
    body: Kind,
    /// The request may have to be sent again, by the retry policy.
    keeps: bool,
    /// Filters on the response may look at the request's head.
    keeps_head: bool,
    sent: bool,
}

enum Kind {
    Empty,
    Once(Option<Box<OnceBody>>),
    Replay(Replay),
}

impl RepeatableRequest {
    pub(super) fn new(
        stream: &mut ActiveStream,
        parts: Parts,
        head: HeadPlan,
        content: RequestContent,
        limit: usize,
        keeps: bool,
    ) -> Self {
        let body = if content.is_end_stream() || head.upgrades {
            Kind::Empty
        } else {
            let progress = stream.follow();
            if keeps {
                Kind::Replay(Replay::new(content, limit, progress))
            } else {
                Kind::Once(Some(Box::new(OnceBody::new(content, progress))))
            }
        };
        let keeps_head = stream.view.manager.filters.see_responses();
        Self { parts, head, body, keeps, keeps_head, sent: false }
    }

    /// The head as it was prepared; without headers once it was sent for good.
    pub(super) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Whether it asks for an upgrade.
    pub(super) fn upgrades(&self) -> bool {
        self.head.upgrades
    }

    /// Whether the whole request can still be sent.
    pub(super) fn is_repeatable(&self) -> bool {
        let whole = match &self.body {
            Kind::Empty => true,
            Kind::Once(body) => body.is_some(),
            Kind::Replay(replay) => replay.is_replayable(),
        };
        whole && !self.sent
    }

    /// A message came back unsent: it is as if it had not been made.
    pub(super) fn put_back(&mut self, request: Request<RequestBody>) {
        if !self.sent {
            return;
        }
        let (parts, body) = request.into_parts();
        self.parts.headers = parts.headers;
        self.sent = false;
        if let (RequestBody::Once(once), Kind::Once(slot)) = (body, &mut self.body) {
            *slot = Some(once);
        }
    }

    /// The request for a connection.
    pub(super) fn request(
        &mut self,
        lease: &ConnectionLease,
        scheme: &'static str,
        hostname: Option<&str>,
        attempt: u32,
        reused: bool,
    ) -> Request<RequestBody> {
        // The head is kept where the request may be sent again, by the policy or because the server may close a reused
        // connection under it, and where filters look at it with the response.
        let keep = self.keeps || self.keeps_head || (reused && self.parts.method.is_safe());
        let headers = if keep {
            self.parts.headers.clone()
        } else {
            self.sent = true;
            std::mem::take(&mut self.parts.headers)
        };
        let body = match &mut self.body {
            Kind::Empty => RequestBody::Empty,
            Kind::Once(once) => once.take().map_or(RequestBody::Empty, RequestBody::Once),
            Kind::Replay(replay) => RequestBody::Replayed(replay.attempt()),
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = self.parts.uri.clone();
        *request.headers_mut() = headers;
        if self.head.counts_attempts {
            request.headers_mut().insert(ATTEMPTS, HeaderValue::from(attempt));
        }
        if self.head.auto_host
            && let Some(host) = hostname
        {
            set_request_authority(&mut request, host);
        }
        match lease {
            ConnectionLease::Http1(_) => for_http1(&mut request),
            ConnectionLease::Http2(_) => self.for_http2(&mut request, scheme),
        }
        request
    }

    fn for_http2(&self, request: &mut Request<RequestBody>, scheme: &'static str) {
        *request.version_mut() = Version::HTTP_2;
        let host = request.headers_mut().remove(HOST);
        if self.head.upgrades {
            let protocol = request.headers_mut().remove(UPGRADE);
            request.headers_mut().remove(CONNECTION);
            let protocol = protocol.as_ref().and_then(|value| value.to_str().ok()).unwrap_or("websocket");
            let protocol = self
                .parts
                .extensions
                .get::<hyper::ext::Protocol>()
                .cloned()
                .unwrap_or_else(|| hyper::ext::Protocol::from(protocol));
            *request.method_mut() = Method::CONNECT;
            request.extensions_mut().insert(protocol);
        }
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        if uri.authority.is_none() {
            uri.authority = host.and_then(|host| {
                Authority::from_maybe_shared(bytes::Bytes::copy_from_slice(host.as_bytes())).ok()
            });
        }
        uri.scheme = Some(if scheme == "https" { Scheme::HTTPS } else { Scheme::HTTP });
        uri.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
        if let Ok(uri) = Uri::from_parts(uri) {
            *request.uri_mut() = uri;
        }
    }
}

/// HTTP/1.1 wants the path alone and the authority in `host`.
fn for_http1(request: &mut Request<RequestBody>) {
    *request.version_mut() = Version::HTTP_11;
    if request.uri().authority().is_some() {
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme = None;
        if let Some(authority) = uri.authority.take()
            && !request.headers().contains_key(HOST)
            && let Ok(value) = HeaderValue::from_str(authority.as_str())
        {
            request.headers_mut().insert(HOST, value);
        }
        uri.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
        if let Ok(uri) = Uri::from_parts(uri) {
            *request.uri_mut() = uri;
        }
    }
    // h2 splits cookies into fields of their own, HTTP/1.1 has one.
    let headers = request.headers_mut();
    if headers.get_all(http::header::COOKIE).iter().nth(1).is_some() {
        let all: Vec<&[u8]> =
            headers.get_all(http::header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
            headers.insert(http::header::COOKIE, joined);
        }
    }
}

/// Whether a request asks for an upgrade, by HTTP/1.1's headers or by extended CONNECT.
pub(in super::super) fn wanted_upgrade<B>(request: &Request<B>) -> bool {
    if request.method() == Method::CONNECT {
        return true;
    }
    let Some(connection) = request.headers().get(CONNECTION) else { return false };
    // Some clients offer h2c with every request; as Envoy does, this proxy goes on in HTTP/1.1, which they accept.
    request.headers().get(UPGRADE).is_some_and(|to| !to.as_bytes().eq_ignore_ascii_case(b"h2c"))
        && connection
            .to_str()
            .is_ok_and(|list| list.split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade")))
}

fn set_request_authority(request: &mut Request<RequestBody>, host: &str) {
    if let Ok(value) = HeaderValue::from_str(host) {
        request.headers_mut().insert(HOST, value);
    }
    *request.uri_mut() = with_authority(std::mem::take(request.uri_mut()), host);
}

/// The limit of the whole answer: the route's, or the caller's `grpc-timeout` where the route honours it.
pub(super) fn timeout(forward: &Forward, parts: &Parts) -> Option<Duration> {
    let Some(most) = forward.grpc_timeout_max else { return forward.timeout };
    let asked = parts.headers.get(GRPC_TIMEOUT).and_then(|value| grpc_timeout(value.to_str().ok()?));
    let Some(asked) = asked else { return forward.timeout };
    let asked = asked.saturating_sub(forward.grpc_timeout_offset);
    Some(most.filter(|most| !most.is_zero()).map_or(asked, |most| asked.min(most)))
}

fn grpc_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let amount: u64 = text.get(..text.len() - unit.len_utf8())?.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(amount.checked_mul(3600)?),
        'M' => Duration::from_secs(amount.checked_mul(60)?),
        'S' => Duration::from_secs(amount),
        'm' => Duration::from_millis(amount),
        'u' => Duration::from_micros(amount),
        'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// How much of a body is kept for a retry.
pub(super) fn replay_limit(routed: &Routed<'_>, cluster: &Cluster) -> usize {
    let route = routed.routes.route(routed.found).effect.buffer_limit;
    route.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(cluster.buffer_limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_have_units() {
        assert_eq!(grpc_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(grpc_timeout("3S"), Some(Duration::from_secs(3)));
        assert_eq!(grpc_timeout("3"), None);
        assert_eq!(grpc_timeout(""), None);
    }
}
