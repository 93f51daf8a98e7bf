//! Route configurations of callers, assembled from parts that are encoded once for each service.
//!
//! Callers of one namespace share `outbound/NAMESPACE`: short names are those of their own namespace. A service's
//! virtual hosts differ between namespaces in their domains only, unless an HTTPRoute speaks to some callers only; so
//! each is encoded without its domains and shared. A change of one service's routes compiles no other's.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use prost::Message;
use weft_api::names::{Name, ServiceId, cluster_name, route_configuration_name};
use weft_api::resource::{Resource, ResourceKind, ResourceRef};

use super::model::{Model, Upstream};
use super::route::Routes;
use super::units::Change;
use super::{Compiled, Origins, unknown_hosts, wire};
use crate::kinds::Service;
use crate::kinds::service::Port;
use crate::policy::Object;
use crate::set::{HttpRouteMatch, PolicyKey};

/// Field `domains` of a virtual host, and field `virtual_hosts` of a route configuration.
const DOMAINS: u32 = 2;
const VIRTUAL_HOSTS: u32 = 2;

/// The suffix that the names of all services of the mesh may carry.
const MESH_SUFFIX: &str = "mesh";

/// Encoded virtual hosts of services. Belongs to whoever compiles again and again; an empty one is always right.
#[derive(Debug, Default)]
pub struct HostCache {
    services: BTreeMap<ServiceId, Vec<Arc<ServiceHosts>>>,
}

/// The virtual hosts of a service, one for each HTTP port, without domains.
#[derive(Debug)]
struct ServiceHosts {
    /// The routes that they were made of, which may differ by caller.
    routes: Vec<PolicyKey>,
    hosts: Vec<Host>,
    clusters: BTreeSet<String>,
    origins: Vec<PolicyKey>,
}

#[derive(Debug)]
struct Host {
    port: u16,
    /// Whether names without a port mean this port.
    is_default: bool,
    /// The encoded virtual host without its domains.
    body: Vec<u8>,
}

impl HostCache {
    /// Forgets what the changes touch. Call it before compiling after a change, with the models before and after it.
    pub fn forget(&mut self, changes: &[Change], old: &Model<'_>, new: &Model<'_>) {
        let Some(touched) = super::units::services_with_changed_hosts(changes, old, new) else {
            self.services.clear();
            return;
        };
        for service in touched {
            self.services.remove(&service);
        }
    }

    /// How many services are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.services.len()
    }

    /// Whether none are held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    fn hosts_of(&mut self, service: &Object<Service>, caller: &Name, model: &Model<'_>) -> Arc<ServiceHosts> {
        let id = service.id();
        let http_ports = service.spec.ports.iter().filter(|port| port.protocol.is_http());
        let rules: Vec<(&Port, Vec<HttpRouteMatch>)> =
            http_ports.map(|port| (port, model.set.http_rules_for(&id, port, caller))).collect();
        let mut routes: Vec<PolicyKey> =
            rules.iter().flat_map(|(_, rules)| rules).map(|one| one.route.key()).collect();
        routes.sort_unstable();
        routes.dedup();
        let variants = self.services.entry(id.clone()).or_default();
        if let Some(known) = variants.iter().find(|known| known.routes == routes) {
            return Arc::clone(known);
        }
        let compiled = Arc::new(compile_service(&id, &rules, routes, model));
        variants.push(Arc::clone(&compiled));
        compiled
    }
}

/// Compiles the route configuration of a namespace's callers; nothing where there is none.
pub(super) fn compile(namespace: &Name, model: &Model<'_>, cache: &mut HostCache) -> Vec<Compiled> {
    if !model.workloads_in(namespace).any(|workload| workload.has_sidecar()) {
        return Vec::new();
    }
    let services: Vec<(&Object<Service>, Arc<ServiceHosts>)> = model
        .set
        .services()
        .map(|service| (service.as_ref(), cache.hosts_of(service, namespace, model)))
        .collect();
    // Names that the mesh gives come first: no `hostnames` entry of any service takes one away.
    let mut taken: HashSet<String> = HashSet::new();
    for (service, hosts) in &services {
        let names = mesh_names(service, namespace);
        taken.extend(hosts.hosts.iter().flat_map(|host| host.domains(&names)));
    }

    let name = route_configuration_name(namespace);
    let mut body = RouteConfiguration { name: name.clone(), ..Default::default() }.encode_to_vec();
    let mut clusters = BTreeSet::new();
    let mut origins = Origins::default();
    for (service, hosts) in &services {
        let names = mesh_names(service, namespace);
        let extra: Vec<String> = service.spec.hostnames.iter().map(|host| host.as_str().to_owned()).collect();
        for host in &hosts.hosts {
            let own = host.domains(&names);
            let more = host.domains(&extra).into_iter().filter(|domain| taken.insert(domain.clone()));
            append_host(&mut body, &host.body, own.into_iter().chain(more));
        }
        clusters.extend(hosts.clusters.iter().cloned());
        origins.extend(hosts.origins.iter().cloned());
    }
    let (unknown, cluster) = unknown_hosts::virtual_host(model);
    append_host(&mut body, &unknown, std::iter::once("*".to_owned()));
    clusters.extend(cluster.map(str::to_owned));
    origins.extend(model.set.defaults().1);
    vec![route_resource(name, body, clusters, origins)]
}

