//! `HttpConnectionManager`.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter as PbFilter;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    CodecType, ForwardClientCertDetails, RouteSpecifier,
    ServerHeaderTransformation, StripPortMode,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use weft_routing::rejection::{Rejection, Within as _, refuse};

use super::fields::{self, number};
use super::{DecodeContext, ResourceReference, access_log, local_reply, protocol, route};
use crate::filter::{self, HttpFilter};
use crate::runtime::{
    self, ClientCertDetails, Codec, ForwardClientCert, Forwarding, HttpFilters, HttpLimits, HttpManager,
    HttpTimeouts, RequestIds, RouteSource, ServerHeader, StripPort, Underscores, UpgradeConfig,
};
use crate::stats::{HttpStats, StatsScope};
use crate::tracer;

/// The manager, and the route configuration that it names.
pub(super) fn decode(
    given: &HttpConnectionManager,
    context: &mut DecodeContext<'_>,
) -> Result<(HttpManager, Option<ResourceReference>), Rejection> {
    if given.stat_prefix.is_empty() {
        return Err(Rejection::new("stat_prefix", "must not be empty"));
    }
    unsupported(given, context)?;
    let (routes, named) = routes(given, context)?;
    let common = given.common_http_protocol_options.as_ref();
    let scope = StatsScope::http(&given.stat_prefix);
    let manager = HttpManager {
        stat_prefix: given.stat_prefix.as_str().into(),
        stats: HttpStats::register(context.registry, &scope),
        codec: match CodecType::try_from(given.codec_type) {
            Ok(CodecType::Auto) => Codec::Auto,
            Ok(CodecType::Http1) => Codec::Http1,
            Ok(CodecType::Http2) => Codec::Http2,
            Ok(CodecType::Http3) => return Err(Rejection::unsupported("codec_type HTTP3")),
            Err(_) => return Err(Rejection::new("codec_type", "unknown value")),
        },
        routes,
        filters: filters(&given.http_filters, &scope, context)?,
        server_name: if given.server_name.is_empty() { "envoy" } else { given.server_name.as_str() }.into(),
        server_header: match ServerHeaderTransformation::try_from(given.server_header_transformation) {
            Ok(ServerHeaderTransformation::Overwrite) => ServerHeader::Overwrite,
            Ok(ServerHeaderTransformation::AppendIfAbsent) => ServerHeader::AppendIfAbsent,
            Ok(ServerHeaderTransformation::PassThrough) => ServerHeader::PassThrough,
            Err(_) => return Err(Rejection::new("server_header_transformation", "unknown value")),
        },
        forwarding: Forwarding {
            use_remote_address: fields::flag(given.use_remote_address.as_ref()),
            trusted_hops: given.xff_num_trusted_hops,
            skip_append: given.skip_xff_append,
        },
        request_ids: RequestIds {
            generate: given.generate_request_id.as_ref().is_none_or(|flag| flag.value),
            preserve_external: given.preserve_external_request_id,
            in_response: given.always_set_request_id_in_response,
        },
        forward_client_cert: forward_client_cert(given)?,
        client_cert_details: client_cert_details(given)?,
        path: weft_routing::decode::path::options(given)?,
        strip_port: match given.strip_port_mode {
            Some(StripPortMode::StripAnyHostPort(true)) => StripPort::Any,
            Some(StripPortMode::StripAnyHostPort(false)) | None if given.strip_matching_host_port => {
                StripPort::Matching
            }
            Some(StripPortMode::StripAnyHostPort(false)) | None => StripPort::Keep,
        },
        timeouts: timeouts(given)?,
        limits: limits(given)?,
        underscores: match common.map_or(0, |common| common.headers_with_underscores_action) {
            0 => Underscores::Allow,
            1 => Underscores::RejectRequest,
            2 => Underscores::DropHeader,
            _ => return Err(Rejection::new("headers_with_underscores_action", "unknown value")),
        },
        http1: protocol::http1(given.http_protocol_options.as_ref(), &mut context.notes)
            .within(|| "http_protocol_options")?,
        http2: protocol::http2(given.http2_protocol_options.as_ref(), &mut context.notes)
            .within(|| "http2_protocol_options")?,
        upgrades: upgrades(given)?,
        access_log: access_log::decode(&given.access_log, context)?,
        tracing: tracer::decode::tracing(given, context)?,
        local_replies: match &given.local_reply_config {
            Some(config) => {
                let replies = local_reply::local_replies(config).within(|| "local_reply_config")?;
                Some(Arc::new(replies))
            }
            None => None,
        },
    };
    Ok((manager, named))
}

