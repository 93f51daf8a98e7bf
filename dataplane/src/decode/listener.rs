//! `Listener`: its address, filter chains and what they need.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection as PbTrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::listener_filter::ConfigType as ListenerConfigType;
use envoy_types::pb::envoy::config::listener::v3::{
    Filter, FilterChain as PbFilterChain, FilterChainMatch as PbMatch, Listener as PbListener,
};
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy as PbTcpProxy;
use weft_routing::decode::rbac;
use weft_routing::rejection::{Rejection, Within as _, refuse};

use super::fields::{self, number};
use super::identity::IdentityHash;
use super::tls::{self, DownstreamPlan, KnownSecrets, Socket};
use super::{DecodeContext, ResourceReference, access_log, http_manager, tcp_proxy};
use crate::runtime::{
    AccessLogs, FilterChain, FilterChainMatch, Inspection, Listener, NetworkFilter, OnInspectionTimeout,
    SourceType, Terminal, TrafficDirection, TransportProtocol,
};
use crate::stats::{ListenerStats, StatsScope};

/// A listener as its resource says it.
#[derive(Debug)]
pub struct ListenerPlan {
    pub name: Arc<str>,
    pub address: SocketAddr,
    /// Route configurations that it names.
    pub routes: Vec<ResourceReference>,
    stat_prefix: Arc<str>,
    stats: ListenerStats,
    binds: bool,
    inspection: Inspection,
    chains: Vec<ChainPlan>,
    default_chain: Option<ChainPlan>,
    backlog: Option<u32>,
    direction: TrafficDirection,
    access_log: AccessLogs,
}

#[derive(Debug)]
struct ChainPlan {
    name: Arc<str>,
    identity: u64,
    matches: FilterChainMatch,
    socket: Socket<DownstreamPlan>,
    network_filters: Vec<NetworkFilter>,
    terminal: Terminal,
    handshake_timeout: Option<Duration>,
}

impl ListenerPlan {
    /// Reads a listener.
    ///
    /// # Errors
    /// When a field is wrong or not supported; the rejection names it.
    pub fn decode(resource: &PbListener, context: &mut DecodeContext<'_>) -> Result<Self, Rejection> {
        if resource.name.is_empty() {
            return Err(Rejection::new("name", "must not be empty"));
        }
        unsupported(resource, context)?;
        let address = fields::socket_address(resource.address.as_ref(), "address")?;
        let stat_prefix: Arc<str> = match resource.stat_prefix.as_str() {
            "" => super::address_stat(address),
            given => given.into(),
        };
        let mut plan = Self {
            name: resource.name.as_str().into(),
            address,
            routes: Vec::new(),
            stats: ListenerStats::register(context.registry, &StatsScope::listener(&stat_prefix)),
            stat_prefix,
            binds: resource.bind_to_port.is_none_or(|bind| bind.value),
            inspection: Inspection {
                timeout: fields::timeout(
                    resource.listener_filters_timeout.as_ref(),
                    Inspection::default().timeout,
                    "listener_filters_timeout",
                )?,
                on_timeout: if resource.continue_on_listener_filters_timeout {
                    OnInspectionTimeout::Continue
                } else {
                    OnInspectionTimeout::Close
                },
                ..Inspection::default()
            },
            chains: Vec::new(),
            default_chain: None,
            backlog: number(resource.tcp_backlog_size.as_ref()),
            direction: match PbTrafficDirection::try_from(resource.traffic_direction) {
                Ok(PbTrafficDirection::Inbound) => TrafficDirection::Inbound,
                Ok(PbTrafficDirection::Outbound) => TrafficDirection::Outbound,
                Ok(PbTrafficDirection::Unspecified) | Err(_) => TrafficDirection::Unspecified,
            },
            access_log: access_log::decode(&resource.access_log, context)?,
        };
        plan.read_listener_filters(resource, context)?;
        plan.read_chains(resource, context)?;
        Ok(plan)
    }

