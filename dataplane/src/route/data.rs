//! Small messages that appear in many places.

use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::google::protobuf;

use crate::rejection::Rejection;

/// A duration of the wire, which may not be negative.
pub(super) fn duration(wire: &protobuf::Duration, field: &str) -> Result<Duration, Rejection> {
    match (u64::try_from(wire.seconds), u32::try_from(wire.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(Rejection::new(field, "is not a duration of zero or more")),
    }
}

/// A duration where zero or nothing means none.
pub(super) fn positive(
    wire: Option<&protobuf::Duration>,
    field: &str,
) -> Result<Option<Duration>, Rejection> {
    let given = wire.map(|wire| duration(wire, field)).transpose()?;
    Ok(given.filter(|duration| !duration.is_zero()))
}

/// The content of a `DataSource`: inline, of a file, or of an environment variable.
///
/// # Errors
/// The source is missing or cannot be read.
pub fn data_source(source: &DataSource) -> Result<Bytes, Rejection> {
    match &source.specifier {
        Some(Specifier::InlineString(text)) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        Some(Specifier::InlineBytes(bytes)) => Ok(Bytes::copy_from_slice(bytes)),
        Some(Specifier::Filename(path)) => std::fs::read(path)
            .map(Bytes::from)
            .map_err(|error| Rejection::new("filename", format!("cannot read {path}: {error}"))),
        Some(Specifier::EnvironmentVariable(name)) => std::env::var(name)
            .map(Bytes::from)
            .map_err(|_| Rejection::new("environment_variable", format!("{name} is not set or not text"))),
        None => Err(Rejection::new("specifier", "is missing")),
    }
}
