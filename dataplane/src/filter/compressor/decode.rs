//! From Envoy's `Compressor` and `CompressorPerRoute`.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::{RuntimeFeatureFlag, TypedExtensionConfig};
use envoy_types::pb::envoy::extensions::compression::gzip::compressor::v3::Gzip;
use envoy_types::pb::envoy::extensions::compression::gzip::compressor::v3::gzip::{
    CompressionLevel, CompressionStrategy,
};
use envoy_types::pb::envoy::extensions::filters::http::compressor::v3 as wire;
use flate2::Compression;
use weft_routing::rejection::{Notes, Rejection, Within as _, refuse};
use wire::compressor::{CommonDirectionConfig, ResponseDirectionConfig};
use wire::compressor_per_route::Override as PerRoute;

use super::super::Override;
use super::{AcceptStats, Compressor, CompressorDirection, CompressorOverride, CompressorStats};
use crate::decode::fields;
use crate::stats::{StatsRegistry, StatsScope};

/// What is compressed where the configuration names no types.
const TYPES: [&str; 20] = [
    "text/html",
    "text/plain",
    "text/css",
    "application/javascript",
    "application/x-javascript",
    "text/javascript",
    "text/x-javascript",
    "text/ecmascript",
    "text/js",
    "text/jscript",
    "text/x-js",
    "application/ecmascript",
    "application/x-json",
    "application/xml",
    "application/json",
    "image/svg+xml",
    "text/xml",
    "application/xhtml+xml",
    "application/grpc-web",
    "application/grpc-web+proto",
];

/// Content that says a smaller length is not worth it.
const MIN_LENGTH: u32 = 30;

pub(in super::super) fn filter(
    given: &wire::Compressor,
    scope: &StatsScope,
    notes: &mut Notes,
    registry: &mut StatsRegistry,
) -> Result<Arc<Compressor>, Rejection> {
    let library = given.compressor_library.as_ref();
    let library = library.ok_or_else(|| Rejection::new("compressor_library", "must be set"))?;
    let level = level(library, notes).within(|| "compressor_library")?;
    let scope = scope.child("compressor").child(&library.name).child("gzip");
    let older;
    let (responses, at, responses_scope) = match &given.response_direction_config {
        Some(responses) => (responses, "response_direction_config", scope.child("response")),
        None => {
            older = of_older_fields(given);
            (&older, "", scope.clone())
        }
    };
    let requests = given.request_direction_config.as_ref();
    let mut requests = direction(
        requests.and_then(|requests| requests.common_config.as_ref()),
        "request_direction_config.common_config",
        CompressorStats::register(registry, &scope.child("request")),
        notes,
    )?;
    requests.enabled &= given.request_direction_config.is_some();
    refuse(responses.weaken_etag_on_compress, "weaken_etag_on_compress").within(|| at)?;
    refuse(!responses.uncompressible_response_codes.is_empty(), "uncompressible_response_codes")
        .within(|| at)?;
    refuse(responses.status_header_enabled, "status_header_enabled").within(|| at)?;
    let common = if at.is_empty() { String::new() } else { format!("{at}.common_config") };
    let stats = CompressorStats::register(registry, &responses_scope);
    Ok(Arc::new(Compressor {
        level,
        choose_first: given.choose_first,
        requests,
        responses: direction(responses.common_config.as_ref(), &common, stats, notes)?,
        disable_on_etag: responses.disable_on_etag_header,
        remove_accept_encoding: responses.remove_accept_encoding_header,
        stats: AcceptStats::register(registry, &scope),
    }))
}

/// What stood in the message itself before directions had messages of their own.
#[expect(deprecated, reason = "Envoy takes them where `response_direction_config` is not there")]
fn of_older_fields(given: &wire::Compressor) -> ResponseDirectionConfig {
    let common = CommonDirectionConfig {
        enabled: given.runtime_enabled.clone(),
        min_content_length: given.content_length,
        content_type: given.content_type.clone(),
        ..Default::default()
    };
    ResponseDirectionConfig {
        common_config: Some(common),
        disable_on_etag_header: given.disable_on_etag_header,
        remove_accept_encoding_header: given.remove_accept_encoding_header,
        ..Default::default()
    }
}

