//! The connection manager: a request's head is checked and put in order, filters judge it, the router sends it.

use std::rc::Rc;

use http::header::HeaderValue;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use weft_http1::Malformed;
use weft_routing::matcher::RequestHead;

use super::active_stream::ActiveStream;
use super::body::{Incoming, RequestContent};
use super::chain::HttpView;
use super::http_connection::HttpConnection;
use super::limits::RequestLimits;
use super::reply::{Reply, ReplyOrigin};
use super::request_context::RequestContext;
use super::response_body::ResponseBody;
use super::router::Routed;
use super::upgraded::DownstreamUpgrade;
use super::{forwarded, local_reply, router, span, stream_info};
use crate::filter::{self, HttpFilter};
use crate::format::ResponseFlags;
use crate::route::RouteAction;

pub(super) async fn handle(
    connection: Rc<HttpConnection>,
    limits: Rc<RequestLimits>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let view = connection.terminal.view();
    let stream = ActiveStream::begin(&connection, &view, limits);
    let scheme = if connection.downstream.facts.tls.is_some() { "https" } else { "http" };
    let remote = connection.downstream.facts.peer.ip();
    let snapshot = connection.clusters.snapshot();
    let context = RequestContext { connection, snapshot, stream, scheme, remote };
    context.answer(&view, request).await
}

/// Answers bytes that are no request. As in Envoy they make a stream of their own, which is counted and logged; unlike there,
/// it has an id.
pub(super) fn refuse(
    connection: &Rc<HttpConnection>,
    limits: Rc<RequestLimits>,
    malformed: Malformed,
) -> Response<ResponseBody> {
    let view = connection.terminal.view();
    let mut stream = ActiveStream::begin(connection, &view, limits);
    connection.closing.set(true);
    let mut headers = HeaderMap::new();
    forwarded::identify(&view.manager, &connection.worker, &mut headers);
    let id = headers.get(&forwarded::REQUEST_ID).cloned();
    if view.manager.request_ids.in_response {
        stream.request_id.clone_from(&id);
    }
    stream_info::note_refused(&mut stream, connection.downstream.facts.peer.ip(), id);
    let status = malformed.status();
    let reply = Reply::new(status, malformed.details())
        .body(status.canonical_reason().unwrap_or_default())
        .flag(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR);
    let head = RequestHead { method: "", scheme: "", authority: "", path: "", headers: &headers };
    local_reply::send(reply, stream, &head).map(ResponseBody::Content)
}

impl RequestContext {
    async fn answer(mut self, view: &HttpView, mut request: Request<Incoming>) -> Response<ResponseBody> {
        let HttpView { manager, routes } = view;
        let upgrade = router::wanted_upgrade(&request).then(|| DownstreamUpgrade::of(&mut request));
        let (mut parts, incoming) = request.into_parts();
        let mut content = RequestContent::Incoming(incoming);
        let prepared = self.prepare(manager, &mut parts);
        stream_info::note_request(&mut self.stream, &parts, self.scheme, self.remote);
        if let Err(reply) = prepared {
            return self.reply(&parts, reply);
        }
        self.stream.found = routes.find(&self.head(&parts), self.connection.worker.random());
        if let Some(tracing) = &manager.tracing {
            span::begin(&mut self.stream, tracing, &mut parts, self.scheme);
        }
        let filters = manager.filters.before_router();
        if !filters.is_empty() {
            // What follows a request for an upgrade is the tunnel's.
            let content = upgrade.is_none().then_some(&mut content);
            if let Err(reply) = self.filter(filters, view, &mut parts, content).await {
                return self.reply(&parts, *reply);
            }
        }
        let Some(router) = manager.filters.router() else {
            return self.reply(&parts, Reply::new(StatusCode::NOT_FOUND, "no_router"));
        };
        let Some(found) = self.stream.found else {
            self.connection.worker.shard.inc(manager.stats.no_route);
            let missing = Reply::new(StatusCode::NOT_FOUND, "route_not_found");
            return self.reply(&parts, missing.flag(ResponseFlags::NO_ROUTE));
        };
        match &routes.route(found).effect.action {
            RouteAction::Forward(forward) => {
                let routed = Routed { manager, router, routes, found, forward, upgrade };
                router::forward(self, routed, parts, content).await
            }
            RouteAction::Redirect(redirect) => {
                self.connection.worker.shard.inc(manager.stats.rq_redirect);
                let location = redirect.location(&self.head(&parts), &routes.route(found).matches);
                let mut reply = Reply::new(redirect.status, "direct_response");
                reply.origin = ReplyOrigin::Route;
                if let Ok(value) = HeaderValue::from_str(&location) {
                    reply = reply.header(http::header::LOCATION, value);
                }
                self.reply(&parts, reply)
            }
            RouteAction::Direct(direct) => {
                self.connection.worker.shard.inc(manager.stats.rq_direct_response);
                let mut reply = Reply::new(direct.status, "direct_response");
                reply.origin = ReplyOrigin::Route;
                reply.bytes = Some(local_reply::direct_body(&self.stream, &self.head(&parts), direct));
                self.reply(&parts, reply)
            }
            RouteAction::NonForwarding => {
                let reply = Reply::new(StatusCode::INTERNAL_SERVER_ERROR, "non_forwarding_action");
                self.reply(&parts, reply)
            }
        }
    }

    async fn filter(
        &mut self,
        filters: &[HttpFilter],
        view: &HttpView,
        parts: &mut Parts,
        content: Option<&mut RequestContent>,
    ) -> Result<(), Box<Reply>> {
        let Self { snapshot, stream, scheme, remote, .. } = self;
        let (scheme, remote) = (*scheme, *remote);
        let mut request =
            filter::request::Request { parts, content, stream, view, snapshot, scheme, remote, place: 0 };
        filter::chain::on_request(filters, &mut request).await
    }
}
