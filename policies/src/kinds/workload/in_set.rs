//! What is wrong with a Workload beside the services that it names.

use super::Workload;
use crate::finding::{Code, Finding, missing, steps};
use crate::kinds::backend::Backend;
use crate::kinds::port::listed;
use crate::kinds::service::Service;
use crate::kinds::spec::Objects;
use crate::object::PolicyKey;

pub(super) fn check(workload: &Workload, key: &PolicyKey, others: &dyn Objects, out: &mut Vec<Finding>) {
    for (index, name) in workload.services.iter().enumerate() {
        let id = name.resolve(&key.namespace);
        if others.find::<Service>(&id).is_none() {
            let path = steps!["spec", "services", index];
            let effect = "the workload takes no calls for it until it does";
            out.push(missing(path, &format!("Service {id}"), effect));
        }
    }
    for (index, upstream) in workload.upstreams.iter().enumerate() {
        let id = upstream.service.resolve(&key.namespace);
        let path = steps!["spec", "upstreams", index];
        match Backend::find(&id, others) {
            None => {
                let effect = "connections to its port are refused until it does";
                out.push(missing(path.then("service"), &format!("Service {id}"), effect));
            }
            Some(backend) if backend.find_port(&upstream.port).is_none() => {
                let message = format!("{} has no port {}", backend.key(), upstream.port);
                let finding =
                    Finding::new(path.then("port"), Code::UnknownPort, message).value(&upstream.port);
                out.push(finding.hint(listed(backend.ports())));
            }
            Some(Backend::External(external)) if external.spec.is_on_demand() => {
                let message =
                    format!("{} has several hosts, and a port does not say which is meant", external.key());
                let finding = Finding::new(path.then("service"), Code::Inconsistent, message).value(&id);
                out.push(
                    finding.hint("make an ExternalService for each host, or call it by the outbound port"),
                );
            }
            Some(_) => {}
        }
    }
}
