//! Clusters of a service port: how any sidecar calls it. Nothing in them differs by proxy.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::thresholds::RetryBudget;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbConfig, LbPolicy, RingHashLbConfig,
    TransportSocketMatch,
};
use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, OutlierDetection, UpstreamConnectionOptions, circuit_breakers,
};
use envoy_types::pb::envoy::config::core::v3::{
    self as core, Http1ProtocolOptions, Http2ProtocolOptions, TcpKeepalive,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig, explicit_http_config,
};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::{Any, UInt32Value, UInt64Value};
use prost::Message;
use serde_json::{Value, json};
use weft_api::names::{Name, ServiceId, sni};
use weft_api::resource::{Resource, ResourceKind, ResourceRef};

use super::compiled::{Compiled, Origins};
use super::model::Model;
use super::{endpoints, tls, wire};
use crate::kinds::Service;
use crate::kinds::service::{Port, Protocol};
use crate::kinds::traffic_policy::Balancer;
use crate::set::{Effective, EffectiveTraffic};
use crate::value::Timespan;

/// How long opening a connection may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection to a peer stays open unused: less than the peer's own limit of an hour, so that the side that
/// sends requests closes first and none meets a closing connection.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(55 * 60);
/// How many second tries may be under way. Envoy's default of 3 fails requests when an endpoint with many connections
/// goes; the limit on requests bounds them all the same.
const MAX_RETRIES: u32 = 1024;
/// Of connections, of requests that wait and of open ones: what Envoy holds to where nobody says it.
const ENVOYS_LIMIT: u32 = 1024;
/// Entries of a ring. The least-weighted member has one, so a member with a great weight makes it large in every caller.
const LARGEST_RING: u64 = 65_536;
/// A sidecar does not limit its own application.
const GENEROUS: u32 = 1_000_000;

/// What holds for calls to a port where no policy says otherwise, by the fields of [`EffectiveTraffic`].
#[must_use]
pub fn built_in_of_backends() -> Vec<(&'static str, Value)> {
    let span = |span: Duration| match (span.as_secs() / 60, span.as_secs() % 60) {
        (minutes, 0) => json!(format!("{minutes}m")),
        (_, _) => json!(format!("{}s", span.as_secs())),
    };
    vec![
        ("load_balancer", json!(Balancer::LeastRequest)),
        ("connect_timeout", span(CONNECT_TIMEOUT)),
        ("idle_timeout", span(IDLE_TIMEOUT)),
        ("max_connections", json!(ENVOYS_LIMIT)),
        ("max_pending_requests", json!(ENVOYS_LIMIT)),
        ("max_requests", json!(ENVOYS_LIMIT)),
    ]
}

/// Compiles the cluster of a port, and that of each subset.
pub(super) fn compile(service: &ServiceId, port: &Name, model: &Model<'_>) -> Vec<Compiled> {
    let Some(object) = model.set.service(service) else { return Vec::new() };
    let spec = &object.spec;
    let Some(port) = spec.port(port) else { return Vec::new() };
    let traffic = model.set.traffic_for(service, &port.name, None);
    let mut origins = Origins::of_service(service);
    origins.extend(traffic.origins());
    let origins = origins.into_vec();
    let names = spec.names_of_clusters(service, port).map(|(name, _)| name);
    let compiled =
        names.map(|name| Compiled::new(one(name, service, spec, port, &traffic, model), origins.clone()));
    compiled.collect()
}

/// What holds for calls to any cluster, without where it is and what connections are secured with.
pub(super) fn called(name: &str, traffic: &EffectiveTraffic) -> Cluster {
    Cluster {
        name: name.to_owned(),
        connect_timeout: Some(wire::duration(time(&traffic.connect_timeout).unwrap_or(CONNECT_TIMEOUT))),
        lb_policy: balancer(traffic.load_balancer.as_ref().map(|set| set.value)) as i32,
        lb_config: ring(traffic.load_balancer.as_ref().map(|set| set.value)),
        circuit_breakers: Some(circuit_breakers(traffic)),
        outlier_detection: traffic.detects_outliers().then(|| outlier(traffic)),
        upstream_connection_options: keepalive(traffic),
        ..Default::default()
    }
}

