//! What a sidecar does with the calls of its own application: one port for HTTP by host name, and one port for each
//! declared upstream.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight,
};
use envoy_types::pb::envoy::r#type::v3::HashPolicy;
use prost::Message;
use weft_api::names::{OUTBOUND_LISTENER, cluster_name, upstream_listener_name};
use weft_api::resource::{Resource, ResourceKind, ResourceRef};

use super::access_log::{self, LogDirection};
use super::compiled::{Compiled, Origins, RouteForm};
use super::model::{Model, UpstreamListener, WorkloadState};
use super::scope::Scope;
use super::{hashing, hosts, http, route, tracing, unknown_hosts, wire};
use crate::kinds::backend::Backend;
use crate::kinds::service::Port;

/// How many endpoints a connection is tried on.
const CONNECT_ATTEMPTS: u32 = 3;
/// A backend that exists nowhere: connections to it are closed.
const UNRESOLVED: &str = "unresolved";

/// Compiles the listeners for the application's own calls, and the routes that are theirs alone.
pub(super) fn compile(workload: &WorkloadState, model: &Model<'_>) -> Vec<Compiled> {
    let namespace = &workload.id.namespace;
    let by_host = [RouteForm::Table, RouteForm::VirtualHosts].map(|form| {
        let routes = form.route_configuration(namespace);
        let mut refs = vec![ResourceRef::new(ResourceKind::Route, routes.as_str())];
        refs.extend(tracing::refs(model));
        let filters = unknown_hosts::http_filters(model);
        let filter = http::outbound(workload, OUTBOUND_LISTENER, http::by_rds(routes), filters, model);
        let mut origins = Origins::default();
        origins.extend(tracing::origin(model));
        let compiled = listener(OUTBOUND_LISTENER, workload.outbound, filter, refs, origins, Vec::new());
        Compiled { form: Some(form), ..compiled }
    });
    let mut compiled = Vec::from(by_host);
    compiled.extend(unknown_hosts::compile(model));
    compiled.extend(tracing::compile(model));
    let scope = Scope::of(workload, model.set.defaults().0.view);
    let mut names = BTreeSet::new();
    for upstream in &workload.upstreams {
        compiled.extend(compile_upstream(workload, upstream, &scope, &mut names, model));
    }
    compiled
}

/// A declared upstream; nothing where its service or port does not exist (yet).
fn compile_upstream(
    workload: &WorkloadState,
    upstream: &UpstreamListener,
    scope: &Scope,
    names: &mut BTreeSet<String>,
    model: &Model<'_>,
) -> Vec<Compiled> {
    let Some(backend) = model.set.backend(&upstream.service) else { return Vec::new() };
    let Some(port) = backend.find_port(&upstream.port) else { return Vec::new() };
    let (is_for, is_one) = match backend {
        Backend::Service(_) => (true, true),
        Backend::External(external) => {
            (external.spec.is_for(&workload.id.namespace), !external.spec.is_on_demand())
        }
    };
    // A port does not say which of several hosts is meant.
    if !is_one {
        return Vec::new();
    }
    let mut name = upstream_listener_name(&upstream.service, port.name.as_str());
    // The same port may be wanted on two addresses.
    if !names.insert(name.clone()) {
        name = format!("{name}@{}", upstream.bind);
        names.insert(name.clone());
    }
    let is_seen = scope.sees(backend, model);
    if port.protocol.is_http() {
        let routes = if is_seen {
            hosts::of_upstream(&name, upstream, port, &workload.id.namespace, model)
        } else {
            hosts::refusing_upstream(&name, upstream, scope, model)
        };
        let refs = [routes.resource.key()].into_iter().chain(tracing::refs(model)).collect();
        let filter = http::outbound(workload, &name, http::by_rds(name.clone()), Vec::new(), model);
        let mut origins = Origins::of(backend.key());
        origins.extend(tracing::origin(model));
        return vec![routes, listener(&name, upstream.bind, filter, refs, origins, Vec::new())];
    }
    if is_seen && is_for {
        return vec![tcp_listener(&name, workload, upstream, port, model)];
    }
    // Connections are closed: there is nothing to say in their protocol.
    let filter = tcp_proxy(&name, None, vec![(UNRESOLVED.to_owned(), 1)], Vec::new());
    vec![tcp(&name, upstream.bind, filter, Vec::new(), Origins::of(backend.key()))]
}

