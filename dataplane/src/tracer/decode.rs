//! Reads `HttpConnectionManager.tracing` and `Route.tracing`.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::grpc_service::TargetSpecifier;
use envoy_types::pb::envoy::config::core::v3::{GrpcService, TypedExtensionConfig};
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::config::trace::v3::{OpenTelemetryConfig, tracing::http::ConfigType};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::Tracing as PbTracing,
};
use envoy_types::pb::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use envoy_types::pb::envoy::extensions::tracers::opentelemetry::resource_detectors::v3::StaticConfigResourceDetectorConfig;
use envoy_types::pb::envoy::r#type::tracing::v3::CustomTag as PbCustomTag;
use envoy_types::pb::envoy::r#type::tracing::v3::custom_tag::Type;
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, Percent};
use opentelemetry_proto::tonic::resource::v1::Resource;
use weft_routing::rejection::{Notes, Rejection, Within as _, refuse};

use super::{CustomTag, HttpTracing, RouteSampling, RouteTracing, Sampling, TagValue};
use crate::decode::{DecodeContext, fields};
use crate::fraction::Fraction;
use crate::otlp::{OtlpCollector, SCOPE, attribute};
use crate::stats::{OtlpStats, StatsScope, TracingStats};

const PATH_LENGTH: u32 = 256;
const MOST_WAITING: u32 = 1024;
/// Less than Envoy's 5 s: who looks for a trace has just made a request.
const FLUSH: Duration = Duration::from_secs(1);

/// What a connection manager says of traces; nothing where it names no provider that this proxy knows.
pub(crate) fn tracing(
    given: &HttpConnectionManager,
    context: &mut DecodeContext<'_>,
) -> Result<Option<HttpTracing>, Rejection> {
    let Some(tracing) = &given.tracing else {
        context.notes.ignored(&given.request_id_extension, "request_id_extension");
        return Ok(None);
    };
    let Some(collector) = collector(tracing, context).within(|| "tracing.provider")? else { return Ok(None) };
    context.notes.ignored(tracing.verbose, "tracing.verbose");
    context.notes.ignored(&tracing.operation, "tracing.operation");
    context.notes.ignored(&tracing.upstream_operation, "tracing.upstream_operation");
    let is_hop = fields::flag(tracing.spawn_upstream_span.as_ref());
    context.notes.ignored(is_hop, "tracing.spawn_upstream_span");
    let ids = request_ids(given, &mut context.notes)?;
    let path_length = fields::number(tracing.max_path_tag_length.as_ref()).unwrap_or(PATH_LENGTH);
    Ok(Some(HttpTracing {
        sampling: Sampling {
            client: percent(tracing.client_sampling.as_ref(), "client_sampling").within(|| "tracing")?,
            random: percent(tracing.random_sampling.as_ref(), "random_sampling").within(|| "tracing")?,
            overall: percent(tracing.overall_sampling.as_ref(), "overall_sampling").within(|| "tracing")?,
            by_request_id: ids.use_request_id_for_trace_sampling.is_none_or(|flag| flag.value),
        },
        tags: tags(&tracing.custom_tags, &mut context.notes).within(|| "tracing")?,
        path_length: path_length as usize,
        is_hop,
        collector: Arc::new(collector),
        stats: TracingStats::register(
            context.registry,
            &StatsScope::http(&given.stat_prefix).child("tracing"),
        ),
    }))
}

/// What a route says of traces.
pub(crate) fn of_route(given: &route::Tracing, notes: &mut Notes) -> Result<RouteTracing, Rejection> {
    notes.ignored(&given.operation, "routes.tracing.operation");
    notes.ignored(&given.upstream_operation, "routes.tracing.upstream_operation");
    let share = |given: Option<&FractionalPercent>, field| match given {
        Some(given) => Fraction::decode(Some(given), field),
        None => Ok(Fraction::ALL),
    };
    Ok(RouteTracing {
        sampling: RouteSampling(Some([
            share(given.client_sampling.as_ref(), "client_sampling")?,
            share(given.random_sampling.as_ref(), "random_sampling")?,
            share(given.overall_sampling.as_ref(), "overall_sampling")?,
        ])),
        tags: tags(&given.custom_tags, notes)?,
    })
}

/// Where spans go; nothing, and a note, with a provider that this proxy does not know.
fn collector(given: &PbTracing, context: &mut DecodeContext<'_>) -> Result<Option<OtlpCollector>, Rejection> {
    let Some(provider) = &given.provider else {
        context.notes.ignored(true, "tracing");
        return Ok(None);
    };
    let config = provider.config_type.as_ref().map(|ConfigType::TypedConfig(config)| config);
    let Some(config) = config.filter(|config| fields::holds::<OpenTelemetryConfig>(config)) else {
        context.notes.ignored(true, &format!("tracing.provider.{}", provider.name));
        return Ok(None);
    };
    let given: OpenTelemetryConfig = fields::unpack(config, "typed_config")?;
    open_telemetry(&given, context).within(|| "typed_config")
}

