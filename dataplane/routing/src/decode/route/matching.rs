//! `RouteMatch`.

use envoy_types::pb::envoy::config::route::v3 as wire;
use wire::query_parameter_matcher::QueryParameterMatchSpecifier;
use wire::route_match::PathSpecifier;

use super::super::{fields, matcher};
use crate::matcher::whole_regex;
use crate::rejection::{Notes, Rejection, Within as _, refuse};
use crate::route::{PathMatch, QueryMatch, QueryRule, RouteMatch};

/// Reads what a route matches.
///
/// # Errors
/// A condition that is not supported: a route that matched without it would mean something else.
pub fn route_match(given: &wire::RouteMatch, notes: &mut Notes) -> Result<RouteMatch, Rejection> {
    refuse(&given.tls_context, "tls_context")?;
    refuse(&given.dynamic_metadata, "dynamic_metadata")?;
    refuse(&given.filter_state, "filter_state")?;
    refuse(&given.cookies, "cookies")?;
    let headers = given.headers.iter().enumerate();
    let headers = headers
        .map(|(i, h)| matcher::header(h).within(|| format!("headers[{i}]")))
        .collect::<Result<_, _>>()?;
    let query = given.query_parameters.iter().enumerate();
    let query = query
        .map(|(i, q)| query_match(q).within(|| format!("query_parameters[{i}]")))
        .collect::<Result<_, _>>()?;
    Ok(RouteMatch {
        path: path(given)?,
        ignore_case: given.case_sensitive.as_ref().is_some_and(|sensitive| !sensitive.value),
        headers,
        query,
        grpc: given.grpc.is_some(),
        fraction: fraction(given, notes)?,
    })
}

fn path(given: &wire::RouteMatch) -> Result<PathMatch, Rejection> {
    match &given.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => Ok(PathMatch::Prefix(prefix.as_str().into())),
        Some(PathSpecifier::Path(path)) => Ok(PathMatch::Exact(path.as_str().into())),
        Some(PathSpecifier::SafeRegex(regex)) => {
            whole_regex(&regex.regex).within(|| "safe_regex").map(PathMatch::Regex)
        }
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
            if prefix.ends_with('/') || prefix.contains(['?', '#']) || !prefix.starts_with('/') {
                let reason = "must begin with a slash, and neither end in one nor hold ? or #";
                return Err(Rejection::new("path_separated_prefix", reason));
            }
            Ok(PathMatch::Below(prefix.as_str().into()))
        }
        Some(PathSpecifier::ConnectMatcher(_)) => Ok(PathMatch::Connect),
        Some(PathSpecifier::PathMatchPolicy(_)) => Err(Rejection::unsupported("path_match_policy")),
        None => Err(Rejection::new("path_specifier", "is missing")),
    }
}

fn fraction(given: &wire::RouteMatch, notes: &mut Notes) -> Result<Option<u32>, Rejection> {
    let Some(fraction) = &given.runtime_fraction else { return Ok(None) };
    notes.ignored(&fraction.runtime_key, "match.runtime_fraction.runtime_key");
    let percent = fraction
        .default_value
        .as_ref()
        .ok_or_else(|| Rejection::new("runtime_fraction.default_value", "is missing"))?;
    let unit = fields::parts_of_a_million(percent, "runtime_fraction.default_value")?;
    Ok(Some(percent.numerator.saturating_mul(unit)))
}

fn query_match(given: &wire::QueryParameterMatcher) -> Result<QueryMatch, Rejection> {
    let rule = match &given.query_parameter_match_specifier {
        None => QueryRule::Present(true),
        Some(QueryParameterMatchSpecifier::PresentMatch(present)) => QueryRule::Present(*present),
        Some(QueryParameterMatchSpecifier::StringMatch(text)) => {
            QueryRule::Text(matcher::string(text).within(|| "string_match")?)
        }
    };
    if given.name.is_empty() {
        return Err(Rejection::new("name", "is empty"));
    }
    Ok(QueryMatch { name: given.name.as_str().into(), rule })
}
