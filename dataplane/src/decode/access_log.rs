//! Access logs of listeners, connection managers and TCP proxies.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog as PbAccessLog;
use envoy_types::pb::envoy::config::accesslog::v3::access_log::ConfigType;
use envoy_types::pb::envoy::config::core::v3::SubstitutionFormatString;
use envoy_types::pb::envoy::config::core::v3::grpc_service::TargetSpecifier;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format as PbFormat;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::file_access_log::AccessLogFormat as FileFormat;
use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3::{
    CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig,
};
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::stderr_access_log::AccessLogFormat as StderrFormat;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::stdout_access_log::AccessLogFormat as StdoutFormat;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::{StderrAccessLog, StdoutAccessLog};
use envoy_types::pb::google::protobuf::{Any, Struct};

use http::HeaderName;
use weft_routing::rejection::{Rejection, Within as _, refuse};

use super::{DecodeContext, fields, format, log_filter, otlp_log};
use crate::format::Format;
use crate::runtime::{AccessLog, AccessLogs, EntryKind, LogService, LogSink, LogTarget};
use crate::stats::{AccessLogStats, StatsScope};

const FLUSH: Duration = Duration::from_secs(1);
const BUFFER: u32 = 16 * 1024;

/// Reads a list of access logs.
pub(super) fn decode(
    given: &[PbAccessLog],
    context: &mut DecodeContext<'_>,
) -> Result<AccessLogs, Rejection> {
    let mut each = |(index, log): (usize, &PbAccessLog)| {
        decode_one(log, context).within(|| format!("access_log[{index}]"))
    };
    let logs = given.iter().enumerate().map(&mut each).collect::<Result<_, _>>()?;
    Ok(AccessLogs::new(logs))
}

fn decode_one(given: &PbAccessLog, context: &mut DecodeContext<'_>) -> Result<AccessLog, Rejection> {
    let Some(ConfigType::TypedConfig(config)) = &given.config_type else {
        return Err(fields::unknown_extension(&given.name, None, ""));
    };
    let to = if let Some(service) = service(config, context)? {
        LogTarget::Service(Arc::new(service))
    } else if let Some(log) = otlp_log::decode(config, context)? {
        LogTarget::Otlp(Arc::new(log))
    } else {
        let (sink, format) = sink(&given.name, config)?;
        LogTarget::Lines { sink, format: Arc::new(format) }
    };
    let filter = match &given.filter {
        Some(filter) => Some(log_filter::filter(filter).within(|| "filter")?),
        None => None,
    };
    Ok(AccessLog { to, filter })
}

/// The access log service that this configures, if it is one.
fn service(config: &Any, context: &mut DecodeContext<'_>) -> Result<Option<LogService>, Rejection> {
    let at = "typed_config";
    if fields::holds::<HttpGrpcAccessLogConfig>(config) {
        let given: HttpGrpcAccessLogConfig = fields::unpack(config, at)?;
        let common = common(EntryKind::Requests, given.common_config.as_ref(), context).within(|| at)?;
        return Ok(Some(LogService {
            request_headers: names(&given.additional_request_headers_to_log)?,
            response_headers: names(&given.additional_response_headers_to_log)?,
            response_trailers: names(&given.additional_response_trailers_to_log)?,
            ..common
        }));
    }
    if fields::holds::<TcpGrpcAccessLogConfig>(config) {
        let given: TcpGrpcAccessLogConfig = fields::unpack(config, at)?;
        return common(EntryKind::Connections, given.common_config.as_ref(), context).within(|| at).map(Some);
    }
    Ok(None)
}

