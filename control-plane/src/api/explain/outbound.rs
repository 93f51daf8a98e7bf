//! The caller's side: which route takes a request, and where that leads.

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, HostRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::{self as wire, DirectResponseAction};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use http::{HeaderMap, HeaderName, HeaderValue};
use weft_api::names::{OUTBOUND_LISTENER, upstream_listener_name};
use weft_api::rest::{ExplainedAnswer, ExplainedCluster, ExplainedRoute};
use weft_api::{Destination, Name, ResourceKind, ServiceId};
use weft_policies::PolicySet;
use weft_policies::kinds::backend::Backend;
use weft_policies::set::HttpRouteMatch;
use weft_routing::decode;
use weft_routing::matcher::RequestHead;
use weft_routing::path::Normal;
use weft_routing::rejection::{Notes, Rejection};
use weft_routing::route::{ClusterChoice, PathMatch, Route, RouteMatch};

use super::super::effective::{Shown, of_requests};
use super::question::AskedRequest;
use super::sidecar::{AskedSidecar, ChainSide, HttpSide, ReadHost, endpoints};
use super::words;

/// What the caller's sidecar would do.
#[derive(Debug, Default)]
pub struct Outbound {
    /// The service and port that the request is for; none for a host that no service has.
    pub destination: Option<(ServiceId, Name)>,
    /// The path as routes see it; none without a request, or where it is refused.
    pub path: Option<String>,
    /// What it answers by itself.
    pub answer: Option<ExplainedAnswer>,
    /// The route that takes the request; all without one.
    pub routes: Vec<ExplainedRoute>,
    /// The request as the called side sees it.
    pub arriving: Option<ArrivingRequest>,
}

/// A request as it arrives at the called side.
#[derive(Debug, Clone)]
pub struct ArrivingRequest {
    pub method: String,
    pub authority: String,
    pub path: String,
    pub headers: HeaderMap,
}

/// The caller, and what it is told.
#[derive(Debug)]
pub struct CallerSide<'a> {
    pub sidecar: AskedSidecar<'a>,
    pub set: &'a PolicySet,
    pub namespace: &'a Name,
    /// Names of objects, as far as they may be told.
    pub shown: Shown<'a>,
}

