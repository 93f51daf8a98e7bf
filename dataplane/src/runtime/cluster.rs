//! Clusters and their endpoints.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_routing::network::IpPrefix;

use super::{Http2Options, UpstreamTls};
use crate::balance::BalanceOptions;
use crate::breaker::Breaker;
use crate::dns::LookupFamily;
use crate::outlier::Outliers;
use crate::stats::{ClusterStats, DnsCacheStats};

/// A set of equal endpoints and how they are spoken to.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub name: Arc<str>,
    /// `alt_stat_name`, else the name.
    pub stat_name: Arc<str>,
    /// A hash of the resource without its endpoints and without the content of secrets. Where it changes,
    /// pooled connections are not used for new requests; those under way finish.
    pub identity: u64,
    /// How endpoints are found: the engine does not care, dumps do.
    pub discovery: EndpointDiscovery,
    /// `connect_timeout`, 5 s by default. It covers the TLS handshake.
    pub connect_timeout: Duration,
    /// Which protocol is spoken to the endpoints.
    pub http: UpstreamHttp,
    /// Who gets the next request.
    pub balancing: BalanceOptions,
    /// The endpoints. Equal by pointer from one `Runtime` to the next where nothing changed.
    pub endpoints: Arc<Endpoints>,
    /// Transport sockets that endpoints refer to by index; the first is the cluster's own.
    pub transports: Vec<Transport>,
    /// Limits of requests of default priority. They hold for the whole process: a rebuilt cluster of the same
    /// name carries on the same use (`Breaker::with_thresholds`).
    pub breaker: Arc<Breaker>,
    /// Limits of requests on routes of high priority.
    pub high_breaker: Arc<Breaker>,
    /// Where its statistics are counted.
    pub stats: ClusterStats,
    /// Outlier detection's state, process-wide, with the endpoints in the order of the list; a rebuilt cluster
    /// carries it on (`Outliers::rebuilt`).
    pub outliers: Arc<Outliers>,
    /// `upstream_connection_options.tcp_keepalive`.
    pub keepalive: Option<TcpKeepalive>,
    /// `per_connection_buffer_limit_bytes`, 1 MiB by default: also bounds what is kept for a retry.
    pub buffer_limit: usize,
    /// Where requests name the hosts: how these are looked up, and where that is counted.
    pub dns_cache: Option<(Arc<DnsCache>, DnsCacheStats)>,
}

impl Cluster {
    /// The same cluster with these addresses as its endpoints. Limits are shared with it.
    #[must_use]
    pub fn with_addresses(&self, addresses: &[SocketAddr]) -> Self {
        let list = addresses.iter().copied().map(Endpoint::at).collect();
        Self {
            endpoints: Arc::new(Endpoints { list, overprovisioning: 0 }),
            outliers: Arc::new(Outliers::new(None, addresses.iter().copied(), Instant::now())),
            dns_cache: None,
            ..self.clone()
        }
    }
}

/// How a cluster's endpoints are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointDiscovery {
    Static,
    /// By EDS.
    Eds,
    /// By DNS, each address an endpoint.
    StrictDns,
    /// By DNS, the first address at the time.
    LogicalDns,
    /// By DNS, when a request names a host (`envoy.clusters.dynamic_forward_proxy`).
    OnDemand,
}

/// How hosts are looked up that only requests name: `DnsCacheConfig`.
#[derive(Debug, PartialEq, Eq)]
pub struct DnsCache {
    /// Its name, for statistics.
    pub name: Arc<str>,
    /// `dns_lookup_family`.
    pub family: LookupFamily,
    /// `dns_refresh_rate`, 60 s by default: how long an answer is taken for granted.
    pub refresh: Duration,
    /// `host_ttl`, 5 minutes by default: a host that nobody asked for so long makes room for others.
    pub host_ttl: Duration,
    /// `dns_query_timeout`, 5 s by default.
    pub query_timeout: Duration,
    /// `max_hosts`, 1,024 by default; of each worker.
    pub max_hosts: usize,
    /// `max_pending_requests` of its circuit breaker, 1,024 by default: how many requests wait for an answer at once;
    /// of each worker.
    pub max_pending: usize,
    /// `resolved_address_filter`: addresses that count as if the name did not have them.
    pub denied: Vec<IpPrefix>,
}