/// A cluster that the bootstrap does not have is no reason to refuse: as in Envoy, entries for it are dropped and counted.
fn common(
    entries: EntryKind,
    given: Option<&CommonGrpcAccessLogConfig>,
    context: &mut DecodeContext<'_>,
) -> Result<LogService, Rejection> {
    let given = given.ok_or_else(|| Rejection::new("common_config", "is needed"))?;
    let target = given.grpc_service.as_ref().and_then(|service| service.target_specifier.as_ref());
    let cluster = match target {
        Some(TargetSpecifier::EnvoyGrpc(grpc)) if !grpc.cluster_name.is_empty() => {
            grpc.cluster_name.as_str().into()
        }
        Some(TargetSpecifier::GoogleGrpc(_)) => {
            return Err(Rejection::unsupported("common_config.grpc_service.google_grpc"));
        }
        Some(TargetSpecifier::EnvoyGrpc(_)) | None => {
            return Err(Rejection::new("common_config.grpc_service.envoy_grpc.cluster_name", "is needed"));
        }
    };
    if given.log_name.is_empty() {
        return Err(Rejection::new("common_config.log_name", "must not be empty"));
    }
    refuse(!given.custom_tags.is_empty(), "common_config.custom_tags")?;
    context.notes.ignored(&given.filter_state_objects_to_log, "access_log.filter_state_objects_to_log");
    context.notes.ignored(&given.grpc_stream_retry_policy, "access_log.grpc_stream_retry_policy");
    let flush =
        fields::duration(given.buffer_flush_interval.as_ref(), "common_config.buffer_flush_interval")?;
    Ok(LogService {
        entries,
        cluster,
        log_name: given.log_name.as_str().into(),
        flush_interval: flush.unwrap_or(FLUSH),
        buffer_bytes: fields::number(given.buffer_size_bytes.as_ref()).unwrap_or(BUFFER) as usize,
        request_headers: Vec::new(),
        response_headers: Vec::new(),
        response_trailers: Vec::new(),
        stats: AccessLogStats::register(context.registry, &StatsScope::plain("access_logs.grpc_access_log")),
    })
}

fn names(given: &[String]) -> Result<Vec<HeaderName>, Rejection> {
    let name = |name: &String| {
        name.to_ascii_lowercase()
            .parse()
            .map_err(|_| Rejection::new("typed_config", format!("{name:?} is not the name of a header")))
    };
    given.iter().map(name).collect()
}

fn sink(name: &str, config: &Any) -> Result<(LogSink, Format), Rejection> {
    let at = "typed_config";
    if fields::holds::<FileAccessLog>(config) {
        let file: FileAccessLog = fields::unpack(config, at)?;
        let format = match file.access_log_format {
            None => None,
            Some(FileFormat::Format(text)) => Some(text_format(text)),
            Some(FileFormat::JsonFormat(json) | FileFormat::TypedJsonFormat(json)) => Some(json_format(json)),
            Some(FileFormat::LogFormat(format)) => Some(format),
        };
        let sink = match file.path.as_str() {
            "" => return Err(Rejection::new("typed_config.path", "must not be empty")),
            "/dev/stdout" => LogSink::Stdout,
            "/dev/stderr" => LogSink::Stderr,
            path => LogSink::File(path.into()),
        };
        return Ok((sink, format_of(format)?));
    }
    if fields::holds::<StdoutAccessLog>(config) {
        let log: StdoutAccessLog = fields::unpack(config, at)?;
        let format = log.access_log_format.map(|StdoutFormat::LogFormat(format)| format);
        return Ok((LogSink::Stdout, format_of(format)?));
    }
    if fields::holds::<StderrAccessLog>(config) {
        let log: StderrAccessLog = fields::unpack(config, at)?;
        let format = log.access_log_format.map(|StderrFormat::LogFormat(format)| format);
        return Ok((LogSink::Stderr, format_of(format)?));
    }
    Err(fields::unknown_extension(name, Some(config), ""))
}

fn text_format(text: String) -> SubstitutionFormatString {
    SubstitutionFormatString { format: Some(PbFormat::TextFormat(text)), ..Default::default() }
}

fn json_format(json: Struct) -> SubstitutionFormatString {
    SubstitutionFormatString { format: Some(PbFormat::JsonFormat(json)), ..Default::default() }
}

fn format_of(given: Option<SubstitutionFormatString>) -> Result<Format, Rejection> {
    match given {
        None => Ok(Format::default()),
        Some(format) => format::substitution(&format).within(|| "log_format"),
    }
}
