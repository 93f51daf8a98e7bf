//! `RouteConfiguration`, and `VirtualHost` in it or as a resource of its own: which requests a route takes.

mod cluster;
mod matching;
mod rewrite;

use std::collections::HashSet;
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3 as wire;

pub use cluster::cluster_choice;
pub use matching::route_match;
pub use rewrite::{path_rewrite, redirect, substitution};

use crate::rejection::{Notes, Rejection, Within as _, refuse};
use crate::route::{Domains, Route, RouteMatch, RoutingTable, VirtualHost};

/// Reads the virtual hosts of a route configuration, each by `host`, and which authorities are theirs.
///
/// # Errors
/// A field that would change which route is found and is not supported, a name or a domain that is there twice, or
/// what `host` refuses.
pub fn table<O, E>(
    config: &wire::RouteConfiguration,
    mut host: impl FnMut(&wire::VirtualHost) -> Result<VirtualHost<O, E>, Rejection>,
) -> Result<RoutingTable<O, E>, Rejection> {
    refuse(&config.vhost_header, "vhost_header")?;
    refuse(config.ignore_path_parameters_in_path_matching, "ignore_path_parameters_in_path_matching")?;
    refuse(&config.route_specifiers, "route_specifiers")?;
    let mut domains = Domains::default();
    if config.ignore_port_in_host_matching {
        domains = domains.ignoring_port();
    }
    let mut table = RoutingTable::new(domains);
    let mut names = HashSet::with_capacity(config.virtual_hosts.len());
    for wire in &config.virtual_hosts {
        let at = || format!("virtual_hosts[{}]", wire.name);
        let host = host(wire).within(at)?;
        if !names.insert(wire.name.as_str()) {
            return Err(Rejection::new(at(), "has a name that is taken"));
        }
        claim(&mut table.domains, &host, &table.virtual_hosts).within(at)?;
        table.virtual_hosts.push(Arc::new(host));
    }
    Ok(table)
}

/// Reads a virtual host and what its routes match. `options` and `effect` read what else is said there.
///
/// # Errors
/// A field that would change which route is found and is not supported, or what the two refuse.
pub fn virtual_host<O, E>(
    host: &wire::VirtualHost,
    notes: &mut Notes,
    options: impl FnOnce(&mut Notes) -> Result<O, Rejection>,
    mut effect: impl FnMut(&wire::Route, &RouteMatch, &mut Notes) -> Result<E, Rejection>,
) -> Result<VirtualHost<O, E>, Rejection> {
    refuse(&host.matcher, "matcher")?;
    refuse(host.require_tls != 0, "require_tls")?;
    refuse(&host.route_specifiers, "route_specifiers")?;
    if host.domains.is_empty() {
        return Err(Rejection::new("domains", "is empty"));
    }
    let mut routes = Vec::with_capacity(host.routes.len());
    for (i, wire) in host.routes.iter().enumerate() {
        let at =
            || if wire.name.is_empty() { format!("routes[{i}]") } else { format!("routes[{}]", wire.name) };
        routes.push(route(wire, notes, &mut effect).within(at)?);
    }
    Ok(VirtualHost {
        name: host.name.as_str().into(),
        domains: domains(host),
        routes,
        options: options(notes)?,
    })
}

/// The domains of a virtual host, in lower case.
pub fn domains(host: &wire::VirtualHost) -> Vec<Arc<str>> {
    host.domains.iter().map(|domain| domain.to_ascii_lowercase().into()).collect()
}

/// Checks a virtual host that is a resource of its own (VHDS): no domain may be there twice.
///
/// # Errors
/// One is.
pub fn check_alone<O, E>(host: &VirtualHost<O, E>) -> Result<(), Rejection> {
    claim(&mut Domains::default(), host, &[])
}

fn route<E>(
    route: &wire::Route,
    notes: &mut Notes,
    effect: impl FnOnce(&wire::Route, &RouteMatch, &mut Notes) -> Result<E, Rejection>,
) -> Result<Route<E>, Rejection> {
    refuse(&route.route_specifiers, "route_specifiers")?;
    let matches = route.r#match.as_ref().ok_or_else(|| Rejection::new("match", "is missing"))?;
    let matches = route_match(matches, notes).within(|| "match")?;
    let effect = effect(route, &matches, notes)?;
    Ok(Route { name: route.name.as_str().into(), matches, effect })
}

/// Gives the domains of the host that follows on `before` to it; each may belong to one host only.
fn claim<O, E>(
    domains: &mut Domains,
    host: &VirtualHost<O, E>,
    before: &[Arc<VirtualHost<O, E>>],
) -> Result<(), Rejection> {
    for domain in &host.domains {
        if let Err(holder) = domains.insert(domain, before.len()) {
            let reason = match before.get(holder) {
                Some(holder) => format!("{domain} belongs to another virtual host too, {}", holder.name),
                None => format!("{domain} is there twice"),
            };
            return Err(Rejection::new("domains", reason));
        }
    }
    Ok(())
}
