//! From Envoy's `ExtAuthz` and `ExtAuthzPerRoute`.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as wire_core;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3 as wire;
use envoy_types::pb::envoy::r#type::matcher::v3::ListStringMatcher;
use http::StatusCode;
use weft_routing::decode::matcher;
use weft_routing::matcher::StringMatch;
use weft_routing::rejection::{Notes, Rejection, Within as _, refuse};
use wire::ext_authz::Services;
use wire::ext_authz_per_route::Override as PerRoute;
use wire_core::grpc_service::TargetSpecifier;
use wire_core::header_value_option::HeaderAppendAction;
use wire_core::http_uri::HttpUpstreamType;
use wire_core::{HeaderValue, HeaderValueOption, HttpUri};

use super::super::Override;
use super::{
    AuthzService, BodySettings, CheckPath, CheckSettings, ExtAuthz, ExtAuthzStats, GrpcService, HttpService,
    OnError, WhenDisabled, WithBody,
};
use crate::decode::fields;
use crate::decode::route::header_ops;
use crate::fraction::Fraction;
use crate::route::HeaderOps;
use crate::stats::{StatsRegistry, StatsScope};

/// Of a call to the server, where none is given.
const TIMEOUT: Duration = Duration::from_millis(200);
/// Bytes of the largest answer by gRPC.
const LARGEST_MESSAGE: usize = 1024 * 1024;

pub(in super::super) fn filter(
    given: &wire::ExtAuthz,
    scope: &StatsScope,
    notes: &mut Notes,
    registry: &mut StatsRegistry,
) -> Result<Arc<ExtAuthz>, Rejection> {
    unsupported(given, notes)?;
    let service = match &given.services {
        Some(Services::HttpService(service)) => {
            AuthzService::Http(http_service(service).within(|| "http_service")?)
        }
        Some(Services::GrpcService(service)) => {
            AuthzService::Grpc(grpc_service(given, service, notes).within(|| "grpc_service")?)
        }
        None => return Err(Rejection::new("services", "grpc_service or http_service is needed")),
    };
    let deny_at_disable = given.deny_at_disable.as_ref();
    notes.ignored(
        deny_at_disable.is_some_and(|flag| !flag.runtime_key.is_empty()),
        "ext_authz.deny_at_disable.runtime_key",
    );
    let denies = deny_at_disable.is_some_and(|flag| fields::flag(flag.default_value.as_ref()));
    Ok(Arc::new(ExtAuthz {
        service,
        enabled: Fraction::of_runtime(given.filter_enabled.as_ref(), Fraction::ALL, "filter_enabled", notes)?,
        when_disabled: if denies { WhenDisabled::Deny } else { WhenDisabled::Allow },
        on_error: match (given.failure_mode_allow, given.failure_mode_allow_header_add) {
            (false, _) => OnError::Deny,
            (true, false) => OnError::Allow,
            (true, true) => OnError::AllowAndSay,
        },
        status_on_error: status(given.status_on_error.as_ref().map_or(0, |status| status.code)),
        with_body: given.with_request_body.as_ref().map(with_body).transpose()?,
        clear_route_cache: given.clear_route_cache,
        allowed_headers: allowed_headers(given)?,
        disallowed_headers: list(given.disallowed_headers.as_ref(), "disallowed_headers")?,
        max_denied_body: usize::try_from(given.max_denied_response_body_bytes).ok().filter(|most| *most > 0),
        charges_cluster: given.charge_cluster_response_stats.as_ref().is_none_or(|flag| flag.value),
        stats: ExtAuthzStats::register(registry, scope, &given.stat_prefix),
        counts_by_cluster: given.stat_prefix.is_empty(),
    }))
}

