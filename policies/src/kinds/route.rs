//! What all kinds of routes share: their parents, backends and callers, by themselves and beside the services they name.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use weft_api::{Name, ServiceId};

use super::backend::Backend;
use super::port::{Port, Protocol, listed};
use super::reference::{BackendRef, ClientKind, ClientRef, ParentKind, ParentRef};
use super::service::Service;
use super::spec::{Objects, Reference, Relation, Target};
use crate::finding::{Code, Finding, Findings, Path, missing, steps};
use crate::metadata::Metadata;
use crate::object::PolicyKey;
use crate::value::Hostname;

/// The most rules in a route, as in Gateway API.
const RULES_MAX: usize = 64;
/// The most host names of a route, as in Gateway API.
const HOSTNAMES_MAX: usize = 16;
/// The most matches of a route together.
const MATCHES_MAX: usize = 512;

/// Which ports a kind of route is for.
#[derive(Debug)]
pub struct PortFit {
    /// The kind with its article.
    pub route: &'static str,
    /// Whether it is for ports where this is spoken.
    pub carries: fn(Protocol) -> bool,
    /// What to tell about others.
    pub wants: &'static str,
}

/// The services that a route hangs on, and those that its rules lead to.
pub(crate) fn references<'a>(
    parents: &[ParentRef],
    backends: impl Iterator<Item = &'a [BackendRef]>,
    namespace: &Name,
) -> Vec<Reference> {
    let parents = parents.iter().enumerate().filter(|(_, parent)| parent.kind == ParentKind::Service);
    let parents = parents.map(|(index, parent)| Reference {
        relation: Relation::Parent,
        target: Target::service(&parent.service(namespace), None),
        path: steps!["spec", "parentRefs", index],
    });
    let backends = backends.enumerate().flat_map(|(rule, backends)| {
        backends.iter().enumerate().map(move |(index, backend)| Reference {
            relation: Relation::Backend,
            target: Target::Object(backend_key(backend, namespace), None),
            path: steps!["spec", "rules", rule, "backendRefs", index],
        })
    });
    parents.chain(backends).collect()
}

/// The object that a backend means, of a route in `namespace`.
pub(crate) fn backend_key(backend: &BackendRef, namespace: &Name) -> PolicyKey {
    let id = backend.service(namespace);
    PolicyKey::new(backend.kind.kind(), id.namespace, id.name)
}

/// Notes what is wrong with the parents of a route.
pub(crate) fn check_parents(parents: &[ParentRef], metadata: &Metadata, out: &mut Findings) {
    if parents.is_empty() {
        out.add_at("parentRefs", Code::Required, "a route names at least one parent");
    }
    out.each("parentRefs", parents, |out, parent| parent.check(out));
    out.unique("parentRefs", parents, "", |parent| {
        let port = parent.port.map(|port| format!(" port {port}")).unwrap_or_default();
        let section = parent.section_name.as_ref().map(|name| format!(" section {name}")).unwrap_or_default();
        format!("Service {}{port}{section}", parent.service(&metadata.namespace))
    });
}

/// Notes what is wrong with a route of requests but for what its rules say; `rules` are their names and how many matches
/// each has. One with too many of them is looked at no further.
pub(crate) fn check_request_route<'a>(
    parents: &[ParentRef],
    clients: &[ClientRef],
    hostnames: &[Hostname],
    rules: impl ExactSizeIterator<Item = (Option<&'a Name>, usize)> + Clone,
    metadata: &Metadata,
    out: &mut Findings,
) -> ControlFlow<()> {
    check_parents(parents, metadata, out);
    check_clients(clients, out);
    check_hostnames(hostnames, out);
    check_size(rules.clone().map(|(_, matches)| matches), out)?;
    check_rule_names(rules.map(|(name, _)| name), out);
    ControlFlow::Continue(())
}

/// Notes callers that cannot be told apart yet.
fn check_clients(clients: &[ClientRef], out: &mut Findings) {
    out.each("clients", clients, |out, client| {
        if client.kind == ClientKind::Service {
            out.not_supported("kind", "a Service as client of a route")
                .value("Service")
                .hint("name its namespace: kind: Namespace");
        }
    });
}

