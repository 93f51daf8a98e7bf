//! Routes: which virtual host a request belongs to, and which of its routes takes it.
//!
//! ```text
//! RoutingTable -- domains --> VirtualHost -- first route that matches --> Route -> its effect
//!      ^ with_hosts: virtual hosts that came as resources of their own (VHDS)
//! ```
//!
//! [`RoutingTable::find`] answers a [`RouteRef`], a pair of indices: cheap to copy and to keep while the request
//! lives, beside the table that it belongs to. What a route does is its reader's: `E` here, the effect of a route, and `O`,
//! the options of a virtual host.

mod cluster;
mod domains;
mod matching;
mod rewrite;

use std::sync::Arc;

pub use cluster::{Chosen, ClusterChoice, WeightedCluster};
pub use domains::{Domains, without_port};
pub use matching::{PathMatch, RouteMatch};
pub(crate) use matching::{QueryMatch, QueryRule};
pub(crate) use rewrite::NewPath;
pub use rewrite::{PathRewrite, Redirect, Substitution};

use crate::matcher::RequestHead;

/// Virtual hosts, and which authorities are whose.
#[derive(Debug)]
pub struct RoutingTable<O, E> {
    /// The virtual hosts: its own, then those that came by themselves. Shared, so that of many only those that change
    /// are made anew.
    pub virtual_hosts: Vec<Arc<VirtualHost<O, E>>>,
    /// Domains that virtual hosts which came by themselves do not have, because others have them.
    pub overlaps: Vec<Overlap>,
    pub(crate) domains: Domains,
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
pub struct VirtualHost<O, E> {
    pub name: Arc<str>,
    /// The domains, in lower case.
    pub domains: Vec<Arc<str>>,
    /// The routes, in order.
    pub routes: Vec<Route<E>>,
    /// What else it says.
    pub options: O,
}

/// `Route`, meant.
#[derive(Debug)]
pub struct Route<E> {
    /// Its name, for `%ROUTE_NAME%`.
    pub name: Arc<str>,
    pub matches: RouteMatch,
    /// What happens to the requests that match.
    pub effect: E,
}

/// A route that was found, as indices into its [`RoutingTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRef {
    host: u32,
    route: u32,
}

impl<O, E> Default for RoutingTable<O, E> {
    fn default() -> Self {
        Self::new(Domains::default())
    }
}

impl<O, E> RoutingTable<O, E> {
    /// Without virtual hosts yet.
    #[must_use]
    pub fn new(domains: Domains) -> Self {
        Self { virtual_hosts: Vec::new(), overlaps: Vec::new(), domains }
    }

    /// The same table with `hosts` behind its own: what came by VHDS, in the order of their names. Of several
    /// hosts that name a domain the first has it, and the others keep the rest of theirs. So the outcome depends on what
    /// there is and not on what came first: a domain may move from one host to another, whichever of them comes before.
    #[must_use]
    pub fn with_hosts(&self, hosts: impl IntoIterator<Item = Arc<VirtualHost<O, E>>>) -> Self {
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
        Self { virtual_hosts, overlaps, domains }
    }

    /// The virtual host whose domain fits an authority best.
    #[inline]
    pub fn host_of(&self, authority: &str) -> Option<&Arc<VirtualHost<O, E>>> {
        self.virtual_hosts.get(self.domains.find(authority)?)
    }

    /// The first route that matches, of the virtual host whose domain fits best. `random` decides fractions.
    #[inline]
    pub fn find(&self, head: &RequestHead<'_>, random: u64) -> Option<RouteRef> {
        let host = self.domains.find(head.authority)?;
        let route = self.virtual_hosts.get(host)?.find(head, random)?;
        Some(RouteRef { host: host as u32, route: route as u32 })
    }

    /// The route behind a reference.
    #[inline]
    pub fn route(&self, found: RouteRef) -> &Route<E> {
        &self.virtual_hosts[found.host as usize].routes[found.route as usize]
    }

    /// The virtual host behind a reference.
    #[inline]
    pub fn virtual_host(&self, found: RouteRef) -> &VirtualHost<O, E> {
        &self.virtual_hosts[found.host as usize]
    }
}

impl<O, E> VirtualHost<O, E> {
    /// The place of the first route that matches. `random` decides fractions.
    #[inline]
    pub fn find(&self, head: &RequestHead<'_>, random: u64) -> Option<usize> {
        self.routes.iter().position(|route| route.matches.matches(head, random))
    }
}
