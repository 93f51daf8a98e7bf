//! From what is in use to the runtime. What did not change is taken over from the runtime before, by pointer: the
//! workers see at once what they need not touch, and a change costs what it affects.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::world::World;
use crate::balance::BalanceOptions;
use crate::breaker::Breaker;
use crate::decode::{ClusterPlan, EndpointSource, EndpointsPlan, Host, ListenerPlan};
use crate::outlier::Outliers;
use crate::rejection::Rejection;
use crate::runtime::{Cluster, Endpoints, Listener, Runtime, Transport};
use crate::stats::{ClusterStats, DnsCacheStats, Registry, Scope};

/// Remembers what was built last.
#[derive(Debug, Default)]
pub(super) struct Builder {
    revision: u64,
    clusters: HashMap<Arc<str>, BuiltCluster>,
    transports: HashMap<Arc<str>, BuiltTransports>,
    listeners: HashMap<Arc<str>, BuiltListener>,
}

/// Generations of the secrets, and the transport sockets made of them.
type Prepared = (Vec<u64>, Vec<Transport>);

#[derive(Debug)]
struct BuiltTransports {
    plan: Arc<ClusterPlan>,
    secrets: Vec<u64>,
    ready: Vec<Transport>,
}

#[derive(Debug)]
struct BuiltCluster {
    plan: Arc<ClusterPlan>,
    secrets: Vec<u64>,
    endpoints: Arc<EndpointsPlan>,
    addresses: Vec<SocketAddr>,
    cluster: Arc<Cluster>,
}

#[derive(Debug)]
struct BuiltListener {
    plan: Arc<ListenerPlan>,
    secrets: Vec<u64>,
    listener: Arc<Listener>,
}

impl Builder {
    /// Prepares a cluster's transport sockets; a cluster whose secrets are missing is prepared later.
    pub(super) fn check_cluster(&mut self, plan: &Arc<ClusterPlan>, world: &World) -> Result<(), Rejection> {
        self.transports(plan, world).map(|_| ())
    }

    fn transports(&mut self, plan: &Arc<ClusterPlan>, world: &World) -> Result<Option<Prepared>, Rejection> {
        let secrets: Vec<u64> = plan.secrets().map(|reference| world.secret_generation(reference)).collect();
        if let Some(built) = self.transports.get(&plan.name)
            && Arc::ptr_eq(&built.plan, plan)
            && built.secrets == secrets
        {
            return Ok(Some((secrets, built.ready.clone())));
        }
        let Some(ready) = plan.transports(world.usable_secrets()) else { return Ok(None) };
        let ready = ready?;
        let built =
            BuiltTransports { plan: Arc::clone(plan), secrets: secrets.clone(), ready: ready.clone() };
        self.transports.insert(Arc::clone(&plan.name), built);
        Ok(Some((secrets, ready)))
    }