/// Compiles the routes of an upstream that speaks HTTP: whatever the host, the service answers.
pub(super) fn compile_upstream(
    name: &str,
    upstream: &Upstream,
    port: &Port,
    caller: &Name,
    model: &Model<'_>,
) -> Compiled {
    let rules = model.set.http_rules_for(&upstream.service, port, caller);
    let routes = Routes::compile(&upstream.service, port, &rules, model);
    let host = VirtualHost {
        name: cluster_name(&upstream.service, port.name.as_str(), None),
        domains: vec!["*".to_owned()],
        routes: routes.routes,
        ..Default::default()
    };
    let body = RouteConfiguration { name: name.to_owned(), virtual_hosts: vec![host], ..Default::default() };
    route_resource(name.to_owned(), body.encode_to_vec(), routes.clusters, routes.origins)
}

fn route_resource(name: String, body: Vec<u8>, clusters: BTreeSet<String>, origins: Origins) -> Compiled {
    let refs = clusters.into_iter().map(|name| ResourceRef::new(ResourceKind::Cluster, name)).collect();
    Compiled { resource: Resource::new(ResourceKind::Route, name, body, refs), origins: origins.into_vec() }
}

fn compile_service(
    service: &ServiceId,
    ports: &[(&Port, Vec<HttpRouteMatch>)],
    routes: Vec<PolicyKey>,
    model: &Model<'_>,
) -> ServiceHosts {
    let default = ports.iter().position(|(port, _)| port.port == 80).unwrap_or(0);
    let mut clusters = BTreeSet::new();
    let mut origins = Origins::of_service(service);
    let mut hosts = Vec::with_capacity(ports.len());
    for (index, (port, rules)) in ports.iter().enumerate() {
        let compiled = Routes::compile(service, port, rules, model);
        let host = VirtualHost {
            name: cluster_name(service, port.name.as_str(), None),
            routes: compiled.routes,
            ..Default::default()
        };
        clusters.extend(compiled.clusters);
        origins.extend(compiled.origins.into_vec());
        hosts.push(Host { port: port.port, is_default: index == default, body: host.encode_to_vec() });
    }
    ServiceHosts { routes, hosts, clusters, origins: origins.into_vec() }
}

impl Host {
    /// Each name with the port, and without it where that means this port.
    fn domains(&self, names: &[String]) -> Vec<String> {
        let mut domains = Vec::with_capacity(names.len() * 2);
        for name in names {
            if self.is_default {
                domains.push(name.clone());
            }
            domains.push(format!("{name}:{}", self.port));
        }
        domains
    }
}

/// The names that every service has: `SERVICE` within its namespace, `SERVICE.NAMESPACE`, `SERVICE.NAMESPACE.mesh`.
fn mesh_names(service: &Object<Service>, caller: &Name) -> Vec<String> {
    let (name, namespace) = (&service.metadata.name, &service.metadata.namespace);
    let short = (namespace == caller).then(|| name.to_string());
    let full = [format!("{name}.{namespace}"), format!("{name}.{namespace}.{MESH_SUFFIX}")];
    short.into_iter().chain(full).collect()
}

fn append_host(body: &mut Vec<u8>, host: &[u8], domains: impl Iterator<Item = String>) {
    let mut whole = host.to_vec();
    for domain in domains {
        wire::append_string(&mut whole, DOMAINS, &domain);
    }
    wire::append_message(body, VIRTUAL_HOSTS, &whole);
}
