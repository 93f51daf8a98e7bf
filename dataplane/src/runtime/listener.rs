//! Listeners and their filter chains.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weft_routing::network::IpPrefix;
use weft_routing::rbac::NetworkRbac;

use super::{AccessLogs, DownstreamTls, HttpManager, RouteSource};
use crate::stats::{ListenerStats, RbacStats, TcpStats};

/// A listening address and the filter chains that connections to it are sorted into.
#[derive(Debug)]
pub struct Listener {
    /// The resource's name: what an update or a removal refers to.
    pub name: Arc<str>,
    /// The address to bind. Port 0 binds any free port (tests and static configurations).
    pub address: SocketAddr,
    /// Part of the statistics' name, `listener.PREFIX.…`; Envoy's default is the address with `_` for `:`.
    pub stat_prefix: Arc<str>,
    /// Where its statistics are counted.
    pub stats: ListenerStats,
    /// `bind_to_port: false` makes a listener that only a redirecting one hands connections to.
    pub binds: bool,
    /// What is read of a connection before its filter chain is chosen.
    pub inspection: Inspection,
    /// Chains in the order of the resource; the choice follows Envoy's precedence, not this order.
    pub filter_chains: Vec<Arc<FilterChain>>,
    /// The chain for connections that match none.
    pub default_filter_chain: Option<Arc<FilterChain>>,
    /// The listen backlog, when the resource gives one.
    pub backlog: Option<u32>,
    /// `traffic_direction`: decides request-id and drain defaults and shows in access logs.
    pub direction: TrafficDirection,
    /// Written when a connection ends, and for one that is not served at all.
    pub access_log: AccessLogs,
}

impl Listener {
    /// The route configurations that its connection managers name (RDS).
    pub fn route_configurations(&self) -> impl Iterator<Item = &Arc<str>> {
        let chains = self.filter_chains.iter().chain(&self.default_filter_chain);
        chains.filter_map(|chain| match &chain.terminal {
            Terminal::Http(manager) => match &manager.routes {
                RouteSource::Rds(name) => Some(name),
                RouteSource::Inline(_) => None,
            },
            Terminal::Tcp(_) => None,
        })
    }
}

/// `traffic_direction`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TrafficDirection {
    #[default]
    Unspecified,
    /// Traffic to the local application.
    Inbound,
    /// Traffic from the local application.
    Outbound,
}

/// Which listener filters run, and how long they may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// `tls_inspector`: read the ClientHello for SNI and ALPN. Without it no chain can match on them.
    pub tls: bool,
    /// `http_inspector`: tell HTTP/1 and h2 apart on plaintext connections.
    pub http: bool,
    /// `listener_filters_timeout`, 15 s by default. `None` waits for ever.
    pub timeout: Option<Duration>,
    /// `continue_on_listener_filters_timeout`.
    pub on_timeout: OnInspectionTimeout,
}

impl Default for Inspection {
    fn default() -> Self {
        Self {
            tls: false,
            http: false,
            timeout: Some(Duration::from_secs(15)),
            on_timeout: OnInspectionTimeout::Close,
        }
    }
}

/// What happens to a connection that says nothing until the inspection's timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInspectionTimeout {
    Close,
    /// Choose a chain by what is known without it.
    Continue,
}

/// One way of serving a connection: who it is for, how it is secured, and what ends it.
#[derive(Debug)]
pub struct FilterChain {
    /// The chain's name; empty where the resource has none.
    pub name: Arc<str>,
    /// Tells whether connections of an older chain may live on under this one. The control thread makes it
    /// from the name, the match, the transport socket's message (not the content of its secrets) and the
    /// kind of terminal filter. Equal identity: connections stay and use the new content from their next
    /// request on. An identity that is gone: its connections drain.
    pub identity: u64,
    /// What a connection must look like.
    pub matches: FilterChainMatch,
    /// TLS termination; `None` is plaintext.
    pub tls: Option<Arc<DownstreamTls>>,
    /// Filters that run once for each connection, before the terminal one.
    pub network_filters: Vec<NetworkFilter>,
    /// What serves the connection.
    pub terminal: Terminal,
    /// `transport_socket_connect_timeout`: how long a TLS handshake may take.
    pub handshake_timeout: Option<Duration>,
}

/// A network filter that decides on a connection and does not end it.
#[derive(Debug, Clone)]
pub enum NetworkFilter {
    /// `envoy.filters.network.rbac`.
    Rbac {
        rbac: Arc<NetworkRbac>,
        /// `STAT_PREFIX.rbac.*`.
        stats: RbacStats,
    },
}

/// The filter that ends a chain.
#[derive(Debug, Clone)]
pub enum Terminal {
    /// `http_connection_manager`.
    Http(Arc<HttpManager>),
    /// `tcp_proxy`.
    Tcp(Arc<TcpProxy>),
}

/// `FilterChainMatch`: every field that is given must match; among chains, Envoy's precedence decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilterChainMatch {
    /// The (original) destination port.
    pub destination_port: Option<u16>,
    /// The (original) destination address.
    pub prefix_ranges: Vec<IpPrefix>,
    /// SNI: exact names and `*.suffix`, in lower case.
    pub server_names: Vec<Arc<str>>,
    /// `raw_buffer` or `tls`.
    pub transport_protocol: Option<TransportProtocol>,
    /// ALPN values, for instance `h2`.
    pub application_protocols: Vec<Arc<str>>,
    /// The address that the TCP connection really comes from.
    pub direct_source_prefix_ranges: Vec<IpPrefix>,
    /// Local or external callers.
    pub source_type: SourceType,
    pub source_prefix_ranges: Vec<IpPrefix>,
    pub source_ports: Vec<u16>,
}

/// `transport_protocol` of a filter chain match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportProtocol {
    RawBuffer,
    /// The connection began with a ClientHello.
    Tls,
}

/// `source_type` of a filter chain match.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SourceType {
    #[default]
    Any,
    /// Loopback, or the same address on both sides.
    SameIpOrLoopback,
    /// Callers that are not of this machine.
    External,
}

/// `tcp_proxy`.
#[derive(Debug)]
pub struct TcpProxy {
    /// `tcp.PREFIX.…`.
    pub stat_prefix: Arc<str>,
    /// Where its statistics are counted.
    pub stats: TcpStats,
    pub target: TcpTarget,
    /// `idle_timeout`, 1 h by default; `None` is off.
    pub idle_timeout: Option<Duration>,
    /// `hash_policy`: whether the caller's address is hashed.
    pub hash_source: bool,
    /// `max_connect_attempts`, 1 by default.
    pub connect_attempts: u32,
    /// `max_downstream_connection_duration`.
    pub max_duration: Option<Duration>,
    /// Written when a connection ends.
    pub access_log: AccessLogs,
}

/// The clusters that a TCP proxy sends connections to.
#[derive(Debug, Clone)]
pub enum TcpTarget {
    Cluster(Arc<str>),
    /// One of several, in proportion to their weights; the sum of the weights is not zero.
    Weighted(Vec<TcpClusterWeight>),
}

/// A cluster and its share.
#[derive(Debug, Clone)]
pub struct TcpClusterWeight {
    pub name: Arc<str>,
    /// Its share of the sum of all weights.
    pub weight: u32,
}
