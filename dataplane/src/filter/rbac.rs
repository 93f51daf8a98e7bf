//! `envoy.filters.http.rbac`: authorization of a request by what it says and who sends it.

pub(super) mod decode;
pub(super) mod run;

use std::sync::Arc;

use weft_routing::rbac::{HttpRbac, NetworkRbac};

use crate::stats::{RbacStats, StatsRegistry, StatsScope};

/// `envoy.filters.http.rbac`, with its own policies for routes that say nothing else.
#[derive(Debug, Clone)]
pub struct Rbac {
    pub rbac: Arc<HttpRbac>,
    /// `http.PREFIX.rbac.*`; a route's own policies count here too.
    pub stats: RbacStats,
}

/// The counters of a filter below its connection manager's scope, with the filter's stat prefixes.
pub(crate) fn register(rbac: &HttpRbac, registry: &mut StatsRegistry, manager: &StatsScope) -> RbacStats {
    let enforced = prefixed(&manager.child("rbac"), &rbac.stat_prefix);
    let shadow = prefixed(&manager.child("rbac"), &rbac.shadow_stat_prefix);
    RbacStats {
        shadow_allowed: registry.counter(&shadow, "shadow_allowed"),
        shadow_denied: registry.counter(&shadow, "shadow_denied"),
        ..RbacStats::register(registry, &enforced)
    }
}

/// The counters of a filter of connections, `STAT_PREFIX.rbac.*`.
pub(crate) fn register_network(rbac: &NetworkRbac, registry: &mut StatsRegistry) -> RbacStats {
    let prefix = rbac.stat_prefix.trim_end_matches('.');
    RbacStats::register(registry, &StatsScope::plain(prefix).child("rbac"))
}

fn prefixed(scope: &StatsScope, prefix: &str) -> StatsScope {
    match prefix.trim_end_matches('.') {
        "" => scope.clone(),
        prefix => scope.child(prefix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_below_the_prefixes_of_the_filter() {
        let rbac =
            HttpRbac { stat_prefix: "deny.".into(), shadow_stat_prefix: "try".into(), ..HttpRbac::default() };
        let mut registry = StatsRegistry::new();
        register(&rbac, &mut registry, &StatsScope::http("in"));
        let totals = crate::stats::StatsSnapshot::default();
        let names: Vec<_> =
            registry.readings(&totals).into_iter().map(|reading| reading.name.to_string()).collect();
        assert!(names.contains(&"http.in.rbac.deny.denied".to_owned()), "{names:?}");
        assert!(names.contains(&"http.in.rbac.try.shadow_denied".to_owned()), "{names:?}");
    }
}
