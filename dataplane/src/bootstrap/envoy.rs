//! From Envoy's bootstrap message to what it means here.

// Deprecated fields are read to honour them, or to refuse them by name.
#![allow(deprecated)]

use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap as PbBootstrap;
use envoy_types::pb::envoy::config::bootstrap::v3::bootstrap::{DynamicResources, StatsFlush};
use envoy_types::pb::envoy::config::core::v3::api_config_source::ApiType;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::grpc_service::TargetSpecifier;
use envoy_types::pb::envoy::config::core::v3::{ApiConfigSource, ConfigSource, GrpcService};
use envoy_types::pb::envoy::config::metrics::v3::stats_sink::ConfigType;
use envoy_types::pb::envoy::config::metrics::v3::{MetricsServiceConfig, StatsSink};
use prost::{Message as _, Name as _};
use weft_routing::rejection::{Notes, Rejection, Within as _, refuse};

use super::{
    Bootstrap, CounterReports, DiscoveryStream, DiscoveryVariant, GrpcTarget, ListSource, MetricNaming,
    MetricsSink, introduced,
};
use crate::decode::fields::duration;

const FLUSH: Duration = Duration::from_secs(5);

pub(super) fn decode(message: PbBootstrap) -> Result<Bootstrap, Rejection> {
    let mut notes = Notes::default();
    unsupported(&message, &mut notes)?;
    let statics = message.static_resources.unwrap_or_default();
    let known = |name: &str| statics.clusters.iter().any(|cluster| cluster.name == name);
    let dynamic = message.dynamic_resources.unwrap_or_default();
    let (listener_source, cluster_source, ads) =
        dynamic_resources(&dynamic, &known).within(|| "dynamic_resources")?;
    let health = match &message.hds_config {
        Some(source) => Some(api_target(source, &known).within(|| "hds_config")?.1),
        None => None,
    };
    let interval = match &message.stats_flush {
        Some(StatsFlush::StatsFlushOnAdmin(_)) => return Err(Rejection::unsupported("stats_flush_on_admin")),
        None => duration(message.stats_flush_interval.as_ref(), "stats_flush_interval")?
            .filter(|interval| !interval.is_zero())
            .unwrap_or(FLUSH),
    };
    let mut metrics = None;
    for (index, sink) in message.stats_sinks.iter().enumerate() {
        let decoded = metrics_sink(sink, interval, &known).within(|| format!("stats_sinks[{index}]"))?;
        if metrics.replace(decoded).is_some() {
            return Err(Rejection::unsupported("stats_sinks with several sinks"));
        }
    }
    Ok(Bootstrap {
        node: introduced(message.node.unwrap_or_default()),
        admin: match message.admin.and_then(|admin| admin.address) {
            Some(address) => Some(admin_address(&address)?),
            None => None,
        },
        listeners: statics.listeners,
        clusters: statics.clusters,
        secrets: statics.secrets,
        listener_source,
        cluster_source,
        ads,
        health,
        metrics,
        shown: serde_json::Value::Null,
        ignored: notes.fields().to_vec(),
    })
}

fn unsupported(message: &PbBootstrap, notes: &mut Notes) -> Result<(), Rejection> {
    refuse(&message.bootstrap_extensions, "bootstrap_extensions")?;
    refuse(&message.config_sources, "config_sources")?;
    refuse(&message.default_config_source, "default_config_source")?;
    refuse(&message.xds_delegate_extension, "xds_delegate_extension")?;
    refuse(&message.default_socket_interface, "default_socket_interface")?;
    refuse(!message.certificate_provider_instances.is_empty(), "certificate_provider_instances")?;
    if let Some(admin) = &message.admin {
        refuse(&admin.allow_paths, "admin.allow_paths")?;
        notes.ignored(&admin.access_log, "admin.access_log");
        notes.ignored(&admin.access_log_path, "admin.access_log_path");
        notes.ignored(&admin.profile_path, "admin.profile_path");
        notes.ignored(&admin.socket_options, "admin.socket_options");
    }
    notes.ignored(&message.cluster_manager, "cluster_manager");
    notes.ignored(&message.stats_config, "stats_config");
    notes.ignored(&message.deferred_stat_options, "deferred_stat_options");
    notes.ignored(&message.watchdog, "watchdog");
    notes.ignored(&message.watchdogs, "watchdogs");
    notes.ignored(&message.tracing, "tracing");
    notes.ignored(&message.layered_runtime, "layered_runtime");
    notes.ignored(&message.overload_manager, "overload_manager");
    notes.ignored(&message.header_prefix, "header_prefix");
    notes.ignored(&message.dns_resolution_config, "dns_resolution_config");
    notes.ignored(&message.typed_dns_resolver_config, "typed_dns_resolver_config");
    notes.ignored(&message.fatal_actions, "fatal_actions");
    notes.ignored(&message.inline_headers, "inline_headers");
    notes.ignored(&message.default_regex_engine, "default_regex_engine");
    notes.ignored(&message.application_log_config, "application_log_config");
    notes.ignored(&message.memory_allocator_manager, "memory_allocator_manager");
    notes.ignored(&message.grpc_async_client_manager_config, "grpc_async_client_manager_config");
    Ok(())
}

