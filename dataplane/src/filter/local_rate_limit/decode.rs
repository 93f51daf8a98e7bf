//! From Envoy's `LocalRateLimit`.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::XRateLimitHeadersRfcVersion;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit as Wire;
use envoy_types::pb::envoy::r#type::v3::TokenBucket as WireBucket;
use http::StatusCode;
use weft_routing::rejection::{Notes, Rejection, Within as _, refuse};

use super::super::Override;
use super::bucket::TokenBucket;
use super::{Announcement, LocalRateLimit};
use crate::decode::fields;
use crate::decode::route::header_ops;
use crate::fraction::Fraction;

/// Tokens that come back more often than this are refused, as by Envoy.
const SHORTEST_FILL: Duration = Duration::from_millis(50);
/// `RESOURCE_EXHAUSTED`.
const RESOURCE_EXHAUSTED: u32 = 8;

/// Reads `LocalRateLimit` as the entry of a connection manager, with its own bucket.
pub(in super::super) fn filter(given: &Wire, notes: &mut Notes) -> Result<Arc<LocalRateLimit>, Rejection> {
    if given.stat_prefix.is_empty() {
        return Err(Rejection::new("stat_prefix", "must not be empty"));
    }
    refuse(&given.descriptors, "descriptors")?;
    refuse(&given.rate_limits, "rate_limits")?;
    refuse(&given.local_cluster_rate_limit, "local_cluster_rate_limit")?;
    refuse(given.local_rate_limit_per_downstream_connection, "local_rate_limit_per_downstream_connection")?;
    notes.ignored(given.stage != 0, "local_ratelimit.stage");
    notes.ignored(given.vh_rate_limits != 0, "local_ratelimit.vh_rate_limits");
    notes.ignored(&given.max_dynamic_descriptors, "local_ratelimit.max_dynamic_descriptors");
    notes.ignored(&given.always_consume_default_token_bucket, "local_ratelimit.always_consume");
    let status = given.status.map_or(0, |status| status.code);
    let status = u16::try_from(status).ok().filter(|status| *status >= 400);
    Ok(Arc::new(LocalRateLimit {
        stat_prefix: given.stat_prefix.as_str().into(),
        stats: OnceLock::new(),
        bucket: given
            .token_bucket
            .as_ref()
            .map(|given| bucket(given).within(|| "token_bucket"))
            .transpose()?,
        enabled: Fraction::of_runtime(
            given.filter_enabled.as_ref(),
            Fraction::NONE,
            "filter_enabled",
            notes,
        )?,
        enforced: Fraction::of_runtime(
            given.filter_enforced.as_ref(),
            Fraction::NONE,
            "filter_enforced",
            notes,
        )?,
        status: status
            .and_then(|status| StatusCode::from_u16(status).ok())
            .unwrap_or(StatusCode::TOO_MANY_REQUESTS),
        grpc_status: given.rate_limited_as_resource_exhausted.then_some(RESOURCE_EXHAUSTED),
        request_headers: header_ops(&given.request_headers_to_add_when_not_enforced, &[])
            .within(|| "request_headers_to_add_when_not_enforced")?,
        response_headers: Arc::new(
            header_ops(&given.response_headers_to_add, &[]).within(|| "response_headers_to_add")?,
        ),
        announces: match XRateLimitHeadersRfcVersion::try_from(given.enable_x_ratelimit_headers) {
            Ok(XRateLimitHeadersRfcVersion::Off) => Announcement::Off,
            Ok(XRateLimitHeadersRfcVersion::DraftVersion03) => Announcement::Draft03,
            Err(_) => return Err(Rejection::new("enable_x_ratelimit_headers", "unknown value")),
        },
        retry_after: given.enable_retry_after_header,
    }))
}

/// Reads what a route says: there a bucket is needed.
pub(in super::super) fn per_route(given: &Wire, notes: &mut Notes) -> Result<Override, Rejection> {
    if given.token_bucket.is_none() {
        return Err(Rejection::new("token_bucket", "must be set for a route"));
    }
    filter(given, notes).map(Override::LocalRateLimit)
}

fn bucket(given: &WireBucket) -> Result<TokenBucket, Rejection> {
    let fill = fields::duration(given.fill_interval.as_ref(), "fill_interval")?.unwrap_or_default();
    if fill < SHORTEST_FILL {
        return Err(Rejection::new("fill_interval", "must be at least 50ms"));
    }
    let per_fill = given.tokens_per_fill.as_ref().map_or(1, |tokens| tokens.value);
    if per_fill == 0 {
        return Err(Rejection::new("tokens_per_fill", "must be greater than 0"));
    }
    Ok(TokenBucket::new(given.max_tokens, per_fill, fill, Instant::now()))
}
