//! The connection manager: a request's head is checked and put in order, filters judge it, the router sends it.

use std::rc::Rc;

use base64::Engine as _;
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;

use super::chain::ChainView;
use super::clusters::Snapshot;
use super::dynamic::LookupError;
use super::exchange::Exchange;
use super::limits::Limits;
use super::reply::Reply;
use super::response_body::ResponseBody;
use super::serve::HttpConnection;
use super::{forwarded, record, router, xfcc};
use crate::format::ResponseFlags;
use crate::matcher::RequestHead;
use crate::rbac::Attributes;
use crate::route::{Action, ClusterChoice, FilterOverride, RouteRef};
use crate::runtime::{HttpFilter, HttpManager, StripPort, Underscores};

/// What belongs to one request while it is worked on.
pub(super) struct Stage {
    pub(super) connection: Rc<HttpConnection>,
    pub(super) view: Rc<ChainView>,
    pub(super) snapshot: Rc<Snapshot>,
    /// Boxed, since it goes through many hands by value on its way into the response's body.
    pub(super) exchange: Box<Exchange>,
    pub(super) scheme: &'static str,
    /// The caller's address after trusted hops.
    pub(super) remote: std::net::IpAddr,
}

/// Answers one request.
pub(super) async fn handle(
    connection: Rc<HttpConnection>,
    limits: Rc<Limits>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let view = connection.held.chain.view();
    let Some(manager) = view.manager() else {
        // A chain's kind is part of its identity, so this connection's chain ends in a connection manager.
        return Response::new(ResponseBody::Tunnel);
    };
    let exchange = Exchange::begin(&connection, &view, manager, limits);
    let scheme = if connection.held.facts.tls.is_some() { "https" } else { "http" };
    let remote = connection.held.facts.peer.ip();
    let snapshot = connection.clusters.snapshot();
    let stage = Stage { connection, view: view.clone(), snapshot, exchange, scheme, remote };
    stage.answer(manager, request).await
}

impl Stage {
    async fn answer(
        mut self,
        manager: &HttpManager,
        mut request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let upgrade = router::wanted_upgrade(&request).then(|| hyper::upgrade::on(&mut request));
        let (mut parts, incoming) = request.into_parts();
        if let Err(reply) = self.prepare(manager, &mut parts) {
            return self.reply(manager, &parts, reply);
        }
        record::note_request(&mut self.exchange, manager, &parts, self.scheme, self.remote);
        let found = self.find_route(&parts);
        self.exchange.found = found;
        let (filters, behind_lookup) = manager.filters_around_lookup();
        if let Err(reply) = self.filter(filters, &parts, found) {
            return self.reply(manager, &parts, reply);
        }
        if let Some(filters) = behind_lookup {
            let looked_up = Box::pin(self.look_up(&parts, found)).await;
            if let Err(reply) = looked_up.and_then(|()| self.filter(filters, &parts, found)) {
                return self.reply(manager, &parts, reply);
            }
        }
        if !manager.has_router() {
            return self.reply(manager, &parts, Reply::new(StatusCode::NOT_FOUND, "no_router"));
        }
        let Some(found) = found else {
            let shard = &self.connection.worker.shard;
            shard.inc(manager.stats.no_route);
            let missing = Reply::new(StatusCode::NOT_FOUND, "route_not_found");
            return self.reply(manager, &parts, missing.flag(ResponseFlags::NO_ROUTE));
        };
        let view = self.view.clone();
        let Some(routes) = &view.routes else { return Response::new(ResponseBody::Tunnel) };
        let routes = routes.as_ref();
        match &routes.route(found).action {
            Action::Forward(forward) => {
                let sending = router::Sending { manager, routes, found, forward, upgrade };
                router::forward(self, sending, parts, incoming).await
            }
            Action::Redirect(redirect) => {
                self.connection.worker.shard.inc(manager.stats.rq_redirect);
                let location = redirect.location(&self.head(&parts), &routes.route(found).matches);
                let mut reply = Reply::new(redirect.status, "direct_response");
                reply.mapped = false;
                if let Ok(value) = HeaderValue::from_str(&location) {
                    reply = reply.header(http::header::LOCATION, value);
                }
                self.direct(manager, routes, found, &parts, reply)
            }
            Action::Direct(direct) => {
                self.connection.worker.shard.inc(manager.stats.rq_direct_response);
                let mut reply = Reply::new(direct.status, "direct_response");
                reply.mapped = false;
                reply.bytes = Some(record::direct_body(&self.exchange, &self.head(&parts), direct));
                self.direct(manager, routes, found, &parts, reply)
            }
            Action::NonForwarding => {
                let reply = Reply::new(StatusCode::INTERNAL_SERVER_ERROR, "non_forwarding_action");
                self.reply(manager, &parts, reply)
            }
        }
    }

