//! What routes do with a request: cluster, redirect or answer, as data that is decided before the first request.
//!
//! Which route it is, weft-routing finds; here is what follows from that, at four levels: the configuration, a virtual host, a
//! route, a member of weighted clusters. Nothing here knows of endpoints or connections.

mod action;
mod counts;
mod hash;
mod headers;
mod retry;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weft_routing::matcher::RequestHead;
use weft_routing::rejection::Notes;
use weft_routing::route::{self as routing, Overlap, RouteRef, RoutingTable};

pub use action::{DirectResponse, Forward, HostRewrite, Priority, RouteAction, RouteUpgrade};
pub(crate) use counts::RouteCounts;
pub use hash::{HashCookie, HashPolicy, HashSource, HashedPeer, hash, hash_address};
pub(crate) use headers::{Addition, AppendAction, HeaderTemplate};
pub use headers::{Evaluated, HeaderOps};
pub use retry::{Failure, RetryOn, RetryPolicy};

use crate::filter::Override;
use crate::stats::StatsRegistry;
use crate::tracer::RouteTracing;

/// `RouteConfiguration`, meant.
#[derive(Debug, Default)]
pub struct RouteConfig {
    pub name: Arc<str>,
    /// Which route a request takes.
    pub table: RoutingTable<HostOptions, RouteEffect>,
    /// `vhds`: more virtual hosts come as resources of their own.
    pub vhds: Option<Vhds>,
    /// Fields that were accepted and have no effect.
    pub notes: Notes,
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

/// A virtual host, with what it says beside its domains.
pub type VirtualHost = routing::VirtualHost<HostOptions, RouteEffect>;

/// A route, with what happens to its requests.
pub type Route = routing::Route<RouteEffect>;

/// Where a request is sent; a member of several may say more.
pub type ClusterChoice = routing::ClusterChoice<MemberOptions>;

/// A member of `weighted_clusters`, with what it says of its requests.
pub type WeightedCluster = routing::WeightedCluster<MemberOptions>;

/// What a virtual host says beside its domains and routes.
#[derive(Debug)]
pub struct HostOptions {
    /// `include_request_attempt_count`: `x-envoy-attempt-count` for the upstream.
    pub attempt_count_in_request: bool,
    /// `include_attempt_count_in_response`.
    pub attempt_count_in_response: bool,
    pub(crate) common: LevelConfig,
}

/// What happens to the requests that a route takes.
#[derive(Debug)]
pub struct RouteEffect {
    pub action: RouteAction,
    /// How much of a request's body may be kept for a retry, where the route says.
    pub buffer_limit: Option<u64>,
    pub(crate) counts: Option<Box<RouteCounts>>,
    pub(crate) tracing: Option<Box<RouteTracing>>,
    pub(crate) common: LevelConfig,
}

/// What a member of `weighted_clusters` says of the requests that it gets.
#[derive(Debug)]
pub struct MemberOptions {
    /// `host_rewrite_literal`.
    pub host_rewrite: Option<Box<str>>,
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

/// Which way headers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Request,
    Response,
}

impl RouteConfig {
    /// The same configuration with `hosts` behind its own: what came by VHDS, in the order of their names.
    #[must_use]
    pub fn with_hosts(&self, hosts: impl IntoIterator<Item = Arc<VirtualHost>>) -> Self {
        Self {
            name: Arc::clone(&self.name),
            table: self.table.with_hosts(hosts),
            vhds: self.vhds,
            notes: self.notes.clone(),
            common: Arc::clone(&self.common),
            specific_wins: self.specific_wins,
        }
    }

    /// Domains that virtual hosts which came by themselves do not have, because others have them.
    pub fn overlaps(&self) -> &[Overlap] {
        &self.table.overlaps
    }

    /// The first route that matches, of the virtual host whose domain fits best. `random` decides fractions.
    pub fn find(&self, head: &RequestHead<'_>, random: u64) -> Option<RouteRef> {
        self.table.find(head, random)
    }

    /// The route behind a reference.
    pub fn route(&self, found: RouteRef) -> &Route {
        self.table.route(found)
    }

    /// The virtual host behind a reference.
    pub fn virtual_host(&self, found: RouteRef) -> &VirtualHost {
        self.table.virtual_host(found)
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
            weighted.map(|cluster| &cluster.options.common),
            Some(&self.route(found).effect.common),
            Some(&self.virtual_host(found).options.common),
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
            weighted.map(|cluster| &cluster.options.common),
            Some(&self.route(found).effect.common),
            Some(&self.virtual_host(found).options.common),
            Some(&*self.common),
        ];
        levels.into_iter().flatten().filter_map(move |level| level.filters.get(name))
    }

    /// What `typed_per_filter_config` says at all levels, with the filters' names.
    pub fn all_filter_overrides(&self) -> impl Iterator<Item = (&str, &Override)> {
        let hosts = self.table.virtual_hosts.iter().flat_map(|host| filter_overrides(host));
        hosts.chain(self.common.filter_overrides())
    }

    /// Gives the statistics of all its routes their ids.
    pub fn register(&self, registry: &mut StatsRegistry) {
        self.table.virtual_hosts.iter().for_each(|host| register(host, registry));
    }

    /// Names of all clusters that routes send to, sorted, each once.
    pub fn clusters(&self) -> Vec<&Arc<str>> {
        let routes = self.table.virtual_hosts.iter().flat_map(|host| &host.routes);
        let mut names: Vec<&Arc<str>> = routes
            .filter_map(|route| match &route.effect.action {
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

/// Gives the statistics of a virtual host's routes their ids.
pub(crate) fn register(host: &VirtualHost, registry: &mut StatsRegistry) {
    let counts = host.routes.iter().filter_map(|route| route.effect.counts.as_ref());
    counts.for_each(|counts| counts.register(&host.name, registry));
}

/// What `typed_per_filter_config` says at all levels of a virtual host, with the filters' names.
pub fn filter_overrides(host: &VirtualHost) -> impl Iterator<Item = (&str, &Override)> {
    let routes = host.routes.iter().flat_map(|route| {
        let members = match &route.effect.action {
            RouteAction::Forward(forward) => forward.cluster.members(),
            RouteAction::Redirect(_) | RouteAction::Direct(_) | RouteAction::NonForwarding => &[],
        };
        members.iter().map(|member| &member.options.common).chain([&route.effect.common])
    });
    routes.chain([&host.options.common]).flat_map(LevelConfig::filter_overrides)
}

impl LevelConfig {
    fn filter_overrides(&self) -> impl Iterator<Item = (&str, &Override)> {
        self.filters.iter().map(|(name, special)| (&**name, special))
    }
}
