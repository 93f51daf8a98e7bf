//! `envoy.filters.http.local_ratelimit`: so many requests in so much time, counted by this process alone.

pub(super) mod bucket;
pub(super) mod decode;
pub(super) mod run;

use std::sync::{Arc, OnceLock};

use http::StatusCode;

use crate::fraction::Fraction;
use crate::route::HeaderOps;
use crate::stats::{CounterId, Shard, StatsRegistry, StatsScope};
use bucket::TokenBucket;

/// The filter, or what a route says instead of it.
#[derive(Debug)]
pub struct LocalRateLimit {
    pub(super) stat_prefix: Box<str>,
    /// `STAT_PREFIX.http_local_rate_limit.*`: a route's are there once its configuration has been taken in.
    pub(super) stats: OnceLock<LocalRateLimitStats>,
    /// One for the whole process; none lets everything through.
    pub(super) bucket: Option<TokenBucket>,
    /// Requests that are counted.
    pub(super) enabled: Fraction,
    /// Requests that are refused, of those that are counted and find no token.
    pub(super) enforced: Fraction,
    pub(super) status: StatusCode,
    /// `grpc-status` of the answer to a gRPC caller, where it is not the one that belongs to the HTTP status.
    pub(super) grpc_status: Option<u32>,
    /// For requests that find no token and go on all the same.
    pub(super) request_headers: HeaderOps,
    /// For answers to requests that are refused.
    pub(super) response_headers: Arc<HeaderOps>,
    pub(super) announces: Announcement,
    /// Whether `retry-after` is added to an answer of 429.
    pub(super) retry_after: bool,
}

impl LocalRateLimit {
    /// Gives its statistics their ids.
    pub(super) fn register(&self, registry: &mut StatsRegistry) {
        self.stats.get_or_init(|| LocalRateLimitStats::register(registry, &self.stat_prefix));
    }

    pub(super) fn count(&self, shard: &Shard, which: impl FnOnce(&LocalRateLimitStats) -> CounterId) {
        if let Some(stats) = self.stats.get() {
            shard.inc(which(stats));
        }
    }
}

/// Whether responses say how many requests are left: `enable_x_ratelimit_headers`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Announcement {
    #[default]
    Off,
    /// `x-ratelimit-limit`, `-remaining` and `-reset`.
    Draft03,
}

/// `STAT_PREFIX.http_local_rate_limit.*`.
#[derive(Debug, Clone)]
pub(super) struct LocalRateLimitStats {
    pub(super) enabled: CounterId,
    pub(super) ok: CounterId,
    pub(super) rate_limited: CounterId,
    pub(super) enforced: CounterId,
}

impl LocalRateLimitStats {
    fn register(registry: &mut StatsRegistry, prefix: &str) -> Self {
        let scope = StatsScope::plain(prefix).child("http_local_rate_limit");
        // Named by Envoy as well; no limit is only tried here.
        registry.counter(&scope, "shadow_mode");
        Self {
            enabled: registry.counter(&scope, "enabled"),
            ok: registry.counter(&scope, "ok"),
            rate_limited: registry.counter(&scope, "rate_limited"),
            enforced: registry.counter(&scope, "enforced"),
        }
    }
}