impl CallerSide<'_> {
    /// What becomes of requests to a host.
    pub fn to_host(&self, authority: &str, request: Option<&AskedRequest>) -> Result<Outbound, Rejection> {
        let Some(ChainSide::Http(side)) = ChainSide::read(self.sidecar, OUTBOUND_LISTENER, None)? else {
            return Ok(answered(
                None,
                "the sidecar has no listener for requests by host name yet".to_owned(),
            ));
        };
        let path = match request.map(|request| side.normal(&request.path)).transpose()? {
            None => None,
            Some(Ok(Normal::Forward(path))) => Some(path.into_owned()),
            Some(Ok(Normal::Redirect(to))) => {
                let reason = "the path holds an escaped slash".to_owned();
                let answer = ExplainedAnswer { status: Some(307), location: Some(to), reason };
                return Ok(Outbound { answer: Some(answer), ..Outbound::default() });
            }
            Some(Err(error)) => return Ok(answered(Some(400), error.to_string())),
        };
        let Some(host) = side.host(authority)? else {
            return Ok(answered(Some(404), format!("no route leads to {authority}")));
        };
        let found = self.in_host(&side, &host, authority, request.zip(path.as_deref()))?;
        Ok(Outbound { path, ..found })
    }

    fn in_host(
        &self,
        side: &HttpSide,
        host: &ReadHost<'_>,
        authority: &str,
        request: Option<(&AskedRequest, &str)>,
    ) -> Result<Outbound, Rejection> {
        let destination = self.destination_of(&host.wire.name);
        let rules = match &destination {
            Some((service, port)) => self.rules(service, port),
            None => Vec::new(),
        };
        let owner = RouteOwner { host, rules: &rules, destination: destination.as_ref() };
        let Some((request, path)) = request else {
            let mut routes = Vec::new();
            for (index, route) in host.routes().iter().enumerate() {
                if !matches!(route.matches.path, PathMatch::Connect) {
                    routes.push(self.route(&owner, index, route, None)?);
                }
            }
            let answer = routes.first().filter(|_| destination.is_none()).and_then(|one| one.answer.clone());
            return Ok(Outbound { destination, answer, routes, ..Outbound::default() });
        };
        let headers = &request.headers;
        let head = RequestHead { method: &request.method, scheme: "http", authority, path, headers };
        let Some(index) = host.find(&head) else {
            let reason = "no route of the service takes it".to_owned();
            let answer = Some(ExplainedAnswer { status: Some(404), location: None, reason });
            return Ok(Outbound { destination, answer, ..Outbound::default() });
        };
        let Some(route) = host.routes().get(index) else { return Ok(Outbound::default()) };
        let mut shown = self.route(&owner, index, route, Some(&head))?;
        let arriving = match &route.effect.action {
            Some(Action::Route(action)) => Some(arriving(&head, action, route, host, side)?),
            Some(_) | None => None,
        };
        shown.rewritten_path =
            arriving.as_ref().map(|one| one.path.clone()).filter(|rewritten| rewritten != path);
        let answer = shown.answer.clone();
        Ok(Outbound { destination, path: None, answer, routes: vec![shown], arriving })
    }

    /// What becomes of connections to a port that speaks no HTTP: they go by a port of the caller's own.
    pub fn to_port(&self, service: &ServiceId, port: &Name) -> Result<Outbound, Rejection> {
        let destination = Some((service.clone(), port.clone()));
        let listener = upstream_listener_name(service, port.as_str());
        let Some(ChainSide::Tcp { proxy: Some(proxy), .. }) = ChainSide::read(self.sidecar, &listener, None)?
        else {
            let reason = format!(
                "the caller declares no upstream {service}:{port}, so that none of its ports leads there (--upstream \
                 {service}:{port}=IP:PORT)"
            );
            return Ok(Outbound { destination, ..answered(None, reason) });
        };
        let found = self.set.backend(service).and_then(|backend| backend.port(port));
        let document = found.and_then(|port| self.set.tcp_route_for(service, port, self.namespace));
        let route = ExplainedRoute {
            name: listener,
            document: document.map(|route| self.shown.key(&route.key())),
            matches: "every connection".to_owned(),
            clusters: self.clusters(members_of(&proxy), 503)?,
            ..ExplainedRoute::default()
        };
        Ok(Outbound { destination, routes: vec![route], ..Outbound::default() })
    }

    /// The service and port of a virtual host, by its name: `[CONFIGURATION/]SERVICE.NAMESPACE:PORT`.
    fn destination_of(&self, host: &str) -> Option<(ServiceId, Name)> {
        let (name, port) = host.rsplit('/').next()?.rsplit_once(':')?;
        let (name, namespace) = name.split_once('.')?;
        let service = ServiceId::try_new(namespace, name).ok()?;
        let port = self.set.backend(&service)?.port_number(port.parse().ok()?)?.name.clone();
        Some((service, port))
    }

    fn rules(&self, service: &ServiceId, port: &Name) -> Vec<HttpRouteMatch> {
        let found = self.set.service(service).and_then(|object| object.spec.port(port));
        found.map(|port| self.set.http_rules_for(service, port, self.namespace)).unwrap_or_default()
    }

    fn route(
        &self,
        owner: &RouteOwner<'_>,
        index: usize,
        route: &Route<wire::Route>,
        head: Option<&RequestHead<'_>>,
    ) -> Result<ExplainedRoute, Rejection> {
        let rule = owner.rule_of(index, route);
        let mut shown = ExplainedRoute {
            name: route.name.to_string(),
            document: rule.map(|one| self.shown.key(&one.route.key())),
            rule: rule.map(HttpRouteMatch::rule_name),
            matches: route.effect.r#match.as_ref().map(words::of_match).unwrap_or_default(),
            ..ExplainedRoute::default()
        };
        match &route.effect.action {
            Some(Action::Route(action)) => {
                shown.clusters = self.clusters(members(action)?, not_found(action))?;
                if let Some((service, port)) = owner.destination {
                    let traffic = self.set.traffic_for(service, port, rule);
                    shown.traffic = of_requests(&traffic, &self.shown);
                }
            }
            Some(Action::Redirect(redirect)) => {
                let redirect = decode::route::redirect(redirect)?;
                let location = head.map(|head| redirect.location(head, &route.matches));
                let reason = "the rule redirects".to_owned();
                let status = Some(redirect.status.as_u16());
                shown.answer = Some(ExplainedAnswer { status, location, reason });
            }
            Some(Action::DirectResponse(direct)) => shown.answer = Some(direct_response(direct)),
            Some(Action::FilterAction(_) | Action::NonForwardingAction(_)) | None => {
                let reason = "the route leads nowhere".to_owned();
                shown.answer = Some(ExplainedAnswer { status: Some(500), location: None, reason });
            }
        }
        Ok(shown)
    }

    /// Whether requests say which host outside is meant.
    fn is_looked_up(&self, service: &ServiceId) -> bool {
        let external = self.set.backend(service).and_then(Backend::external);
        external.is_some_and(|external| external.spec.is_on_demand())
    }

    /// The clusters with their weights, and what is behind each of them now.
    fn clusters(
        &self,
        members: Vec<(String, u32)>,
        not_found: u16,
    ) -> Result<Vec<ExplainedCluster>, Rejection> {
        let of_member = |(name, weight): (String, u32)| -> Result<ExplainedCluster, Rejection> {
            let destination = Destination::parse(&name);
            let (endpoints, healthy) = endpoints(self.sidecar.view, &name)?;
            let exists = self.sidecar.view.lookup(ResourceKind::Cluster, &name).is_some();
            // What leads out of the mesh has no endpoints that are told.
            let missing = match (&destination, exists) {
                (_, false) => Some(not_found),
                (Some(one), true) if endpoints == 0 && !self.is_looked_up(&one.service) => Some(503),
                (Some(_) | None, true) => None,
            };
            Ok(ExplainedCluster {
                service: destination.as_ref().map(|one| one.service.to_string()),
                port: destination.as_ref().map(|one| one.port.to_string()),
                subset: destination.and_then(|one| one.subset).map(|subset| subset.to_string()),
                name,
                weight,
                endpoints,
                healthy,
                missing,
            })
        };
        members.into_iter().map(of_member).collect()
    }
}