/// What changes who is let on, or what a server is told, is refused.
fn unsupported(given: &wire::ExtAuthz, notes: &mut Notes) -> Result<(), Rejection> {
    refuse(&given.metadata_context_namespaces, "metadata_context_namespaces")?;
    refuse(&given.typed_metadata_context_namespaces, "typed_metadata_context_namespaces")?;
    refuse(&given.route_metadata_context_namespaces, "route_metadata_context_namespaces")?;
    refuse(&given.route_typed_metadata_context_namespaces, "route_typed_metadata_context_namespaces")?;
    refuse(&given.filter_enabled_metadata, "filter_enabled_metadata")?;
    refuse(&given.bootstrap_metadata_labels_key, "bootstrap_metadata_labels_key")?;
    refuse(&given.decoder_header_mutation_rules, "decoder_header_mutation_rules")?;
    refuse(given.enforce_response_header_limits, "enforce_response_header_limits")?;
    refuse(given.shadow_mode, "shadow_mode")?;
    // Nothing here reads metadata or filter state, and there are no traces.
    notes.ignored(&given.enable_dynamic_metadata_ingestion, "ext_authz.enable_dynamic_metadata_ingestion");
    notes.ignored(&given.filter_metadata, "ext_authz.filter_metadata");
    notes.ignored(given.emit_filter_state_stats, "ext_authz.emit_filter_state_stats");
    notes.ignored(&given.emit_client_span, "ext_authz.emit_client_span");
    refuse(given.encode_raw_headers, "encode_raw_headers")?;
    Ok(())
}

fn status(code: i32) -> StatusCode {
    let known = u16::try_from(code).ok().filter(|code| (200..600).contains(code));
    known.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::FORBIDDEN)
}

fn with_body(given: &wire::BufferSettings) -> Result<WithBody, Rejection> {
    if given.max_request_bytes == 0 {
        return Err(Rejection::new("with_request_body.max_request_bytes", "must be greater than 0"));
    }
    Ok(WithBody {
        most: given.max_request_bytes as usize,
        partial: given.allow_partial_message,
        as_bytes: given.pack_as_bytes,
    })
}

/// The older place of the list is below the service.
#[expect(deprecated, reason = "configurations have it there")]
fn allowed_headers(given: &wire::ExtAuthz) -> Result<Vec<StringMatch>, Rejection> {
    let older = match &given.services {
        Some(Services::HttpService(service)) => service.authorization_request.as_ref(),
        Some(Services::GrpcService(_)) | None => None,
    };
    let older = older.and_then(|request| request.allowed_headers.as_ref());
    if older.is_some() && given.allowed_headers.is_some() {
        let reason = "is given in http_service.authorization_request too";
        return Err(Rejection::new("allowed_headers", reason));
    }
    list(given.allowed_headers.as_ref().or(older), "allowed_headers")
}

fn list(given: Option<&ListStringMatcher>, field: &str) -> Result<Vec<StringMatch>, Rejection> {
    let patterns = given.iter().flat_map(|list| &list.patterns).enumerate();
    let each = patterns.map(|(index, one)| {
        // Names are in lower case.
        let matcher = matcher::string(one).within(|| format!("{field}.patterns[{index}]"))?;
        Ok(matcher.ignoring_case())
    });
    each.collect()
}

fn http_service(given: &wire::HttpService) -> Result<HttpService, Rejection> {
    refuse(&given.retry_policy, "retry_policy")?;
    let (cluster, timeout) = server(given.server_uri.as_ref()).within(|| "server_uri")?;
    let request = given.authorization_request.clone().unwrap_or_default();
    let response = given.authorization_response.clone().unwrap_or_default();
    let responses = |given: Option<&_>, field| list(given, field).within(|| "authorization_response");
    Ok(HttpService {
        cluster,
        timeout,
        path: path(given)?,
        headers_to_add: overwriting(&request.headers_to_add).within(|| "authorization_request")?,
        upstream_headers: responses(response.allowed_upstream_headers.as_ref(), "allowed_upstream_headers")?,
        upstream_headers_to_append: responses(
            response.allowed_upstream_headers_to_append.as_ref(),
            "allowed_upstream_headers_to_append",
        )?,
        client_headers: responses(response.allowed_client_headers.as_ref(), "allowed_client_headers")?,
        client_headers_on_success: responses(
            response.allowed_client_headers_on_success.as_ref(),
            "allowed_client_headers_on_success",
        )?,
    })
}

