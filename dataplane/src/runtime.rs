//! What the proxy does, as immutable data: the result of decoding and preparing Envoy's resources.
//!
//! A [`Runtime`] is built on the control thread and swapped whole into each worker. Nothing in it changes
//! after that; what has to live across swaps (circuit breakers, outlier state) is held by reference to the
//! same process-wide object from one `Runtime` to the next.
//!
//! ```text
//! Runtime
//!   listeners: name -> Listener -> FilterChain -> HttpManager | TcpProxy
//!   routes:    name -> RouteConfig            (RDS; an inline one sits in its HttpManager)
//!   clusters:  name -> Cluster -> Endpoints -> Endpoint
//! ```
//!
//! What it deliberately does not do: no I/O, no names of secrets. A secret has become a prepared TLS
//! configuration by the time that it is here; a new secret makes a new [`DownstreamTls`] or [`UpstreamTls`]
//! under the same [`FilterChain::identity`] or [`Cluster::identity`], so that no connection is cut.

mod cluster;
mod http;
mod listener;
mod local_reply;
mod log;
mod revocation;
mod revocation_list_set;
mod san;
mod shared;
mod tls;
mod tls_error;
mod verify;

use std::sync::Arc;

use imbl::OrdMap;

pub use cluster::{
    Cluster, DnsCache, Endpoint, EndpointDiscovery, Endpoints, Health, Locality, TcpKeepalive, Transport,
    UpstreamHttp, UpstreamProtocol,
};
pub use http::{
    ClientCertDetails, Codec, ForwardClientCert, Forwarding, Http1Options, Http2Options, HttpFilters,
    HttpLimits, HttpManager, HttpTimeouts, RequestIds, RouteSource, Router, ServerHeader, StripPort,
    Underscores, UpgradeConfig,
};
pub use listener::{
    FilterChain, FilterChainMatch, Inspection, Listener, NetworkFilter, OnInspectionTimeout, SourceType,
    TcpClusterWeight, TcpProxy, TcpTarget, Terminal, TrafficDirection, TransportProtocol,
};
pub(crate) use local_reply::Mapper;
pub use local_reply::{LocalReplies, MappedReply};
pub use log::{AccessLog, AccessLogs, EntryKind, LogService, LogSink, LogTarget, OtlpLog};
pub use revocation::RevocationLists;
pub use revocation_list_set::RevocationListSet;
pub use san::SanMatch;
pub use shared::Shared;
pub use tls::{CertifiedIdentity, DownstreamTls, DownstreamTlsSpec, TrustSpec, UpstreamTls, UpstreamTlsSpec};
pub use tls_error::TlsError;
pub(crate) use verify::{TrustChange, counter_of, reason};

use crate::route::RouteConfig;

/// Everything that a worker needs to serve: replaced whole, never changed. One shares with the one before what is equal
/// in both, and `OrdMap::diff` finds the rest without looking at that.
#[derive(Debug, Clone, Default)]
pub struct Runtime {
    /// Which build of the configuration this is; grows by one with each swap.
    pub revision: u64,
    pub listeners: OrdMap<Arc<str>, Shared<Listener>>,
    /// Route configurations that listeners name (RDS), by name.
    pub routes: OrdMap<Arc<str>, Shared<RouteConfig>>,
    /// Clusters by name, with their endpoints.
    pub clusters: OrdMap<Arc<str>, Shared<Cluster>>,
    /// The revocation lists of all of them.
    pub revocations: Arc<RevocationListSet>,
}

impl Runtime {
    /// A configuration with nothing in it: what a worker holds until the first swap.
    pub fn empty() -> Arc<Self> {
        Arc::new(Self::default())
    }
}
