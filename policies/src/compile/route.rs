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
use crate::kinds::port::{Port, Protocol};
use crate::kinds::reference::BackendRef;
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
    /// Compiles the rules that hold for a port, in the order in which they are given. With none, all requests go to
    /// the port itself; what no rule fits is answered 404.
    pub(super) fn compile(
        service: &ServiceId,
        port: &Port,
        rules: &[HttpRouteMatch],
        model: &Model<'_>,
    ) -> Self {
        let mut result =
            Self { routes: Vec::new(), clusters: BTreeSet::new(), origins: Origins::of_service(service) };
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
            let compiled = action::compile(one, &traffic, model);
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
        let everything = rules.iter().rposition(|one| matching::catches_all(one));
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

/// The cluster of a backend that exists and speaks what is carried there.
pub(super) fn resolve(
    backend: &BackendRef,
    namespace: &Name,
    model: &Model<'_>,
    carries: fn(Protocol) -> bool,
) -> Option<String> {
    let service = backend.service(namespace);
    let spec = &model.set.service(&service)?.spec;
    let port = spec.backend_port(backend.port)?;
    if !carries(port.protocol) {
        return None;
    }
    let subset = match &backend.subset {
        Some(name) => Some(spec.subset(name)?.name.as_str()),
        None => None,
    };
    Some(cluster_name(&service, port.name.as_str(), subset))
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
