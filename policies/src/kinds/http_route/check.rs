//! What makes an HTTPRoute valid by itself.

use super::HttpRoute;
use crate::finding::Findings;
use crate::kinds::route::check_request_route;
use crate::metadata::Metadata;

pub(super) fn check(route: &HttpRoute, metadata: &Metadata, out: &mut Findings) {
    let rules = route.rules.iter().map(|rule| (rule.name.as_ref(), rule.matches.len()));
    let whole =
        check_request_route(&route.parent_refs, &route.clients, &route.hostnames, rules, metadata, out);
    if whole.is_continue() {
        out.each("rules", &route.rules, |out, rule| rule.check(out));
    }
}
