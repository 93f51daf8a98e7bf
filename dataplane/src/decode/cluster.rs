//! `Cluster`: everything about it but its endpoints and secrets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CustomClusterType, DiscoveryType, TransportSocketMatch,
};
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::ClusterConfig;
use envoy_types::pb::google::protobuf::{Struct, Value};
use weft_routing::rejection::{Notes, Rejection, Within as _, refuse};

use super::balancing;
use super::endpoints::EndpointsPlan;
use super::fields::{self, EndpointHost, number};
use super::identity::IdentityHash;
use super::tls::{self, KnownSecrets, Socket, UpstreamPlan};
use super::{ResourceReference, dns_cache, outlier, protocol};
use crate::balance::BalanceOptions;
use crate::breaker::Thresholds;
use crate::dns::{Lookup, LookupFamily};
use crate::outlier::OutlierDetection;
use crate::runtime::{
    DnsCache, Endpoint, EndpointDiscovery, Endpoints, TcpKeepalive, Transport, UpstreamHttp,
};

/// A cluster as its resource says it.
#[derive(Debug, Clone)]
pub struct ClusterPlan {
    pub name: Arc<str>,
    /// `alt_stat_name`, else the name.
    pub stat_name: Arc<str>,
    /// See [`crate::runtime::Cluster::identity`].
    pub identity: u64,
    /// Where its endpoints come from.
    pub source: EndpointSource,
    /// `connect_timeout`.
    pub connect_timeout: Duration,
    /// How HTTP is spoken to it.
    pub http: UpstreamHttp,
    /// Who gets the next request.
    pub balancing: BalanceOptions,
    /// Limits for default and for high priority.
    pub thresholds: [Thresholds; 2],
    /// `None` is off.
    pub outlier: Option<OutlierDetection>,
    /// Probes of idle connections.
    pub keepalive: Option<TcpKeepalive>,
    /// In bytes.
    pub buffer_limit: usize,
    /// Whether a hash finds endpoints by the names of their hosts.
    hash_by_hostname: bool,
    sockets: Vec<MatchedSocket>,
}

/// A transport socket, with what an endpoint's metadata must say; the cluster's own asks for nothing.
type MatchedSocket = (Option<Struct>, Socket<UpstreamPlan>);

/// Where a cluster's endpoints come from.
#[derive(Debug, Clone)]
pub enum EndpointSource {
    Static(Arc<EndpointsPlan>),
    /// EDS.
    Eds(ResourceReference),
    /// The names in the resource, to be resolved.
    Dns(DnsPlan),
    /// The hosts that requests name, when they name them.
    OnDemand(Arc<DnsCache>),
}

/// How a DNS cluster is resolved.
#[derive(Debug, Clone)]
pub struct DnsPlan {
    pub endpoints: Arc<EndpointsPlan>,
    /// Whether only the first address counts.
    pub logical: bool,
    /// `dns_refresh_rate`.
    pub refresh: Duration,
    /// `dns_lookup_family`.
    pub family: LookupFamily,
}

impl DnsPlan {
    /// The names to look up.
    pub fn questions(&self) -> impl Iterator<Item = Lookup> {
        self.endpoints.list.iter().filter_map(|endpoint| match &endpoint.host {
            EndpointHost::Name(name, port) => Some(self.question(name, *port)),
            EndpointHost::Address(_) => None,
        })
    }

    /// The question that a name stands for in this cluster.
    #[must_use]
    pub fn question(&self, name: &Arc<str>, port: u16) -> Lookup {
        Lookup {
            name: Arc::clone(name),
            port,
            family: self.family,
            logical: self.logical,
            refresh: self.refresh,
        }
    }
}