fn unsupported(given: &HttpConnectionManager, context: &mut DecodeContext<'_>) -> Result<(), Rejection> {
    refuse(&given.original_ip_detection_extensions, "original_ip_detection_extensions")?;
    refuse(&given.early_header_mutation_extensions, "early_header_mutation_extensions")?;
    refuse(&given.forward_client_cert_matcher, "forward_client_cert_matcher")?;
    refuse(&given.path_normalization_options, "path_normalization_options")?;
    refuse(&given.typed_header_validation_config, "typed_header_validation_config")?;
    refuse(&given.scheme_header_transformation, "scheme_header_transformation")?;
    refuse(&given.forward_proto_config, "forward_proto_config")?;
    refuse(&given.http3_protocol_options, "http3_protocol_options")?;
    refuse(&given.via, "via")?;
    refuse(given.strip_trailing_host_dot, "strip_trailing_host_dot")?;
    refuse(given.proxy_100_continue, "proxy_100_continue")?;
    refuse(given.append_x_forwarded_port, "append_x_forwarded_port")?;
    refuse(fields::flag(given.add_user_agent.as_ref()), "add_user_agent")?;
    // Only the list of internal addresses is missing: without it nothing is internal but what Envoy's default
    // makes so, and headers of callers from outside are cleaned either way.
    context.notes.ignored(&given.internal_address_config, "internal_address_config");
    context.notes.ignored(&given.delayed_close_timeout, "delayed_close_timeout");
    context.notes.ignored(&given.proxy_status_config, "proxy_status_config");
    context.notes.ignored(&given.access_log_flush_interval, "access_log_flush_interval");
    context.notes.ignored(given.flush_access_log_on_new_request, "flush_access_log_on_new_request");
    context.notes.ignored(&given.access_log_options, "access_log_options");
    context.notes.ignored(&given.stream_flush_timeout, "stream_flush_timeout");
    context.notes.ignored(&given.drain_timeout_jitter, "drain_timeout_jitter");
    context
        .notes
        .ignored(&given.stream_error_on_invalid_http_message, "stream_error_on_invalid_http_message");
    context.notes.ignored(given.represent_ipv4_remote_address_as_ipv4_mapped_ipv6, "represent_ipv4_as_ipv6");
    context.notes.ignored(given.append_local_overload, "append_local_overload");
    context.notes.ignored(&given.add_proxy_protocol_connection_state, "add_proxy_protocol_connection_state");
    context.notes.ignored(given.http1_safe_max_connection_duration, "http1_safe_max_connection_duration");
    Ok(())
}

fn routes(
    given: &HttpConnectionManager,
    context: &mut DecodeContext<'_>,
) -> Result<(RouteSource, Option<ResourceReference>), Rejection> {
    match &given.route_specifier {
        Some(RouteSpecifier::Rds(rds)) => {
            let name = rds.route_config_name.as_str();
            let reference = ResourceReference::decode(name, rds.config_source.as_ref(), "rds.config_source")?;
            Ok((RouteSource::Rds(name.into()), Some(reference)))
        }
        Some(RouteSpecifier::RouteConfig(config)) => {
            let config = route::route_config(config).within(|| "route_config")?;
            if config.vhds.is_some() {
                let reason = "a route configuration with virtual hosts of their own comes by rds";
                return Err(Rejection::new("route_config.vhds", reason));
            }
            filter::decode::register(config.all_filter_overrides(), context.registry);
            config.register(context.registry);
            for field in config.notes.fields() {
                context.notes.ignored(true, field);
            }
            Ok((RouteSource::Inline(Arc::new(config)), None))
        }
        Some(RouteSpecifier::ScopedRoutes(_)) => Err(Rejection::unsupported("scoped_routes")),
        None => Err(Rejection::new("route_specifier", "rds or route_config is needed")),
    }
}

