//! What is wrong with a TelemetryPolicy beside what it targets.

use super::TelemetryPolicy;
use crate::finding::{Code, Finding, missing, steps};
use crate::kinds::mesh::{self, Mesh};
use crate::kinds::service::Service;
use crate::kinds::spec::Objects;
use crate::kinds::target::check_target_in_set;
use crate::object::PolicyKey;

pub(super) fn check(policy: &TelemetryPolicy, key: &PolicyKey, others: &dyn Objects, out: &mut Vec<Finding>) {
    for (index, target) in policy.target_refs.iter().enumerate() {
        check_target_in_set(target, &steps!["spec", "targetRefs", index], key, others, out);
        let service = target.service(&key.namespace).and_then(|id| others.find::<Service>(&id));
        let port = service.and_then(|service| service.spec.port(target.section_name.as_ref()?));
        if let Some(port) = port.filter(|port| !port.protocol.is_http()) {
            let message = format!(
                "has no meaning on port {} of protocol {}: it is about requests",
                port.name, port.protocol
            );
            out.push(Finding::new(steps!["spec", "targetRefs", index], Code::ProtocolMismatch, message));
        }
    }
    let traces = others.find::<Mesh>(&mesh::key().id()).is_some_and(|mesh| mesh.spec.tracing.is_some());
    if policy.tracing.is_some() && !traces {
        let effect = "nothing is traced until it does";
        out.push(missing(steps!["spec", "tracing"], "tracing of the Mesh", effect));
    }
}
