//! What is wrong with a TrafficPolicy beside what it targets.

use super::TrafficPolicy;
use super::hash_on::HashedPart;
use crate::finding::{Code, Finding, steps};
use crate::kinds::backend::Backend;
use crate::kinds::port::Port;
use crate::kinds::spec::Objects;
use crate::kinds::target::{TargetRef, check_target_in_set};
use crate::object::PolicyKey;

pub(super) fn check(policy: &TrafficPolicy, key: &PolicyKey, others: &dyn Objects, out: &mut Vec<Finding>) {
    for (index, target) in policy.target_refs.iter().enumerate() {
        check_target_in_set(target, &steps!["spec", "targetRefs", index], key, others, out);
        let Some(port) = target_port(target, key, others) else { continue };
        for (index, hashed) in policy.load_balancer.iter().flat_map(|one| one.hash_on.iter().enumerate()) {
            if hashed.part != HashedPart::SourceAddress && !port.protocol.is_http() {
                let message = format!(
                    "port {} of protocol {} has no requests, only connections",
                    port.name, port.protocol
                );
                let place = steps!["spec", "loadBalancer", "hashOn", index];
                out.push(Finding::new(place, Code::ProtocolMismatch, message));
            }
        }
        for (field, is_set) in [("timeouts", policy.timeouts.is_some()), ("retry", policy.retry.is_some())] {
            if is_set && !port.protocol.is_http() {
                let message = format!("has no meaning on port {} of protocol {}", port.name, port.protocol);
                out.push(Finding::new(steps!["spec", field], Code::ProtocolMismatch, message));
            }
        }
    }
}

/// The port that a target names.
fn target_port<'a>(target: &TargetRef, key: &PolicyKey, others: &'a dyn Objects) -> Option<&'a Port> {
    let backend = Backend::find(&target.backend(&key.namespace)?, others)?;
    backend.port(target.section_name.as_ref()?)
}
