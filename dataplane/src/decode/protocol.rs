//! HTTP options of listeners and clusters.

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions, UpstreamHttpProtocolOptions,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions as UpstreamOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::UpstreamProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::pb::google::protobuf::Any;
use weft_routing::rejection::{Notes, Rejection, Within as _, refuse};

use super::fields::{self, number};
use crate::runtime::{Http1Options, Http2Options, UpstreamHttp, UpstreamProtocol};

const HOUR: Duration = Duration::from_secs(3600);

/// `http2_protocol_options`, with Envoy's defaults.
pub(super) fn http2(
    options: Option<&Http2ProtocolOptions>,
    notes: &mut Notes,
) -> Result<Http2Options, Rejection> {
    let default = Http2Options::default();
    let Some(given) = options else { return Ok(default) };
    refuse(given.allow_metadata, "allow_metadata")?;
    refuse(&given.custom_settings_parameters, "custom_settings_parameters")?;
    let limits = [
        given.max_outbound_frames.is_some(),
        given.max_outbound_control_frames.is_some(),
        given.max_consecutive_inbound_frames_with_empty_payload.is_some(),
        given.max_inbound_priority_frames_per_stream.is_some(),
        given.max_inbound_window_update_frames_per_data_frame_sent.is_some(),
    ];
    notes.ignored(limits.contains(&true), "http2.frame limits");
    notes.ignored(&given.override_stream_error_on_invalid_http_message, "http2.override_stream_error");
    notes.ignored(&given.use_oghttp2_codec, "http2.use_oghttp2_codec");
    let window = |value: Option<u32>, default: u32, field: &str| match value {
        None => Ok(default),
        Some(size) if (65_535..=0x7fff_ffff).contains(&size) => Ok(size),
        Some(size) => Err(Rejection::new(field, format!("{size} is not within 65535 and 2147483647"))),
    };
    let keepalive = given.connection_keepalive.as_ref();
    let keepalive_interval = match keepalive {
        Some(keepalive) => {
            notes.ignored(&keepalive.connection_idle_interval, "http2.connection_idle_interval");
            fields::duration(keepalive.interval.as_ref(), "connection_keepalive.interval")?
        }
        None => None,
    };
    let keepalive_timeout = fields::duration(
        keepalive.and_then(|keepalive| keepalive.timeout.as_ref()),
        "connection_keepalive.timeout",
    )?;
    Ok(Http2Options {
        max_concurrent_streams: number(given.max_concurrent_streams.as_ref())
            .unwrap_or(default.max_concurrent_streams),
        stream_window: window(
            number(given.initial_stream_window_size.as_ref()),
            default.stream_window,
            "initial_stream_window_size",
        )?,
        connection_window: window(
            number(given.initial_connection_window_size.as_ref()),
            default.connection_window,
            "initial_connection_window_size",
        )?,
        header_table: number(given.hpack_table_size.as_ref()).unwrap_or(default.header_table),
        allow_connect: given.allow_connect,
        keepalive_interval,
        keepalive_timeout: keepalive_timeout.unwrap_or(default.keepalive_timeout),
    })
}

/// `http_protocol_options`.
pub(super) fn http1(
    options: Option<&Http1ProtocolOptions>,
    notes: &mut Notes,
) -> Result<Http1Options, Rejection> {
    use envoy_types::pb::envoy::config::core::v3::http1_protocol_options::header_key_format::HeaderFormat;
    let Some(given) = options else { return Ok(Http1Options::default()) };
    refuse(given.allow_chunked_length, "allow_chunked_length")?;
    refuse(given.send_fully_qualified_url, "send_fully_qualified_url")?;
    refuse(&given.ignore_http_11_upgrade, "ignore_http_11_upgrade")?;
    refuse(&given.default_host_for_http_10, "default_host_for_http_10")?;
    notes.ignored(given.enable_trailers, "http1.enable_trailers");
    notes.ignored(&given.use_balsa_parser, "http1.use_balsa_parser");
    notes.ignored(given.allow_custom_methods, "http1.allow_custom_methods");
    let override_error = fields::flag(given.override_stream_error_on_invalid_http_message.as_ref());
    notes.ignored(override_error, "http1.override_stream_error_on_invalid_http_message");
    let format = given.header_key_format.as_ref().and_then(|format| format.header_format.as_ref());
    let title_case_headers = match format {
        None => false,
        Some(HeaderFormat::ProperCaseWords(_)) => true,
        Some(HeaderFormat::StatefulFormatter(_)) => {
            notes.ignored(true, "http1.header_key_format.stateful_formatter");
            false
        }
    };
    Ok(Http1Options { accept_http_10: given.accept_http_10, title_case_headers })
}

