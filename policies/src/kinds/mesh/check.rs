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
    if mesh.tracing.is_some() {
        out.not_supported("tracing", "tracing");
    }
}