    fn read_listener_filters(
        &mut self,
        resource: &PbListener,
        context: &mut DecodeContext<'_>,
    ) -> Result<(), Rejection> {
        for (index, filter) in resource.listener_filters.iter().enumerate() {
            let at = || format!("listener_filters[{index}]");
            refuse(&filter.filter_disabled, "filter_disabled").within(at)?;
            let config = match &filter.config_type {
                Some(ListenerConfigType::TypedConfig(config)) => config,
                Some(ListenerConfigType::ConfigDiscovery(_)) => {
                    return Err(Rejection::unsupported("config_discovery").within(at()));
                }
                None => return Err(fields::unknown_extension(&filter.name, None, &at())),
            };
            if fields::holds::<TlsInspector>(config) {
                self.inspection.tls = true;
            } else if fields::holds::<HttpInspector>(config) {
                self.inspection.http = true;
            } else if fields::holds::<OriginalDst>(config) {
                context.notes.ignored(true, &format!("{}.typed_config", at()));
            } else {
                return Err(fields::unknown_extension(&filter.name, Some(config), &at()));
            }
        }
        Ok(())
    }

    fn read_chains(
        &mut self,
        resource: &PbListener,
        context: &mut DecodeContext<'_>,
    ) -> Result<(), Rejection> {
        for (index, chain) in resource.filter_chains.iter().enumerate() {
            let decoded = decode_chain(chain, &mut self.routes, context);
            self.chains.push(decoded.within(|| format!("filter_chains[{index}]"))?);
        }
        if let Some(chain) = &resource.default_filter_chain {
            let decoded = decode_chain(chain, &mut self.routes, context);
            self.default_chain = Some(decoded.within(|| "default_filter_chain")?);
        }
        if self.chains.is_empty() && self.default_chain.is_none() {
            return Err(Rejection::new("filter_chains", "at least one is needed"));
        }
        for (index, chain) in self.chains.iter().enumerate() {
            if self.chains[..index].iter().any(|earlier| earlier.matches == chain.matches) {
                let field = format!("filter_chains[{index}].filter_chain_match");
                return Err(Rejection::new(field, "two chains have the same match"));
            }
        }
        let by_hello = |chain: &ChainPlan| {
            !chain.matches.server_names.is_empty()
                || !chain.matches.application_protocols.is_empty()
                || chain.matches.transport_protocol == Some(TransportProtocol::Tls)
        };
        // As Envoy does: a match on the ClientHello brings the inspector with it.
        self.inspection.tls |= self.chains.iter().any(by_hello);
        Ok(())
    }

    fn all_chains(&self) -> impl Iterator<Item = &ChainPlan> {
        self.chains.iter().chain(&self.default_chain)
    }

    /// The clusters that its filters call. Those that routes lead to are not its own.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<str>> {
        let managers = self.all_chains().filter_map(|chain| match &chain.terminal {
            Terminal::Http(manager) => Some(manager),
            Terminal::Tcp(_) => None,
        });
        managers.flat_map(|manager| manager.filters.before_router()).flat_map(|one| one.filter.clusters())
    }

    /// The secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &ResourceReference> {
        self.all_chains()
            .flat_map(|chain| match &chain.socket {
                Socket::Plaintext => None,
                Socket::Tls(plan) => Some(plan.references()),
            })
            .flatten()
    }

    /// The listener, `None` while a secret is missing.
    #[must_use]
    pub fn prepare(&self, secrets: &KnownSecrets) -> Option<Result<Listener, Rejection>> {
        let mut chains = Vec::with_capacity(self.chains.len());
        for (index, chain) in self.chains.iter().enumerate() {
            match chain.prepare(secrets)?.within(|| format!("filter_chains[{index}]")) {
                Ok(chain) => chains.push(Arc::new(chain)),
                Err(rejection) => return Some(Err(rejection)),
            }
        }
        let default_chain = match &self.default_chain {
            None => None,
            Some(chain) => match chain.prepare(secrets)?.within(|| "default_filter_chain") {
                Ok(chain) => Some(Arc::new(chain)),
                Err(rejection) => return Some(Err(rejection)),
            },
        };
        Some(Ok(Listener {
            name: Arc::clone(&self.name),
            address: self.address,
            stat_prefix: Arc::clone(&self.stat_prefix),
            stats: self.stats.clone(),
            binds: self.binds,
            inspection: self.inspection.clone(),
            filter_chains: chains,
            default_filter_chain: default_chain,
            backlog: self.backlog,
            direction: self.direction,
            access_log: self.access_log.clone(),
        }))
    }
}