    /// Prepares a listener.
    pub(super) fn check_listener(
        &mut self,
        plan: &Arc<ListenerPlan>,
        world: &World,
    ) -> Result<(), Rejection> {
        match plan.prepare(world.usable_secrets()) {
            Some(Err(rejection)) => Err(rejection),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// Builds everything that is in use.
    pub(super) fn build(&mut self, world: &mut World) -> Arc<Runtime> {
        self.revision += 1;
        let mut runtime = Runtime { revision: self.revision, ..Runtime::default() };
        let plans: Vec<Arc<ClusterPlan>> = world
            .clusters
            .values()
            .filter_map(|slot| slot.active.as_ref().map(|held| Arc::clone(&held.value)))
            .collect();
        for plan in plans {
            if let Some(cluster) = self.cluster(&plan, world) {
                runtime.clusters.insert(Arc::clone(&plan.name), cluster);
            }
        }
        let plans: Vec<Arc<ListenerPlan>> = world
            .listeners
            .values()
            .filter_map(|slot| slot.active.as_ref().map(|held| Arc::clone(&held.value)))
            .collect();
        for plan in plans {
            if let Some(listener) = self.listener(&plan, world) {
                runtime.listeners.insert(Arc::clone(&plan.name), listener);
            }
        }
        for ((_, name), leaf) in &world.routes {
            if let Some(held) = &leaf.held {
                runtime.routes.insert(Arc::clone(name), Arc::clone(&held.value));
            }
        }
        let registry = &mut world.registry;
        self.clusters.retain(|name, built| {
            let stays = runtime.clusters.contains_key(name);
            if !stays {
                registry.hide(&Scope::cluster(&built.plan.stat_name));
            }
            stays
        });
        self.transports.retain(|name, _| runtime.clusters.contains_key(name));
        self.listeners.retain(|name, built| {
            let stays = runtime.listeners.contains_key(name);
            if !stays {
                registry.hide(&Scope::listener(&built.listener.stat_prefix));
            }
            stays
        });
        Arc::new(runtime)
    }

    fn cluster(&mut self, plan: &Arc<ClusterPlan>, world: &mut World) -> Option<Arc<Cluster>> {
        let endpoints = world.endpoints_of(plan).unwrap_or_default();
        let addresses = addresses(plan, &endpoints, world);
        let (secrets, transports) = match self.transports(plan, world) {
            Ok(Some(ready)) => ready,
            Ok(None) => return self.clusters.get(&plan.name).map(|built| Arc::clone(&built.cluster)),
            Err(rejection) => {
                // A new secret does not fit: the connections go on with the one before.
                tracing::error!(cluster = &*plan.name, %rejection, "the new secret cannot be used");
                return self.clusters.get(&plan.name).map(|built| Arc::clone(&built.cluster));
            }
        };
        let before = self.clusters.get(&plan.name);
        if let Some(built) = before
            && Arc::ptr_eq(&built.plan, plan)
            && Arc::ptr_eq(&built.endpoints, &endpoints)
            && built.secrets == secrets
            && built.addresses == addresses
        {
            return Some(Arc::clone(&built.cluster));
        }
        let same_endpoints = before.filter(|built| {
            Arc::ptr_eq(&built.plan, plan)
                && Arc::ptr_eq(&built.endpoints, &endpoints)
                && built.addresses == addresses
        });
        let list = match same_endpoints {
            Some(built) => Arc::clone(&built.cluster.endpoints),
            None => Arc::new(plan.endpoints(&endpoints, &|name, port| resolve(plan, world, name, port))),
        };
        let cluster = make(plan, list, transports, before.map(|built| &*built.cluster), &mut world.registry);
        let cluster = Arc::new(cluster);
        let built = BuiltCluster {
            plan: Arc::clone(plan),
            secrets,
            endpoints,
            addresses,
            cluster: Arc::clone(&cluster),
        };
        self.clusters.insert(Arc::clone(&plan.name), built);
        Some(cluster)
    }

    fn listener(&mut self, plan: &Arc<ListenerPlan>, world: &World) -> Option<Arc<Listener>> {
        let secrets: Vec<u64> = plan.secrets().map(|reference| world.secret_generation(reference)).collect();
        let before = self.listeners.get(&plan.name);
        if let Some(built) = before
            && Arc::ptr_eq(&built.plan, plan)
            && built.secrets == secrets
        {
            return Some(Arc::clone(&built.listener));
        }
        let before = before.map(|built| Arc::clone(&built.listener));
        match plan.prepare(world.usable_secrets()) {
            None => before,
            Some(Err(rejection)) => {
                tracing::error!(listener = &*plan.name, %rejection, "the new secret cannot be used");
                before
            }
            Some(Ok(listener)) => {
                let listener = Arc::new(listener);
                let built =
                    BuiltListener { plan: Arc::clone(plan), secrets, listener: Arc::clone(&listener) };
                self.listeners.insert(Arc::clone(&plan.name), built);
                Some(listener)
            }
        }
    }
}

fn resolve(plan: &ClusterPlan, world: &World, name: &Arc<str>, port: u16) -> Vec<SocketAddr> {
    match &plan.source {
        EndpointSource::Dns(dns) => {
            world.resolved(&dns.question(name, port)).map(<[_]>::to_vec).unwrap_or_default()
        }
        EndpointSource::Static(_) | EndpointSource::Eds(_) | EndpointSource::OnDemand(_) => Vec::new(),
    }
}

/// The addresses that names stand for now, to notice when they change.
fn addresses(plan: &ClusterPlan, endpoints: &EndpointsPlan, world: &World) -> Vec<SocketAddr> {
    let named = endpoints.list.iter().filter_map(|endpoint| match &endpoint.host {
        Host::Name(name, port) => Some((name, *port)),
        Host::Address(_) => None,
    });
    named.flat_map(|(name, port)| resolve(plan, world, name, port)).collect()
}

/// Circuit breakers and outlier state are carried on from the cluster before.
fn make(
    plan: &ClusterPlan,
    endpoints: Arc<Endpoints>,
    transports: Vec<Transport>,
    before: Option<&Cluster>,
    registry: &mut Registry,
) -> Cluster {
    let [default, high] = plan.thresholds;
    let breaker = |before: Option<&Arc<Breaker>>, thresholds| {
        Arc::new(match before {
            Some(before) => before.with_thresholds(thresholds),
            None => Breaker::new(thresholds),
        })
    };
    let hosts = endpoints.list.iter().map(|endpoint| endpoint.address);
    let outliers = match before {
        Some(before)
            if Arc::ptr_eq(&before.endpoints, &endpoints)
                && before.outliers.config() == plan.outlier.as_ref() =>
        {
            Arc::clone(&before.outliers)
        }
        Some(before) => Arc::new(before.outliers.rebuilt(plan.outlier.clone(), hosts)),
        None => Arc::new(Outliers::new(plan.outlier.clone(), hosts, Instant::now())),
    };
    Cluster {
        name: Arc::clone(&plan.name),
        stat_name: Arc::clone(&plan.stat_name),
        identity: plan.identity,
        discovery: plan.discovery(),
        connect_timeout: plan.connect_timeout,
        http: plan.http,
        balancing: BalanceOptions { policy: plan.balancing, panic_threshold: plan.panic_threshold },
        endpoints,
        transports,
        breaker: breaker(before.map(|cluster| &cluster.breaker), default),
        high_breaker: breaker(before.map(|cluster| &cluster.high_breaker), high),
        stats: ClusterStats::register(registry, &Scope::cluster(&plan.stat_name)),
        outliers,
        keepalive: plan.keepalive,
        buffer_limit: plan.buffer_limit,
        dns_cache: match &plan.source {
            EndpointSource::OnDemand(cache) => {
                let scope = Scope::plain("dns_cache").child(&cache.name);
                Some((Arc::clone(cache), DnsCacheStats::register(registry, &scope)))
            }
            EndpointSource::Static(_) | EndpointSource::Eds(_) | EndpointSource::Dns(_) => None,
        },
    }
}
