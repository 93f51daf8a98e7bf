//! The HTTP connection manager as every listener of a sidecar has it.

use std::time::Duration;

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::core::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::config::listener::v3::{Filter, filter};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, http_connection_manager, http_filter,
};
use envoy_types::pb::google::protobuf::{Any, BoolValue};

use super::access_log::{self, LogDirection};
use super::model::{Model, WorkloadState};
use super::{local_reply, tap, tracing, wire};

/// A connection lives no longer than this, so that an identity that was replaced goes away in time.
const CONNECTION_LIFE: Duration = Duration::from_secs(3600);
/// A client must have sent its request head by then.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// Routes that come by RDS.
pub(super) fn by_rds(name: String) -> http_connection_manager::RouteSpecifier {
    http_connection_manager::RouteSpecifier::Rds(Rds {
        config_source: Some(wire::ads()),
        route_config_name: name,
    })
}

/// Requests of the application beside the sidecar. With `forwarding` they may go to hosts that are no services.
pub(super) fn outbound(
    workload: &WorkloadState,
    stat_prefix: &str,
    routes: http_connection_manager::RouteSpecifier,
    forwarding: Vec<HttpFilter>,
    model: &Model<'_>,
) -> Filter {
    let mut http_filters = forwarding;
    let local_reply_config = Some(local_reply::outbound(&workload.id, !http_filters.is_empty()));
    http_filters.push(router());
    let mut access_log = vec![access_log::of_requests(LogDirection::Outbound)];
    access_log.extend(tap::of_requests(workload, LogDirection::Outbound));
    let manager = HttpConnectionManager {
        upgrade_configs: upgrades(&["websocket", "CONNECT"]),
        http_filters,
        access_log,
        local_reply_config,
        ..manager(stat_prefix, routes)
    };
    let manager = tracing::of_manager(manager, workload, model);
    network_filter("envoy.filters.network.http_connection_manager", wire::any(&manager))
}

/// Requests of other workloads, to a port as people call it. Nothing here changes with who may do what: a new listener
/// would drain the connections of the old one, and they would go on under the old policies meanwhile.
pub(super) fn inbound(
    workload: &WorkloadState,
    stat_prefix: &str,
    port: &str,
    routes: http_connection_manager::RouteSpecifier,
    authorization: Vec<HttpFilter>,
    logs: Vec<AccessLog>,
    model: &Model<'_>,
) -> Filter {
    let mut access_log = logs;
    access_log.push(access_log::of_requests(LogDirection::Inbound));
    let mut http_filters = authorization;
    http_filters.push(router());
    access_log.extend(tap::of_requests(workload, LogDirection::Inbound));
    let manager = HttpConnectionManager {
        use_remote_address: Some(BoolValue { value: true }),
        // Callers are workloads of the mesh: a request has one id on its whole way.
        preserve_external_request_id: true,
        forward_client_cert_details: http_connection_manager::ForwardClientCertDetails::SanitizeSet as i32,
        set_current_client_cert_details: Some(http_connection_manager::SetCurrentClientCertDetails {
            uri: true,
            dns: true,
            ..Default::default()
        }),
        upgrade_configs: upgrades(&["websocket"]),
        access_log,
        local_reply_config: Some(local_reply::inbound(&workload.id, port)),
        http_filters,
        ..manager(stat_prefix, routes)
    };
    let manager = tracing::of_manager(manager, workload, model);
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
        always_set_request_id_in_response: true,
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