impl DnsCache {
    /// The port of a host that is named without one: these clusters speak plain text.
    pub const DEFAULT_PORT: u16 = 80;
}

/// HTTP towards the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamHttp {
    pub protocol: UpstreamProtocol,
    pub http2: Http2Options,
    /// `common_http_protocol_options.idle_timeout`, 1 h: how long an unused connection is kept.
    pub idle_timeout: Option<Duration>,
    /// `max_requests_per_connection`.
    pub requests_per_connection: Option<u32>,
    /// `max_connection_duration`.
    pub max_connection: Option<Duration>,
}

impl Default for UpstreamHttp {
    fn default() -> Self {
        Self {
            protocol: UpstreamProtocol::Http1,
            http2: Http2Options::default(),
            idle_timeout: Some(Duration::from_secs(3600)),
            requests_per_connection: None,
            max_connection: None,
        }
    }
}

/// Which HTTP is spoken to the endpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, by prior knowledge or ALPN.
    Http2,
    /// What the caller speaks (`use_downstream_protocol_config`).
    Downstream,
    /// What ALPN picks (`auto_config`); HTTP/1.1 without TLS.
    Auto,
}

#[derive(Debug, Clone)]
pub enum Transport {
    /// `raw_buffer`.
    Plaintext,
    /// `tls`.
    Tls(Arc<UpstreamTls>),
}

impl Transport {
    /// The TLS context, where there is one.
    pub fn tls(&self) -> Option<&Arc<UpstreamTls>> {
        match self {
            Self::Plaintext => None,
            Self::Tls(tls) => Some(tls),
        }
    }
}

/// `tcp_keepalive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// Idle time before the first probe.
    pub time: Option<Duration>,
    pub interval: Option<Duration>,
    /// Probes before the connection is given up.
    pub probes: Option<u32>,
}

/// A cluster's endpoints with what belongs to them as a set.
#[derive(Debug, Default)]
pub struct Endpoints {
    /// All endpoints, whatever their health, in the order of the resource.
    pub list: Vec<Endpoint>,
    /// `overprovisioning_factor` in percent, 140 by default; 0 stands for the default.
    pub overprovisioning: u32,
}

/// An endpoint with a known address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// `hostname`, for `auto_host_rewrite`; for DNS clusters the name that was resolved.
    pub hostname: Option<Arc<str>>,
    /// `load_balancing_weight`, at least 1.
    pub weight: u32,
    /// What the control plane says of its health.
    pub health: Health,
    /// 0 is the highest priority.
    pub priority: u32,
    pub locality: Arc<Locality>,
    /// `load_balancing_weight` of its locality, 0 where it has none.
    pub locality_weight: u32,
    /// What a hash finds it by, where that is not its address (`hash_key` of `envoy.lb`, or the host's name).
    pub hash_key: Option<Arc<str>>,
    /// Index into [`Cluster::transports`], resolved from `transport_socket_matches`.
    pub transport: usize,
}

impl Endpoint {
    /// A healthy endpoint of weight 1 and highest priority that speaks by the cluster's own transport socket.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address,
            hostname: None,
            weight: 1,
            health: Health::Healthy,
            priority: 0,
            locality: Arc::default(),
            locality_weight: 0,
            hash_key: None,
            transport: 0,
        }
    }
}

/// `HealthStatus` of an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Health {
    /// Usable (`UNKNOWN` and `HEALTHY`).
    #[default]
    Healthy,
    /// Used where healthy ones are too few.
    Degraded,
    /// Gets nothing new; connections under way go on (`DRAINING`).
    Draining,
    /// Not used (`UNHEALTHY` and `TIMEOUT`).
    Unhealthy,
}

/// Region, zone and sub-zone.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    pub region: String,
    pub zone: String,
    pub sub_zone: String,
}