/// How HTTP is spoken to a cluster: the extension options, or the fields that came before them.
pub(super) fn upstream(cluster: &Cluster, notes: &mut Notes) -> Result<UpstreamHttp, Rejection> {
    let extension = extension(&cluster.typed_extension_protocol_options, notes)?;
    let Some(options) = extension else { return legacy(cluster, notes) };
    let at = "typed_extension_protocol_options";
    refuse(&options.header_validation_config, "header_validation_config").within(|| at)?;
    refuse(&options.request_mirror_policies, "request_mirror_policies").within(|| at)?;
    refuse(&options.hash_policy, "hash_policy").within(|| at)?;
    refuse(&options.retry_policy, "retry_policy").within(|| at)?;
    refuse(&options.outlier_detection, "outlier_detection").within(|| at)?;
    refuse(options.http_filters.len() > 1, "http_filters").within(|| at)?;
    auto_names(options.upstream_http_protocol_options.as_ref()).within(|| at)?;
    let mut http = UpstreamHttp::default();
    match &options.upstream_protocol_options {
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => match &explicit.protocol_config {
            Some(ProtocolConfig::Http2ProtocolOptions(given)) => {
                http.protocol = UpstreamProtocol::Http2;
                http.http2 = http2(Some(given), notes).within(|| at)?;
            }
            Some(ProtocolConfig::HttpProtocolOptions(given)) => {
                http1(Some(given), notes).within(|| at)?;
            }
            Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                return Err(Rejection::unsupported(format!("{at}.http3_protocol_options")));
            }
            None => return Err(Rejection::new(at, "explicit_http_config names no protocol")),
        },
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(config)) => {
            refuse(&config.http3_protocol_options, "http3_protocol_options").within(|| at)?;
            http.protocol = UpstreamProtocol::Downstream;
            http.http2 = http2(config.http2_protocol_options.as_ref(), notes).within(|| at)?;
            http1(config.http_protocol_options.as_ref(), notes).within(|| at)?;
        }
        Some(UpstreamProtocolOptions::AutoConfig(config)) => {
            refuse(&config.http3_protocol_options, "http3_protocol_options").within(|| at)?;
            http.protocol = UpstreamProtocol::Auto;
            http.http2 = http2(config.http2_protocol_options.as_ref(), notes).within(|| at)?;
            http1(config.http_protocol_options.as_ref(), notes).within(|| at)?;
        }
        None => return Err(Rejection::new(at, "upstream_protocol_options is needed")),
    }
    common(options.common_http_protocol_options.as_ref(), &mut http, notes).within(|| at)?;
    Ok(http)
}

fn extension(
    options: &HashMap<String, Any>,
    notes: &mut Notes,
) -> Result<Option<UpstreamOptions>, Rejection> {
    let mut found = None;
    for (name, any) in options {
        if fields::holds::<UpstreamOptions>(any) {
            found = Some(fields::unpack(any, "typed_extension_protocol_options")?);
        } else {
            notes.ignored(true, &format!("typed_extension_protocol_options[{name}]"));
        }
    }
    Ok(found)
}

fn auto_names(options: Option<&UpstreamHttpProtocolOptions>) -> Result<(), Rejection> {
    let Some(options) = options else { return Ok(()) };
    refuse(options.auto_sni, "upstream_http_protocol_options.auto_sni")?;
    refuse(options.auto_san_validation, "upstream_http_protocol_options.auto_san_validation")
}

fn legacy(cluster: &Cluster, notes: &mut Notes) -> Result<UpstreamHttp, Rejection> {
    auto_names(cluster.upstream_http_protocol_options.as_ref())?;
    let mut http = UpstreamHttp::default();
    if let Some(given) = &cluster.http2_protocol_options {
        http.protocol = UpstreamProtocol::Http2;
        http.http2 = http2(Some(given), notes).within(|| "http2_protocol_options")?;
    }
    http1(cluster.http_protocol_options.as_ref(), notes).within(|| "http_protocol_options")?;
    if cluster.protocol_selection == 1 {
        http.protocol = UpstreamProtocol::Downstream;
    }
    common(cluster.common_http_protocol_options.as_ref(), &mut http, notes)
        .within(|| "common_http_protocol_options")?;
    if let Some(limit) = number(cluster.max_requests_per_connection.as_ref()) {
        http.requests_per_connection = Some(limit).filter(|limit| *limit > 0);
    }
    Ok(http)
}

fn common(
    options: Option<&HttpProtocolOptions>,
    http: &mut UpstreamHttp,
    notes: &mut Notes,
) -> Result<(), Rejection> {
    let Some(given) = options else { return Ok(()) };
    refuse(&given.max_stream_duration, "max_stream_duration")?;
    refuse(given.headers_with_underscores_action != 0, "headers_with_underscores_action")?;
    notes.ignored(&given.max_headers_count, "upstream.max_headers_count");
    notes.ignored(&given.max_response_headers_kb, "upstream.max_response_headers_kb");
    notes.ignored(&given.max_connection_duration_jitter, "max_connection_duration_jitter");
    http.idle_timeout = fields::timeout(given.idle_timeout.as_ref(), Some(HOUR), "idle_timeout")?;
    http.max_connection =
        fields::timeout(given.max_connection_duration.as_ref(), None, "max_connection_duration")?;
    http.requests_per_connection =
        number(given.max_requests_per_connection.as_ref()).filter(|limit| *limit > 0);
    Ok(())
}
