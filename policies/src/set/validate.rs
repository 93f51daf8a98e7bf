//! Whether the policies of a set fit together.
//!
//! The name of an object that does not exist is a warning, since it may come later and order never matters; a port,
//! a subset or a rule that an existing object does not have is an error.

use std::collections::BTreeMap;

use weft_api::ServiceId;
use weft_api::rest::Violation;

use super::routes::route_fits;
use super::{PolicyKey, PolicySet, conflicts, targets};
use crate::document::Origin;
use crate::finding::{Code, Finding, Path, steps};
use crate::kinds::reference::{BackendKind, BackendRef, ParentKind, ParentRef};
use crate::kinds::route_match::RouteMatch;
use crate::kinds::{HttpRoute, Service, TcpRoute, Workload};
use crate::policy::{Object, Policy};

/// What is wrong with a set, and what is unwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The set cannot be taken.
    pub errors: Vec<Violation>,
    /// People should look.
    pub warnings: Vec<Violation>,
}

/// Findings of all objects.
#[derive(Default)]
pub(super) struct Out {
    found: Vec<(PolicyKey, Finding)>,
}

impl Out {
    pub(super) fn add(&mut self, key: &PolicyKey, finding: Finding) {
        self.found.push((key.clone(), finding));
    }

    /// The findings as violations, with the places that are known.
    fn into_report(self, origins: &BTreeMap<PolicyKey, &Origin>) -> Report {
        let mut report = Report::default();
        for (key, finding) in &self.found {
            let object = key.to_string();
            let violation = match origins.get(key) {
                Some(origin) => origin.violation(finding, &object),
                None => crate::document::unplaced(finding, &object),
            };
            if finding.code.is_warning() {
                report.warnings.push(violation);
            } else {
                report.errors.push(violation);
            }
        }
        report
    }
}

/// Looks at every policy of the set.
pub(super) fn report(set: &PolicySet, origins: &BTreeMap<PolicyKey, &Origin>) -> Report {
    let mut out = Out::default();
    for policy in set.iter() {
        match policy {
            Policy::Mesh(_) | Policy::Service(_) => {}
            Policy::Workload(workload) => check_workload(set, workload, &mut out),
            Policy::HttpRoute(route) => check_http_route(set, route, &mut out),
            Policy::TcpRoute(route) => check_tcp_route(set, route, &mut out),
            Policy::TrafficPolicy(policy) => targets::check_traffic(set, policy, &mut out),
            Policy::AuthorizationPolicy(policy) => targets::check_authorization(set, policy, &mut out),
        }
    }
    conflicts::check(set, &mut out);
    out.into_report(origins)
}

pub(super) fn missing(path: Path, what: &str, effect: &str) -> Finding {
    Finding::new(path, Code::MissingReference, format!("{what} does not exist")).hint(effect)
}

pub(super) fn ports_of(service: &Service) -> String {
    let ports: Vec<String> =
        service.ports.iter().map(|port| format!("{} ({})", port.name, port.port)).collect();
    format!("its ports are {}", ports.join(", "))
}

fn check_workload(set: &PolicySet, workload: &Object<Workload>, out: &mut Out) {
    let key = workload.key();
    for (index, name) in workload.spec.services.iter().enumerate() {
        let id = name.resolve(&key.namespace);
        if set.service(&id).is_none() {
            let path = steps!["spec", "services", index];
            out.add(
                &key,
                missing(path, &format!("Service {id}"), "the workload takes no calls for it until it does"),
            );
        }
    }
    for (index, upstream) in workload.spec.upstreams.iter().enumerate() {
        let id = upstream.service.resolve(&key.namespace);
        let path = steps!["spec", "upstreams", index];
        match set.service(&id) {
            None => {
                let effect = "connections to its port are refused until it does";
                out.add(&key, missing(path.then("service"), &format!("Service {id}"), effect));
            }
            Some(service) if service.spec.find_port(&upstream.port).is_none() => {
                let message = format!("Service {id} has no port {}", upstream.port);
                let finding =
                    Finding::new(path.then("port"), Code::UnknownPort, message).value(&upstream.port);
                out.add(&key, finding.hint(ports_of(&service.spec)));
            }
            Some(_) => {}
        }
    }
}

/// Which kind of route is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RouteKind {
    Http,
    Tcp,
}

impl RouteKind {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "an HTTPRoute",
            Self::Tcp => "a TCPRoute",
        }
    }

    fn wants(self) -> &'static str {
        match self {
            Self::Http => "it fits ports of HTTP, HTTP2 and GRPC",
            Self::Tcp => "it fits ports of TCP and TLS",
        }
    }
}

fn check_http_route(set: &PolicySet, route: &Object<HttpRoute>, out: &mut Out) {
    let key = route.key();
    check_parents(set, &key, &route.spec.parent_refs, RouteKind::Http, out);
    for (index, rule) in route.spec.rules.iter().enumerate() {
        let path = steps!["spec", "rules", index, "backendRefs"];
        check_backends(set, &key, &rule.backend_refs, &path, RouteKind::Http, out);
        if rule.backend_refs.is_empty() && rule.redirect().is_none() {
            let message = "the rule has no backend and no redirect: its requests are answered with 500";
            out.add(&key, Finding::new(steps!["spec", "rules", index], Code::UnreachableRule, message));
        }
    }
    check_unreachable(route, out);
}

