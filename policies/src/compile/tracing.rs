//! Traces: which requests sidecars make spans of, and the collector that these go to.
//!
//! A change of a listener drains its connections, so listeners say only that there is tracing, and who this is. How many
//! requests begin a trace stands in routes, and where the collector is in a cluster of a fixed name: both take effect at
//! once, on connections that exist.
//!
//! A sidecar makes one span of a request: of kind CLIENT where its application calls, of kind SERVER where it is called.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::config::trace::v3::{OpenTelemetryConfig, tracing};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, RequestIdExtension, http_connection_manager::Tracing,
};
use envoy_types::pb::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use envoy_types::pb::envoy::extensions::tracers::opentelemetry::resource_detectors::v3::StaticConfigResourceDetectorConfig;
use envoy_types::pb::envoy::r#type::tracing::v3::{CustomTag, custom_tag};
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, Percent, fractional_percent::DenominatorType};
use envoy_types::pb::google::protobuf::BoolValue;
use weft_api::resource::{ResourceKind, ResourceRef};

use super::compiled::Compiled;
use super::model::{Model, WorkloadState};
use super::{collector, wire};
use crate::kinds::mesh::{self, TraceShare};
use crate::kinds::telemetry_policy::SpanTag;
use crate::set::{EffectiveTelemetry, PolicyKey};

/// The collector of spans. No service's cluster is called so: those have slashes.
const COLLECTOR: &str = "tracing_collector";

/// The cluster of the collector; nothing where nothing is traced.
pub(super) fn compile(model: &Model<'_>) -> Option<Compiled> {
    let mesh = model.set.mesh()?;
    let tracing = mesh.spec.tracing.as_ref()?;
    Some(Compiled::new(collector::cluster(COLLECTOR, &tracing.endpoint), vec![mesh.key()]))
}

/// The object whose acknowledgement depends on what listeners say of traces.
pub(super) fn origin(model: &Model<'_>) -> Option<PolicyKey> {
    configured(model).and(model.set.mesh()).map(|mesh| mesh.key())
}

/// The objects whose acknowledgement depends on what routes say of traces.
pub(super) fn origins(said: &EffectiveTelemetry, model: &Model<'_>) -> Vec<PolicyKey> {
    let Some(mesh) = origin(model) else { return Vec::new() };
    let sampling = said.sampling.as_ref().map(|set| set.origin.clone());
    let tags = said.tags.as_ref().map(|set| set.origin.clone());
    [mesh].into_iter().chain(sampling).chain(tags).collect()
}

/// What a listener that traces waits for.
pub(super) fn refs(model: &Model<'_>) -> Option<ResourceRef> {
    configured(model).map(|_| ResourceRef::new(ResourceKind::Cluster, COLLECTOR))
}

/// A connection manager that traces, where the mesh does.
pub(super) fn of_manager(
    manager: HttpConnectionManager,
    workload: &WorkloadState,
    model: &Model<'_>,
) -> HttpConnectionManager {
    if configured(model).is_none() {
        return manager;
    }
    let provider = tracing::Http {
        name: "envoy.tracers.opentelemetry".to_owned(),
        config_type: Some(tracing::http::ConfigType::TypedConfig(wire::any(&tracer(workload)))),
    };
    let tracing = Tracing {
        // What has no route begins no trace, and no header makes one begin: routes say how many do.
        client_sampling: Some(Percent { value: 0.0 }),
        random_sampling: Some(Percent { value: 0.0 }),
        provider: Some(provider),
        ..Default::default()
    };
    HttpConnectionManager { tracing: Some(tracing), request_id_extension: Some(request_ids()), ..manager }
}

/// Says of routes to a port how many of their requests begin a trace, and what spans of these tell besides, where the mesh
/// traces.
pub(super) fn sample(routes: &mut [route::Route], said: &EffectiveTelemetry, model: &Model<'_>) {
    let Some(tracing) = configured(model) else { return };
    let sampling = said.sampling.as_ref().map_or(tracing.share(), |set| set.value);
    let tags = said.tags.iter().flat_map(|set| &set.value).map(tag).collect();
    let said = route::Tracing {
        client_sampling: Some(share(TraceShare::NONE)),
        random_sampling: Some(share(sampling)),
        custom_tags: tags,
        ..Default::default()
    };
    for route in routes {
        route.tracing = Some(said.clone());
    }
}

fn tag(tag: &SpanTag) -> CustomTag {
    let value = match (&tag.header, &tag.value) {
        (Some(header), _) => custom_tag::Type::RequestHeader(custom_tag::Header {
            name: header.to_string(),
            ..Default::default()
        }),
        (None, value) => {
            custom_tag::Type::Literal(custom_tag::Literal { value: value.clone().unwrap_or_default() })
        }
    };
    CustomTag { tag: tag.name.clone(), r#type: Some(value) }
}

fn configured<'a>(model: &Model<'a>) -> Option<&'a mesh::Tracing> {
    model.set.mesh()?.spec.tracing.as_ref()
}

fn tracer(workload: &WorkloadState) -> OpenTelemetryConfig {
    let resource = collector::resource(workload);
    OpenTelemetryConfig {
        grpc_service: Some(collector::grpc_service(COLLECTOR, String::new())),
        service_name: resource.name,
        resource_detectors: resource.more.into_iter().map(|(key, value)| attribute(key, value)).collect(),
        ..Default::default()
    }
}

/// One attribute of a resource. One each, since the order of a map of several would differ from time to time.
fn attribute(key: &str, value: String) -> TypedExtensionConfig {
    let config = StaticConfigResourceDetectorConfig { attributes: HashMap::from([(key.to_owned(), value)]) };
    TypedExtensionConfig {
        name: "envoy.tracers.opentelemetry.resource_detectors.static_config".to_owned(),
        typed_config: Some(wire::any(&config)),
    }
}

/// A request has one id on its whole way: what is decided of its trace is told by `traceparent`, not by a changed id.
fn request_ids() -> RequestIdExtension {
    let uuid =
        UuidRequestIdConfig { pack_trace_reason: Some(BoolValue { value: false }), ..Default::default() };
    RequestIdExtension { typed_config: Some(wire::any(&uuid)) }
}

/// Envoy compares with a number below ten thousand, whatever the denominator.
fn share(share: TraceShare) -> FractionalPercent {
    FractionalPercent {
        numerator: share.per_ten_thousand(),
        denominator: DenominatorType::TenThousand as i32,
    }
}
