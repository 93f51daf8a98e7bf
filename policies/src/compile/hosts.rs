//! Virtual hosts of services, and the route configurations of callers that they belong to.
//!
//! Callers of one namespace share the virtual hosts of a service: short names are those of their own namespace, and an
//! HTTPRoute may speak to some namespaces only. A change of one service's routes compiles no other's.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, Vhds, VirtualHost};
use prost::Message;
use weft_api::names::{Name, ServiceId, cluster_name, virtual_host_resource_name};
use weft_api::resource::{Resource, ResourceKind, ResourceRef};

use super::compiled::{Compiled, Origins, RouteForm};
use super::model::{Model, UpstreamListener};
use super::route::Routes;
use super::scope::Scope;
use super::{external, route, units, unknown_hosts, wire};
use crate::kinds::Service;
use crate::kinds::backend::Backend;
use crate::kinds::service::Port;
use crate::kinds::spec::{Relation, Target};
use crate::set::PolicyKey;
use crate::value::Hostname;

/// Fields `name` and `domains` of a virtual host, and field `virtual_hosts` of a route configuration.
const NAME: u32 = 1;
const DOMAINS: u32 = 2;
const VIRTUAL_HOSTS: u32 = 2;

/// The suffix that the names of all services of the mesh may carry.
const MESH_SUFFIX: &str = "mesh";

/// Compiles the virtual hosts of a service for the callers of a namespace, one for each HTTP port, of what is outside one for
/// each port; nothing where there is none.
pub(super) fn compile(service: &ServiceId, caller: &Name, model: &Model<'_>) -> Vec<Compiled> {
    let Some(backend) = model.set.backend(service).filter(|_| units::calls(caller, model)) else {
        return Vec::new();
    };
    let claimed = host_names(backend, caller, model);
    let (names, ports): (Vec<String>, Vec<&Port>) = match backend {
        Backend::Service(object) => {
            (mesh_names(service, caller).chain(claimed).collect(), http_ports(&object.spec).collect())
        }
        Backend::External(_) if claimed.is_empty() => return Vec::new(),
        Backend::External(external) => (claimed, external.spec.ports.iter().collect()),
    };
    let on_demand = backend.external().is_some_and(|external| external.spec.is_on_demand());
    let default = default_port(&ports, on_demand);
    let configuration = RouteForm::VirtualHosts.route_configuration(caller);
    let compiled = ports.iter().map(|port| {
        let compiled = match backend {
            Backend::Service(_) => {
                let rules = model.set.http_rules_for(service, port, caller);
                Routes::compile(service, port, &rules, caller, model)
            }
            Backend::External(object) => external::routes(object, port, caller, model),
        };
        let host = format!("{}.{}", service.name, service.namespace);
        let name = virtual_host_resource_name(&configuration, &host, port.port);
        // Envoy takes a virtual host away by the name within it, so that must be the resource's.
        let host = VirtualHost { name: name.clone(), routes: compiled.routes, ..Default::default() };
        let mut body = if on_demand { unknown_hosts::bounded(&host, model) } else { host.encode_to_vec() };
        append_domains(&mut body, &names, port.port, default == Some(port.port));
        let refs = clusters(compiled.clusters);
        Compiled {
            resource: Resource::new(ResourceKind::VirtualHost, name, body, refs),
            origins: compiled.origins.into_vec(),
            form: Some(RouteForm::VirtualHosts),
        }
    });
    compiled.collect()
}

/// The port that a host without one means: 80, else the first that takes requests. A host that is looked up is called on 80
/// then, and on no other.
fn default_port(ports: &[&Port], on_demand: bool) -> Option<u16> {
    let http = || ports.iter().filter(|port| port.protocol.is_http()).map(|port| port.port);
    http().find(|number| *number == 80).or_else(|| http().next().filter(|_| !on_demand))
}

