//! What makes a Workload valid by itself.

use super::Workload;
use crate::finding::{Code, Findings};
use crate::kinds::service::SNI_LABELS_MAX;
use crate::metadata::Metadata;
use crate::value::PeerAddress;

pub(super) fn check(workload: &Workload, metadata: &Metadata, out: &mut Findings) {
    if let Err(error) = PeerAddress::try_new(workload.address) {
        out.add_at("address", Code::InvalidValue, error.to_string()).value(workload.address);
    }
    out.unique("services", &workload.services, "", |service| service.resolve(&metadata.namespace));
    for (index, service) in workload.services.iter().enumerate() {
        let id = service.resolve(&metadata.namespace);
        let length = metadata.name.as_str().len() + id.name.as_str().len() + id.namespace.as_str().len();
        if length > SNI_LABELS_MAX {
            let message = format!(
                "workload, service and namespace have {length} characters together, {SNI_LABELS_MAX} at most fit a certificate's name"
            );
            out.at("services", |out| {
                out.add_at(index, Code::InvalidValue, message).value(service);
            });
        }
        if id.namespace != metadata.namespace {
            out.at("services", |out| {
                out.add_at(index, Code::Inconsistent, "a workload belongs to services of its own namespace")
                    .value(service)
                    .hint(format!("its namespace is {}", metadata.namespace));
            });
        }
    }
    out.unique("upstreams", &workload.upstreams, "bind", |upstream| upstream.bind);
    out.each("upstreams", &workload.upstreams, |out, upstream| {
        if upstream.bind.port() == 0 {
            out.add_at("bind", Code::InvalidValue, "needs a port that is not 0").value(upstream.bind);
        }
    });
}