fn check_hostnames(hostnames: &[Hostname], out: &mut Findings) {
    if hostnames.len() > HOSTNAMES_MAX {
        let message = format!("a route has at most {HOSTNAMES_MAX} hostnames");
        out.add_at("hostnames", Code::InvalidValue, message).hint("split it into several routes");
    }
    out.unique("hostnames", hostnames, "", Clone::clone);
}

/// Notes host names by which callers do not reach any parent: what they send there is for somebody else.
pub(crate) fn check_hostnames_in_set(
    parents: &[ParentRef],
    hostnames: &[Hostname],
    key: &PolicyKey,
    others: &dyn Objects,
    out: &mut Vec<Finding>,
) {
    let parents = parents.iter().filter(|parent| parent.kind == ParentKind::Service);
    let ids: Vec<ServiceId> = parents.map(|parent| parent.service(&key.namespace)).collect();
    // Of a parent that is not there yet, nobody knows how it is called.
    if ids.iter().any(|id| others.find::<Service>(id).is_none()) {
        return;
    }
    let has = |id: &ServiceId, hostname: &Hostname| {
        let own = others.find::<Service>(id).into_iter().flat_map(|service| &service.spec.hostnames);
        own.cloned().chain(given_names(id)).any(|one| one.overlaps(hostname))
    };
    for (index, hostname) in hostnames.iter().enumerate() {
        if !ids.iter().any(|id| has(id, hostname)) {
            let message = format!(
                "no parent is called {hostname}: only callers on a port of their own for it send that"
            );
            let hint = "write it into the Service's hostnames, so that requests for it lead there";
            let path = steps!["spec", "hostnames", index];
            out.push(Finding::new(path, Code::UnreachableRule, message).hint(hint));
        }
    }
}

/// The names that a service has in the mesh, the short one of its own namespace among them.
fn given_names(id: &ServiceId) -> impl Iterator<Item = Hostname> {
    let ServiceId { name, namespace } = id;
    let names = [name.to_string(), format!("{name}.{namespace}"), format!("{name}.{namespace}.mesh")];
    names.into_iter().filter_map(|name| name.parse().ok())
}

/// Notes a route with too many rules or matches, of which nothing more is looked at then.
fn check_size(matches: impl ExactSizeIterator<Item = usize>, out: &mut Findings) -> ControlFlow<()> {
    let rules = matches.len();
    if rules <= RULES_MAX && matches.sum::<usize>() <= MATCHES_MAX {
        return ControlFlow::Continue(());
    }
    let message = format!("a route has at most {RULES_MAX} rules and {MATCHES_MAX} matches");
    out.add_at("rules", Code::InvalidValue, message).hint("split it into several routes");
    ControlFlow::Break(())
}

/// Notes names of rules that stand twice.
pub(crate) fn check_rule_names<'a>(names: impl Iterator<Item = Option<&'a Name>>, out: &mut Findings) {
    let mut seen = BTreeMap::new();
    for (index, name) in names.enumerate() {
        let Some(name) = name else { continue };
        if let Some(first) = seen.insert(name, index) {
            out.at("rules", |out| {
                out.at(index, |out| {
                    out.add_at("name", Code::Duplicate, format!("{name} is already used by rules[{first}]"))
                        .value(name);
                });
            });
        }
    }
}

/// Notes parents and backends that do not exist, or have nothing for the route.
pub(crate) fn check_services_in_set<'a>(
    parents: &[ParentRef],
    backends: impl Iterator<Item = &'a [BackendRef]>,
    fit: &PortFit,
    key: &PolicyKey,
    others: &dyn Objects,
    out: &mut Vec<Finding>,
) {
    check_parents_in_set(parents, fit, key, others, out);
    for (rule, backends) in backends.enumerate() {
        let path = steps!["spec", "rules", rule, "backendRefs"];
        check_backends_in_set(backends, &path, fit, key, others, out);
    }
}