    /// The request's head as matchers see it.
    pub(super) fn head<'a>(&self, parts: &'a Parts) -> RequestHead<'a> {
        head(parts, self.scheme)
    }

    /// Ends with an answer of our own.
    pub(super) fn reply(self, manager: &HttpManager, parts: &Parts, reply: Reply) -> Response<ResponseBody> {
        let head = head(parts, self.scheme);
        reply.into_response(self.exchange, manager, &head).map(ResponseBody::Content)
    }

    fn direct(
        self,
        manager: &HttpManager,
        routes: &crate::route::RouteConfig,
        found: RouteRef,
        parts: &Parts,
        reply: Reply,
    ) -> Response<ResponseBody> {
        let head = head(parts, self.scheme);
        let mut response = reply.into_response(self.exchange, manager, &head);
        let exchange = &response.body().exchange;
        let evaluated = record::response_ops(exchange, routes, found, None, &head, response.headers());
        for (ops, values) in evaluated {
            ops.apply(response.headers_mut(), values);
        }
        response.map(ResponseBody::Content)
    }

    /// Checks the head and brings it into the form that routing, authorization and the upstream see.
    fn prepare(&mut self, manager: &HttpManager, parts: &mut Parts) -> Result<(), Reply> {
        if parts.version < Version::HTTP_11 && !manager.http1.accept_http_10 {
            return Err(Reply::new(StatusCode::UPGRADE_REQUIRED, "low_version"));
        }
        check_framing(manager, parts)?;
        self.as_upgrade(parts);
        underscores(manager, &mut parts.headers)?;
        set_host(parts)?;
        if manager.strip_port != StripPort::Keep {
            strip_port(parts, manager.strip_port, self.connection.held.facts.local.port());
        }
        if parts.method != Method::CONNECT {
            record::normalize_path(manager, parts, &self.connection.worker.shard)?;
        }
        self.remote = forwarded::apply(manager, &self.connection, &mut parts.headers, self.scheme);
        if manager.request_ids.in_response {
            self.exchange.request_id = parts.headers.get(&forwarded::REQUEST_ID).cloned();
        }
        xfcc::apply(manager, &self.connection.held.facts, &mut parts.headers);
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

    fn find_route(&self, parts: &Parts) -> Option<RouteRef> {
        let routes = self.view.routes.as_ref()?;
        routes.find(&self.head(parts), self.connection.worker.random())
    }

    /// Finds the host that the request names, where its route leads to a cluster that needs it.
    async fn look_up(&mut self, parts: &Parts, found: Option<RouteRef>) -> Result<(), Reply> {
        let view = self.view.clone();
        let Some((found, routes)) = found.zip(view.routes.as_ref()) else { return Ok(()) };
        let Action::Forward(forward) = &routes.route(found).action else { return Ok(()) };
        // A cluster that is chosen later has no host then, and the request no endpoint.
        let ClusterChoice::Named(name) = &forward.cluster else { return Ok(()) };
        let Some(hosts) = self.snapshot.dynamic_hosts(name) else { return Ok(()) };
        let Some(cluster) = self.snapshot.cluster(name) else { return Ok(()) };
        let config = cluster.view().config.clone();
        let authority = self.head(parts).authority;
        let found = hosts.find(&self.connection.worker, &config, authority).await;
        self.exchange.host = Some(found.map_err(LookupError::reply)?);
        Ok(())
    }

    /// Runs filters before the router.
    fn filter(&self, filters: &[HttpFilter], parts: &Parts, found: Option<RouteRef>) -> Result<(), Reply> {
        let shard = &self.connection.worker.shard;
        for filter in filters {
            let HttpFilter::Rbac { name, rbac, stats } = filter else { continue };
            let routes = self.view.routes.as_ref();
            let special =
                found.zip(routes).and_then(|(found, routes)| routes.filter_override(found, None, name));
            let rbac = match special {
                Some(FilterOverride::Disabled) => continue,
                Some(FilterOverride::Rbac(special)) => special,
                None => rbac,
            };
            let facts = &self.connection.held.facts;
            let attributes = Attributes {
                peer: facts.peer_certificate(),
                server_name: facts.server_name(),
                local: facts.local,
                direct_remote: facts.peer.ip(),
                remote: self.remote,
                upstream: self.exchange.host.as_ref().map_or(&[], |host| &host.addresses),
                request: Some(self.head(parts)),
            };
            if let Some(shadow) = rbac.evaluate_shadow(&attributes) {
                shard.inc(if shadow.allowed { stats.shadow_allowed } else { stats.shadow_denied });
            }
            let Some(verdict) = rbac.evaluate(&attributes) else { continue };
            shard.inc(if verdict.allowed { stats.allowed } else { stats.denied });
            if !verdict.allowed {
                let denied = Reply::new(StatusCode::FORBIDDEN, verdict.details().to_string());
                return Err(denied.body("RBAC: access denied"));
            }
        }
        Ok(())
    }
}

/// The head of a request as matchers see it; the authority is in the URI or in `host`.
pub(super) fn head<'a>(parts: &'a Parts, scheme: &'static str) -> RequestHead<'a> {
    head_of(&parts.method, &parts.uri, &parts.headers, target(parts), scheme)
}

/// What a request's URI names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Path,
    /// CONNECT's has no path.
    Authority,
}

pub(super) fn target(parts: &Parts) -> Target {
    let connects =
        parts.method == Method::CONNECT && parts.extensions.get::<hyper::ext::Protocol>().is_none();
    if connects { Target::Authority } else { Target::Path }
}

/// The same of a head in pieces.
pub(super) fn head_of<'a>(
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    target: Target,
    scheme: &'static str,
) -> RequestHead<'a> {
    let authority = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
    };
    let path = match target {
        Target::Authority => "",
        Target::Path => uri.path_and_query().map_or("/", |path| path.as_str()),
    };
    RequestHead { method: method.as_str(), scheme, authority, path, headers }
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
    if headers.get_all(HOST).iter().nth(1).is_some() {
        return bad("http1.multiple_host");
    }
    Ok(())
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
    let bare = crate::route::without_port(&current);
    if bare.len() == current.len() {
        return;
    }
    let port = current[bare.len() + 1..].parse::<u16>().ok();
    if strip == StripPort::Matching && port != Some(own) {
        return;
    }
    router::set_authority(parts, bare);
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
