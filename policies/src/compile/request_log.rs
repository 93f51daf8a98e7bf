//! Where a sidecar writes down the requests that its application is asked: what TelemetryPolicies say, or without one
//! a line on standard output for each that failed or was refused.
//!
//! A request is written down once, by the sidecar of who is called.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::accesslog::v3::access_log::ConfigType;
use envoy_types::pb::envoy::config::accesslog::v3::{AccessLog, AccessLogFilter};
use envoy_types::pb::envoy::config::core::v3::{ApiVersion, SubstitutionFormatString};
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3::CommonGrpcAccessLogConfig;
use envoy_types::pb::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::StdoutAccessLog;
use envoy_types::pb::google::protobuf::{Any, Value, value::Kind};
use envoy_types::pb::opentelemetry::proto::common::v1::{AnyValue, KeyValue, KeyValueList, any_value};
use prost::Message;
use weft_api::names::ServiceId;

use super::compiled::Compiled;
use super::model::{Model, WorkloadState};
use super::{access_log, collector, wire};
use crate::kinds::service::Port;
use crate::kinds::telemetry_policy::{self as policy, RequestLogFilter, RequestLogFormat, RequestLogSink};
use crate::set::{EffectiveTelemetry, PolicyKey};
use crate::value::CollectorUrl;

