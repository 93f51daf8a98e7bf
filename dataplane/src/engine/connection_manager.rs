//! The connection manager: a request's head is checked and put in order, filters judge it, the router sends it.

use std::rc::Rc;

use http::header::HeaderValue;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::active_stream::ActiveStream;
use super::dynamic::LookupError;
use super::http_connection::HttpConnection;
use super::limits::Limits;
use super::reply::Reply;
use super::request_context::RequestContext;
use super::response_body::ResponseBody;
use super::{local_reply, router, stream_info};
use crate::format::ResponseFlags;
use crate::rbac::Attributes;
use crate::route::{Action, ClusterChoice, FilterOverride, RouteConfig, RouteRef};
use crate::runtime::{HttpFilter, HttpManager};

/// Answers one request.
pub(super) async fn handle(
    connection: Rc<HttpConnection>,
    limits: Rc<Limits>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let view = connection.downstream.chain.view();
    let Some(manager) = view.manager() else {
        // A chain's kind is part of its identity, so this connection's chain ends in a connection manager.
        return Response::new(ResponseBody::Tunnel);
    };
    let stream = ActiveStream::begin(&connection, &view, manager, limits);
    let scheme = if connection.downstream.facts.tls.is_some() { "https" } else { "http" };
    let remote = connection.downstream.facts.peer.ip();
    let snapshot = connection.clusters.snapshot();
    let context = RequestContext { connection, view: view.clone(), snapshot, stream, scheme, remote };
    context.answer(manager, request).await
}

impl RequestContext {
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
        stream_info::note_request(&mut self.stream, manager, &parts, self.scheme, self.remote);
        let found = self.find_route(&parts);
        self.stream.found = found;
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
                let routed = router::Routed { manager, routes, found, forward, upgrade };
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
                self.direct(manager, routes, found, &parts, reply)
            }
            Action::Direct(direct) => {
                self.connection.worker.shard.inc(manager.stats.rq_direct_response);
                let mut reply = Reply::new(direct.status, "direct_response");
                reply.mapped = false;
                reply.bytes = Some(local_reply::direct_body(&self.stream, &self.head(&parts), direct));
                self.direct(manager, routes, found, &parts, reply)
            }
            Action::NonForwarding => {
                let reply = Reply::new(StatusCode::INTERNAL_SERVER_ERROR, "non_forwarding_action");
                self.reply(manager, &parts, reply)
            }
        }
    }

    fn direct(
        self,
        manager: &HttpManager,
        routes: &RouteConfig,
        found: RouteRef,
        parts: &Parts,
        reply: Reply,
    ) -> Response<ResponseBody> {
        let head = self.head(parts);
        let mut response = local_reply::send(reply, self.stream, manager, &head);
        let stream = &response.body().stream;
        let evaluated = stream_info::response_ops(stream, routes, found, None, &head, response.headers());
        for (ops, values) in evaluated {
            ops.apply(response.headers_mut(), values);
        }
        response.map(ResponseBody::Content)
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
        self.stream.host = Some(found.map_err(LookupError::reply)?);
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
