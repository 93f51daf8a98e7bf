//! What is wrong with an AuthorizationPolicy beside what it targets and whom it names.

use super::{AuthorizationPolicy, AuthorizationRule};
use crate::finding::{Code, Finding, Path, missing, steps};
use crate::kinds::port::Port;
use crate::kinds::port::listed;
use crate::kinds::service::Service;
use crate::kinds::spec::Objects;
use crate::kinds::target::{TargetRef, check_target_in_set};
use crate::object::PolicyKey;

pub(super) fn check(
    policy: &AuthorizationPolicy,
    key: &PolicyKey,
    others: &dyn Objects,
    out: &mut Vec<Finding>,
) {
    for (index, target) in policy.target_refs.iter().enumerate() {
        check_target_in_set(target, &steps!["spec", "targetRefs", index], key, others, out);
    }
    for (index, rule) in policy.rules.iter().enumerate() {
        let path = steps!["spec", "rules", index];
        check_rule_sources(rule, &path, key, others, out);
        for target in &policy.target_refs {
            check_rule_ports(rule, &path, target, key, others, out);
        }
    }
}

fn check_rule_sources(
    rule: &AuthorizationRule,
    path: &Path,
    key: &PolicyKey,
    others: &dyn Objects,
    out: &mut Vec<Finding>,
) {
    for (from_index, source) in rule.from.iter().enumerate() {
        for (index, service) in source.services.iter().enumerate() {
            let id = service.resolve(&key.namespace);
            if others.find::<Service>(&id).is_none() {
                let path = path.then("from").then(from_index).then("services").then(index);
                let effect = "no caller has its identity until it does";
                out.push(missing(path, &format!("Service {id}"), effect));
            }
        }
    }
}

/// Notes ports that the target does not have, and rules on requests where the target has only connections.
fn check_rule_ports(
    rule: &AuthorizationRule,
    path: &Path,
    target: &TargetRef,
    key: &PolicyKey,
    others: &dyn Objects,
    out: &mut Vec<Finding>,
) {
    let Some(service) = target.service(&key.namespace).and_then(|id| others.find::<Service>(&id)) else {
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
                out.push(finding.hint(listed(&service.spec.ports)));
            }
        }
        if operation.needs_http() && no_http {
            let message = format!("methods and paths cannot be told on {target}, which has no HTTP port");
            out.push(Finding::new(path, Code::ProtocolMismatch, message));
        }
    }
    for (index, source) in rule.from.iter().enumerate() {
        if !source.claims.is_empty() && no_http {
            let message = format!("claims cannot be told on {target}, which has no HTTP port");
            let path = path.then("from").then(index).then("claims");
            out.push(Finding::new(path, Code::ProtocolMismatch, message));
        }
    }
    if !rule.when.is_empty() && no_http {
        let message = format!("headers cannot be told on {target}, which has no HTTP port");
        out.push(Finding::new(path.then("when"), Code::ProtocolMismatch, message));
    }
}
