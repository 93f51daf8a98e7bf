//! Statistics of the requests that follow a route.

use std::sync::OnceLock;

use crate::stats::{RouteStats, StatsRegistry, StatsScope};

/// `stat_prefix` of a route: what follows it is counted below `vhost.HOST.route.PREFIX`. Routes of a virtual host with the
/// same prefix count together.
#[derive(Debug)]
pub(crate) struct RouteCounts {
    prefix: Box<str>,
    stats: OnceLock<RouteStats>,
}

impl RouteCounts {
    /// Without ids yet; none for an empty prefix.
    pub(crate) fn of_prefix(prefix: &str) -> Option<Box<Self>> {
        (!prefix.is_empty()).then(|| Box::new(Self { prefix: prefix.into(), stats: OnceLock::new() }))
    }

    /// Gives the statistics their ids.
    pub(super) fn register(&self, host: &str, registry: &mut StatsRegistry) {
        self.stats.get_or_init(|| RouteStats::register(registry, &StatsScope::route(host, &self.prefix)));
    }

    /// The statistics, once they have ids.
    pub(crate) fn stats(&self) -> Option<&RouteStats> {
        self.stats.get()
    }
}
