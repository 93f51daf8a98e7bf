//! What makes a Service valid by itself.

use super::{SNI_LABELS_MAX, Service};
use crate::finding::{Code, Findings};
use crate::metadata::{Metadata, check_labels};

pub(super) fn check(service: &Service, metadata: &Metadata, out: &mut Findings) {
    if service.ports.is_empty() {
        out.add_at("ports", Code::Required, "a service has at least one port");
    }
    out.unique("ports", &service.ports, "name", |port| port.name.clone());
    out.unique("ports", &service.ports, "port", |port| port.port);
    out.each("ports", &service.ports, |out, port| {
        let length = port.name.as_str().len() + metadata.name.as_str().len() + metadata.namespace.as_str().len();
        if length > SNI_LABELS_MAX {
            let message = format!(
                "port, service and namespace have {length} characters together, {SNI_LABELS_MAX} at most fit a server name"
            );
            out.add_at("name", Code::InvalidValue, message).value(&port.name);
        }
    });
    if let Some(selector) = &service.selector {
        out.at("selector", |out| {
            if selector.match_labels.is_empty() {
                out.add_at("matchLabels", Code::Required, "at least one label is needed")
                    .hint("leave selector out where workloads name the service themselves");
            }
            out.at("matchLabels", |out| check_labels(&selector.match_labels, out));
        });
    }
    out.unique("subsets", &service.subsets, "name", |subset| subset.name.clone());
    out.each("subsets", &service.subsets, |out, subset| {
        if subset.match_labels.is_empty() {
            out.add_at("matchLabels", Code::Required, "at least one label is needed");
        }
        out.at("matchLabels", |out| check_labels(&subset.match_labels, out));
    });
    if let Some(check) = &service.health_check {
        out.at("healthCheck", |out| check.check(&service.ports, out));
    }
    for (index, hostname) in service.hostnames.iter().enumerate() {
        if hostname.is_wildcard() {
            out.at("hostnames", |out| {
                out.add_at(index, Code::InvalidValue, "a service's host name cannot be a wildcard")
                    .value(hostname);
            });
        }
    }
}
