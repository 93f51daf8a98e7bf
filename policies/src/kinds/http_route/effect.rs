//! What an HTTPRoute changes: its rules are those of requests as they stand.

use std::sync::Arc;

use super::{HttpRoute, PORT_FIT};
use crate::kinds::http_rule::{RequestMatch, RequestRule, RequestRules, Rule, Unresolved};
use crate::kinds::route_match::RouteMatch;

pub(super) fn rules(route: &HttpRoute) -> RequestRules<'_> {
    RequestRules {
        parents: &route.parent_refs,
        clients: &route.clients,
        hostnames: &route.hostnames,
        carries: PORT_FIT.carries,
        unresolved: Unresolved::InternalServerError,
        rules: route.rules.iter().map(rule).collect(),
    }
}

fn rule(rule: &Arc<Rule>) -> RequestRule {
    let all = rule.matches.is_empty().then(RouteMatch::default);
    let matches = rule
        .matches
        .iter()
        .cloned()
        .chain(all)
        .map(|route_match| RequestMatch { specificity: route_match.path().specificity(), route_match });
    RequestRule { rule: Arc::clone(rule), matches: matches.collect() }
}
