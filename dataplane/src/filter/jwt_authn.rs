//! `envoy.filters.http.jwt_authn`: requests bring tokens of those that a provider vouches for, and their claims.
//!
//! ```text
//!   rules, or the route --> Requirement --> token found, parsed, judged, verified --> claims: headers, dynamic metadata
//!                                              |                |
//!                                        TokenLocations      KeySet, given or fetched
//! ```
//!
//! What a key may verify is decided when the key is read (`keys`), never by the token: each key has the algorithms of its
//! type, or the one that it names.

mod audiences;
pub(super) mod decode;
mod json;
pub(crate) mod key_cache;
mod keys;
mod locations;
mod payload;
mod remote;
pub(super) mod run;
mod status;
mod token;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;
use weft_routing::matcher::StringMatch;
use weft_routing::route::RouteMatch;

use crate::stats::{CounterId, StatsRegistry, StatsScope};
use audiences::Audiences;
use key_cache::KeySource;
use keys::KeySet;
use locations::TokenLocations;
use token::TokenLifetime;

/// `envoy.filters.http.jwt_authn`.
#[derive(Debug)]
pub struct JwtAuthn {
    providers: Vec<TokenProvider>,
    /// The first that matches a request says what it needs; `None` is nothing.
    rules: Vec<(RouteMatch, Option<TokenRequirement>)>,
    /// What routes may name.
    named: BTreeMap<Box<str>, TokenRequirement>,
    /// Whether a page's question about another origin passes without a token.
    bypasses_preflights: bool,
    /// `strip_failure_response`.
    failure: FailureReply,
    /// `http.PREFIX.jwt_authn.*`.
    stats: JwtAuthnStats,
}

/// What a caller is told of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailureReply {
    Reason,
    StatusAlone,
}

/// Who issues tokens, and what becomes of them.
#[derive(Debug)]
struct TokenProvider {
    /// Empty takes every issuer.
    issuer: Box<str>,
    audiences: Audiences,
    subjects: Option<StringMatch>,
    lifetime: TokenLifetime,
    keys: ProviderKeys,
    /// Whether the token goes on to the server.
    forward: bool,
    /// `forward_payload_header`, and whether what it has is padded.
    payload_header: Option<(HeaderName, bool)>,
    /// Claims, by their paths, that go on in headers.
    claim_headers: Vec<(Vec<Box<str>>, HeaderName)>,
    /// `payload_in_metadata`, `header_in_metadata`.
    payload_in_metadata: Option<Box<str>>,
    header_in_metadata: Option<Box<str>>,
    /// Claims that become lists in metadata, by their spaces.
    space_delimited: Vec<Box<str>>,
    clock_skew: u64,
    clear_route_cache: bool,
}

#[derive(Debug)]
enum ProviderKeys {
    Given(KeySet),
    Fetched(Arc<KeySource>),
}

/// What a request needs.
#[derive(Debug)]
enum TokenRequirement {
    Nothing,
    /// A token of this provider.
    Provider {
        provider: usize,
        /// In place of the provider's.
        audiences: Option<Audiences>,
        locations: TokenLocations,
    },
    Any {
        requirements: Vec<TokenRequirement>,
        otherwise: Otherwise,
    },
    All(Vec<TokenRequirement>),
    /// Tokens of any provider; whether there has to be none, or a bad one is as good as none.
    Optional {
        tolerance: Tolerance,
        locations: TokenLocations,
    },
}

/// What is let on although no requirement of several is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Otherwise {
    Refuse,
    AllowMissing,
    AllowMissingOrFailed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tolerance {
    Missing,
    MissingOrFailed,
}

impl JwtAuthn {
    /// The clusters that keys are fetched from.
    pub(super) fn clusters(&self) -> impl Iterator<Item = &Arc<str>> {
        self.providers.iter().filter_map(|provider| match &provider.keys {
            ProviderKeys::Given(_) => None,
            ProviderKeys::Fetched(source) => Some(&source.cluster),
        })
    }

    /// The provider of an issuer's tokens, else the one that takes all.
    fn by_issuer(&self, issuer: &str) -> Option<usize> {
        let of = |wanted: &str| self.providers.iter().position(|provider| &*provider.issuer == wanted);
        of(issuer).or_else(|| of(""))
    }
}

/// `http.PREFIX.jwt_authn.*`.
#[derive(Debug, Clone)]
struct JwtAuthnStats {
    allowed: CounterId,
    denied: CounterId,
    cors_preflight_bypassed: CounterId,
    jwks_fetch_success: CounterId,
    jwks_fetch_failed: CounterId,
    jwt_cache_miss: CounterId,
}

impl JwtAuthnStats {
    fn register(registry: &mut StatsRegistry, manager: &StatsScope, prefix: &str) -> Self {
        let scope = manager.child("jwt_authn");
        let scope = match prefix.trim_end_matches('.') {
            "" => scope,
            prefix => scope.child(prefix),
        };
        // No token is remembered: none is ever found again.
        registry.counter(&scope, "jwt_cache_hit");
        Self {
            allowed: registry.counter(&scope, "allowed"),
            denied: registry.counter(&scope, "denied"),
            cors_preflight_bypassed: registry.counter(&scope, "cors_preflight_bypassed"),
            jwks_fetch_success: registry.counter(&scope, "jwks_fetch_success"),
            jwks_fetch_failed: registry.counter(&scope, "jwks_fetch_failed"),
            jwt_cache_miss: registry.counter(&scope, "jwt_cache_miss"),
        }
    }
}