impl ClusterPlan {
    /// Reads a cluster.
    ///
    /// # Errors
    /// When a field is wrong or not supported; the rejection names it.
    pub fn decode(resource: &Cluster, notes: &mut Notes) -> Result<Self, Rejection> {
        if resource.name.is_empty() {
            return Err(Rejection::new("name", "must not be empty"));
        }
        unsupported(resource, notes)?;
        let connect = fields::duration(resource.connect_timeout.as_ref(), "connect_timeout")?;
        if connect == Some(Duration::ZERO) {
            return Err(Rejection::new("connect_timeout", "must be greater than 0"));
        }
        let balancing = balancing::decode(resource, notes)?;
        let alt = resource.alt_stat_name.as_str();
        Ok(Self {
            name: resource.name.as_str().into(),
            stat_name: if alt.is_empty() { resource.name.as_str() } else { alt }.into(),
            identity: identity(resource),
            source: source(resource, notes)?,
            connect_timeout: connect.unwrap_or(Duration::from_secs(5)),
            http: protocol::upstream(resource, notes)?,
            balancing: balancing.options,
            hash_by_hostname: balancing.hash_by_hostname,
            thresholds: balancing::thresholds(resource.circuit_breakers.as_ref(), notes)?,
            outlier: outlier::outlier(resource.outlier_detection.as_ref())?,
            keepalive: resource
                .upstream_connection_options
                .as_ref()
                .and_then(|options| options.tcp_keepalive.as_ref())
                .map(|keepalive| TcpKeepalive {
                    time: number(keepalive.keepalive_time.as_ref()).map(seconds),
                    interval: number(keepalive.keepalive_interval.as_ref()).map(seconds),
                    probes: number(keepalive.keepalive_probes.as_ref()),
                }),
            buffer_limit: number(resource.per_connection_buffer_limit_bytes.as_ref()).unwrap_or(1 << 20)
                as usize,
            sockets: sockets(resource, notes)?,
        })
    }

    /// How endpoints are found.
    #[must_use]
    pub fn discovery(&self) -> EndpointDiscovery {
        match &self.source {
            EndpointSource::Static(_) => EndpointDiscovery::Static,
            EndpointSource::Eds(_) => EndpointDiscovery::Eds,
            EndpointSource::Dns(dns) if dns.logical => EndpointDiscovery::LogicalDns,
            EndpointSource::Dns(_) => EndpointDiscovery::StrictDns,
            EndpointSource::OnDemand(_) => EndpointDiscovery::OnDemand,
        }
    }

    /// The secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &ResourceReference> {
        self.sockets
            .iter()
            .flat_map(|(_, socket)| match socket {
                Socket::Plaintext => None,
                Socket::Tls(plan) => Some(plan.references()),
            })
            .flatten()
    }

    /// The prepared transport sockets, `None` while a secret is missing.
    #[must_use]
    pub fn transports(&self, secrets: &KnownSecrets) -> Option<Result<Vec<Transport>, Rejection>> {
        let mut ready = Vec::with_capacity(self.sockets.len());
        for (_, socket) in &self.sockets {
            ready.push(match socket {
                Socket::Plaintext => Transport::Plaintext,
                Socket::Tls(plan) => match plan.prepare(secrets)? {
                    Ok(tls) => Transport::Tls(Arc::new(tls)),
                    Err(rejection) => return Some(Err(rejection)),
                },
            });
        }
        Some(Ok(ready))
    }

    /// Endpoints with their transport sockets chosen. `resolve` gives the addresses of a name; one without an
    /// address gives no endpoint.
    #[must_use]
    pub fn endpoints(
        &self,
        plan: &EndpointsPlan,
        resolve: &dyn Fn(&Arc<str>, u16) -> Vec<SocketAddr>,
    ) -> Endpoints {
        let mut list = Vec::with_capacity(plan.list.len());
        for endpoint in &plan.list {
            let (addresses, name) = match &endpoint.host {
                EndpointHost::Address(address) => (vec![*address], None),
                EndpointHost::Name(name, port) => (resolve(name, *port), Some(name.clone())),
            };
            let transport = self.transport_for(endpoint.socket_match.as_ref());
            let hostname = endpoint.hostname.clone().or(name);
            let by_name = hostname.clone().filter(|_| self.hash_by_hostname);
            list.extend(addresses.into_iter().map(|address| Endpoint {
                address,
                hostname: hostname.clone(),
                hash_key: endpoint.hash_key.clone().or_else(|| by_name.clone()),
                weight: endpoint.weight,
                health: endpoint.health,
                priority: endpoint.priority,
                locality: Arc::clone(&endpoint.locality),
                locality_weight: endpoint.locality_weight,
                transport,
            }));
        }
        Endpoints { list, overprovisioning: plan.overprovisioning }
    }

    /// The first match whose criteria the endpoint's metadata fulfils; the cluster's own socket otherwise.
    fn transport_for(&self, metadata: Option<&Struct>) -> usize {
        let fulfils = |criteria: &Struct| {
            criteria.fields.iter().all(|(key, wanted)| {
                metadata.and_then(|given| given.fields.get(key)).is_some_and(|given| given == wanted)
            })
        };
        self.sockets.iter().position(|(criteria, _)| criteria.as_ref().is_some_and(fulfils)).unwrap_or(0)
    }
}