/// Compiles the route configuration of a scope's callers, which take the virtual hosts of services by VHDS; nothing where
/// there is none.
pub(super) fn route_configuration(scope: &Scope, model: &Model<'_>) -> Option<Compiled> {
    let view = model.set.defaults().0.view;
    let mut callers = model.workloads_in(&scope.namespace).filter(|workload| workload.has_sidecar());
    callers
        .any(|workload| Scope::of(workload, view) == *scope)
        .then(|| assemble(RouteForm::VirtualHosts, scope, std::iter::empty(), model))
}

/// The route configuration of a scope's callers with virtual hosts of services within it, as they were compiled and in
/// this order.
#[must_use]
pub fn route_table<'a>(
    scope: &Scope,
    hosts: impl IntoIterator<Item = (&'a Resource, &'a [PolicyKey])>,
    model: &Model<'_>,
) -> Compiled {
    assemble(RouteForm::Table, scope, hosts, model)
}

fn assemble<'a>(
    form: RouteForm,
    scope: &Scope,
    hosts: impl IntoIterator<Item = (&'a Resource, &'a [PolicyKey])>,
    model: &Model<'_>,
) -> Compiled {
    let name = form.route_configuration(&scope.namespace);
    let mut body = RouteConfiguration { name: name.clone(), ..Default::default() }.encode_to_vec();
    let mut refs = BTreeSet::new();
    let mut origins = Origins::default();
    for (host, of_host) in hosts {
        // Of a field that stands twice, the last counts.
        let mut within = host.body.to_vec();
        wire::append_string(&mut within, NAME, host.name.rsplit('/').next().unwrap_or_default());
        wire::append_message(&mut body, VIRTUAL_HOSTS, &within);
        refs.extend(host.refs.iter().cloned());
        origins.extend(of_host.iter().cloned());
    }
    let (mut unknown, cluster) = unknown_hosts::virtual_host(scope, model);
    wire::append_string(&mut unknown, DOMAINS, "*");
    wire::append_message(&mut body, VIRTUAL_HOSTS, &unknown);
    match form {
        RouteForm::Table => {}
        RouteForm::VirtualHosts => {
            let vhds = Some(Vhds { config_source: Some(wire::ads()) });
            body.extend(RouteConfiguration { vhds, ..Default::default() }.encode_to_vec());
        }
    }
    refs.extend(cluster.map(|name| ResourceRef::new(ResourceKind::Cluster, name)));
    origins.extend(model.set.defaults().1);
    Compiled {
        resource: Resource::new(ResourceKind::Route, name, body, refs.into_iter().collect()),
        origins: origins.into_vec(),
        form: Some(form),
    }
}

/// Compiles the routes of an upstream that speaks HTTP: whatever the host, the service answers.
pub(super) fn of_upstream(
    name: &str,
    upstream: &UpstreamListener,
    port: &Port,
    caller: &Name,
    model: &Model<'_>,
) -> Compiled {
    let routes = match model.set.backend(&upstream.service) {
        Some(Backend::External(external)) => external::routes_of_upstream(external, port, caller, model),
        Some(Backend::Service(_)) | None => {
            let rules = model.set.http_rules_for(&upstream.service, port, caller);
            Routes::compile(&upstream.service, port, &rules, caller, model)
        }
    };
    let host = cluster_name(&upstream.service, port.name.as_str(), None);
    only_host(name, host, routes)
}

/// Compiles the routes of an upstream that its callers may not call: whatever the host, they are told why.
pub(super) fn refusing_upstream(
    name: &str,
    upstream: &UpstreamListener,
    scope: &Scope,
    model: &Model<'_>,
) -> Compiled {
    let (caller, service) = (scope.caller(), &upstream.service);
    let text = format!(
        "no AuthorizationPolicy allows {caller} to call {service} (Mesh defaults.authorization is Deny)"
    );
    let answer = |matched| route::answer(matched, 403, &text);
    let routes = Routes {
        routes: vec![answer(route::any_tunnel()), answer(route::any_path())],
        clusters: BTreeSet::new(),
        origins: Origins::of(model.set.backend_key(service)),
    };
    only_host(name, service.to_string(), routes)
}

