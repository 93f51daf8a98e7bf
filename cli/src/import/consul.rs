//! Consul's config entries.
//!
//! A service of Consul has one port, which no entry tells: callers use port 80 here. What entries say together of requests
//! to one service, a router, splitters behind it and resolvers behind those, becomes one route.

mod catalog;
mod chain;
mod defaults;
mod intentions;
mod matching;
mod resolver;
mod routes;

use std::collections::BTreeSet;

use weft_api::ServiceId;

use super::drafts::Drafts;
use super::input::ImportInput;
use super::options::ImportOptions;
use catalog::ConsulCatalog;

pub fn import<'a>(inputs: &'a [ImportInput], options: &ImportOptions, drafts: &mut Drafts<'a>) {
    let mut catalog = ConsulCatalog::new(options.namespace.clone());
    for input in inputs {
        catalog.take(input);
    }
    for spec in std::mem::take(&mut catalog.proxy_defaults) {
        defaults::of_all_proxies(&mut catalog, &spec, drafts);
    }
    for spec in &catalog.meshes {
        defaults::of_mesh(spec, drafts);
    }
    // First, since what a route leads to speaks HTTP where nothing else is said.
    routes::import(&catalog, drafts);
    let mut services: BTreeSet<&ServiceId> = BTreeSet::new();
    services.extend(catalog.defaults.keys().chain(catalog.resolvers.keys()));
    for service in services {
        defaults::import(&catalog, service, drafts);
        resolver::import(&catalog, service, drafts);
    }
    intentions::import(&catalog, options, drafts);
}
