//! What makes a Mesh valid by itself.

use super::{DefaultView, MESH_NAME, Mesh, MtlsMode};
use crate::finding::{Code, Findings};
use crate::metadata::Metadata;

pub(super) fn check(mesh: &Mesh, metadata: &Metadata, out: &mut Findings) {
    if metadata.name.as_str() != MESH_NAME || metadata.namespace.as_str() != "default" {
        out.add(Code::InvalidValue, format!("there is one Mesh, default/{MESH_NAME}"))
            .value(format!("{}/{}", metadata.namespace, metadata.name))
            .hint(format!("write metadata.name: {MESH_NAME}, and no namespace"));
    }
    out.at("defaults", |out| {
        if mesh.defaults.view == DefaultView::OnDemand {
            out.not_supported("view", "view: OnDemand");
        }
        if mesh.defaults.mtls == MtlsMode::Permissive {
            out.not_supported("mtls", "mtls: Permissive").value("Permissive");
        }
    });
    if mesh.identity.is_some() {
        out.not_supported("identity", "identity")
            .hint("set the life of certificates with the control plane's --leaf-ttl");
    }
    if let Some(tracing) = &mesh.tracing {
        out.at("tracing", |out| check_sampling(tracing.sampling.unwrap_or_default(), out));
    }
}

/// Notes a share that proxies cannot tell from none: they count in parts of ten thousand.
pub(crate) fn check_sampling(percent: f64, out: &mut Findings) {
    if percent > 0.0 && percent < 0.01 {
        out.add_at("sampling", Code::InvalidValue, "proxies take shares of 0.01 % and more")
            .value(percent)
            .hint("write 0.01, or 0 for none");
    }
}