/// Whose route it is.
struct RouteOwner<'a> {
    host: &'a ReadHost<'a>,
    /// The rules that its routes were compiled from, in the same order.
    rules: &'a [HttpRouteMatch],
    destination: Option<&'a (ServiceId, Name)>,
}

impl RouteOwner<'_> {
    /// The rule of a route. Before those of rules there may be one for tunnels.
    fn rule_of(&self, index: usize, route: &Route<wire::Route>) -> Option<&HttpRouteMatch> {
        let before = self.host.routes().len().checked_sub(self.rules.len())?;
        let rule = self.rules.get(index.checked_sub(before)?)?;
        (*route.name == *format!("{}/{}", rule.route.key().id(), rule.rule_name())).then_some(rule)
    }
}

fn answered(status: Option<u16>, reason: String) -> Outbound {
    let answer = ExplainedAnswer { status, location: None, reason };
    Outbound { answer: Some(answer), ..Outbound::default() }
}

fn members(action: &wire::RouteAction) -> Result<Vec<(String, u32)>, Rejection> {
    Ok(match decode::route::cluster_choice(action, &mut Notes::default(), |_, _| Ok(()))? {
        ClusterChoice::Named(name) => vec![(name.to_string(), 1)],
        // Compiled routes have none of these.
        ClusterChoice::Header(_) => Vec::new(),
        ClusterChoice::Weighted { clusters, .. } => {
            clusters.into_iter().map(|cluster| (cluster.name.to_string(), cluster.weight)).collect()
        }
    })
}