/// A line, where no policy writes another: who asked what, when, and how it ended.
const LINE: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% ",
    "%RESPONSE_CODE_DETAILS% %DURATION%ms from %DOWNSTREAM_PEER_URI_SAN% to %REQUESTED_SERVER_NAME% ",
    "id %STREAM_ID%"
);
/// The fields of an entry, where no policy writes others.
const FIELDS: [(&str, &str); 16] = [
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("caller", "%DOWNSTREAM_PEER_URI_SAN%"),
    ("details", "%RESPONSE_CODE_DETAILS%"),
    ("duration_ms", "%DURATION%"),
    ("flags", "%RESPONSE_FLAGS%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("request_id", "%STREAM_ID%"),
    ("server_name", "%REQUESTED_SERVER_NAME%"),
    ("start_time", "%START_TIME%"),
    ("status", "%RESPONSE_CODE%"),
    ("trace_id", "%TRACE_ID%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
];

/// Fields of Envoy's messages that hold a map, or a message with one: written by hand, since a map of several entries has
/// no order otherwise.
const LOG_FORMAT: u32 = 1;
/// Fields of `FileAccessLog`.
const FILE_PATH: u32 = 1;
const FILE_LOG_FORMAT: u32 = 5;
const JSON_FORMAT: u32 = 2;
const STRUCT_FIELDS: u32 = 1;

/// The logs of the requests to a port.
pub(super) fn of_port(
    workload: &WorkloadState,
    service: &ServiceId,
    port: &Port,
    model: &Model<'_>,
) -> Vec<AccessLog> {
    match model.set.telemetry_for(service, &port.name).access_logs {
        None => vec![stdout(Some(access_log::failed()), &text(LINE))],
        Some(logs) => logs.value.iter().map(|log| one(log, workload, service, port)).collect(),
    }
}

/// The objects whose acknowledgement depends on what is written down of a port's requests.
pub(super) fn origin(said: &EffectiveTelemetry) -> Option<PolicyKey> {
    said.access_logs.as_ref().map(|set| set.origin.clone())
}

/// The clusters of the collectors that these logs go to.
pub(super) fn clusters<'a>(said: impl IntoIterator<Item = &'a EffectiveTelemetry>) -> Vec<Compiled> {
    let mut found: BTreeMap<&CollectorUrl, BTreeSet<PolicyKey>> = BTreeMap::new();
    for set in said.into_iter().filter_map(|said| said.access_logs.as_ref()) {
        for endpoint in set.value.iter().filter_map(|log| log.endpoint.as_ref()) {
            found.entry(endpoint).or_default().insert(set.origin.clone());
        }
    }
    let cluster = |(endpoint, origins): (&CollectorUrl, BTreeSet<PolicyKey>)| {
        Compiled::new(collector::cluster(&cluster_of(endpoint), endpoint), origins.into_iter().collect())
    };
    found.into_iter().map(cluster).collect()
}

/// No service's cluster is called so: an underscore is in no name.
fn cluster_of(endpoint: &CollectorUrl) -> String {
    format!("access_log_collector/{}:{}", endpoint.host, endpoint.port)
}

fn one(log: &policy::RequestLog, workload: &WorkloadState, service: &ServiceId, port: &Port) -> AccessLog {
    let filter = match log.filter {
        RequestLogFilter::All => None,
        RequestLogFilter::Failures => Some(access_log::failed()),
    };
    match (&log.endpoint, log.sink) {
        (Some(endpoint), RequestLogSink::Otlp) => otlp(filter, log, endpoint, workload, service, port),
        (_, RequestLogSink::File) => match &workload.access_log_dir {
            Some(dir) => file(filter, &format!("{dir}/{}", log.file()), &format(log)),
            None => stdout(filter, &format(log)),
        },
        // Without a collector nothing else is taken.
        (_, RequestLogSink::Stdout | RequestLogSink::Otlp) => stdout(filter, &format(log)),
    }
}

fn file(filter: Option<AccessLogFilter>, path: &str, format: &[u8]) -> AccessLog {
    let mut body = Vec::new();
    wire::append_message(&mut body, FILE_PATH, path.as_bytes());
    wire::append_message(&mut body, FILE_LOG_FORMAT, format);
    log_to("envoy.access_loggers.file", filter, wire::packed::<FileAccessLog>(body))
}

fn stdout(filter: Option<AccessLogFilter>, format: &[u8]) -> AccessLog {
    let mut body = Vec::new();
    wire::append_message(&mut body, LOG_FORMAT, format);
    log_to("envoy.access_loggers.stdout", filter, wire::packed::<StdoutAccessLog>(body))
}

fn otlp(
    filter: Option<AccessLogFilter>,
    log: &policy::RequestLog,
    endpoint: &CollectorUrl,
    workload: &WorkloadState,
    service: &ServiceId,
    port: &Port,
) -> AccessLog {
    let resource = collector::resource(workload);
    let name = ("service.name".to_owned(), resource.name);
    let more = resource.more.into_iter().map(|(key, value)| (key.to_owned(), value));
    let (body, attributes) = match log.format {
        RequestLogFormat::Text => (Some(log.template.as_deref().unwrap_or(LINE)), Vec::new()),
        RequestLogFormat::Json => (None, fields(log)),
    };
    #[expect(deprecated, reason = "the oldest Envoy that is served knows no other")]
    let config = OpenTelemetryAccessLogConfig {
        common_config: Some(CommonGrpcAccessLogConfig {
            log_name: format!("{service}/{}", port.name),
            grpc_service: Some(collector::grpc_service(&cluster_of(endpoint), endpoint.authority())),
            transport_api_version: ApiVersion::V3 as i32,
            buffer_flush_interval: Some(wire::duration(access_log::FLUSH)),
            ..Default::default()
        }),
        disable_builtin_labels: true,
        resource_attributes: Some(list(std::iter::once(name).chain(more))),
        body: body.map(text_value),
        attributes: (!attributes.is_empty()).then(|| list(attributes)),
        ..Default::default()
    };
    log_to("envoy.access_loggers.open_telemetry", filter, wire::any(&config))
}

fn log_to(name: &str, filter: Option<AccessLogFilter>, config: Any) -> AccessLog {
    let config_type = Some(ConfigType::TypedConfig(config));
    AccessLog { name: name.to_owned(), filter, config_type }
}

/// The encoded format of a line.
fn format(log: &policy::RequestLog) -> Vec<u8> {
    match log.format {
        RequestLogFormat::Text => text(log.template.as_deref().unwrap_or(LINE)),
        RequestLogFormat::Json => {
            let value =
                |(name, format)| (name, Value { kind: Some(Kind::StringValue(format)) }.encode_to_vec());
            let mut object = Vec::new();
            wire::append_map(&mut object, STRUCT_FIELDS, fields(log).into_iter().map(value));
            let mut body = SubstitutionFormatString::default().encode_to_vec();
            wire::append_message(&mut body, JSON_FORMAT, &object);
            body
        }
    }
}

fn text(template: &str) -> Vec<u8> {
    wire::text_format(format!("{}\n", template.trim_end_matches('\n'))).encode_to_vec()
}

fn fields(log: &policy::RequestLog) -> Vec<(String, String)> {
    match &log.fields {
        Some(fields) => fields.iter().map(|(name, format)| (name.clone(), format.clone())).collect(),
        None => FIELDS.map(|(name, format)| (name.to_owned(), format.to_owned())).into(),
    }
}

fn list(attributes: impl IntoIterator<Item = (String, String)>) -> KeyValueList {
    let pair = |(key, value): (String, String)| KeyValue {
        key,
        value: Some(text_value(&value)),
        ..Default::default()
    };
    KeyValueList { values: attributes.into_iter().map(pair).collect() }
}

fn text_value(text: &str) -> AnyValue {
    AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) }
}
