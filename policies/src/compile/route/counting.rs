//! Under which names the requests of rules are counted.

use std::collections::BTreeSet;

use weft_api::names::{MOST_COUNTED_RULES, OTHER_RULES, ServiceId, rule_stat_prefix};

use crate::kinds::port::Port;
use crate::set::HttpRouteMatch;

/// Gives the rules of one port their names: each its own, which stays what it is when other rules come or go, and beyond
/// [`MOST_COUNTED_RULES`] one for the rest. A proxy holds statistics for each name.
pub(super) struct CountedRules<'a> {
    service: &'a ServiceId,
    port: &'a Port,
    named: BTreeSet<String>,
}

impl<'a> CountedRules<'a> {
    pub(super) fn new(service: &'a ServiceId, port: &'a Port) -> Self {
        Self { service, port, named: BTreeSet::new() }
    }

    /// The `stat_prefix` of a match's route: that of its rule.
    pub(super) fn stat_prefix(&mut self, one: &HttpRouteMatch) -> String {
        let key = one.route.key();
        let rule = format!("{}/{}/{}", key.kind.name(), key.id(), one.rule_name());
        let port = self.port.name.as_str();
        // The last place is for the rest.
        if !self.named.contains(&rule) && self.named.len() + 1 >= MOST_COUNTED_RULES {
            return rule_stat_prefix(self.service, port, OTHER_RULES);
        }
        let prefix = rule_stat_prefix(self.service, port, &rule);
        self.named.insert(rule);
        prefix
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::set::PolicySet;

    #[test]
    fn rules_of_a_port_beyond_fifty_are_counted_together() {
        const RULES: usize = 60;
        let mut text = "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: a, namespace: shop}\n\
                        spec: {ports: [{name: http, port: 80, protocol: HTTP}]}\n"
            .to_owned();
        for number in 0..RULES {
            text.push_str(&format!(
                "---\napiVersion: weft.dev/v1\nkind: HTTPRoute\nmetadata: {{name: r{number}, namespace: shop}}\n\
                 spec:\n  parentRefs: [{{kind: Service, name: a, port: 80}}]\n  rules:\n  \
                 - matches: [{{path: {{value: /{number}/a}}}}, {{path: {{value: /{number}/b}}}}]\n    \
                 backendRefs: [{{name: a, port: 80}}]\n"
            ));
        }
        let set = PolicySet::default().apply(&crate::parse("rules", &text).unwrap()).unwrap().set;
        let service: ServiceId = "shop/a".parse().unwrap();
        let port = &set.service(&service).unwrap().spec.ports[0];
        let rules = set.http_rules_for(&service, port, &service.namespace);
        let mut counted = CountedRules::new(&service, port);
        let prefixes: Vec<String> = rules.iter().map(|one| counted.stat_prefix(one)).collect();
        assert_eq!(prefixes.len(), 2 * RULES);
        assert_eq!(prefixes.iter().collect::<BTreeSet<_>>().len(), MOST_COUNTED_RULES);
        let others = rule_stat_prefix(&service, "http", OTHER_RULES);
        let together = prefixes.iter().filter(|prefix| **prefix == others).count();
        assert_eq!(together, 2 * (RULES - (MOST_COUNTED_RULES - 1)), "both matches of each rule");
    }
}
