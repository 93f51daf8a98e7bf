//! What makes a TCPRoute valid by itself.

use super::TcpRoute;
use crate::finding::{Code, Findings};
use crate::kinds::reference::check_backends;
use crate::kinds::route::check_parents;
use crate::metadata::Metadata;

pub(super) fn check(route: &TcpRoute, metadata: &Metadata, out: &mut Findings) {
    check_parents(&route.parent_refs, metadata, out);
    if !route.clients.is_empty() {
        out.not_supported("clients", "clients of a TCPRoute");
    }
    if route.rules.len() != 1 {
        out.add_at("rules", Code::InvalidValue, "a TCPRoute has exactly one rule").value(route.rules.len());
    }
    out.each("rules", &route.rules, |out, rule| {
        if rule.backend_refs.is_empty() {
            out.add_at("backendRefs", Code::Required, "at least one backend is needed");
        }
        check_backends(&rule.backend_refs, out);
    });
}