fn grpc_service(
    filter: &wire::ExtAuthz,
    given: &wire_core::GrpcService,
    notes: &mut Notes,
) -> Result<GrpcService, Rejection> {
    if filter.transport_api_version != i32::from(wire_core::ApiVersion::V3) {
        return Err(Rejection::new("transport_api_version", "must be V3"));
    }
    refuse(&given.retry_policy, "retry_policy")?;
    let service = match &given.target_specifier {
        Some(TargetSpecifier::EnvoyGrpc(service)) => service,
        Some(TargetSpecifier::GoogleGrpc(_)) => return Err(Rejection::unsupported("google_grpc")),
        None => return Err(Rejection::new("envoy_grpc", "is missing")),
    };
    refuse(&service.retry_policy, "envoy_grpc.retry_policy")?;
    notes.ignored(service.skip_envoy_headers, "ext_authz.grpc_service.envoy_grpc.skip_envoy_headers");
    if service.cluster_name.is_empty() {
        return Err(Rejection::new("envoy_grpc.cluster_name", "is missing"));
    }
    let authority = if service.authority.is_empty() { &service.cluster_name } else { &service.authority };
    let largest = fields::number(service.max_receive_message_length.as_ref()).map(|most| most as usize);
    let wrong = || Rejection::new("envoy_grpc.authority", format!("{authority:?} is no authority"));
    Ok(GrpcService {
        cluster: service.cluster_name.as_str().into(),
        authority: authority.parse().map_err(|_| wrong())?,
        timeout: fields::timeout(given.timeout.as_ref(), Some(TIMEOUT), "timeout")?,
        largest: largest.unwrap_or(LARGEST_MESSAGE).min(LARGEST_MESSAGE),
        metadata: overwriting(&given.initial_metadata).within(|| "initial_metadata")?,
        include_peer_certificate: filter.include_peer_certificate,
        include_tls_session: filter.include_tls_session,
    })
}

/// Operations that put headers where others of their names may be.
fn overwriting(given: &[HeaderValue]) -> Result<HeaderOps, Rejection> {
    let options = given.iter().map(|header| HeaderValueOption {
        header: Some(header.clone()),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..Default::default()
    });
    header_ops(&options.collect::<Vec<_>>(), &[])
}

fn server(given: Option<&HttpUri>) -> Result<(Arc<str>, Option<Duration>), Rejection> {
    let given = given.ok_or_else(|| Rejection::new("", "is missing"))?;
    let timeout = fields::timeout(given.timeout.as_ref(), Some(TIMEOUT), "timeout")?;
    match &given.http_upstream_type {
        Some(HttpUpstreamType::Cluster(cluster)) if !cluster.is_empty() => {
            Ok((cluster.as_str().into(), timeout))
        }
        Some(HttpUpstreamType::Cluster(_)) | None => Err(Rejection::new("cluster", "is missing")),
    }
}

fn path(given: &wire::HttpService) -> Result<CheckPath, Rejection> {
    for (path, field) in [(&given.path_prefix, "path_prefix"), (&given.path_override, "path_override")] {
        if !path.is_empty() && !path.starts_with('/') {
            return Err(Rejection::new(field, "must begin with a slash"));
        }
    }
    if given.path_override.is_empty() {
        return Ok(CheckPath::Prefixed(given.path_prefix.as_str().into()));
    }
    if !given.path_prefix.is_empty() {
        return Err(Rejection::new("path_override", "is given beside path_prefix"));
    }
    let path = given.path_override.parse();
    path.map(CheckPath::Fixed).map_err(|_| Rejection::new("path_override", "is no path"))
}

pub(in super::super) fn per_route(
    given: &wire::ExtAuthzPerRoute,
    notes: &mut Notes,
) -> Result<Override, Rejection> {
    match &given.r#override {
        Some(PerRoute::Disabled(true)) => Ok(Override::Disabled),
        Some(PerRoute::Disabled(false)) => Ok(Override::ExtAuthz(Arc::default())),
        Some(PerRoute::CheckSettings(given)) => {
            let settings = check_settings(given, notes).within(|| "check_settings")?;
            Ok(Override::ExtAuthz(Arc::new(settings)))
        }
        None => Err(Rejection::new("override", "disabled or check_settings is needed")),
    }
}

fn check_settings(given: &wire::CheckSettings, notes: &mut Notes) -> Result<CheckSettings, Rejection> {
    refuse(&given.service_override, "service_override")?;
    notes.ignored(&given.emit_client_span, "ext_authz.check_settings.emit_client_span");
    let body = match (&given.with_request_body, given.disable_request_body_buffering) {
        (Some(_), true) => {
            let reason = "is given beside with_request_body";
            return Err(Rejection::new("disable_request_body_buffering", reason));
        }
        (Some(body), false) => BodySettings::With(with_body(body)?),
        (None, true) => BodySettings::None,
        (None, false) => BodySettings::Inherited,
    };
    Ok(CheckSettings { body, context_extensions: given.context_extensions.clone() })
}
