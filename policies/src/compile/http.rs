//! The HTTP connection manager as every listener of a sidecar has it.

use std::time::Duration;

use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, ComparisonFilter, ResponseFlagFilter, StatusCodeFilter, access_log,
    access_log_filter, comparison_filter,
};
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, HttpProtocolOptions, RuntimeUInt32, SubstitutionFormatString, data_source,
    substitution_format_string,
};
use envoy_types::pb::envoy::config::listener::v3::{Filter, filter};
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::StdoutAccessLog;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::stdout_access_log::AccessLogFormat;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, LocalReplyConfig, Rds, ResponseMapper, http_connection_manager,
    http_filter,
};
use envoy_types::pb::google::protobuf::{Any, BoolValue};

use super::wire;

/// A connection lives no longer than this, so that an identity that was replaced goes away in time.
const CONNECTION_LIFE: Duration = Duration::from_secs(3600);
/// A client must have sent its request head by then.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// The access log's line for a refused request.
const REFUSED: &str = concat!(
    "[%START_TIME%] refused \"%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% ",
    "from %DOWNSTREAM_PEER_URI_SAN% to %REQUESTED_SERVER_NAME%\n"
);

/// Routes that come by RDS.
pub(super) fn by_rds(name: String) -> http_connection_manager::RouteSpecifier {
    http_connection_manager::RouteSpecifier::Rds(Rds {
        config_source: Some(wire::ads()),
        route_config_name: name,
    })
}

/// Requests of the application beside the sidecar. With `forwarding` they may go to hosts that are no services.
pub(super) fn outbound(
    stat_prefix: &str,
    routes: http_connection_manager::RouteSpecifier,
    forwarding: Vec<HttpFilter>,
) -> Filter {
    let mut http_filters = forwarding;
    let local_reply_config = (!http_filters.is_empty()).then(not_forwarded);
    http_filters.push(router());
    let manager = HttpConnectionManager {
        upgrade_configs: upgrades(&["websocket", "CONNECT"]),
        http_filters,
        local_reply_config,
        ..manager(stat_prefix, routes)
    };
    network_filter("envoy.filters.network.http_connection_manager", wire::any(&manager))
}

/// Requests of other workloads, to a port as people call it. Nothing here changes with policies: a new listener would
/// drain the connections of the old one, and they would go on under the old policies meanwhile.
pub(super) fn inbound(
    stat_prefix: &str,
    port: &str,
    routes: http_connection_manager::RouteSpecifier,
    authorization: Vec<HttpFilter>,
) -> Filter {
    let mut http_filters = authorization;
    http_filters.push(router());
    let manager = HttpConnectionManager {
        use_remote_address: Some(BoolValue { value: true }),
        forward_client_cert_details: http_connection_manager::ForwardClientCertDetails::SanitizeSet as i32,
        set_current_client_cert_details: Some(http_connection_manager::SetCurrentClientCertDetails {
            uri: true,
            dns: true,
            ..Default::default()
        }),
        upgrade_configs: upgrades(&["websocket"]),
        access_log: vec![log_of_refusals()],
        local_reply_config: Some(refusals(port)),
        http_filters,
        ..manager(stat_prefix, routes)
    };
    network_filter("envoy.filters.network.http_connection_manager", wire::any(&manager))
}

/// Wraps the configuration of a network filter.
pub(super) fn network_filter(name: &str, config: Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) }
}

/// Wraps the configuration of an HTTP filter.
pub(super) fn http_filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