fn tcp_listener(
    name: &str,
    workload: &WorkloadState,
    upstream: &UpstreamListener,
    port: &Port,
    model: &Model<'_>,
) -> Compiled {
    let mut origins = Origins::of(model.set.backend_key(&upstream.service));
    let traffic = model.set.traffic_for(&upstream.service, &port.name, None);
    origins.extend(traffic.idle_timeout.as_ref().map(|set| set.origin.clone()));
    let mut clusters = Vec::new();
    let mut backend_traffic = Vec::new();
    match model.set.tcp_route_for(&upstream.service, port, &workload.id.namespace) {
        None => {
            clusters.push((cluster_name(&upstream.service, port.name.as_str(), None), 1));
            backend_traffic.push(traffic.clone());
        }
        Some(route) => {
            origins.add(route.key());
            let backends = route.spec.rules.iter().flat_map(|rule| &rule.backend_refs);
            for backend in backends.filter(|backend| backend.weight > 0) {
                let (of_route, caller) = (&route.metadata.namespace, &workload.id.namespace);
                backend_traffic.extend(hashing::of_backend(backend, of_route, model));
                let found = route::resolve(backend, of_route, caller, model, |protocol| !protocol.is_http());
                let cluster = found.map_or_else(|| UNRESOLVED.to_owned(), |found| found.cluster);
                clusters.push((cluster, backend.weight));
            }
        }
    }
    let existing = clusters.iter().filter(|(cluster, _)| cluster != UNRESOLVED);
    let refs: BTreeSet<ResourceRef> =
        existing.map(|(cluster, _)| ResourceRef::new(ResourceKind::Cluster, cluster.as_str())).collect();
    let idle = traffic.idle_timeout.as_ref().map(|limit| limit.value.get());
    let (hash_policy, hash_origins) = hashing::of_connections(&backend_traffic);
    origins.merge(hash_origins);
    let filter = tcp_proxy(name, idle, clusters, hash_policy);
    tcp(name, upstream.bind, filter, refs.into_iter().collect(), origins)
}

fn tcp_proxy(
    name: &str,
    idle: Option<Duration>,
    clusters: Vec<(String, u32)>,
    hash_policy: Vec<HashPolicy>,
) -> Filter {
    let proxy = TcpProxy {
        stat_prefix: name.to_owned(),
        idle_timeout: idle.map(wire::duration),
        max_connect_attempts: Some(wire::uint32(CONNECT_ATTEMPTS)),
        cluster_specifier: Some(specifier(clusters)),
        hash_policy,
        ..Default::default()
    };
    http::network_filter("envoy.filters.network.tcp_proxy", wire::any(&proxy))
}

fn specifier(mut clusters: Vec<(String, u32)>) -> ClusterSpecifier {
    if clusters.len() == 1 {
        return ClusterSpecifier::Cluster(clusters.remove(0).0);
    }
    let weighted =
        clusters.into_iter().map(|(name, weight)| ClusterWeight { name, weight, ..Default::default() });
    ClusterSpecifier::WeightedClusters(WeightedCluster { clusters: weighted.collect() })
}

/// A listener for connections: how they end is told once, by it.
fn tcp(name: &str, bind: SocketAddr, filter: Filter, refs: Vec<ResourceRef>, origins: Origins) -> Compiled {
    listener(name, bind, filter, refs, origins, vec![access_log::of_connections(LogDirection::Outbound)])
}

fn listener(
    name: &str,
    bind: SocketAddr,
    filter: Filter,
    refs: Vec<ResourceRef>,
    origins: Origins,
    access_log: Vec<AccessLog>,
) -> Compiled {
    let listener = Listener {
        name: name.to_owned(),
        stat_prefix: name.to_owned(),
        address: Some(wire::socket(bind)),
        traffic_direction: TrafficDirection::Outbound as i32,
        access_log,
        filter_chains: vec![FilterChain { filters: vec![filter], ..Default::default() }],
        ..Default::default()
    };
    Compiled::new(
        Resource::new(ResourceKind::Listener, name, listener.encode_to_vec(), refs),
        origins.into_vec(),
    )
}