/// Notes parents that do not exist or have no port for the route.
fn check_parents_in_set(
    parents: &[ParentRef],
    fit: &PortFit,
    key: &PolicyKey,
    others: &dyn Objects,
    out: &mut Vec<Finding>,
) {
    for (index, parent) in parents.iter().enumerate().filter(|(_, parent)| parent.kind == ParentKind::Service)
    {
        let path = steps!["spec", "parentRefs", index];
        let id = parent.service(&key.namespace);
        let Some(service) = others.find::<Service>(&id) else {
            let effect = "the route does nothing until it does";
            out.push(missing(path.then("name"), &format!("Service {id}"), effect));
            continue;
        };
        let named: Vec<_> = service.spec.ports.iter().filter(|port| parent.names_port(port)).collect();
        let field = if parent.section_name.is_some() { "sectionName" } else { "port" };
        if named.is_empty() {
            let message = format!("Service {id} has no such port");
            let finding = Finding::new(path.then(field), Code::UnknownPort, message);
            let finding = match (&parent.section_name, parent.port) {
                (Some(name), _) => finding.value(name),
                (None, Some(number)) => finding.value(number),
                (None, None) => finding,
            };
            out.push(finding.hint(listed(&service.spec.ports)));
        } else if !named.iter().any(|port| (fit.carries)(port.protocol)) {
            let protocol = named[0].protocol;
            let all = parent.port.is_none() && parent.section_name.is_none();
            let field = if all { "name" } else { field };
            let message =
                format!("{} cannot route {protocol} of Service {id} port {}", fit.route, named[0].name);
            out.push(Finding::new(path.then(field), Code::ProtocolMismatch, message).hint(fit.wants));
        }
    }
}

/// Notes backends that do not exist, or have no such port or subset.
fn check_backends_in_set(
    backends: &[BackendRef],
    at: &Path,
    fit: &PortFit,
    key: &PolicyKey,
    others: &dyn Objects,
    out: &mut Vec<Finding>,
) {
    for (index, backend) in backends.iter().enumerate() {
        let path = at.then(index);
        let wanted = backend_key(backend, &key.namespace);
        let id = wanted.id();
        let Some(found) = Backend::find(&id, others).filter(|found| found.key() == wanted) else {
            let effect = "its share of the traffic fails until it does";
            out.push(missing(path.then("name"), &wanted.to_string(), effect));
            continue;
        };
        if let Some(finding) = check_backend_port(&wanted, found.ports(), backend, &path, fit) {
            out.push(finding);
        }
        let service = match found {
            Backend::Service(service) => service,
            Backend::External(external) => {
                if external.spec.is_on_demand() {
                    let message =
                        format!("{wanted} has several hosts, and a route does not say which is meant");
                    let finding = Finding::new(path.then("name"), Code::Inconsistent, message).value(&id);
                    out.push(finding.hint("make an ExternalService for each host"));
                }
                continue;
            }
        };
        if let Some(subset) = backend.subset.as_ref().filter(|subset| service.spec.subset(subset).is_none()) {
            let names: Vec<&str> = service.spec.subsets.iter().map(|subset| subset.name.as_str()).collect();
            let hint = if names.is_empty() {
                format!("Service {id} has no subsets")
            } else {
                format!("its subsets are {}", names.join(", "))
            };
            let message = format!("Service {id} has no subset {subset}");
            out.push(
                Finding::new(path.then("subset"), Code::UnknownSubset, message).value(subset).hint(hint),
            );
        }
    }
}

fn check_backend_port(
    key: &PolicyKey,
    ports: &[Port],
    backend: &BackendRef,
    path: &Path,
    fit: &PortFit,
) -> Option<Finding> {
    let port = match backend.port {
        None if ports.len() == 1 => &ports[0],
        None => {
            let message = format!("{key} has {} ports: name one", ports.len());
            return Some(Finding::new(path.then("port"), Code::Required, message).hint(listed(ports)));
        }
        Some(number) => match ports.iter().find(|port| port.port == number) {
            Some(port) => port,
            None => {
                let message = format!("{key} has no port {number}");
                let finding = Finding::new(path.then("port"), Code::UnknownPort, message).value(number);
                return Some(finding.hint(listed(ports)));
            }
        },
    };
    if (fit.carries)(port.protocol) {
        return None;
    }
    let message = format!("{} cannot lead to {} of {key} port {}", fit.route, port.protocol, port.name);
    Some(Finding::new(path.then("port"), Code::ProtocolMismatch, message).hint(fit.wants))
}
