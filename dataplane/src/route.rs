//! Routes: which cluster, redirect or answer a request gets, as data that is decided before the first request.
//!
//! ```text
//! RouteConfig -- domains --> VirtualHost -- first route that matches --> Route -> Action
//!      ^ with_hosts: virtual hosts that came as resources of their own (VHDS)
//! ```
//!
//! [`RouteConfig::find`] answers a [`RouteRef`], a pair of indices: cheap to copy and to keep while the request
//! lives, beside the `RouteConfig` it belongs to. Nothing here knows of endpoints or connections.

mod action;
mod counts;
mod domains;
mod headers;
mod matching;
mod retry;
mod rewrite;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use action::{
    Chosen, ClusterChoice, DirectResponse, Forward, HostRewrite, Priority, RouteAction, RouteUpgrade,
    WeightedCluster,
};
pub(crate) use counts::RouteCounts;
pub(crate) use domains::Domains;
pub use domains::without_port;
pub(crate) use headers::{Addition, AppendAction, HeaderTemplate};
pub use headers::{Evaluated, HeaderOps};
pub use matching::{PathMatch, RouteMatch};
pub(crate) use matching::{QueryMatch, QueryRule};
pub use retry::{Failure, RetryOn, RetryPolicy};
pub(crate) use rewrite::NewPath;
pub use rewrite::{PathRewrite, Redirect, Substitution};

use crate::filter::Override;
use crate::matcher::RequestHead;
use crate::rejection::Notes;
use crate::stats::StatsRegistry;
use crate::tracer::RouteTracing;

/// `RouteConfiguration`, meant.
#[derive(Debug, Default)]
pub struct RouteConfig {
    pub name: Arc<str>,
    /// The virtual hosts: its own, then those that came by themselves. Shared, so that of many only those that change
    /// are made anew.
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
    /// `vhds`: more virtual hosts come as resources of their own.
    pub vhds: Option<Vhds>,
    /// Domains that virtual hosts which came by themselves do not have, because others have them.
    pub overlaps: Vec<Overlap>,
    /// Fields that were accepted and have no effect.
    pub notes: Notes,
    pub(crate) domains: Domains,
    pub(crate) common: Arc<LevelConfig>,
    /// `most_specific_header_mutations_wins`.
    pub(crate) specific_wins: bool,
}

/// `vhds`, which is always by the stream that everything comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vhds {
    /// `initial_fetch_timeout`: after this long the configuration is used without them; `None` waits for ever.
    pub fetch_timeout: Option<Duration>,
}

/// A domain that two virtual hosts name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Overlap {
    /// The domain, in lower case.
    pub domain: Arc<str>,
    /// The virtual host that does not have it.
    pub host: Arc<str>,
    /// The virtual host that has it.
    pub holder: Arc<str>,
}

/// `VirtualHost`, meant.
#[derive(Debug)]
pub struct VirtualHost {
    pub name: Arc<str>,
    /// The domains, in lower case.
    pub domains: Vec<Arc<str>>,
    /// The routes, in order.
    pub routes: Vec<Route>,
    /// `include_request_attempt_count`: `x-envoy-attempt-count` for the upstream.
    pub attempt_count_in_request: bool,
    /// `include_attempt_count_in_response`.
    pub attempt_count_in_response: bool,
    pub(crate) common: LevelConfig,
}

/// `Route`, meant.
#[derive(Debug)]
pub struct Route {
    /// Its name, for `%ROUTE_NAME%`.
    pub name: Arc<str>,
    pub matches: RouteMatch,
    pub action: RouteAction,
    /// How much of a request's body may be kept for a retry, where the route says.
    pub buffer_limit: Option<u64>,
    pub(crate) counts: Option<Box<RouteCounts>>,
    pub(crate) tracing: Option<Box<RouteTracing>>,
    pub(crate) common: LevelConfig,
}

/// What every level has.
#[derive(Debug, Default)]
pub(crate) struct LevelConfig {
    pub(crate) request: HeaderOps,
    pub(crate) response: HeaderOps,
    /// `typed_per_filter_config`, by the filter's name.
    pub(crate) filters: BTreeMap<Box<str>, Override>,
}

/// A route that was found, as indices into its [`RouteConfig`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRef {
    host: u32,
    route: u32,
}

/// Which way headers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Request,
    Response,
}

impl RouteConfig {
    /// The same configuration with `hosts` behind its own: what came by VHDS, in the order of their names. Of several
    /// hosts that name a domain the first has it, and the others keep the rest of theirs. So the outcome depends on what
    /// there is and not on what came first: a domain may move from one host to another, whichever of them comes before.
    #[must_use]
    pub fn with_hosts(&self, hosts: impl IntoIterator<Item = Arc<VirtualHost>>) -> Self {
        let (mut virtual_hosts, mut domains) = (self.virtual_hosts.clone(), self.domains.clone());
        let mut overlaps = Vec::new();
        for host in hosts {
            for domain in &host.domains {
                if let Err(holder) = domains.insert(domain, virtual_hosts.len()) {
                    let holder = virtual_hosts.get(holder).unwrap_or(&host);
                    overlaps.push(Overlap {
                        domain: Arc::clone(domain),
                        host: Arc::clone(&host.name),
                        holder: Arc::clone(&holder.name),
                    });
                }
            }
            virtual_hosts.push(host);
        }
        Self {
            name: Arc::clone(&self.name),
            virtual_hosts,
            vhds: self.vhds,
            overlaps,
            notes: self.notes.clone(),
            domains,
            common: Arc::clone(&self.common),
            specific_wins: self.specific_wins,
        }
    }