fn seconds(value: u32) -> Duration {
    Duration::from_secs(value.into())
}

fn unsupported(resource: &Cluster, notes: &mut Notes) -> Result<(), Rejection> {
    refuse(&resource.transport_socket_matcher, "transport_socket_matcher")?;
    refuse(&resource.lb_subset_config, "lb_subset_config")?;
    refuse(&resource.health_checks, "health_checks")?;
    refuse(&resource.upstream_bind_config, "upstream_bind_config")?;
    refuse(&resource.filters, "filters")?;
    refuse(&resource.upstream_config, "upstream_config")?;
    refuse(&resource.lrs_server, "lrs_server")?;
    refuse(resource.connection_pool_per_downstream_connection, "connection_pool_per_downstream_connection")?;
    refuse(&resource.dns_resolvers, "dns_resolvers")?;
    if let Some(common) = &resource.common_lb_config {
        let at = "common_lb_config";
        refuse(common.close_connections_on_host_set_change, "close_connections_on_host_set_change")
            .within(|| at)?;
        refuse(&common.override_host_status, "override_host_status").within(|| at)?;
        notes.ignored(&common.update_merge_window, "common_lb_config.update_merge_window");
        notes.ignored(
            common.ignore_new_hosts_until_first_hc,
            "common_lb_config.ignore_new_hosts_until_first_hc",
        );
    }
    if let Some(options) = &resource.upstream_connection_options {
        notes.ignored(&options.happy_eyeballs_config, "upstream_connection_options.happy_eyeballs_config");
    }
    notes.ignored(&resource.stats_matcher, "stats_matcher");
    notes.ignored(&resource.metadata, "metadata");
    notes.ignored(&resource.cleanup_interval, "cleanup_interval");
    notes.ignored(&resource.dns_jitter, "dns_jitter");
    notes.ignored(&resource.dns_failure_refresh_rate, "dns_failure_refresh_rate");
    notes.ignored(resource.respect_dns_ttl, "respect_dns_ttl");
    notes.ignored(resource.use_tcp_for_dns_lookups, "use_tcp_for_dns_lookups");
    notes.ignored(&resource.dns_resolution_config, "dns_resolution_config");
    notes.ignored(&resource.typed_dns_resolver_config, "typed_dns_resolver_config");
    notes.ignored(&resource.wait_for_warm_on_init, "wait_for_warm_on_init");
    notes.ignored(&resource.preconnect_policy, "preconnect_policy");
    notes.ignored(resource.track_timeout_budgets, "track_timeout_budgets");
    notes.ignored(&resource.track_cluster_stats, "track_cluster_stats");
    notes.ignored(&resource.lrs_report_endpoint_metrics, "lrs_report_endpoint_metrics");
    notes.ignored(
        resource.close_connections_on_host_health_failure,
        "close_connections_on_host_health_failure",
    );
    notes.ignored(resource.ignore_health_on_host_removal, "ignore_health_on_host_removal");
    notes.ignored(
        &resource.per_connection_buffer_high_watermark_timeout,
        "per_connection_buffer_high_watermark_timeout",
    );
    notes.ignored(&resource.queuing_policies, "queuing_policies");
    Ok(())
}