fn check_tcp_route(set: &PolicySet, route: &Object<TcpRoute>, out: &mut Out) {
    let key = route.key();
    check_parents(set, &key, &route.spec.parent_refs, RouteKind::Tcp, out);
    for (index, rule) in route.spec.rules.iter().enumerate() {
        let path = steps!["spec", "rules", index, "backendRefs"];
        check_backends(set, &key, &rule.backend_refs, &path, RouteKind::Tcp, out);
    }
}

fn check_parents(set: &PolicySet, key: &PolicyKey, parents: &[ParentRef], kind: RouteKind, out: &mut Out) {
    for (index, parent) in parents.iter().enumerate().filter(|(_, parent)| parent.kind == ParentKind::Service)
    {
        let path = steps!["spec", "parentRefs", index];
        let id = parent.service(&key.namespace);
        let Some(service) = set.service(&id) else {
            let effect = "the route does nothing until it does";
            out.add(key, missing(path.then("name"), &format!("Service {id}"), effect));
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
            out.add(key, finding.hint(ports_of(&service.spec)));
        } else if !named.iter().any(|port| route_fits(port.protocol, kind == RouteKind::Http)) {
            let protocol = named[0].protocol;
            let all = parent.port.is_none() && parent.section_name.is_none();
            let field = if all { "name" } else { field };
            let message =
                format!("{} cannot route {protocol} of Service {id} port {}", kind.name(), named[0].name);
            out.add(key, Finding::new(path.then(field), Code::ProtocolMismatch, message).hint(kind.wants()));
        }
    }
}

fn check_backends(
    set: &PolicySet,
    key: &PolicyKey,
    backends: &[BackendRef],
    at: &Path,
    kind: RouteKind,
    out: &mut Out,
) {
    for (index, backend) in backends.iter().enumerate().filter(|(_, one)| one.kind == BackendKind::Service) {
        let path = at.then(index);
        let id = backend.service(&key.namespace);
        let Some(service) = set.service(&id) else {
            let effect = "its share of the traffic fails until it does";
            out.add(key, missing(path.then("name"), &format!("Service {id}"), effect));
            continue;
        };
        if let Some(finding) = check_backend_port(&id, &service.spec, backend, &path, kind) {
            out.add(key, finding);
        }
        if let Some(subset) = backend.subset.as_ref().filter(|subset| service.spec.subset(subset).is_none()) {
            let names: Vec<&str> = service.spec.subsets.iter().map(|subset| subset.name.as_str()).collect();
            let hint = if names.is_empty() {
                format!("Service {id} has no subsets")
            } else {
                format!("its subsets are {}", names.join(", "))
            };
            let message = format!("Service {id} has no subset {subset}");
            out.add(
                key,
                Finding::new(path.then("subset"), Code::UnknownSubset, message).value(subset).hint(hint),
            );
        }
    }
}

fn check_backend_port(
    id: &ServiceId,
    service: &Service,
    backend: &BackendRef,
    path: &Path,
    kind: RouteKind,
) -> Option<Finding> {
    let port = match backend.port {
        None if service.ports.len() == 1 => &service.ports[0],
        None => {
            let message = format!("Service {id} has {} ports: name one", service.ports.len());
            return Some(Finding::new(path.then("port"), Code::Required, message).hint(ports_of(service)));
        }
        Some(number) => match service.port_number(number) {
            Some(port) => port,
            None => {
                let message = format!("Service {id} has no port {number}");
                let finding = Finding::new(path.then("port"), Code::UnknownPort, message).value(number);
                return Some(finding.hint(ports_of(service)));
            }
        },
    };
    if route_fits(port.protocol, kind == RouteKind::Http) {
        return None;
    }
    let message =
        format!("{} cannot lead to {} of Service {id} port {}", kind.name(), port.protocol, port.name);
    Some(Finding::new(path.then("port"), Code::ProtocolMismatch, message).hint(kind.wants()))
}

/// Notes matches that an equal one before them in the route always wins over.
fn check_unreachable(route: &Object<HttpRoute>, out: &mut Out) {
    let key = route.key();
    let mut seen: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (rule_index, rule) in route.spec.rules.iter().enumerate() {
        let all = rule.matches.is_empty().then(RouteMatch::default);
        for (match_index, one) in rule.matches.iter().cloned().chain(all).enumerate() {
            let Some((rule_before, match_before)) = seen.get(&canonical(one.clone())) else {
                seen.insert(canonical(one), (rule_index, match_index));
                continue;
            };
            let mut path = steps!["spec", "rules", rule_index];
            if !rule.matches.is_empty() {
                path = path.then("matches").then(match_index);
            }
            let message = format!(
                "can never match: rules[{rule_before}] match {match_before} of this route takes the same requests first"
            );
            out.add(&key, Finding::new(path, Code::UnreachableRule, message));
        }
    }
}

/// Text that is equal for matches that take the same requests.
fn canonical(mut one: RouteMatch) -> String {
    one.path = Some(one.path());
    one.headers.sort();
    one.query_params.sort();
    format!("{one:?}")
}
