//! Whether what a policy targets exists, has the part that is named, and speaks the protocol that the policy needs.

use weft_api::{Name, ServiceId};

use super::validate::{Out, missing, ports_of};
use super::{PolicyKey, PolicySet};
use crate::finding::{Code, Finding, Path, steps};
use crate::kinds::authorization_policy::AuthorizationRule;
use crate::kinds::reference::{TargetKind, TargetRef};
use crate::kinds::service::Port;
use crate::kinds::{AuthorizationPolicy, TrafficPolicy};
use crate::policy::{Object, Policy};

pub(super) fn check_traffic(set: &PolicySet, policy: &Object<TrafficPolicy>, out: &mut Out) {
    let key = policy.key();
    for (index, target) in policy.spec.target_refs.iter().enumerate() {
        check_target(set, &key, target, &steps!["spec", "targetRefs", index], out);
        let Some(port) = target_port(set, &key.namespace, target) else { continue };
        for (field, is_set) in
            [("timeouts", policy.spec.timeouts.is_some()), ("retry", policy.spec.retry.is_some())]
        {
            if is_set && !port.protocol.is_http() {
                let message = format!("has no meaning on port {} of protocol {}", port.name, port.protocol);
                out.add(&key, Finding::new(steps!["spec", field], Code::ProtocolMismatch, message));
            }
        }
    }
}

/// The port of a service that a target names.
fn target_port<'a>(set: &'a PolicySet, namespace: &Name, target: &TargetRef) -> Option<&'a Port> {
    let service = set.service(&target_service(namespace, target)?)?;
    service.spec.port(target.section_name.as_ref()?)
}

fn target_service(namespace: &Name, target: &TargetRef) -> Option<ServiceId> {
    (target.kind == TargetKind::Service)
        .then(|| ServiceId::new(target.namespace(namespace).clone(), target.name.clone()))
}

fn check_target(set: &PolicySet, key: &PolicyKey, target: &TargetRef, path: &Path, out: &mut Out) {
    let Some(kind) = target.object_kind() else { return };
    let wanted = PolicyKey::new(kind, target.namespace(&key.namespace).clone(), target.name.clone());
    let Some(policy) = set.get(&wanted) else {
        let effect = "the policy does nothing there until it does";
        out.add(key, missing(path.then("name"), &wanted.to_string(), effect));
        return;
    };
    let Some(section) = &target.section_name else { return };
    let names: Vec<&Name> = match policy {
        Policy::Service(service) => service.spec.ports.iter().map(|port| &port.name).collect(),
        Policy::HttpRoute(route) => route.spec.rules.iter().filter_map(|rule| rule.name.as_ref()).collect(),
        Policy::TcpRoute(route) => route.spec.rules.iter().filter_map(|rule| rule.name.as_ref()).collect(),
        Policy::Mesh(_) | Policy::Workload(_) | Policy::TrafficPolicy(_) | Policy::AuthorizationPolicy(_) => {
            return;
        }
    };
    if names.contains(&section) {
        return;
    }
    let (code, what) = match policy {
        Policy::Service(_) => (Code::UnknownPort, "port"),
        _ => (Code::UnknownSection, "rule named"),
    };
    let known = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let hint = if known.is_empty() { format!("no {what} has a name") } else { format!("there are {known}") };
    let message = format!("{wanted} has no {what} {section}");
    out.add(key, Finding::new(path.then("sectionName"), code, message).value(section).hint(hint));
}

pub(super) fn check_authorization(set: &PolicySet, policy: &Object<AuthorizationPolicy>, out: &mut Out) {
    let key = policy.key();
    for (index, target) in policy.spec.target_refs.iter().enumerate() {
        check_target(set, &key, target, &steps!["spec", "targetRefs", index], out);
    }
    for (index, rule) in policy.spec.rules.iter().enumerate() {
        let path = steps!["spec", "rules", index];
        check_rule_sources(set, &key, rule, &path, out);
        for target in &policy.spec.target_refs {
            check_rule_ports(set, &key, target, rule, &path, out);
        }
    }
}

fn check_rule_sources(
    set: &PolicySet,
    key: &PolicyKey,
    rule: &AuthorizationRule,
    path: &Path,
    out: &mut Out,
) {
    for (from_index, source) in rule.from.iter().enumerate() {
        for (index, service) in source.services.iter().enumerate() {
            let id = service.resolve(&key.namespace);
            if set.service(&id).is_none() {
                let path = path.then("from").then(from_index).then("services").then(index);
                out.add(
                    key,
                    missing(path, &format!("Service {id}"), "no caller has its identity until it does"),
                );
            }
        }
    }
}

/// Notes ports that the target does not have, and rules on requests where the target has only connections.
fn check_rule_ports(
    set: &PolicySet,
    key: &PolicyKey,
    target: &TargetRef,
    rule: &AuthorizationRule,
    path: &Path,
    out: &mut Out,
) {
    let Some(service) = target_service(&key.namespace, target).and_then(|id| set.service(&id)) else {
        return;
    };
    let id = service.id();
    let protects = |port: &&Port| target.section_name.as_ref().is_none_or(|section| *section == port.name);
    let no_http = !service.spec.ports.iter().filter(protects).any(|port| port.protocol.is_http());
    for (to_index, operation) in rule.to.iter().enumerate() {
        let path = path.then("to").then(to_index);
        for (index, port) in operation.ports.iter().enumerate() {
            if service.spec.find_port(port).filter(protects).is_none() {
                let message = format!("{target} in namespace {} has no port {port}", id.namespace);
                let finding =
                    Finding::new(path.then("ports").then(index), Code::UnknownPort, message).value(port);
                out.add(key, finding.hint(ports_of(&service.spec)));
            }
        }
        if operation.needs_http() && no_http {
            let message = format!("methods and paths cannot be told on {target}, which has no HTTP port");
            out.add(key, Finding::new(path, Code::ProtocolMismatch, message));
        }
    }
    if !rule.when.is_empty() && no_http {
        let message = format!("headers cannot be told on {target}, which has no HTTP port");
        out.add(key, Finding::new(path.then("when"), Code::ProtocolMismatch, message));
    }
}