fn members_of(proxy: &TcpProxy) -> Vec<(String, u32)> {
    match &proxy.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => vec![(name.clone(), 1)],
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            weighted.clusters.iter().map(|cluster| (cluster.name.clone(), cluster.weight)).collect()
        }
        None => Vec::new(),
    }
}

fn not_found(action: &wire::RouteAction) -> u16 {
    match ClusterNotFoundResponseCode::try_from(action.cluster_not_found_response_code) {
        Ok(ClusterNotFoundResponseCode::NotFound) => 404,
        Ok(ClusterNotFoundResponseCode::InternalServerError) => 500,
        Ok(ClusterNotFoundResponseCode::ServiceUnavailable) | Err(_) => 503,
    }
}

fn direct_response(direct: &DirectResponseAction) -> ExplainedAnswer {
    let body = direct.body.as_ref().and_then(|body| body.specifier.as_ref());
    let reason = match body {
        Some(Specifier::InlineString(text)) => text.clone(),
        Some(_) | None => "a fixed answer".to_owned(),
    };
    ExplainedAnswer { status: u16::try_from(direct.status).ok(), location: None, reason }
}

/// The request as the router sends it on.
fn arriving(
    head: &RequestHead<'_>,
    action: &wire::RouteAction,
    route: &Route<wire::Route>,
    host: &ReadHost<'_>,
    side: &HttpSide,
) -> Result<ArrivingRequest, Rejection> {
    let authority = match &action.host_rewrite_specifier {
        Some(HostRewriteSpecifier::HostRewriteLiteral(literal)) => literal.clone(),
        Some(_) | None => head.authority.to_owned(),
    };
    let mut headers = head.headers.clone();
    let levels = [
        (&route.effect.request_headers_to_remove, &route.effect.request_headers_to_add),
        (&host.wire.request_headers_to_remove, &host.wire.request_headers_to_add),
        (&side.configuration.request_headers_to_remove, &side.configuration.request_headers_to_add),
    ];
    for (removed, added) in levels {
        removed.iter().for_each(|name| drop(headers.remove(name)));
        for option in added {
            let Some(header) = &option.header else { continue };
            // Values are text in compiled routes: a percent sign that stands for itself is written twice.
            let value = header.value.replace("%%", "%");
            let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(header.key.as_bytes()), HeaderValue::from_str(&value))
            else {
                continue;
            };
            match HeaderAppendAction::try_from(option.append_action) {
                Ok(HeaderAppendAction::OverwriteIfExistsOrAdd) => {
                    headers.insert(name, value);
                }
                Ok(HeaderAppendAction::AddIfAbsent) => {
                    headers.entry(name).or_insert(value);
                }
                Ok(HeaderAppendAction::OverwriteIfExists) => {
                    if headers.contains_key(&name) {
                        headers.insert(name, value);
                    }
                }
                Ok(HeaderAppendAction::AppendIfExistsOrAdd) | Err(_) => {
                    headers.append(name, value);
                }
            }
        }
    }
    let path = rewritten(head.path, action, &route.matches)?;
    Ok(ArrivingRequest { method: head.method.to_owned(), authority, path, headers })
}

fn rewritten(path: &str, action: &wire::RouteAction, matched: &RouteMatch) -> Result<String, Rejection> {
    let rewrite = decode::route::path_rewrite(action, matched)?;
    Ok(rewrite.map_or_else(|| path.to_owned(), |rewrite| rewrite.apply(path, matched)))
}