/// What both directions share. One normaliser serves routing, authorization and forwarding: dot segments are
/// resolved, slashes merged, and a path with an escaped slash is refused, since peers read it differently.
fn manager(stat_prefix: &str, routes: http_connection_manager::RouteSpecifier) -> HttpConnectionManager {
    HttpConnectionManager {
        codec_type: http_connection_manager::CodecType::Auto as i32,
        stat_prefix: stat_prefix.to_owned(),
        route_specifier: Some(routes),
        common_http_protocol_options: Some(HttpProtocolOptions {
            max_connection_duration: Some(wire::duration(CONNECTION_LIFE)),
            ..Default::default()
        }),
        http1_safe_max_connection_duration: true,
        request_headers_timeout: Some(wire::duration(HEADERS_TIMEOUT)),
        normalize_path: Some(BoolValue { value: true }),
        merge_slashes: true,
        path_with_escaped_slashes_action: http_connection_manager::PathWithEscapedSlashesAction::RejectRequest
            as i32,
        server_header_transformation: http_connection_manager::ServerHeaderTransformation::PassThrough as i32,
        ..Default::default()
    }
}

fn router() -> HttpFilter {
    http_filter("envoy.filters.http.router", wire::any(&Router::default()))
}

fn upgrades(types: &[&str]) -> Vec<http_connection_manager::UpgradeConfig> {
    let upgrade = |name: &&str| http_connection_manager::UpgradeConfig {
        upgrade_type: (*name).to_owned(),
        ..Default::default()
    };
    types.iter().map(upgrade).collect()
}

/// Gives each 403 that the sidecar itself answers a body: on an inbound listener only authorization answers so. The
/// details name the rule that refused, the route's name tells who is allowed.
fn refusals(port: &str) -> LocalReplyConfig {
    let body = format!("access to {} denied: %RESPONSE_CODE_DETAILS%; %ROUTE_NAME%", wire::literal(port));
    LocalReplyConfig { mappers: vec![reply(forbidden(), body)], ..Default::default() }
}

/// What the application is told of a host that no service has and that is not forwarded.
fn not_forwarded() -> LocalReplyConfig {
    let unresolved = AccessLogFilter {
        filter_specifier: Some(access_log_filter::FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter {
            flags: vec!["DF".to_owned()],
        })),
    };
    let unresolved = reply(
        unresolved,
        "no service of the mesh has the host name %REQ(:AUTHORITY)%, and it has no address that is forwarded to"
            .to_owned(),
    );
    let own = reply(
        forbidden(),
        "%REQ(:AUTHORITY)% is an address of this machine, of its link or of a control plane: nothing is forwarded there"
            .to_owned(),
    );
    LocalReplyConfig { mappers: vec![unresolved, own], ..Default::default() }
}

fn reply(filter: AccessLogFilter, body: String) -> ResponseMapper {
    ResponseMapper {
        filter: Some(filter),
        body_format_override: Some(SubstitutionFormatString {
            content_type: "text/plain; charset=utf-8".to_owned(),
            ..text_format(body)
        }),
        ..Default::default()
    }
}

/// A line for each request that was answered 403: who asked what, and which rule refused it.
fn log_of_refusals() -> AccessLog {
    let log = StdoutAccessLog {
        access_log_format: Some(AccessLogFormat::LogFormat(text_format(REFUSED.to_owned()))),
    };
    AccessLog {
        name: "envoy.access_loggers.stdout".to_owned(),
        filter: Some(forbidden()),
        config_type: Some(access_log::ConfigType::TypedConfig(wire::any(&log))),
    }
}

fn forbidden() -> AccessLogFilter {
    let comparison = ComparisonFilter {
        op: comparison_filter::Op::Eq as i32,
        value: Some(RuntimeUInt32 { default_value: 403, runtime_key: "weft.refused".to_owned() }),
    };
    let filter = StatusCodeFilter { comparison: Some(comparison) };
    AccessLogFilter { filter_specifier: Some(access_log_filter::FilterSpecifier::StatusCodeFilter(filter)) }
}

fn text_format(text: String) -> SubstitutionFormatString {
    let text =
        DataSource { specifier: Some(data_source::Specifier::InlineString(text)), ..Default::default() };
    SubstitutionFormatString {
        format: Some(substitution_format_string::Format::TextFormatSource(text)),
        ..Default::default()
    }
}