fn source(resource: &Cluster, notes: &mut Notes) -> Result<EndpointSource, Rejection> {
    let kind = match &resource.cluster_discovery_type {
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::Type(kind)) => {
            DiscoveryType::try_from(*kind).map_err(|_| Rejection::new("type", "unknown value"))?
        }
        Some(ClusterDiscoveryType::ClusterType(custom)) => return custom_source(resource, custom, notes),
    };
    if kind == DiscoveryType::OriginalDst {
        return Err(Rejection::unsupported("type ORIGINAL_DST"));
    }
    if kind == DiscoveryType::Eds {
        let config = resource.eds_cluster_config.as_ref();
        let name = config.map_or("", |config| config.service_name.as_str());
        let name = if name.is_empty() { &resource.name } else { name };
        let config = config.and_then(|config| config.eds_config.as_ref());
        return ResourceReference::decode(name, config, "eds_cluster_config.eds_config")
            .map(EndpointSource::Eds);
    }
    let assignment = resource.load_assignment.clone().unwrap_or_default();
    let endpoints = Arc::new(EndpointsPlan::decode(&assignment, notes).within(|| "load_assignment")?);
    if kind == DiscoveryType::Static {
        if let Some(named) = endpoints.list.iter().find(|one| matches!(one.host, EndpointHost::Name(..))) {
            let reason = format!("{:?} is not an IP address; use STRICT_DNS for names", named.host);
            return Err(Rejection::new("load_assignment", reason));
        }
        return Ok(EndpointSource::Static(endpoints));
    }
    let logical = kind == DiscoveryType::LogicalDns;
    if logical && endpoints.list.len() != 1 {
        return Err(Rejection::new("load_assignment", "LOGICAL_DNS takes exactly one endpoint"));
    }
    let refresh = fields::duration(resource.dns_refresh_rate.as_ref(), "dns_refresh_rate")?;
    let family = dns_cache::lookup_family(resource.dns_lookup_family)?;
    let refresh = refresh.unwrap_or(Duration::from_secs(5)).max(Duration::from_millis(1));
    Ok(EndpointSource::Dns(DnsPlan { endpoints, logical, refresh, family }))
}

/// Reads a cluster whose type is an extension.
fn custom_source(
    resource: &Cluster,
    custom: &CustomClusterType,
    notes: &mut Notes,
) -> Result<EndpointSource, Rejection> {
    let at = || "cluster_type.typed_config";
    match &custom.typed_config {
        Some(config) if fields::holds::<ClusterConfig>(config) => {
            // Names of servers and whom to trust would have to follow the host of each request.
            refuse(resource.transport_socket.is_some(), "transport_socket of a dynamic forward proxy")?;
            let config: ClusterConfig = fields::unpack(config, at())?;
            let cache = dns_cache::of_cluster(&config, notes).within(at)?;
            Ok(EndpointSource::OnDemand(Arc::new(cache)))
        }
        config => Err(fields::unknown_extension(&custom.name, config.as_ref(), "cluster_type")),
    }
}

fn sockets(resource: &Cluster, notes: &mut Notes) -> Result<Vec<MatchedSocket>, Rejection> {
    let own = tls::upstream(resource.transport_socket.as_ref(), notes).within(|| "transport_socket")?;
    let mut all = vec![(None, own)];
    for (index, entry) in resource.transport_socket_matches.iter().enumerate() {
        let at = || format!("transport_socket_matches[{index}].transport_socket");
        let socket = tls::upstream(entry.transport_socket.as_ref(), notes).within(at)?;
        all.push((Some(entry.r#match.clone().unwrap_or_default()), socket));
    }
    Ok(all)
}

/// What a pooled connection depends on.
fn identity(resource: &Cluster) -> u64 {
    let mut identity = IdentityHash::new();
    identity.message(resource.transport_socket.as_ref());
    for entry in &resource.transport_socket_matches {
        let TransportSocketMatch { name, r#match, transport_socket } = entry;
        identity.part(name.as_bytes());
        identity.part(canonical(r#match.as_ref()).as_bytes());
        identity.message(transport_socket.as_ref());
    }
    // The map has no order of its own.
    let mut options: Vec<_> = resource.typed_extension_protocol_options.iter().collect();
    options.sort_by_key(|(name, _)| name.as_str());
    for (name, any) in options {
        identity.part(name.as_bytes());
        identity.part(&any.value);
    }
    identity.message(resource.http2_protocol_options.as_ref());
    identity.message(resource.common_http_protocol_options.as_ref());
    identity.message(resource.upstream_connection_options.as_ref());
    identity.part(&resource.protocol_selection.to_le_bytes());
    identity.finish()
}

/// A struct as text with its keys in order.
fn canonical(given: Option<&Struct>) -> String {
    let Some(given) = given else { return String::new() };
    let mut keys: Vec<(&String, &Value)> = given.fields.iter().collect();
    keys.sort_by_key(|(key, _)| key.as_str());
    keys.iter().map(|(key, value)| format!("{key}={value:?};")).collect()
}
