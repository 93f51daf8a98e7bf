//! `OpenTelemetryAccessLogConfig`.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::{
    SubstitutionFormatString, substitution_format_string::Format as PbFormat,
};
use envoy_types::pb::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::opentelemetry::proto::common::v1::{AnyValue, KeyValueList, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use weft_routing::rejection::{Rejection, Within as _, refuse};

use super::{DecodeContext, fields, format};
use crate::format::Format;
use crate::otlp::{OtlpCollector, attribute};
use crate::runtime::OtlpLog;
use crate::stats::OtlpStats;
use crate::tracer;

/// The log that this configures, if it is one.
pub(super) fn decode(config: &Any, context: &mut DecodeContext<'_>) -> Result<Option<OtlpLog>, Rejection> {
    if !fields::holds::<OpenTelemetryAccessLogConfig>(config) {
        return Ok(None);
    }
    let at = "typed_config";
    let given: OpenTelemetryAccessLogConfig = fields::unpack(config, at)?;
    read(&given, context).within(|| at).map(Some)
}

fn read(given: &OpenTelemetryAccessLogConfig, context: &mut DecodeContext<'_>) -> Result<OtlpLog, Rejection> {
    refuse(&given.http_service, "http_service")?;
    refuse(&given.formatters, "formatters")?;
    refuse(&given.custom_tags, "custom_tags")?;
    context.notes.ignored(&given.filter_state_objects_to_log, "access_log.filter_state_objects_to_log");
    context.notes.ignored(&given.resource_detectors, "access_log.resource_detectors");
    context.notes.ignored(&given.stat_prefix, "access_log.stat_prefix");
    context.notes.ignored(!given.disable_builtin_labels, "access_log.disable_builtin_labels");
    let common = given.common_config.as_ref();
    let service = given.grpc_service.as_ref().or(common.and_then(|common| common.grpc_service.as_ref()));
    let service = service.ok_or_else(|| Rejection::new("grpc_service", "is needed"))?;
    let flush = given.buffer_flush_interval.as_ref();
    let flush = flush.or(common.and_then(|common| common.buffer_flush_interval.as_ref()));
    let flush = fields::duration(flush, "buffer_flush_interval")?;
    let mut attributes = Vec::new();
    for (name, value) in texts(given.resource_attributes.as_ref(), "resource_attributes")? {
        attributes.push(attribute(name, value));
    }
    let resource = Resource { attributes, ..Default::default() };
    let stats = OtlpStats::of_logs(context.registry);
    let collector = tracer::decode::of_service(service, resource, stats, &mut context.notes);
    let collector = collector.within(|| "grpc_service")?;
    let of_record = texts(given.attributes.as_ref(), "attributes")?;
    let of_record = of_record.into_iter().map(|(name, text)| Ok((name.into(), parse(text, "attributes")?)));
    Ok(OtlpLog {
        collector: Arc::new(OtlpCollector { flush: flush.unwrap_or(collector.flush), ..collector }),
        body: given.body.as_ref().map(|body| parse(text(body, "body")?, "body")).transpose()?,
        attributes: of_record.collect::<Result<_, _>>()?,
    })
}

fn texts<'a>(given: Option<&'a KeyValueList>, field: &str) -> Result<Vec<(&'a str, &'a str)>, Rejection> {
    let values = given.map(|list| &list.values[..]).unwrap_or_default().iter();
    let one = |pair: &'a envoy_types::pb::opentelemetry::proto::common::v1::KeyValue| {
        let missing = || Rejection::new(field, format!("{:?} has no value", pair.key));
        Ok((pair.key.as_str(), text(pair.value.as_ref().ok_or_else(missing)?, field)?))
    };
    values.map(one).collect()
}

/// Only text is a format.
fn text<'a>(given: &'a AnyValue, field: &str) -> Result<&'a str, Rejection> {
    match &given.value {
        Some(Value::StringValue(text)) => Ok(text),
        Some(_) | None => Err(Rejection::new(field, "only string_value is supported")),
    }
}

fn parse(text: &str, field: &str) -> Result<Format, Rejection> {
    let format = Some(PbFormat::TextFormat(text.to_owned()));
    let given = SubstitutionFormatString { format, ..Default::default() };
    format::substitution(&given).within(|| field)
}
