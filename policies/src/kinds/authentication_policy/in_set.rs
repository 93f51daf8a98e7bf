//! What is wrong with an AuthenticationPolicy beside what it targets and the services that have keys.

use super::AuthenticationPolicy;
use crate::finding::{Code, Finding, missing, steps};
use crate::kinds::port::listed;
use crate::kinds::service::Service;
use crate::kinds::spec::Objects;
use crate::kinds::target::check_request_targets_in_set;
use crate::object::PolicyKey;

pub(super) fn check(
    policy: &AuthenticationPolicy,
    key: &PolicyKey,
    others: &dyn Objects,
    out: &mut Vec<Finding>,
) {
    check_request_targets_in_set(&policy.target_refs, "tokens are in requests", key, others, out);
    for (index, provider) in policy.jwt.iter().flat_map(|jwt| &jwt.providers).enumerate() {
        let Some(backend) = &provider.jwks.backend_ref else { continue };
        let path = steps!["spec", "jwt", "providers", index, "jwks", "backendRef"];
        let id = backend.service(&key.namespace);
        let Some(service) = others.find::<Service>(&id) else {
            let effect = "no token of the provider can be verified until it does";
            out.push(missing(path.then("name"), &format!("Service {id}"), effect));
            continue;
        };
        match service.spec.backend_port(backend.port) {
            None => {
                let message = match backend.port {
                    Some(port) => format!("Service {id} has no port {port}"),
                    None => format!("Service {id} has several ports: write which of them has the keys"),
                };
                let finding = Finding::new(path.then("port"), Code::UnknownPort, message);
                out.push(finding.hint(listed(&service.spec.ports)));
            }
            Some(port) if !port.protocol.is_http() => {
                let message =
                    format!("keys are fetched over HTTP, and port {} is of {}", port.name, port.protocol);
                out.push(Finding::new(path, Code::ProtocolMismatch, message));
            }
            Some(_) => {}
        }
    }
}
