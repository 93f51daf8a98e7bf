//! What a sidecar writes down of requests and connections, and what of it the control plane is told: those that failed or
//! were refused. A stock Envoy without the control plane's cluster in its bootstrap serves all the same, and tells nothing.

use std::time::Duration;

use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, AndFilter, ComparisonFilter, ExtensionFilter, GrpcStatusFilter, OrFilter,
    ResponseFlagFilter, StatusCodeFilter, access_log, access_log_filter::FilterSpecifier, comparison_filter,
    extension_filter, grpc_status_filter,
};
use envoy_types::pb::envoy::config::core::v3::{
    ApiVersion, GrpcService, RuntimeUInt32, grpc_service, grpc_service::EnvoyGrpc,
};
use envoy_types::pb::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3::{
    CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig,
};
use envoy_types::pb::google::protobuf::Any;
use weft_api::names::{CONTROL_PLANE_CLUSTER, INBOUND_ACCESS_LOG, OUTBOUND_ACCESS_LOG};

use super::wire;

/// An entry waits so long at most for others that go with it.
pub(super) const FLUSH: Duration = Duration::from_secs(1);
/// What says that a request failed, whatever its status. Delays that were planted do not.
const FAILED: [&str; 24] = [
    "LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "FI", "RL", "UAEX", "RLSE", "DC", "URX", "SI",
    "IH", "DPE", "UMSDR", "DT", "UPE", "NC", "OM", "DF",
];
/// The same of a connection. That its client closed it is no failure.
const BROKEN: [&str; 7] = ["UH", "UF", "UO", "NR", "NC", "UAEX", "OM"];
/// Connections that ended in their handshake, and those that a filter refused: neither has a flag.
const UNSERVED: &str = "connection.transport_failure_reason != '' || connection.termination_details != ''";
/// What a sidecar answers itself. Many of these have no flag: a head that is refused before a route is looked for.
const OWN_ANSWER: &str =
    "response.code_details != 'via_upstream' && response.code_details != 'direct_response'";

/// On which side of a sidecar.
#[derive(Debug, Clone, Copy)]
pub(super) enum LogDirection {
    Inbound,
    Outbound,
}

/// Tells the control plane of requests that failed or were refused.
pub(super) fn of_requests(side: LogDirection) -> AccessLog {
    let filter = failed();
    let config = HttpGrpcAccessLogConfig { common_config: Some(told(side)), ..Default::default() };
    log("envoy.access_loggers.http_grpc", filter, wire::any(&config))
}

/// Tells the control plane of connections that failed or were refused, in their handshake or after it.
pub(super) fn of_connections(side: LogDirection) -> AccessLog {
    let config = TcpGrpcAccessLogConfig { common_config: Some(told(side)) };
    let filter = any(vec![flags(&BROKEN), attributes(UNSERVED)]);
    log("envoy.access_loggers.tcp_grpc", filter, wire::any(&config))
}

/// Requests that failed or were refused.
pub(super) fn failed() -> AccessLogFilter {
    let grpc = [
        grpc_status_filter::Status::PermissionDenied,
        grpc_status_filter::Status::Unauthenticated,
        grpc_status_filter::Status::Unavailable,
        grpc_status_filter::Status::DeadlineExceeded,
        grpc_status_filter::Status::ResourceExhausted,
    ];
    any(vec![
        status(comparison_filter::Op::Ge, 500, "weft.failed"),
        status(comparison_filter::Op::Eq, 401, "weft.unauthenticated"),
        refused(),
        all(vec![refused_or_failed(), attributes(OWN_ANSWER)]),
        flags(&FAILED),
        filter(FilterSpecifier::GrpcStatusFilter(GrpcStatusFilter {
            statuses: grpc.map(|status| status as i32).into(),
            exclude: false,
        })),
    ])
}

/// Requests that were answered 403.
pub(super) fn refused() -> AccessLogFilter {
    status(comparison_filter::Op::Eq, 403, "weft.refused")
}

/// Requests whose head is refused, before they have an id beside an Envoy.
pub(super) fn of_a_bad_head() -> [AccessLogFilter; 2] {
    [(400, "weft.bad"), (431, "weft.large")].map(|(code, key)| status(comparison_filter::Op::Eq, code, key))
}

/// Requests that were not answered well, for whatever reason.
pub(super) fn refused_or_failed() -> AccessLogFilter {
    status(comparison_filter::Op::Ge, 400, "weft.answered")
}

/// What any of these flags was set for.
pub(super) fn flags(letters: &[&str]) -> AccessLogFilter {
    let flags = letters.iter().map(|letters| (*letters).to_owned()).collect();
    filter(FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter { flags }))
}

pub(super) fn told(side: LogDirection) -> CommonGrpcAccessLogConfig {
    let name = match side {
        LogDirection::Inbound => INBOUND_ACCESS_LOG,
        LogDirection::Outbound => OUTBOUND_ACCESS_LOG,
    };
    let target = grpc_service::TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
        cluster_name: CONTROL_PLANE_CLUSTER.to_owned(),
        ..Default::default()
    });
    CommonGrpcAccessLogConfig {
        log_name: name.to_owned(),
        grpc_service: Some(GrpcService { target_specifier: Some(target), ..Default::default() }),
        transport_api_version: ApiVersion::V3 as i32,
        buffer_flush_interval: Some(wire::duration(FLUSH)),
        ..Default::default()
    }
}

pub(super) fn log(name: &str, filter: AccessLogFilter, config: Any) -> AccessLog {
    AccessLog {
        name: name.to_owned(),
        filter: Some(filter),
        config_type: Some(access_log::ConfigType::TypedConfig(config)),
    }
}

/// The value is Envoy's runtime key of this name, unless nobody sets that.
fn status(op: comparison_filter::Op, value: u32, key: &str) -> AccessLogFilter {
    let value = RuntimeUInt32 { default_value: value, runtime_key: key.to_owned() };
    let comparison = Some(ComparisonFilter { op: op as i32, value: Some(value) });
    filter(FilterSpecifier::StatusCodeFilter(StatusCodeFilter { comparison }))
}

/// What Envoy's attributes are compared with, in CEL. weft-proxy understands what stands in this file.
fn attributes(expression: &str) -> AccessLogFilter {
    let config = ExpressionFilter { expression: expression.to_owned(), ..Default::default() };
    filter(FilterSpecifier::ExtensionFilter(ExtensionFilter {
        name: "envoy.access_loggers.extension_filters.cel".to_owned(),
        config_type: Some(extension_filter::ConfigType::TypedConfig(wire::any(&config))),
    }))
}

fn all(filters: Vec<AccessLogFilter>) -> AccessLogFilter {
    filter(FilterSpecifier::AndFilter(AndFilter { filters }))
}

fn any(filters: Vec<AccessLogFilter>) -> AccessLogFilter {
    filter(FilterSpecifier::OrFilter(OrFilter { filters }))
}

fn filter(specifier: FilterSpecifier) -> AccessLogFilter {
    AccessLogFilter { filter_specifier: Some(specifier) }
}
