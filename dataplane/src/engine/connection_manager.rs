//! The connection manager: a request's head is checked and put in order, filters judge it, the router sends it.

use std::rc::Rc;

use http::header::HeaderValue;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::active_stream::ActiveStream;
use super::chain::HttpView;
use super::dynamic::LookupError;
use super::http_connection::HttpConnection;
use super::limits::Limits;
use super::reply::Reply;
use super::request_context::RequestContext;
use super::response_body::ResponseBody;
use super::router::Routed;
use super::{local_reply, router, stream_info};
use crate::format::ResponseFlags;
use crate::rbac::Attributes;
use crate::route::{Action, ClusterChoice, FilterOverride, RouteConfig, RouteRef};
use crate::runtime::HttpFilter;

/// Answers one request.
pub(super) async fn handle(
    connection: Rc<HttpConnection>,
    limits: Rc<Limits>,
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

impl RequestContext {
    async fn answer(mut self, view: &HttpView, mut request: Request<Incoming>) -> Response<ResponseBody> {
        let HttpView { manager, routes } = view;
        let upgrade = router::wanted_upgrade(&request).then(|| hyper::upgrade::on(&mut request));
        let (mut parts, incoming) = request.into_parts();
        if let Err(reply) = self.prepare(manager, &mut parts) {
            return self.reply(&parts, reply);
        }
        stream_info::note_request(&mut self.stream, &parts, self.scheme, self.remote);
        let found = routes.find(&self.head(&parts), self.connection.worker.random());
        self.stream.found = found;
        if let Err(reply) = self.filter(manager.filters.before_lookup(), &parts) {
            return self.reply(&parts, reply);
        }
        if let Some(filters) = manager.filters.behind_lookup() {
            let looked_up = Box::pin(self.look_up(&parts)).await;
            if let Err(reply) = looked_up.and_then(|()| self.filter(filters, &parts)) {
                return self.reply(&parts, reply);
            }
        }
        let Some(router) = manager.filters.router() else {
            return self.reply(&parts, Reply::new(StatusCode::NOT_FOUND, "no_router"));
        };
        let Some(found) = found else {
            self.connection.worker.shard.inc(manager.stats.no_route);
            let missing = Reply::new(StatusCode::NOT_FOUND, "route_not_found");
            return self.reply(&parts, missing.flag(ResponseFlags::NO_ROUTE));
        };
        match &routes.route(found).action {
            Action::Forward(forward) => {
                let routed = Routed { manager, router, routes, found, forward, upgrade };
                router::forward(self, routed, parts, incoming).await
            }
            Action::Redirect(redirect) => {
                self.connection.worker.shard.inc(manager.stats.rq_redirect);
                let location = redirect.location(&self.head(&parts), &routes.route(found).matches);
                let mut reply = Reply::new(redirect.status, "direct_response");
                reply.mapped = false;
                if let Ok(value) = HeaderValue::from_str(&location) {
                    reply = reply.header(http::header::LOCATION, value);
                }
                self.direct(routes, found, &parts, reply)
            }
            Action::Direct(direct) => {
                self.connection.worker.shard.inc(manager.stats.rq_direct_response);
                let mut reply = Reply::new(direct.status, "direct_response");
                reply.mapped = false;
                reply.bytes = Some(local_reply::direct_body(&self.stream, &self.head(&parts), direct));
                self.direct(routes, found, &parts, reply)
            }
            Action::NonForwarding => {
                let reply = Reply::new(StatusCode::INTERNAL_SERVER_ERROR, "non_forwarding_action");
                self.reply(&parts, reply)
            }
        }
    }

    fn direct(
        self,
        routes: &RouteConfig,
        found: RouteRef,
        parts: &Parts,
        reply: Reply,
    ) -> Response<ResponseBody> {
        let head = self.head(parts);
        let mut response = local_reply::send(reply, self.stream, &head);
        let stream = &response.body().stream;
        let evaluated = stream_info::response_ops(stream, routes, found, None, &head, response.headers());
        for (ops, values) in evaluated {
            ops.apply(response.headers_mut(), values);
        }
        response.map(ResponseBody::Content)
    }

    /// Finds the host that the request names, where its route leads to a cluster that needs it.
    async fn look_up(&mut self, parts: &Parts) -> Result<(), Reply> {
        let Some(found) = self.stream.found else { return Ok(()) };
        let routes = &self.stream.view.routes;
        let Action::Forward(forward) = &routes.route(found).action else { return Ok(()) };
        // A cluster that is chosen later has no host then, and the request no endpoint.
        let ClusterChoice::Named(name) = &forward.cluster else { return Ok(()) };
        let Some(hosts) = self.snapshot.dynamic_hosts(name) else { return Ok(()) };
        let Some(cluster) = self.snapshot.cluster(name) else { return Ok(()) };
        let config = cluster.view().config.clone();
        let authority = self.head(parts).authority;
        let found = hosts.find(&self.connection.worker, &config, authority).await;
        self.stream.host = Some(found.map_err(LookupError::reply)?);
        Ok(())
    }

    /// Runs filters before the router.
    fn filter(&self, filters: &[HttpFilter], parts: &Parts) -> Result<(), Reply> {
        let shard = &self.connection.worker.shard;
        for filter in filters {
            let HttpFilter::Rbac { name, rbac, stats } = filter else { continue };
            let routes = &self.stream.view.routes;
            let special = self.stream.found.and_then(|found| routes.filter_override(found, None, name));
            let rbac = match special {
                Some(FilterOverride::Disabled) => continue,
                Some(FilterOverride::Rbac(special)) => special,
                None => rbac,
            };
            let facts = &self.connection.downstream.facts;
            let attributes = Attributes {
                peer: facts.peer_certificate(),
                server_name: facts.server_name(),
                local: facts.local,
                direct_remote: facts.peer.ip(),
                remote: self.remote,
                upstream: self.stream.host.as_ref().map_or(&[], |host| &host.addresses),
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