impl ChainPlan {
    fn prepare(&self, secrets: &KnownSecrets) -> Option<Result<FilterChain, Rejection>> {
        let tls = match &self.socket {
            Socket::Plaintext => None,
            Socket::Tls(plan) => match plan.prepare(secrets)? {
                Ok(tls) => Some(Arc::new(tls)),
                Err(rejection) => return Some(Err(rejection)),
            },
        };
        Some(Ok(FilterChain {
            name: Arc::clone(&self.name),
            identity: self.identity,
            matches: self.matches.clone(),
            tls,
            network_filters: self.network_filters.clone(),
            terminal: self.terminal.clone(),
            handshake_timeout: self.handshake_timeout,
        }))
    }
}

fn unsupported(resource: &PbListener, context: &mut DecodeContext<'_>) -> Result<(), Rejection> {
    refuse(&resource.filter_chain_matcher, "filter_chain_matcher")?;
    refuse(&resource.fcds_config, "fcds_config")?;
    refuse(&resource.udp_listener_config, "udp_listener_config")?;
    refuse(&resource.api_listener, "api_listener")?;
    refuse(&resource.listener_specifier, "internal_listener")?;
    refuse(&resource.additional_addresses, "additional_addresses")?;
    refuse(fields::flag(resource.transparent.as_ref()), "transparent")?;
    refuse(fields::flag(resource.freebind.as_ref()), "freebind")?;
    refuse(resource.enable_mptcp, "enable_mptcp")?;
    refuse(&resource.socket_options, "socket_options")?;
    context.notes.ignored(fields::flag(resource.use_original_dst.as_ref()), "use_original_dst");
    context.notes.ignored(&resource.per_connection_buffer_limit_bytes, "per_connection_buffer_limit_bytes");
    context.notes.ignored(&resource.stats_matcher, "stats_matcher");
    context.notes.ignored(&resource.metadata, "metadata");
    context.notes.ignored(resource.drain_type != 0, "drain_type");
    context.notes.ignored(&resource.tcp_fast_open_queue_length, "tcp_fast_open_queue_length");
    context.notes.ignored(&resource.connection_balance_config, "connection_balance_config");
    let shared = resource.enable_reuse_port.as_ref().is_some_and(|enable| !enable.value);
    context.notes.ignored(shared, "enable_reuse_port");
    context.notes.ignored(
        &resource.max_connections_to_accept_per_socket_event,
        "max_connections_to_accept_per_socket_event",
    );
    context.notes.ignored(resource.ignore_global_conn_limit, "ignore_global_conn_limit");
    context.notes.ignored(resource.bypass_overload_manager, "bypass_overload_manager");
    context.notes.ignored(&resource.tcp_keepalive, "tcp_keepalive");
    context.notes.ignored(
        &resource.per_connection_buffer_high_watermark_timeout,
        "per_connection_buffer_high_watermark_timeout",
    );
    Ok(())
}

fn decode_chain(
    chain: &PbFilterChain,
    routes: &mut Vec<ResourceReference>,
    context: &mut DecodeContext<'_>,
) -> Result<ChainPlan, Rejection> {
    refuse(fields::flag(chain.use_proxy_proto.as_ref()), "use_proxy_proto")?;
    let matches = match &chain.filter_chain_match {
        Some(given) => decode_match(given).within(|| "filter_chain_match")?,
        None => FilterChainMatch::default(),
    };
    let socket =
        tls::downstream(chain.transport_socket.as_ref(), &mut context.notes).within(|| "transport_socket")?;
    let mut network_filters = Vec::new();
    let mut terminal = None;
    for (index, filter) in chain.filters.iter().enumerate() {
        let at = || format!("filters[{index}]");
        if terminal.is_some() {
            return Err(Rejection::new(at(), "a filter after the terminal one has no effect"));
        }
        match decode_filter(filter, routes, context).within(at)? {
            DecodedNetworkFilter::Network(filter) => network_filters.push(filter),
            DecodedNetworkFilter::Terminal(given) => terminal = Some(given),
        }
    }
    let terminal = terminal.ok_or_else(|| {
        Rejection::new("filters", "the last one must be http_connection_manager or tcp_proxy")
    })?;
    Ok(ChainPlan {
        name: chain.name.as_str().into(),
        identity: identity(chain, &terminal),
        matches,
        socket,
        network_filters,
        terminal,
        handshake_timeout: fields::timeout(
            chain.transport_socket_connect_timeout.as_ref(),
            None,
            "transport_socket_connect_timeout",
        )?,
    })
}