    /// The first route that matches, of the virtual host whose domain fits best. `random` decides fractions.
    pub fn find(&self, head: &RequestHead<'_>, random: u64) -> Option<RouteRef> {
        let host = self.domains.find(head.authority)?;
        let routes = &self.virtual_hosts.get(host)?.routes;
        let route = routes.iter().position(|route| route.matches.matches(head, random))?;
        Some(RouteRef { host: host as u32, route: route as u32 })
    }

    /// The route behind a reference.
    pub fn route(&self, found: RouteRef) -> &Route {
        &self.virtual_hosts[found.host as usize].routes[found.route as usize]
    }

    /// The virtual host behind a reference.
    pub fn virtual_host(&self, found: RouteRef) -> &VirtualHost {
        &self.virtual_hosts[found.host as usize]
    }

    /// The header operations for a request or its response in the order in which they apply: the most specific
    /// level first, unless the configuration says that the most specific wins.
    pub fn header_ops<'a>(
        &'a self,
        found: RouteRef,
        weighted: Option<&'a WeightedCluster>,
        direction: Direction,
    ) -> impl Iterator<Item = &'a HeaderOps> {
        let mut levels = [
            weighted.map(|cluster| &cluster.common),
            Some(&self.route(found).common),
            Some(&self.virtual_host(found).common),
            Some(&*self.common),
        ];
        if self.specific_wins {
            levels.reverse();
        }
        levels
            .into_iter()
            .flatten()
            .map(move |level| match direction {
                Direction::Request => &level.request,
                Direction::Response => &level.response,
            })
            .filter(|ops| !ops.is_empty())
    }

    /// What the most specific level says of the filter `name`.
    pub fn filter_override<'a>(
        &'a self,
        found: RouteRef,
        weighted: Option<&'a WeightedCluster>,
        name: &str,
    ) -> Option<&'a Override> {
        self.filter_overrides(found, weighted, name).next()
    }

    /// What all levels say of the filter `name`, the most specific one first.
    pub fn filter_overrides<'a>(
        &'a self,
        found: RouteRef,
        weighted: Option<&'a WeightedCluster>,
        name: &str,
    ) -> impl DoubleEndedIterator<Item = &'a Override> {
        let levels = [
            weighted.map(|cluster| &cluster.common),
            Some(&self.route(found).common),
            Some(&self.virtual_host(found).common),
            Some(&*self.common),
        ];
        levels.into_iter().flatten().filter_map(move |level| level.filters.get(name))
    }

    /// What `typed_per_filter_config` says at all levels, with the filters' names.
    pub fn all_filter_overrides(&self) -> impl Iterator<Item = (&str, &Override)> {
        let hosts = self.virtual_hosts.iter().flat_map(|host| host.filter_overrides());
        hosts.chain(self.common.filter_overrides())
    }

    /// Gives the statistics of all its routes their ids.
    pub fn register(&self, registry: &mut StatsRegistry) {
        self.virtual_hosts.iter().for_each(|host| host.register(registry));
    }

    /// Names of all clusters that routes send to, sorted, each once.
    pub fn clusters(&self) -> Vec<&Arc<str>> {
        let routes = self.virtual_hosts.iter().flat_map(|host| &host.routes);
        let mut names: Vec<&Arc<str>> = routes
            .filter_map(|route| match &route.action {
                RouteAction::Forward(forward) => Some(forward.cluster.names()),
                RouteAction::Redirect(_) | RouteAction::Direct(_) | RouteAction::NonForwarding => None,
            })
            .flatten()
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

impl VirtualHost {
    /// Gives the statistics of its routes their ids.
    pub(crate) fn register(&self, registry: &mut StatsRegistry) {
        let counts = self.routes.iter().filter_map(|route| route.counts.as_ref());
        counts.for_each(|counts| counts.register(&self.name, registry));
    }

    /// What `typed_per_filter_config` says at all its levels, with the filters' names.
    pub fn filter_overrides(&self) -> impl Iterator<Item = (&str, &Override)> {
        let routes = self.routes.iter().flat_map(|route| {
            let members = match &route.action {
                RouteAction::Forward(forward) => forward.cluster.members(),
                RouteAction::Redirect(_) | RouteAction::Direct(_) | RouteAction::NonForwarding => &[],
            };
            members.iter().map(|member| &member.common).chain([&route.common])
        });
        routes.chain([&self.common]).flat_map(LevelConfig::filter_overrides)
    }
}

impl LevelConfig {
    fn filter_overrides(&self) -> impl Iterator<Item = (&str, &Override)> {
        self.filters.iter().map(|(name, special)| (&**name, special))
    }
}