fn only_host(name: &str, host: String, routes: Routes) -> Compiled {
    let host = VirtualHost {
        name: host,
        domains: vec!["*".to_owned()],
        routes: routes.routes,
        ..Default::default()
    };
    let body = RouteConfiguration { name: name.to_owned(), virtual_hosts: vec![host], ..Default::default() };
    let refs = clusters(routes.clusters);
    let resource = Resource::new(ResourceKind::Route, name, body.encode_to_vec(), refs);
    Compiled::new(resource, routes.origins.into_vec())
}

fn clusters(names: BTreeSet<String>) -> Vec<ResourceRef> {
    names.into_iter().map(|name| ResourceRef::new(ResourceKind::Cluster, name)).collect()
}

fn http_ports(service: &Service) -> impl Iterator<Item = &Port> {
    service.ports.iter().filter(|port| port.protocol.is_http())
}

/// The names that every service has: `SERVICE` within its namespace, `SERVICE.NAMESPACE`, `SERVICE.NAMESPACE.mesh`.
fn mesh_names(service: &ServiceId, caller: &Name) -> impl Iterator<Item = String> {
    let ServiceId { name, namespace } = service;
    let short = (namespace == caller).then(|| name.to_string());
    let full = [format!("{name}.{namespace}"), format!("{name}.{namespace}.{MESH_SUFFIX}")];
    short.into_iter().chain(full)
}

/// The host names that something claims and that are its own: no claim takes a name that the mesh gives to a service,
/// and of two that claim one name (which an apply refuses) the first keeps it.
fn host_names(backend: Backend<'_>, caller: &Name, model: &Model<'_>) -> Vec<String> {
    let key = backend.key();
    let is_own = |hostname: &&Hostname| {
        let mut claims = model.set.naming_any(Relation::Claim, &Target::Hostname((*hostname).clone()));
        claims.next().is_none_or(|first| first.key() == key)
            && !is_given_by_the_mesh(hostname.as_str(), caller, model)
    };
    backend.claims().iter().filter(is_own).map(|hostname| hostname.as_str().to_owned()).collect()
}

fn is_given_by_the_mesh(hostname: &str, caller: &Name, model: &Model<'_>) -> bool {
    let labels: Vec<&str> = hostname.split('.').collect();
    let (name, namespace) = match labels[..] {
        [name] => (name, caller.as_str()),
        [name, namespace] | [name, namespace, MESH_SUFFIX] => (name, namespace),
        _ => return false,
    };
    ServiceId::try_new(namespace, name)
        .ok()
        .and_then(|id| model.set.service(&id))
        .is_some_and(|service| http_ports(&service.spec).next().is_some())
}

/// Those that claim a name that the mesh gives to this one, or a name that this one claims: their virtual hosts
/// change with it.
pub(super) fn rivals(backend: Backend<'_>, model: &Model<'_>) -> Vec<ServiceId> {
    let id = backend.id();
    let given = mesh_names(&id, &id.namespace).filter(|_| backend.service().is_some());
    let given = given.filter_map(|name| name.parse::<Hostname>().ok());
    let names = given.chain(backend.claims().iter().cloned());
    let rivals = names.flat_map(|name| {
        let claims = model.set.naming_any(Relation::Claim, &Target::Hostname(name));
        claims.map(|policy| policy.key().id()).collect::<Vec<_>>()
    });
    rivals.filter(|rival| *rival != id).collect()
}

/// Each name with the port, and without it where that means this port.
fn append_domains(host: &mut Vec<u8>, names: &[String], port: u16, is_default: bool) {
    for name in names {
        if is_default {
            wire::append_string(host, DOMAINS, name);
        }
        wire::append_string(host, DOMAINS, &format!("{name}:{port}"));
    }
}