#[expect(deprecated, reason = "`content_type` is what most configurations say")]
fn direction(
    given: Option<&CommonDirectionConfig>,
    at: &str,
    stats: CompressorStats,
    notes: &mut Notes,
) -> Result<CompressorDirection, Rejection> {
    let types = given.map(|given| &given.content_type[..]).unwrap_or_default();
    refuse(given.is_some_and(|given| !given.content_type_matcher.is_empty()), "content_type_matcher")
        .within(|| at)?;
    let types: Vec<&str> =
        if types.is_empty() { TYPES.to_vec() } else { types.iter().map(String::as_str).collect() };
    let least = fields::number(given.and_then(|given| given.min_content_length.as_ref()));
    Ok(CompressorDirection {
        enabled: enabled(given.and_then(|given| given.enabled.as_ref()), at, notes),
        min_length: least.filter(|least| *least > 0).unwrap_or(MIN_LENGTH).into(),
        content_types: types.iter().map(|one| one.to_ascii_lowercase().into()).collect(),
        stats,
    })
}

fn enabled(given: Option<&RuntimeFeatureFlag>, at: &str, notes: &mut Notes) -> bool {
    let Some(given) = given else { return true };
    notes.ignored(&given.runtime_key, &format!("{at}.enabled.runtime_key"));
    given.default_value.is_none_or(|value| value.value)
}

/// Only gzip is there. How it is made, but for the level, any caller reads alike.
fn level(library: &TypedExtensionConfig, notes: &mut Notes) -> Result<Compression, Rejection> {
    let config = library.typed_config.as_ref();
    let config = config.ok_or_else(|| Rejection::new("typed_config", "must be set"))?;
    if !fields::holds::<Gzip>(config) {
        return Err(fields::unknown_extension(&library.name, Some(config), "typed_config"));
    }
    let given: Gzip = fields::unpack(config, "typed_config")?;
    let at = "compressor_library.typed_config";
    notes.ignored(given.memory_level.is_some(), &format!("{at}.memory_level"));
    notes.ignored(given.window_bits.is_some(), &format!("{at}.window_bits"));
    notes.ignored(given.chunk_size.is_some(), &format!("{at}.chunk_size"));
    let strategy = given.compression_strategy != i32::from(CompressionStrategy::DefaultStrategy);
    notes.ignored(strategy, &format!("{at}.compression_strategy"));
    match CompressionLevel::try_from(given.compression_level) {
        Ok(CompressionLevel::DefaultCompression) => Ok(Compression::new(6)),
        Ok(level) => Ok(Compression::new(level as u32)),
        Err(_) => Err(Rejection::new("typed_config.compression_level", "is none that is known")),
    }
}

pub(in super::super) fn per_route(given: &wire::CompressorPerRoute) -> Result<Override, Rejection> {
    let said = match &given.r#override {
        Some(PerRoute::Disabled(true)) => {
            CompressorOverride { responses: Some(false), ..CompressorOverride::default() }
        }
        Some(PerRoute::Disabled(false)) => {
            return Err(Rejection::new("disabled", "must be true where it is set"));
        }
        Some(PerRoute::Overrides(overrides)) => {
            refuse(&overrides.compressor_library, "overrides.compressor_library")?;
            let responses = overrides.response_direction_config.as_ref();
            let remove = responses.and_then(|one| one.remove_accept_encoding_header.as_ref());
            CompressorOverride {
                responses: responses.map(|_| true),
                remove_accept_encoding: remove.map(|remove| remove.value),
            }
        }
        None => return Err(Rejection::new("override", "disabled or overrides is needed")),
    };
    Ok(Override::Compressor(said))
}
