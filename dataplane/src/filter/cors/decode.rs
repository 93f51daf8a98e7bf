//! From Envoy's `Cors` and `CorsPolicy`.

use std::sync::Arc;

use envoy_types::pb::envoy::extensions::filters::http::cors::v3 as wire;
use http::HeaderValue;
use weft_routing::decode::matcher;
use weft_routing::rejection::{Notes, Rejection, Within as _};

use super::super::Override;
use super::{Cors, CorsPolicy, CorsStats};
use crate::fraction::Fraction;
use crate::stats::{StatsRegistry, StatsScope};

pub(in super::super) fn filter(scope: &StatsScope, registry: &mut StatsRegistry) -> Cors {
    Cors { stats: CorsStats::register(registry, scope) }
}

pub(in super::super) fn per_route(
    given: &wire::CorsPolicy,
    notes: &mut Notes,
) -> Result<Override, Rejection> {
    let origins = given.allow_origin_string_match.iter().enumerate();
    let origins = origins
        .map(|(index, one)| matcher::string(one).within(|| format!("allow_origin_string_match[{index}]")));
    Ok(Override::Cors(Arc::new(CorsPolicy {
        origins: origins.collect::<Result<_, _>>()?,
        allow_methods: value(&given.allow_methods, "allow_methods")?,
        allow_headers: value(&given.allow_headers, "allow_headers")?,
        expose_headers: value(&given.expose_headers, "expose_headers")?,
        max_age: value(&given.max_age, "max_age")?,
        allow_credentials: given.allow_credentials.map(|flag| flag.value),
        allow_private_network: given.allow_private_network_access.map(|flag| flag.value),
        forward_preflights: given.forward_not_matching_preflights.map(|flag| flag.value),
        enabled: Fraction::of_runtime(given.filter_enabled.as_ref(), Fraction::ALL, "filter_enabled", notes)?,
        shadow_enabled: Fraction::of_runtime(
            given.shadow_enabled.as_ref(),
            Fraction::NONE,
            "shadow_enabled",
            notes,
        )?,
    })))
}

fn value(given: &str, field: &str) -> Result<Option<HeaderValue>, Rejection> {
    if given.is_empty() {
        return Ok(None);
    }
    let wrong = |_| Rejection::new(field, "cannot be the value of a header");
    HeaderValue::from_str(given).map(Some).map_err(wrong)
}
