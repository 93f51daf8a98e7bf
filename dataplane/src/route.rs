//! Routes: which cluster, redirect or answer a request gets, as data that is decided before the first request.
//!
//! ```text
//! RouteConfig -- domains --> VirtualHost -- first route that matches --> Route -> Action
//! ```
//!
//! [`RouteConfig::find`] answers a [`RouteRef`], a pair of indices: cheap to copy and to keep while the request
//! lives, beside the `RouteConfig` it belongs to. Nothing here knows of endpoints or connections.

mod action;
mod headers;
mod matching;
mod retry;
mod rewrite;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use action::{
    Action, Chosen, ClusterChoice, DirectResponse, Forward, HostRewrite, Priority, RouteUpgrade,
    WeightedCluster,
};
pub(crate) use headers::{Addition, AppendAction, Value};
pub use headers::{Evaluated, HeaderOps};
pub use matching::{PathMatch, RouteMatch};
pub(crate) use matching::{QueryMatch, QueryRule};
pub use retry::{Failure, RetryOn, RetryPolicy};
pub(crate) use rewrite::NewPath;
pub use rewrite::{PathRewrite, Redirect, Substitution};

use crate::filter::Override;
use crate::matcher::RequestHead;
use crate::rejection::Notes;

/// `RouteConfiguration`, meant.
#[derive(Debug, Default)]
pub struct RouteConfig {
    /// The resource's name.
    pub name: Arc<str>,
    /// The virtual hosts.
    pub virtual_hosts: Vec<VirtualHost>,
    /// Fields that were accepted and have no effect.
    pub notes: Notes,
    pub(crate) domains: Domains,
    pub(crate) common: Levelled,
    /// `most_specific_header_mutations_wins`.
    pub(crate) specific_wins: bool,
}

/// `VirtualHost`, meant.
#[derive(Debug)]
pub struct VirtualHost {
    /// Its name.
    pub name: Arc<str>,
    /// The domains, as they were written.
    pub domains: Vec<Box<str>>,
    /// The routes, in order.
    pub routes: Vec<Route>,
    /// `include_request_attempt_count`: `x-envoy-attempt-count` for the upstream.
    pub attempt_count_in_request: bool,
    /// `include_attempt_count_in_response`.
    pub attempt_count_in_response: bool,
    pub(crate) common: Levelled,
}

/// `Route`, meant.
#[derive(Debug)]
pub struct Route {
    /// Its name, for `%ROUTE_NAME%`.
    pub name: Arc<str>,
    /// What it matches.
    pub matches: RouteMatch,
    /// What happens.
    pub action: Action,
    /// How much of a request's body may be kept for a retry, where the route says.
    pub buffer_limit: Option<u64>,
    pub(crate) common: Levelled,
}

/// What every level has.
#[derive(Debug, Default)]
pub(crate) struct Levelled {
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
    /// To the upstream.
    Request,
    /// To the caller.
    Response,
}

impl RouteConfig {
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
            Some(&self.common),
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
            Some(&self.common),
        ];
        levels.into_iter().flatten().filter_map(move |level| level.filters.get(name))
    }

    /// What is said of filters, at all levels.
    pub fn all_filter_overrides(&self) -> impl Iterator<Item = &Override> {
        let hosts = self.virtual_hosts.iter();
        let levels = hosts.flat_map(|host| {
            let routes = host.routes.iter().flat_map(|route| {
                let members = match &route.action {
                    Action::Forward(forward) => forward.cluster.members(),
                    Action::Redirect(_) | Action::Direct(_) | Action::NonForwarding => &[],
                };
                members.iter().map(|member| &member.common).chain([&route.common])
            });
            routes.chain([&host.common])
        });
        levels.chain([&self.common]).flat_map(|level| level.filters.values())
    }

    /// Names of all clusters that routes send to, sorted, each once.
    pub fn clusters(&self) -> Vec<&Arc<str>> {
        let routes = self.virtual_hosts.iter().flat_map(|host| &host.routes);
        let mut names: Vec<&Arc<str>> = routes
            .filter_map(|route| match &route.action {
                Action::Forward(forward) => Some(forward.cluster.names()),
                Action::Redirect(_) | Action::Direct(_) | Action::NonForwarding => None,
            })
            .flatten()
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Domains of all virtual hosts, by how they match.
#[derive(Debug, Default)]
pub(crate) struct Domains {
    exact: HashMap<Box<str>, usize>,
    /// `*.example.org` without the star, longest first.
    suffixes: Vec<(Box<str>, usize)>,
    /// `www.*` without the star, longest first.
    prefixes: Vec<(Box<str>, usize)>,
    any: Option<usize>,
    ignore_port: bool,
}

impl Domains {
    /// The same domains, for which the port of an authority does not matter: `ignore_port_in_host_matching`.
    pub(crate) fn ignoring_port(self) -> Self {
        Self { ignore_port: true, ..self }
    }

    /// Adds a domain; false when it is there already.
    pub(crate) fn insert(&mut self, domain: &str, host: usize) -> bool {
        let domain = domain.to_ascii_lowercase();
        let unique = |list: &mut Vec<(Box<str>, usize)>, part: &str| {
            let fresh = !list.iter().any(|(known, _)| **known == *part);
            list.push((part.into(), host));
            list.sort_by_key(|(part, _)| std::cmp::Reverse(part.len()));
            fresh
        };
        if domain == "*" {
            self.any.replace(host).is_none()
        } else if let Some(suffix) = domain.strip_prefix('*') {
            unique(&mut self.suffixes, suffix)
        } else if let Some(prefix) = domain.strip_suffix('*') {
            unique(&mut self.prefixes, prefix)
        } else {
            self.exact.insert(domain.into(), host).is_none()
        }
    }

    fn find(&self, authority: &str) -> Option<usize> {
        if authority.is_empty() {
            return self.any;
        }
        let authority = if self.ignore_port { without_port(authority) } else { authority };
        if authority.bytes().any(|b| b.is_ascii_uppercase()) {
            return self.find_lower(&authority.to_ascii_lowercase());
        }
        self.find_lower(authority)
    }

    fn find_lower(&self, host: &str) -> Option<usize> {
        if let Some(found) = self.exact.get(host) {
            return Some(*found);
        }
        let longer = |part: &str| host.len() > part.len();
        let suffix = self.suffixes.iter().find(|(part, _)| longer(part) && host.ends_with(&**part));
        let found = suffix
            .or_else(|| self.prefixes.iter().find(|(part, _)| longer(part) && host.starts_with(&**part)));
        found.map(|(_, host)| *host).or(self.any)
    }
}

/// `host:port` without the port; brackets of IPv6 stay.
pub fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => authority,
    }
}