/// How long connections to peers stay open unused.
pub(super) fn idle_timeout(traffic: &EffectiveTraffic) -> Duration {
    time(&traffic.idle_timeout).unwrap_or(IDLE_TIMEOUT)
}

fn one(
    name: String,
    service: &ServiceId,
    spec: &Service,
    port: &Port,
    traffic: &EffectiveTraffic,
    model: &Model<'_>,
) -> Arc<Resource> {
    let socket =
        tls::upstream(sni(port.name.as_str(), service, model.trust_domain), &model.identities(service, spec));
    let cluster = Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(wire::ads()), ..Default::default() }),
        // One entry, so the order of the map cannot show.
        typed_extension_protocol_options: HashMap::from_iter(protocol_options(
            port.protocol,
            Some(idle_timeout(traffic)),
        )),
        transport_socket_matches: vec![TransportSocketMatch {
            name: "plaintext".to_owned(),
            r#match: Some(endpoints::plaintext_match()),
            transport_socket: Some(tls::plaintext()),
        }],
        transport_socket: Some(socket),
        ..called(&name, traffic)
    };
    let mut refs = vec![ResourceRef::new(ResourceKind::Endpoint, name.as_str())];
    refs.extend(tls::refs());
    Resource::new(ResourceKind::Cluster, name, cluster.encode_to_vec(), refs)
}

/// How HTTP is spoken to a port: HTTP as the caller speaks it (which works without ALPN), HTTP2 and GRPC always in
/// HTTP/2. `idle` is set for calls to peers. Nothing for ports that do not speak HTTP.
pub(super) fn protocol_options(protocol: Protocol, idle: Option<Duration>) -> Option<(String, Any)> {
    let upstream = match protocol {
        Protocol::Http => UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
            http_protocol_options: Some(Http1ProtocolOptions::default()),
            http2_protocol_options: Some(Http2ProtocolOptions::default()),
            ..Default::default()
        }),
        Protocol::Http2 | Protocol::Grpc | Protocol::Tcp | Protocol::Tls => explicitly(protocol)?,
    };
    Some(http_options(upstream, idle))
}

/// How HTTP is spoken to what is outside: as its port says, whatever the caller speaks. A server there need not know both.
pub(super) fn protocol_options_outside(protocol: Protocol, idle: Duration) -> Option<(String, Any)> {
    Some(http_options(explicitly(protocol)?, Some(idle)))
}

fn explicitly(protocol: Protocol) -> Option<UpstreamProtocolOptions> {
    let spoken = match protocol {
        Protocol::Http => {
            explicit_http_config::ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())
        }
        Protocol::Http2 | Protocol::Grpc => {
            explicit_http_config::ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())
        }
        Protocol::Tcp | Protocol::Tls => return None,
    };
    Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(spoken) }))
}

