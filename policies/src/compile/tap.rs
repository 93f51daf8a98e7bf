//! What a stock Envoy tells the control plane of its requests while somebody looks on. It stands in its listeners always,
//! under keys of the runtime that are 0 unless the control plane raises them: another listener would drain the connections
//! of the one before. A weft-proxy is told what is wanted over a stream of its own.

use std::time::Duration;

use envoy_types::pb::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use envoy_types::pb::envoy::config::accesslog::v3::{AccessLog, AccessLogFilter, RuntimeFilter};
use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3::{
    CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig,
};
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use weft_api::names::{TAP_ACCESS_LOGS, TAP_RUNTIME_KEYS};
use weft_api::rest::SHOWN_HEADERS;

use super::access_log::{self, LogDirection};
use super::model::{ProxyType, WorkloadState};
use super::wire;

/// An entry waits so long at most for others that go with it: a person is looking.
const FLUSH: Duration = Duration::from_millis(250);

/// The log of a sidecar that has one.
pub(super) fn of_requests(workload: &WorkloadState, side: LogDirection) -> Option<AccessLog> {
    match workload.proxy {
        ProxyType::Envoy => Some(log(side)),
        ProxyType::Weft | ProxyType::Grpc | ProxyType::None => None,
    }
}

fn log(side: LogDirection) -> AccessLog {
    let [inbound, outbound] = [0, 1].map(|index| (TAP_ACCESS_LOGS[index], TAP_RUNTIME_KEYS[index]));
    let (name, runtime_key) = match side {
        LogDirection::Inbound => inbound,
        LogDirection::Outbound => outbound,
    };
    // The key is a number of those of a million. They are chosen by the request's id, so that the sidecars of both sides tell
    // of the same requests.
    let sampled = RuntimeFilter {
        runtime_key: runtime_key.to_owned(),
        percent_sampled: Some(FractionalPercent {
            numerator: 0,
            denominator: DenominatorType::Million.into(),
        }),
        use_independent_randomness: false,
    };
    let headers: Vec<String> = SHOWN_HEADERS.map(str::to_owned).into();
    let config = HttpGrpcAccessLogConfig {
        common_config: Some(CommonGrpcAccessLogConfig {
            log_name: name.to_owned(),
            buffer_flush_interval: Some(wire::duration(FLUSH)),
            ..access_log::told(side)
        }),
        additional_request_headers_to_log: headers.clone(),
        additional_response_headers_to_log: headers,
        additional_response_trailers_to_log: ["grpc-status", "grpc-message"].map(str::to_owned).into(),
    };
    let filter = AccessLogFilter { filter_specifier: Some(FilterSpecifier::RuntimeFilter(sampled)) };
    access_log::log("envoy.access_loggers.http_grpc", filter, wire::any(&config))
}