fn admin_address(
    address: &envoy_types::pb::envoy::config::core::v3::Address,
) -> Result<SocketAddr, Rejection> {
    use envoy_types::pb::envoy::config::core::v3::address::Address;
    use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
    let wrong = || Rejection::new("admin.address", "must be an IP address and a port");
    let Some(Address::SocketAddress(socket)) = &address.address else { return Err(wrong()) };
    let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else { return Err(wrong()) };
    let ip = socket.address.parse().map_err(|_| wrong())?;
    Ok(SocketAddr::new(ip, u16::try_from(port).map_err(|_| wrong())?))
}

type Sources = (Option<ListSource>, Option<ListSource>, Option<DiscoveryStream>);

fn dynamic_resources(dynamic: &DynamicResources, known: &dyn Fn(&str) -> bool) -> Result<Sources, Rejection> {
    refuse(&dynamic.lds_resources_locator, "lds_resources_locator")?;
    refuse(&dynamic.cds_resources_locator, "cds_resources_locator")?;
    let listeners = list_source(dynamic.lds_config.as_ref()).within(|| "lds_config")?;
    let clusters = list_source(dynamic.cds_config.as_ref()).within(|| "cds_config")?;
    let ads = match &dynamic.ads_config {
        None => None,
        Some(config) => {
            let (variant, target) = api_target(config, known).within(|| "ads_config")?;
            Some(DiscoveryStream { variant, target })
        }
    };
    let asked = [&listeners, &clusters].into_iter().any(|source| *source == Some(ListSource::Ads));
    if asked && ads.is_none() {
        return Err(Rejection::new("ads_config", "is needed, since lds_config or cds_config names ads"));
    }
    Ok((listeners, clusters, ads))
}

fn list_source(config: Option<&ConfigSource>) -> Result<Option<ListSource>, Rejection> {
    let Some(specifier) = config.and_then(|config| config.config_source_specifier.as_ref()) else {
        return Ok(None);
    };
    match specifier {
        ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_) => Ok(Some(ListSource::Ads)),
        ConfigSourceSpecifier::Path(path) => Ok(Some(ListSource::File(path.into()))),
        ConfigSourceSpecifier::PathConfigSource(source) => Ok(Some(ListSource::File((&source.path).into()))),
        ConfigSourceSpecifier::ApiConfigSource(_) => {
            let reason = "a stream of its own is not supported; use ads or path_config_source";
            Err(Rejection::new("api_config_source", reason))
        }
    }
}

fn api_target(
    source: &ApiConfigSource,
    known: &dyn Fn(&str) -> bool,
) -> Result<(DiscoveryVariant, GrpcTarget), Rejection> {
    let variant = match ApiType::try_from(source.api_type) {
        Ok(ApiType::Grpc | ApiType::AggregatedGrpc) => DiscoveryVariant::Sotw,
        Ok(ApiType::DeltaGrpc | ApiType::AggregatedDeltaGrpc) => DiscoveryVariant::Delta,
        Ok(ApiType::Rest | ApiType::DeprecatedAndUnavailableDoNotUse) | Err(_) => {
            return Err(Rejection::new("api_type", "must be GRPC or DELTA_GRPC"));
        }
    };
    let service = source.grpc_services.first();
    let service = service.ok_or_else(|| Rejection::new("grpc_services", "at least one is needed"))?;
    Ok((variant, target(service, known).within(|| "grpc_services[0]")?))
}

fn target(service: &GrpcService, known: &dyn Fn(&str) -> bool) -> Result<GrpcTarget, Rejection> {
    match &service.target_specifier {
        Some(TargetSpecifier::EnvoyGrpc(grpc)) if known(&grpc.cluster_name) => {
            Ok(GrpcTarget::Cluster(grpc.cluster_name.clone()))
        }
        Some(TargetSpecifier::EnvoyGrpc(grpc)) => {
            let reason = format!("{:?} is not one of the static clusters", grpc.cluster_name);
            Err(Rejection::new("envoy_grpc.cluster_name", reason))
        }
        Some(TargetSpecifier::GoogleGrpc(_)) => Err(Rejection::unsupported("google_grpc")),
        None => Err(Rejection::new("envoy_grpc", "is needed")),
    }
}

fn metrics_sink(
    sink: &StatsSink,
    interval: Duration,
    known: &dyn Fn(&str) -> bool,
) -> Result<MetricsSink, Rejection> {
    let Some(ConfigType::TypedConfig(config)) = &sink.config_type else {
        return Err(Rejection::new("typed_config", "is needed"));
    };
    if config.type_url.rsplit('/').next() != Some(MetricsServiceConfig::full_name().as_str()) {
        return Err(Rejection::unsupported(format!("typed_config {}", config.type_url)));
    }
    let given = MetricsServiceConfig::decode(config.value.as_slice())
        .map_err(|error| Rejection::new("typed_config", error.to_string()))?;
    let service = given.grpc_service.as_ref();
    let service = service.ok_or_else(|| Rejection::new("typed_config.grpc_service", "is needed"))?;
    Ok(MetricsSink {
        target: target(service, known).within(|| "typed_config.grpc_service")?,
        interval,
        counters: if given.report_counters_as_deltas.is_some_and(|flag| flag.value) {
            CounterReports::Deltas
        } else {
            CounterReports::Totals
        },
        naming: if given.emit_tags_as_labels { MetricNaming::Labelled } else { MetricNaming::Full },
    })
}