/// What an entry of the list is.
enum DecodedHttpFilter {
    Filter(HttpFilter),
    Router(runtime::Router),
}

fn filters(
    given: &[PbFilter],
    scope: &StatsScope,
    context: &mut DecodeContext<'_>,
) -> Result<HttpFilters, Rejection> {
    let (mut filters, mut router) = (Vec::new(), None);
    for (index, filter) in given.iter().enumerate() {
        let at = || format!("http_filters[{index}]");
        let Some(entry) = decode_filter(filter, scope, context).within(at)? else { continue };
        if router.is_some() {
            return Err(Rejection::new(at(), "the router must be the last filter"));
        }
        match entry {
            DecodedHttpFilter::Filter(filter) => filters.push(filter),
            DecodedHttpFilter::Router(last) => router = Some(last),
        }
    }
    Ok(HttpFilters::new(filters, router))
}

fn decode_filter(
    given: &PbFilter,
    scope: &StatsScope,
    context: &mut DecodeContext<'_>,
) -> Result<Option<DecodedHttpFilter>, Rejection> {
    let config = match &given.config_type {
        Some(ConfigType::TypedConfig(config)) => Some(config),
        Some(ConfigType::ConfigDiscovery(_)) => return Err(Rejection::unsupported("config_discovery")),
        None => None,
    };
    let known = match config {
        Some(config) if fields::holds::<Router>(config) => {
            let router: Router = fields::unpack(config, "typed_config")?;
            refuse(&router.upstream_http_filters, "typed_config.upstream_http_filters")?;
            refuse(&router.strict_check_headers, "typed_config.strict_check_headers")?;
            context.notes.ignored(&router.upstream_log, "router.upstream_log");
            context.notes.ignored(router.start_child_span, "router.start_child_span");
            let suppress_envoy_headers = router.suppress_envoy_headers;
            Some(DecodedHttpFilter::Router(runtime::Router { suppress_envoy_headers }))
        }
        Some(config) => {
            let known = filter::decode::filter(config, scope, &mut context.notes, context.registry);
            let name = given.name.as_str().into();
            known
                .within(|| "typed_config")?
                .map(|filter| DecodedHttpFilter::Filter(HttpFilter { name, filter }))
        }
        None => None,
    };
    match known {
        Some(_) if given.disabled => Err(Rejection::unsupported("disabled")),
        Some(known) => Ok(Some(known)),
        None if given.is_optional => {
            context.notes.ignored(true, &format!("http_filters.{} (optional)", given.name));
            Ok(None)
        }
        None => Err(fields::unknown_extension(&given.name, config, "")),
    }
}

fn forward_client_cert(given: &HttpConnectionManager) -> Result<ForwardClientCert, Rejection> {
    Ok(match ForwardClientCertDetails::try_from(given.forward_client_cert_details) {
        Ok(ForwardClientCertDetails::Sanitize) => ForwardClientCert::Sanitize,
        Ok(ForwardClientCertDetails::ForwardOnly) => ForwardClientCert::ForwardOnly,
        Ok(ForwardClientCertDetails::AppendForward) => ForwardClientCert::AppendForward,
        Ok(ForwardClientCertDetails::SanitizeSet) => ForwardClientCert::SanitizeSet,
        Ok(ForwardClientCertDetails::AlwaysForwardOnly) => ForwardClientCert::AlwaysForwardOnly,
        Err(_) => return Err(Rejection::new("forward_client_cert_details", "unknown value")),
    })
}

