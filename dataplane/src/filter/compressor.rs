//! `envoy.filters.http.compressor`: content is compressed with gzip on its way, a piece at a time. Responses for callers that
//! take it; requests where the configuration says so, since no server tells what it takes.

mod accept;
pub(super) mod decode;
mod gzip;
pub(super) mod run;

use std::collections::HashSet;

use flate2::Compression;

use crate::stats::{CounterId, StatsRegistry, StatsScope};

/// `envoy.filters.http.compressor`.
#[derive(Debug)]
pub struct Compressor {
    pub(super) level: Compression,
    /// Preferred where a caller likes another coding as much.
    pub(super) choose_first: bool,
    pub(super) requests: CompressorDirection,
    pub(super) responses: CompressorDirection,
    /// Whether responses with an `etag` stay as they are.
    pub(super) disable_on_etag: bool,
    /// Whether servers do not learn that the caller takes compressed content.
    pub(super) remove_accept_encoding: bool,
    pub(super) stats: AcceptStats,
}

/// What is compressed of requests, or of responses.
#[derive(Debug)]
pub(super) struct CompressorDirection {
    pub(super) enabled: bool,
    /// Content that says a smaller length stays as it is.
    pub(super) min_length: u64,
    /// In lower case, without parameters.
    pub(super) content_types: HashSet<Box<str>>,
    pub(super) stats: CompressorStats,
}

/// What a level of the routes says.
#[derive(Debug, Clone, Copy, Default)]
pub struct CompressorOverride {
    /// Whether responses are compressed; `None` leaves that to the filter.
    pub(super) responses: Option<bool>,
    pub(super) remove_accept_encoding: Option<bool>,
}

/// `http.PREFIX.compressor.LIBRARY.gzip.*` of one direction.
#[derive(Debug, Clone, Copy)]
pub(super) struct CompressorStats {
    pub(super) compressed: CounterId,
    pub(super) not_compressed: CounterId,
    pub(super) total_uncompressed_bytes: CounterId,
    pub(super) total_compressed_bytes: CounterId,
    pub(super) content_length_too_small: CounterId,
}

impl CompressorStats {
    fn register(registry: &mut StatsRegistry, scope: &StatsScope) -> Self {
        Self {
            compressed: registry.counter(scope, "compressed"),
            not_compressed: registry.counter(scope, "not_compressed"),
            total_uncompressed_bytes: registry.counter(scope, "total_uncompressed_bytes"),
            total_compressed_bytes: registry.counter(scope, "total_compressed_bytes"),
            content_length_too_small: registry.counter(scope, "content_length_too_small"),
        }
    }
}

/// `http.PREFIX.compressor.LIBRARY.gzip.*` of what callers take.
#[derive(Debug)]
pub(super) struct AcceptStats {
    pub(super) no_accept_header: CounterId,
    pub(super) header_identity: CounterId,
    pub(super) header_compressor_used: CounterId,
    pub(super) header_wildcard: CounterId,
    pub(super) header_not_valid: CounterId,
    pub(super) not_compressed_etag: CounterId,
}

impl AcceptStats {
    fn register(registry: &mut StatsRegistry, scope: &StatsScope) -> Self {
        // Named by Envoy as well; here no coding but gzip stands in the way of gzip.
        registry.counter(scope, "header_compressor_overshadowed");
        Self {
            no_accept_header: registry.counter(scope, "no_accept_header"),
            header_identity: registry.counter(scope, "header_identity"),
            header_compressor_used: registry.counter(scope, "header_compressor_used"),
            header_wildcard: registry.counter(scope, "header_wildcard"),
            header_not_valid: registry.counter(scope, "header_not_valid"),
            not_compressed_etag: registry.counter(scope, "not_compressed_etag"),
        }
    }
}
