//! From what is in use to the runtime. What did not change is taken over from the runtime before, by pointer: the
//! workers see at once what they need not touch, and a change costs what it affects.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use weft_routing::rejection::Rejection;
use weft_routing::route::Overlap;

use super::dependencies::Dependent;
use super::resource::ChildKey;
use super::world::World;
use crate::breaker::Breaker;
use crate::decode::{ClusterPlan, EndpointHost, EndpointSource, EndpointsPlan, ListenerPlan};
use crate::outlier::Outliers;
use crate::route::RouteConfig;
use crate::runtime::{Cluster, Endpoints, Listener, Runtime, Shared, Transport};
use crate::stats::{ClusterStats, DnsCacheStats, StatsRegistry, StatsScope};

/// Remembers what was built last.
#[derive(Debug, Default)]
pub(super) struct RuntimeBuilder {
    /// What the workers were given last.
    runtime: Runtime,
    clusters: HashMap<Arc<str>, BuiltCluster>,
    transports: HashMap<Arc<str>, BuiltTransports>,
    listeners: HashMap<Arc<str>, BuiltListener>,
    /// Listeners that were prepared when they were checked and are not in use yet.
    checked: HashMap<Arc<str>, BuiltListener>,
}

/// A new runtime, with what of it is not as in the one before.
#[derive(Debug)]
pub(super) struct BuiltRuntime {
    pub(super) runtime: Arc<Runtime>,
    /// Clusters that are new, changed, or gone.
    pub(super) clusters: Vec<Arc<str>>,
    /// Listeners that are new, changed, or gone.
    pub(super) listeners: Vec<Arc<str>>,
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

impl BuiltListener {
    fn is_of(&self, plan: &Arc<ListenerPlan>, secrets: &[u64]) -> bool {
        Arc::ptr_eq(&self.plan, plan) && self.secrets == secrets
    }
}

impl RuntimeBuilder {
    /// Prepares what is on its way with its secrets; where they are missing, it is prepared later.
    pub(super) fn check(&mut self, dependent: &Dependent, world: &World) -> Result<(), Rejection> {
        match dependent {
            Dependent::Cluster(name) => match world.clusters.warming(name) {
                Some((plan, _)) => self.transports(&plan, world).map(|_| ()),
                None => Ok(()),
            },
            Dependent::Listener(name) => match world.listeners.warming(name) {
                Some((plan, _)) => {
                    let built = prepare(&plan, world).transpose()?;
                    self.checked.extend(built.map(|built| (Arc::clone(name), built)));
                    Ok(())
                }
                None => Ok(()),
            },
        }
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

    /// Builds what changed since the last time, and takes over the rest.
    pub(super) fn build(&mut self, world: &mut World) -> BuiltRuntime {
        let stale = std::mem::take(&mut world.stale);
        let before = self.runtime.clone();
        let (mut clusters, mut listeners) = (Vec::new(), Vec::new());
        for dependent in stale.dependents {
            match dependent {
                Dependent::Cluster(name) => clusters.extend(self.build_cluster(name, world)),
                Dependent::Listener(name) => listeners.extend(self.build_listener(name, world)),
            }
        }
        for key in stale.routes {
            self.build_route(&key, world);
        }
        self.runtime.gather_revocations(&before);
        self.runtime.revision += 1;
        BuiltRuntime { runtime: Arc::new(self.runtime.clone()), clusters, listeners }
    }

    fn build_route(&mut self, key: &ChildKey, world: &World) {
        let own = world.routes.get_key_value(key);
        // Another source may have one of that name.
        let others = world.routes.iter().filter(|((_, name), _)| *name == key.1);
        let found =
            own.into_iter().chain(others).find_map(|(key, child)| Some((key, child.accepted.as_ref()?)));
        match found {
            // The one before serves until the virtual hosts of this one are there.
            Some((key, _)) if world.virtual_hosts.keeps_waiting(key) => {}
            Some((_, accepted)) => {
                let config = self.routes(&key.1, &accepted.value, world);
                self.runtime.routes.insert(Arc::clone(&key.1), config.into());
            }
            None => drop(self.runtime.routes.remove(&key.1)),
        }
    }

    /// A route configuration with the virtual hosts that came by themselves.
    fn routes(&self, name: &str, config: &Arc<RouteConfig>, world: &World) -> Arc<RouteConfig> {
        if config.vhds.is_none() {
            return Arc::clone(config);
        }
        let hosts = world.virtual_hosts.of(name).map(|accepted| Arc::clone(&accepted.value));
        let whole = config.with_hosts(hosts);
        let before = self.runtime.routes.get(name);
        let told: HashSet<&Overlap> = before.into_iter().flat_map(|before| before.overlaps()).collect();
        for overlap in whole.overlaps().iter().filter(|overlap| !told.contains(overlap)) {
            let Overlap { domain, host, holder } = overlap;
            tracing::warn!(
                event = "domain_taken",
                routes = name, %domain, %host, %holder,
                "the domain belongs to another virtual host"
            );
        }
        Arc::new(whole)
    }

    /// Builds a cluster, or lets it go; answers its name where something changed.
    fn build_cluster(&mut self, name: Arc<str>, world: &mut World) -> Option<Arc<str>> {
        let plan = world.clusters.active(&name);
        match plan.and_then(|plan| self.cluster(&plan, world)) {
            Some(cluster) => {
                let cluster = Shared::from(cluster);
                let before = self.runtime.clusters.insert(Arc::clone(&name), cluster.clone());
                (before != Some(cluster)).then_some(name)
            }
            None => {
                self.transports.remove(&name);
                let built = self.clusters.remove(&name)?;
                world.registry.hide(&StatsScope::cluster(&built.plan.stat_name));
                self.runtime.clusters.remove(&name).map(|_| name)
            }
        }
    }

    /// The same of a listener.
    fn build_listener(&mut self, name: Arc<str>, world: &mut World) -> Option<Arc<str>> {
        let plan = world.listeners.active(&name);
        match plan.and_then(|plan| self.listener(&plan, world)) {
            Some(listener) => {
                let listener = Shared::from(listener);
                let before = self.runtime.listeners.insert(Arc::clone(&name), listener.clone());
                (before != Some(listener)).then_some(name)
            }
            None => {
                self.checked.remove(&name);
                let built = self.listeners.remove(&name)?;
                world.registry.hide(&StatsScope::listener(&built.listener.stat_prefix));
                self.runtime.listeners.remove(&name).map(|_| name)
            }
        }
    }

    fn cluster(&mut self, plan: &Arc<ClusterPlan>, world: &mut World) -> Option<Arc<Cluster>> {
        let endpoints = world.endpoints_of(plan).unwrap_or_default();
        let addresses = addresses(plan, &endpoints, world);
        let (secrets, transports) = match self.transports(plan, world) {
            Ok(Some(ready)) => ready,
            Ok(None) => return self.clusters.get(&plan.name).map(|built| Arc::clone(&built.cluster)),
            Err(rejection) => {
                // A new secret does not fit: the connections go on with the one before.
                tracing::error!(
                    event = "secret_unusable",
                    cluster = &*plan.name, %rejection,
                    "the new secret cannot be used"
                );
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
        let secrets = generations(plan, world);
        let before = self.listeners.get(&plan.name);
        if let Some(built) = before.filter(|built| built.is_of(plan, &secrets)) {
            return Some(Arc::clone(&built.listener));
        }
        let before = before.map(|built| Arc::clone(&built.listener));
        let checked = self.checked.remove(&plan.name).filter(|built| built.is_of(plan, &secrets));
        match checked.map(Ok).or_else(|| prepare(plan, world)) {
            None => before,
            Some(Err(rejection)) => {
                tracing::error!(
                    event = "secret_unusable",
                    listener = &*plan.name, %rejection,
                    "the new secret cannot be used"
                );
                before
            }
            Some(Ok(built)) => {
                let listener = Arc::clone(&built.listener);
                self.listeners.insert(Arc::clone(&plan.name), built);
                Some(listener)
            }
        }
    }
}

fn generations(plan: &ListenerPlan, world: &World) -> Vec<u64> {
    plan.secrets().map(|reference| world.secret_generation(reference)).collect()
}

/// A listener with its secrets, `None` while one is missing.
fn prepare(plan: &Arc<ListenerPlan>, world: &World) -> Option<Result<BuiltListener, Rejection>> {
    let prepared = plan.prepare(world.usable_secrets())?;
    Some(prepared.map(|listener| BuiltListener {
        plan: Arc::clone(plan),
        secrets: generations(plan, world),
        listener: Arc::new(listener),
    }))
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
        EndpointHost::Name(name, port) => Some((name, *port)),
        EndpointHost::Address(_) => None,
    });
    named.flat_map(|(name, port)| resolve(plan, world, name, port)).collect()
}

/// Circuit breakers and outlier state are carried on from the cluster before.
fn make(
    plan: &ClusterPlan,
    endpoints: Arc<Endpoints>,
    transports: Vec<Transport>,
    before: Option<&Cluster>,
    registry: &mut StatsRegistry,
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
        balancing: plan.balancing,
        endpoints,
        transports,
        breaker: breaker(before.map(|cluster| &cluster.breaker), default),
        high_breaker: breaker(before.map(|cluster| &cluster.high_breaker), high),
        stats: ClusterStats::register(registry, &StatsScope::cluster(&plan.stat_name)),
        outliers,
        keepalive: plan.keepalive,
        buffer_limit: plan.buffer_limit,
        dns_cache: match &plan.source {
            EndpointSource::OnDemand(cache) => {
                let scope = StatsScope::plain("dns_cache").child(&cache.name);
                Some((Arc::clone(cache), DnsCacheStats::register(registry, &scope)))
            }
            EndpointSource::Static(_) | EndpointSource::Eds(_) | EndpointSource::Dns(_) => None,
        },
    }
}
