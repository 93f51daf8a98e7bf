//! What makes an HTTPRoute valid by itself.

use super::HttpRoute;
use crate::finding::Findings;
use crate::kinds::route::{check_clients, check_hostnames, check_parents, check_rule_names, check_size};
use crate::metadata::Metadata;

pub(super) fn check(route: &HttpRoute, metadata: &Metadata, out: &mut Findings) {
    check_parents(&route.parent_refs, metadata, out);
    check_clients(&route.clients, out);
    check_hostnames(&route.hostnames, out);
    if check_size(route.rules.iter().map(|rule| rule.matches.len()), out).is_break() {
        return;
    }
    check_rule_names(route.rules.iter().map(|rule| rule.name.as_ref()), out);
    out.each("rules", &route.rules, |out, rule| rule.check(out));
}
