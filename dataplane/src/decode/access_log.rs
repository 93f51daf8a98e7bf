//! Access logs of listeners, connection managers and TCP proxies.

use std::sync::Arc;

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog as PbAccessLog;
use envoy_types::pb::envoy::config::accesslog::v3::access_log::ConfigType;
use envoy_types::pb::envoy::config::core::v3::SubstitutionFormatString;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format as PbFormat;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::file_access_log::AccessLogFormat as FileFormat;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::stderr_access_log::AccessLogFormat as StderrFormat;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::stdout_access_log::AccessLogFormat as StdoutFormat;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::{StderrAccessLog, StdoutAccessLog};
use envoy_types::pb::google::protobuf::{Any, Struct};

use super::{fields, format, log_filter};
use crate::format::Format;
use crate::rejection::{Rejection, Within as _};
use crate::runtime::{AccessLog, LogSink};

/// Reads a list of access logs.
pub(super) fn decode(given: &[PbAccessLog]) -> Result<Vec<AccessLog>, Rejection> {
    let each =
        |(index, log): (usize, &PbAccessLog)| decode_one(log).within(|| format!("access_log[{index}]"));
    given.iter().enumerate().map(each).collect()
}

fn decode_one(given: &PbAccessLog) -> Result<AccessLog, Rejection> {
    let Some(ConfigType::TypedConfig(config)) = &given.config_type else {
        return Err(fields::unknown_extension(&given.name, None, ""));
    };
    let (sink, format) = sink(&given.name, config)?;
    let filter = match &given.filter {
        Some(filter) => Some(log_filter::filter(filter).within(|| "filter")?),
        None => None,
    };
    Ok(AccessLog { sink, format: Arc::new(format), filter })
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
