//! The routes of one port of a service, as callers of one namespace follow them.

mod action;
mod counting;
mod matching;

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterSpecifier, UpgradeConfig, upgrade_config,
};
use envoy_types::pb::envoy::config::route::v3::route_match::{ConnectMatcher, PathSpecifier};
use envoy_types::pb::envoy::config::route::v3::{DirectResponseAction, Route, RouteAction, RouteMatch};
use weft_api::names::{Name, ServiceId, cluster_name};

use super::compiled::Origins;
use super::model::Model;
use super::{hashing, tracing, traffic, wire};
use crate::kinds::backend::Backend;
use crate::kinds::port::{Port, Protocol};
use crate::kinds::reference::BackendRef;
use crate::kinds::route::backend_key;
use crate::set::{EffectiveTraffic, HttpRouteMatch};

/// The routes of one port.
#[derive(Debug)]
pub(super) struct Routes {
    pub(super) routes: Vec<Route>,
    /// Clusters of ours that they name.
    pub(super) clusters: BTreeSet<String>,
    pub(super) origins: Origins,
}

impl Routes {
    /// Compiles the rules that hold for a port and callers of a namespace, in the order in which they are given. With none, all requests go to
    /// the port itself; what no rule fits is answered 404.
    pub(super) fn compile(
        service: &ServiceId,
        port: &Port,
        rules: &[HttpRouteMatch],
        caller: &Name,
        model: &Model<'_>,
    ) -> Self {
        let origins = Origins::of(model.set.backend_key(service));
        let mut result = Self { routes: Vec::new(), clusters: BTreeSet::new(), origins };
        let telemetry = model.set.telemetry_for(service, &port.name);
        result.origins.extend(tracing::origins(&telemetry, model));
        if rules.is_empty() {
            result.forward_all(service, port, model);
            tracing::sample(&mut result.routes, &telemetry, model);
            return result;
        }
        let mut counted = counting::CountedRules::new(service, port);
        for one in rules {
            let traffic = model.set.traffic_for(service, &port.name, Some(one));
            result.origins.add(one.route.key());
            result.origins.extend(traffic.origins());
            let compiled = action::compile(one, &traffic, caller, model);
            result.clusters.extend(compiled.clusters);
            result.origins.merge(compiled.origins);
            let forwards = matches!(compiled.route.action, Some(Action::Route(_)));
            let route = Route {
                name: format!("{}/{}", one.route.key().id(), one.rule_name()),
                r#match: Some(matching::compile(one)),
                stat_prefix: if forwards { counted.stat_prefix(one) } else { String::new() },
                ..compiled.route
            };
            result.routes.push(route);
        }
        // A tunnel shows neither path nor headers: it follows the rule that takes what no other does.
        let everything = rules.iter().rposition(matching::catches_all);
        let action = everything.and_then(|index| result.routes[index].action.as_ref());
        if let Some(Action::Route(action)) = action {
            let tunnel = tunnel(action);
            result.routes.insert(0, tunnel);
        }
        tracing::sample(&mut result.routes, &telemetry, model);
        result
    }

    fn forward_all(&mut self, service: &ServiceId, port: &Port, model: &Model<'_>) {
        let traffic = model.set.traffic_for(service, &port.name, None);
        self.origins.extend(traffic.origins());
        let cluster = cluster_name(service, port.name.as_str(), None);
        let action = RouteAction {
            cluster_specifier: Some(to_cluster(&cluster)),
            hash_policy: hashing::of_port(&traffic),
            ..traffic::action(&traffic)
        };
        self.clusters.insert(cluster);
        self.routes = vec![tunnel(&action), forward(any_path(), action)];
    }
}

/// What any forwarding route has where no policy says otherwise.
pub(super) fn defaults() -> RouteAction {
    traffic::action(&EffectiveTraffic::default())
}

/// All requests to one cluster.
pub(super) fn to_cluster(name: &str) -> ClusterSpecifier {
    ClusterSpecifier::Cluster(name.to_owned())
}

/// A match that every request with a path fits.
pub(super) fn any_path() -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() }
}

/// A match that every CONNECT request fits: one has no path.
pub(super) fn any_tunnel() -> RouteMatch {
    RouteMatch {
        path_specifier: Some(PathSpecifier::ConnectMatcher(ConnectMatcher::default())),
        ..Default::default()
    }
}

/// A route that answers by itself, with this status and text. It is named by what it says, so that an access log tells that
/// too.
pub(super) fn answer(r#match: RouteMatch, status: u32, text: &str) -> Route {
    let body = DataSource {
        specifier: Some(data_source::Specifier::InlineString(text.to_owned())),
        ..Default::default()
    };
    let response = DirectResponseAction { status, body: Some(body), ..Default::default() };
    Route {
        name: text.to_owned(),
        r#match: Some(r#match),
        action: Some(Action::DirectResponse(response)),
        ..Default::default()
    }
}

/// Where a backend of a route leads.
#[derive(Debug)]
pub(super) struct ResolvedBackend {
    pub(super) cluster: String,
    /// The host that is asked for there, where it is not the one that the caller asks for.
    pub(super) host: Option<String>,
}

/// Where a backend leads that exists, speaks what is carried there, and is for callers of a namespace. `namespace` is the
/// route's.
pub(super) fn resolve(
    backend: &BackendRef,
    namespace: &Name,
    caller: &Name,
    model: &Model<'_>,
    carries: fn(Protocol) -> bool,
) -> Option<ResolvedBackend> {
    let key = backend_key(backend, namespace);
    let found = model.set.backend(&key.id()).filter(|found| found.key() == key)?;
    let port = found.backend_port(backend.port)?;
    if !carries(port.protocol) {
        return None;
    }
    let (subset, host) = match (found, &backend.subset) {
        (Backend::Service(service), Some(name)) => (Some(service.spec.subset(name)?.name.as_str()), None),
        (Backend::Service(_), None) => (None, None),
        (Backend::External(external), _) => {
            if external.spec.is_on_demand() || !external.spec.is_for(caller) {
                return None;
            }
            (None, external.spec.host().map(ToString::to_string))
        }
    };
    Some(ResolvedBackend { cluster: cluster_name(&key.id(), port.name.as_str(), subset), host })
}

/// A route that forwards.
pub(super) fn forward(r#match: RouteMatch, action: RouteAction) -> Route {
    Route { r#match: Some(r#match), action: Some(Action::Route(action)), ..Default::default() }
}

/// A tunnel to where the action leads. CONNECT: the bytes within go to the same backends (gRPC honours `http_proxy` only
/// so). Nothing is tried again, rewritten or limited in time.
pub(super) fn tunnel(action: &RouteAction) -> Route {
    let upgrade = UpgradeConfig {
        upgrade_type: "CONNECT".to_owned(),
        connect_config: Some(upgrade_config::ConnectConfig::default()),
        ..Default::default()
    };
    forward(
        any_tunnel(),
        RouteAction {
            cluster_specifier: action.cluster_specifier.clone(),
            cluster_not_found_response_code: action.cluster_not_found_response_code,
            timeout: Some(wire::duration(std::time::Duration::ZERO)),
            upgrade_configs: vec![upgrade],
            ..Default::default()
        },
    )
}