fn client_cert_details(given: &HttpConnectionManager) -> Result<ClientCertDetails, Rejection> {
    let Some(set) = &given.set_current_client_cert_details else { return Ok(ClientCertDetails::default()) };
    refuse(set.issuer, "set_current_client_cert_details.issuer")?;
    refuse(set.format != 0, "set_current_client_cert_details.format")?;
    let subject = fields::flag(set.subject.as_ref());
    Ok(ClientCertDetails { subject, cert: set.cert, chain: set.chain, dns: set.dns, uri: set.uri })
}

fn timeouts(given: &HttpConnectionManager) -> Result<HttpTimeouts, Rejection> {
    let default = HttpTimeouts::default();
    let common = given.common_http_protocol_options.as_ref();
    let at = "common_http_protocol_options";
    let idle = common.and_then(|common| common.idle_timeout.as_ref());
    let max_connection = common.and_then(|common| common.max_connection_duration.as_ref());
    let max_stream = common.and_then(|common| common.max_stream_duration.as_ref());
    Ok(HttpTimeouts {
        idle: fields::timeout(idle, default.idle, "idle_timeout").within(|| at)?,
        stream_idle: fields::timeout(
            given.stream_idle_timeout.as_ref(),
            default.stream_idle,
            "stream_idle_timeout",
        )?,
        request: fields::timeout(given.request_timeout.as_ref(), None, "request_timeout")?,
        request_headers: fields::timeout(
            given.request_headers_timeout.as_ref(),
            None,
            "request_headers_timeout",
        )?,
        max_connection: fields::timeout(max_connection, None, "max_connection_duration").within(|| at)?,
        max_stream: fields::timeout(max_stream, None, "max_stream_duration").within(|| at)?,
        drain: fields::duration(given.drain_timeout.as_ref(), "drain_timeout")?
            .filter(|drain| *drain > Duration::ZERO)
            .unwrap_or(default.drain),
        delayed_close: fields::timeout(
            given.delayed_close_timeout.as_ref(),
            default.delayed_close,
            "delayed_close_timeout",
        )?,
    })
}

fn limits(given: &HttpConnectionManager) -> Result<HttpLimits, Rejection> {
    let default = HttpLimits::default();
    let common = given.common_http_protocol_options.as_ref();
    let header_bytes = match number(given.max_request_headers_kb.as_ref()) {
        None => default.header_bytes,
        Some(kb) if (1..=8192).contains(&kb) => kb as usize * 1024,
        Some(kb) => {
            let reason = format!("{kb} is not within 1 and 8192");
            return Err(Rejection::new("max_request_headers_kb", reason));
        }
    };
    let headers = match common.and_then(|common| number(common.max_headers_count.as_ref())) {
        None => default.headers,
        Some(0) => {
            let field = "common_http_protocol_options.max_headers_count";
            return Err(Rejection::new(field, "must be at least 1"));
        }
        Some(count) => count as usize,
    };
    let requests_per_connection = common
        .and_then(|common| number(common.max_requests_per_connection.as_ref()))
        .filter(|limit| *limit > 0);
    Ok(HttpLimits { headers, header_bytes, requests_per_connection })
}

fn upgrades(given: &HttpConnectionManager) -> Result<Vec<UpgradeConfig>, Rejection> {
    let mut all: Vec<UpgradeConfig> = Vec::new();
    for (index, upgrade) in given.upgrade_configs.iter().enumerate() {
        let at = || format!("upgrade_configs[{index}]");
        refuse(&upgrade.filters, "filters").within(at)?;
        let protocol: Arc<str> = upgrade.upgrade_type.to_ascii_lowercase().into();
        if all.iter().any(|earlier| earlier.protocol == protocol) {
            return Err(Rejection::new(at(), format!("{protocol:?} is given twice")));
        }
        let enabled = upgrade.enabled.as_ref().is_none_or(|enabled| enabled.value);
        all.push(UpgradeConfig { protocol, enabled });
    }
    Ok(all)
}