fn open_telemetry(
    given: &OpenTelemetryConfig,
    context: &mut DecodeContext<'_>,
) -> Result<Option<OtlpCollector>, Rejection> {
    refuse(&given.sampler, "sampler")?;
    refuse(&given.http_service, "http_service")?;
    refuse(&given.exporter, "exporter")?;
    let Some(service) = &given.grpc_service else {
        context.notes.ignored(true, "tracing.provider.typed_config (without grpc_service)");
        return Ok(None);
    };
    let name = match given.service_name.as_str() {
        "" => "unknown_service:weft-proxy",
        name => name,
    };
    let mut attributes = vec![
        attribute("service.name", name),
        attribute("telemetry.sdk.language", "rust"),
        attribute("telemetry.sdk.name", SCOPE),
        attribute("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ];
    for detector in &given.resource_detectors {
        attributes.extend(detected(detector, &mut context.notes).within(|| "resource_detectors")?);
    }
    let stats = OtlpStats::of_spans(context.registry);
    let resource = Resource { attributes, ..Default::default() };
    let most = fields::number(given.max_cache_size.as_ref()).unwrap_or(MOST_WAITING);
    let collector = of_service(service, resource, stats, &mut context.notes).within(|| "grpc_service")?;
    Ok(Some(OtlpCollector { most: most as usize, ..collector }))
}

/// A collector that is reached by a cluster.
pub(crate) fn of_service(
    given: &GrpcService,
    resource: Resource,
    stats: OtlpStats,
    notes: &mut Notes,
) -> Result<OtlpCollector, Rejection> {
    refuse(&given.initial_metadata, "initial_metadata")?;
    notes.ignored(&given.retry_policy, "grpc_service.retry_policy");
    let service = match &given.target_specifier {
        Some(TargetSpecifier::EnvoyGrpc(service)) => service,
        Some(TargetSpecifier::GoogleGrpc(_)) => return Err(Rejection::unsupported("google_grpc")),
        None => return Err(Rejection::new("envoy_grpc", "is missing")),
    };
    notes.ignored(&service.retry_policy, "grpc_service.envoy_grpc.retry_policy");
    if service.cluster_name.is_empty() {
        return Err(Rejection::new("envoy_grpc.cluster_name", "is missing"));
    }
    let authority = if service.authority.is_empty() { &service.cluster_name } else { &service.authority };
    let wrong = || Rejection::new("envoy_grpc.authority", format!("{authority:?} is no authority"));
    Ok(OtlpCollector {
        cluster: service.cluster_name.as_str().into(),
        authority: authority.parse().map_err(|_| wrong())?,
        timeout: fields::timeout(given.timeout.as_ref(), None, "timeout")?,
        resource,
        most: MOST_WAITING as usize,
        flush: FLUSH,
        stats,
    })
}

/// The attributes that a detector of resources finds, in the order of their names.
fn detected(
    detector: &TypedExtensionConfig,
    notes: &mut Notes,
) -> Result<Vec<opentelemetry_proto::tonic::common::v1::KeyValue>, Rejection> {
    let config = detector.typed_config.as_ref();
    let Some(config) = config.filter(|config| fields::holds::<StaticConfigResourceDetectorConfig>(config))
    else {
        notes.ignored(true, &format!("resource_detectors.{}", detector.name));
        return Ok(Vec::new());
    };
    let given: StaticConfigResourceDetectorConfig = fields::unpack(config, "typed_config")?;
    let sorted = std::collections::BTreeMap::from_iter(given.attributes);
    Ok(sorted.into_iter().map(|(name, value)| attribute(name, value)).collect())
}

/// How the connection manager makes the ids of requests.
fn request_ids(given: &HttpConnectionManager, notes: &mut Notes) -> Result<UuidRequestIdConfig, Rejection> {
    let config = given.request_id_extension.as_ref().and_then(|extension| extension.typed_config.as_ref());
    let uuid = match config {
        Some(config) if fields::holds::<UuidRequestIdConfig>(config) => {
            fields::unpack(config, "request_id_extension.typed_config")?
        }
        Some(config) => return Err(fields::unknown_extension("request_id_extension", Some(config), "")),
        None => UuidRequestIdConfig::default(),
    };
    // Envoy writes into the id what was decided; this proxy changes no id.
    let packs = uuid.pack_trace_reason.is_none_or(|flag| flag.value);
    notes.ignored(packs, "request_id_extension.typed_config.pack_trace_reason");
    Ok(uuid)
}

fn percent(given: Option<&Percent>, field: &str) -> Result<Fraction, Rejection> {
    match given {
        None => Ok(Fraction::ALL),
        Some(given) if (0.0..=100.0).contains(&given.value) => Ok(Fraction::of_percent(given.value)),
        Some(given) => Err(Rejection::new(field, format!("{} is not 0 to 100", given.value))),
    }
}

fn tags(given: &[PbCustomTag], notes: &mut Notes) -> Result<Box<[CustomTag]>, Rejection> {
    let mut found = Vec::with_capacity(given.len());
    for (index, tag) in given.iter().enumerate() {
        let at = || format!("custom_tags[{index}]");
        if tag.tag.is_empty() {
            return Err(Rejection::new("tag", "must not be empty").within(at()));
        }
        let value = match &tag.r#type {
            Some(Type::Literal(literal)) => TagValue::Literal(literal.value.as_str().into()),
            Some(Type::RequestHeader(header)) => {
                let wrong = |_| Rejection::new("request_header.name", "is not the name of a header");
                let name = header.name.to_ascii_lowercase().parse().map_err(wrong).within(at)?;
                TagValue::RequestHeader(name, header.default_value.as_str().into())
            }
            Some(Type::Environment(variable)) => {
                let value = std::env::var(&variable.name).unwrap_or_else(|_| variable.default_value.clone());
                TagValue::Literal(value.into())
            }
            Some(Type::Metadata(_) | Type::Value(_)) => {
                notes.ignored(true, &format!("tracing.custom_tags.{}", tag.tag));
                continue;
            }
            None => return Err(Rejection::new("type", "is missing").within(at())),
        };
        found.push(CustomTag { name: tag.tag.as_str().into(), value });
    }
    Ok(found.into())
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::grpc_service::EnvoyGrpc;
    use envoy_types::pb::envoy::config::trace::v3::tracing::Http;
    use envoy_types::pb::google::protobuf::Any;
    use prost::{Message as _, Name as _};

    use super::*;
    use crate::stats::StatsRegistry;

    fn service(cluster: &str) -> GrpcService {
        let target = EnvoyGrpc { cluster_name: cluster.to_owned(), ..Default::default() };
        GrpcService { target_specifier: Some(TargetSpecifier::EnvoyGrpc(target)), ..Default::default() }
    }

    fn read(config: &OpenTelemetryConfig) -> (Result<Option<HttpTracing>, Rejection>, Vec<String>) {
        let typed = Any { type_url: OpenTelemetryConfig::type_url(), value: config.encode_to_vec() };
        let provider = Http { name: "o".into(), config_type: Some(ConfigType::TypedConfig(typed)) };
        read_provider(provider)
    }

    fn read_provider(provider: Http) -> (Result<Option<HttpTracing>, Rejection>, Vec<String>) {
        let tracing = PbTracing { provider: Some(provider), ..Default::default() };
        let given = HttpConnectionManager { tracing: Some(tracing), ..Default::default() };
        let (mut registry, notes) = (StatsRegistry::new(), Notes::default());
        let mut context = DecodeContext { notes, registry: &mut registry };
        let read = super::tracing(&given, &mut context);
        (read, context.notes.fields().to_vec())
    }

    #[test]
    fn a_collector_is_reached_by_a_cluster() {
        let given = OpenTelemetryConfig {
            grpc_service: Some(service("collector")),
            service_name: "web".into(),
            ..Default::default()
        };
        let (read, notes) = read(&given);
        let collector = read.unwrap().unwrap().collector.clone();
        assert_eq!((&*collector.cluster, collector.most), ("collector", 1024));
        assert_eq!(collector.resource.attributes[0], attribute("service.name", "web"));
        assert_eq!(notes, ["request_id_extension.typed_config.pack_trace_reason"]);
    }

    #[test]
    fn what_would_change_how_much_is_traced_is_refused_by_name() {
        let sampler = Some(TypedExtensionConfig { name: "s".into(), ..Default::default() });
        let given =
            OpenTelemetryConfig { grpc_service: Some(service("collector")), sampler, ..Default::default() };
        assert_eq!(read(&given).0.unwrap_err().field, "tracing.provider.typed_config.sampler");
        let nowhere = OpenTelemetryConfig { grpc_service: Some(service("")), ..Default::default() };
        let field = "tracing.provider.typed_config.grpc_service.envoy_grpc.cluster_name";
        assert_eq!(read(&nowhere).0.unwrap_err().field, field);
    }

    #[test]
    fn another_provider_is_noted_and_nothing_is_traced() {
        let (read, notes) = read_provider(Http { name: "envoy.tracers.zipkin".into(), config_type: None });
        assert!(read.unwrap().is_none());
        assert_eq!(notes, ["tracing.provider.envoy.tracers.zipkin"]);
    }
}