fn http_options(upstream: UpstreamProtocolOptions, idle: Option<Duration>) -> (String, Any) {
    let options = HttpProtocolOptions {
        common_http_protocol_options: idle.map(|idle| core::HttpProtocolOptions {
            idle_timeout: Some(wire::duration(idle)),
            max_connection_duration: Some(wire::duration(IDLE_TIMEOUT)),
            ..Default::default()
        }),
        upstream_protocol_options: Some(upstream),
        ..Default::default()
    };
    ("envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(), wire::any(&options))
}

/// Limits that do not limit.
pub(super) fn generous() -> CircuitBreakers {
    let limit = Some(wire::uint32(GENEROUS));
    thresholds(circuit_breakers::Thresholds {
        max_connections: limit,
        max_pending_requests: limit,
        max_requests: limit,
        max_retries: limit,
        ..Default::default()
    })
}

fn circuit_breakers(traffic: &EffectiveTraffic) -> CircuitBreakers {
    thresholds(circuit_breakers::Thresholds {
        max_connections: number(&traffic.max_connections),
        max_pending_requests: number(&traffic.max_pending_requests),
        max_requests: number(&traffic.max_requests),
        max_retries: Some(wire::uint32(MAX_RETRIES)),
        retry_budget: traffic.retry_budget.as_ref().map(|budget| RetryBudget {
            budget_percent: Some(Percent { value: f64::from(budget.value.percent) }),
            min_retry_concurrency: budget.value.min_concurrent.map(wire::uint32),
            ..Default::default()
        }),
        ..Default::default()
    })
}

fn thresholds(default: circuit_breakers::Thresholds) -> CircuitBreakers {
    CircuitBreakers { thresholds: vec![default], ..Default::default() }
}

fn balancer(balancer: Option<Balancer>) -> LbPolicy {
    match balancer {
        // Fewer open requests of two: even where answers take unequal time, as calls in a mesh do.
        None | Some(Balancer::LeastRequest | Balancer::PeakEwma) => LbPolicy::LeastRequest,
        Some(Balancer::RoundRobin) => LbPolicy::RoundRobin,
        Some(Balancer::Random) => LbPolicy::Random,
        Some(Balancer::RingHash) => LbPolicy::RingHash,
        Some(Balancer::Maglev) => LbPolicy::Maglev,
    }
}

/// How large a ring may become.
fn ring(balancer: Option<Balancer>) -> Option<LbConfig> {
    let largest = Some(UInt64Value { value: LARGEST_RING });
    (balancer == Some(Balancer::RingHash)).then(|| {
        LbConfig::RingHashLbConfig(RingHashLbConfig { maximum_ring_size: largest, ..Default::default() })
    })
}

/// Envoy enforces success rates too once outlier detection is on; the policy does not speak of them, so they are off.
fn outlier(traffic: &EffectiveTraffic) -> OutlierDetection {
    type Limit = Option<Effective<u32>>;
    let enforced = |limit: &Limit, default: bool| {
        let on = limit.as_ref().map_or(default, |limit| limit.value > 0);
        Some(wire::uint32(if on { 100 } else { 0 }))
    };
    let limit = |limit: &Limit| number(limit).filter(|limit| limit.value > 0);
    OutlierDetection {
        consecutive_5xx: limit(&traffic.consecutive_5xx),
        enforcing_consecutive_5xx: enforced(&traffic.consecutive_5xx, true),
        consecutive_gateway_failure: limit(&traffic.consecutive_gateway_failures),
        enforcing_consecutive_gateway_failure: enforced(&traffic.consecutive_gateway_failures, false),
        interval: time(&traffic.outlier_interval).map(wire::duration),
        base_ejection_time: time(&traffic.base_ejection_time).map(wire::duration),
        max_ejection_percent: number(&traffic.max_ejection_percent),
        enforcing_success_rate: Some(wire::uint32(0)),
        ..Default::default()
    }
}

fn keepalive(traffic: &EffectiveTraffic) -> Option<UpstreamConnectionOptions> {
    let seconds = |span: &Option<Effective<Timespan>>| {
        time(span).map(|span| wire::uint32(u32::try_from(span.as_secs()).unwrap_or(u32::MAX)))
    };
    let keepalive = TcpKeepalive {
        keepalive_probes: number(&traffic.keepalive_probes),
        keepalive_time: seconds(&traffic.keepalive_time),
        keepalive_interval: seconds(&traffic.keepalive_interval),
    };
    (keepalive != TcpKeepalive::default())
        .then(|| UpstreamConnectionOptions { tcp_keepalive: Some(keepalive), ..Default::default() })
}

fn time(field: &Option<Effective<Timespan>>) -> Option<Duration> {
    field.as_ref().map(|set| set.value.get())
}

fn number(field: &Option<Effective<u32>>) -> Option<UInt32Value> {
    field.as_ref().map(|set| wire::uint32(set.value))
}
