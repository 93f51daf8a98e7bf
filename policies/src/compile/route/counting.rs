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
