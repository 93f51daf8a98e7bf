//! `envoy.filters.http.cors`: which pages of other origins a browser lets read an answer. What is allowed stands in the
//! routes; the filter itself says nothing.

pub(super) mod decode;
pub(super) mod run;

use std::sync::Arc;

use http::HeaderValue;
use weft_routing::matcher::{StringMatch, UndecidedAs};

use crate::fraction::Fraction;
use crate::stats::{CounterId, StatsRegistry, StatsScope};

/// `envoy.filters.http.cors`: has no policy of its own, those of routes and virtual hosts apply.
#[derive(Debug, Clone)]
pub struct Cors {
    /// `http.PREFIX.cors.*`.
    pub(super) stats: CorsStats,
}

/// What a level of the routes allows. Where it says nothing, the next less specific level does.
#[derive(Debug)]
pub struct CorsPolicy {
    pub(super) origins: Vec<StringMatch>,
    pub(super) allow_methods: Option<HeaderValue>,
    pub(super) allow_headers: Option<HeaderValue>,
    pub(super) expose_headers: Option<HeaderValue>,
    pub(super) max_age: Option<HeaderValue>,
    pub(super) allow_credentials: Option<bool>,
    pub(super) allow_private_network: Option<bool>,
    /// Whether a preflight request of an origin that is not allowed goes on to the server.
    pub(super) forward_preflights: Option<bool>,
    /// Of these two the most specific level counts alone.
    pub(super) enabled: Fraction,
    pub(super) shadow_enabled: Fraction,
}

impl CorsPolicy {
    pub(super) fn allows(&self, origin: &HeaderValue) -> bool {
        let matches =
            |text: &[u8]| self.origins.iter().any(|allowed| allowed.matches(text, UndecidedAs::Miss));
        matches(b"*") || matches(origin.as_bytes())
    }
}

/// `http.PREFIX.cors.*`.
#[derive(Debug, Clone)]
pub(super) struct CorsStats {
    pub(super) origin_valid: CounterId,
    pub(super) origin_invalid: CounterId,
}

impl CorsStats {
    pub(super) fn register(registry: &mut StatsRegistry, manager: &StatsScope) -> Self {
        let scope = manager.child("cors");
        Self {
            origin_valid: registry.counter(&scope, "origin_valid"),
            origin_invalid: registry.counter(&scope, "origin_invalid"),
        }
    }
}

/// A request of a page whose origin is allowed: its response says so.
#[derive(Debug)]
pub(crate) struct AllowedOrigin {
    pub(super) origin: HeaderValue,
    /// Of the levels of the route, the most specific one first.
    pub(super) policies: Vec<Arc<CorsPolicy>>,
}
