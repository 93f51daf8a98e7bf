//! What is wrong with an ExternalService beside the services of the mesh.

use weft_api::{Name, ServiceId};

use super::ExternalService;
use crate::finding::{Code, Finding, steps};
use crate::kinds::service::Service;
use crate::kinds::spec::Objects;
use crate::object::PolicyKey;
use crate::value::Hostname;

pub(super) fn check(
    external: &ExternalService,
    key: &PolicyKey,
    others: &dyn Objects,
    out: &mut Vec<Finding>,
) {
    for (index, host) in external.hosts.iter().enumerate() {
        let service = meant_by(host, &key.namespace).filter(|id| others.find::<Service>(id).is_some());
        if let Some(service) = service {
            let message = format!("{host} is how the mesh calls Service {service}");
            let finding = Finding::new(steps!["spec", "hosts", index], Code::Conflict, message);
            out.push(finding.value(host).hint("give it the name by which it is known outside"));
        }
    }
}

/// The service that the mesh would call by this name, whether or not there is one.
pub(super) fn meant_by(host: &Hostname, namespace: &Name) -> Option<ServiceId> {
    let labels: Vec<&str> = host.as_str().split('.').collect();
    let (name, namespace) = match labels[..] {
        [name] => (name, namespace.as_str()),
        [name, namespace] | [name, namespace, "mesh"] => (name, namespace),
        _ => return None,
    };
    ServiceId::try_new(namespace, name).ok()
}