/// See [`FilterChain::identity`].
fn identity(chain: &PbFilterChain, terminal: &Terminal) -> u64 {
    let mut identity = IdentityHash::new();
    identity.part(chain.name.as_bytes());
    identity.message(chain.filter_chain_match.as_ref());
    identity.message(chain.transport_socket.as_ref());
    identity.part(match terminal {
        Terminal::Http(_) => b"http",
        Terminal::Tcp(_) => b"tcp",
    });
    identity.finish()
}

enum DecodedNetworkFilter {
    Network(NetworkFilter),
    Terminal(Terminal),
}

fn decode_filter(
    filter: &Filter,
    routes: &mut Vec<ResourceReference>,
    context: &mut DecodeContext<'_>,
) -> Result<DecodedNetworkFilter, Rejection> {
    let config = match &filter.config_type {
        Some(ConfigType::TypedConfig(config)) => config,
        Some(ConfigType::ConfigDiscovery(_)) => return Err(Rejection::unsupported("config_discovery")),
        None => return Err(fields::unknown_extension(&filter.name, None, "")),
    };
    let at = || "typed_config";
    if fields::holds::<HttpConnectionManager>(config) {
        let manager: HttpConnectionManager = fields::unpack(config, at())?;
        let (manager, named) = http_manager::decode(&manager, context).within(at)?;
        routes.extend(named);
        Ok(DecodedNetworkFilter::Terminal(Terminal::Http(Arc::new(manager))))
    } else if fields::holds::<PbTcpProxy>(config) {
        let proxy: PbTcpProxy = fields::unpack(config, at())?;
        let proxy = tcp_proxy::decode(&proxy, context).within(at)?;
        Ok(DecodedNetworkFilter::Terminal(Terminal::Tcp(Arc::new(proxy))))
    } else if fields::holds::<Rbac>(config) {
        let given: Rbac = fields::unpack(config, at())?;
        let rbac = rbac::network(&given, &mut context.notes).within(at)?;
        let stats = crate::filter::rbac::register_network(&rbac, context.registry);
        Ok(DecodedNetworkFilter::Network(NetworkFilter::Rbac { rbac: Arc::new(rbac), stats }))
    } else {
        Err(fields::unknown_extension(&filter.name, Some(config), ""))
    }
}

fn decode_match(given: &PbMatch) -> Result<FilterChainMatch, Rejection> {
    refuse(&given.address_suffix, "address_suffix")?;
    refuse(&given.suffix_len, "suffix_len")?;
    let port = |value: u32, field: &str| {
        u16::try_from(value).map_err(|_| Rejection::new(field, format!("{value} is not a port")))
    };
    let prefixes = |ranges: &[_], field: &str| {
        ranges.iter().map(fields::prefix).collect::<Result<Vec<_>, _>>().within(|| field)
    };
    let server_names = given.server_names.iter().map(|name| server_name(name)).collect::<Result<_, _>>()?;
    Ok(FilterChainMatch {
        destination_port: number(given.destination_port.as_ref())
            .map(|value| port(value, "destination_port"))
            .transpose()?,
        prefix_ranges: prefixes(&given.prefix_ranges, "prefix_ranges")?,
        server_names,
        transport_protocol: match given.transport_protocol.as_str() {
            "" => None,
            "tls" => Some(TransportProtocol::Tls),
            "raw_buffer" => Some(TransportProtocol::RawBuffer),
            other => {
                let reason = format!("{other:?} is neither tls nor raw_buffer");
                return Err(Rejection::new("transport_protocol", reason));
            }
        },
        application_protocols: given.application_protocols.iter().map(|name| name.as_str().into()).collect(),
        direct_source_prefix_ranges: prefixes(
            &given.direct_source_prefix_ranges,
            "direct_source_prefix_ranges",
        )?,
        source_type: match given.source_type {
            0 => SourceType::Any,
            1 => SourceType::SameIpOrLoopback,
            2 => SourceType::External,
            _ => return Err(Rejection::new("source_type", "unknown value")),
        },
        source_prefix_ranges: prefixes(&given.source_prefix_ranges, "source_prefix_ranges")?,
        source_ports: given
            .source_ports
            .iter()
            .map(|value| port(*value, "source_ports"))
            .collect::<Result<_, _>>()?,
    })
}

fn server_name(name: &str) -> Result<Arc<str>, Rejection> {
    let plain = name.strip_prefix("*.").unwrap_or(name);
    if plain.contains('*') {
        let reason = format!("{name:?}: only a whole first label may be a wildcard");
        return Err(Rejection::new("server_names", reason));
    }
    Ok(name.to_ascii_lowercase().into())
}
