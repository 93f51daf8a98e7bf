//! What a route matches.

use envoy_types::pb::envoy::config::route::v3 as wire;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use regex::bytes::Regex;
use wire::query_parameter_matcher::QueryParameterMatchSpecifier;
use wire::route_match::PathSpecifier;

use crate::matcher::{HeaderMatch, Lean, RequestHead, StringMatch, whole_regex};
use crate::rejection::{Notes, Rejection, Within as _, refuse};

/// `RouteMatch`, meant.
#[derive(Clone, Debug)]
pub struct RouteMatch {
    /// The path.
    pub path: PathMatch,
    ignore_case: bool,
    headers: Vec<HeaderMatch>,
    query: Vec<QueryMatch>,
    grpc: bool,
    /// Of a million.
    fraction: Option<u32>,
}

/// How a route matches the path.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// `prefix`.
    Prefix(Box<str>),
    /// `path`.
    Exact(Box<str>),
    /// `safe_regex`, of the whole path.
    Regex(Regex),
    /// `path_separated_prefix`: the path itself or what is below it.
    Below(Box<str>),
    /// `connect_matcher`: any CONNECT request.
    Connect,
}

#[derive(Clone, Debug)]
struct QueryMatch {
    name: Box<str>,
    rule: QueryRule,
}

#[derive(Clone, Debug)]
enum QueryRule {
    Present(bool),
    Text(StringMatch),
}

impl RouteMatch {
    /// Decodes Envoy's match.
    ///
    /// # Errors
    /// A condition that is not supported: a route that matched without it would mean something else.
    pub(super) fn decode(matches: &wire::RouteMatch, notes: &mut Notes) -> Result<Self, Rejection> {
        refuse(&matches.tls_context, "tls_context")?;
        refuse(&matches.dynamic_metadata, "dynamic_metadata")?;
        refuse(&matches.filter_state, "filter_state")?;
        refuse(&matches.cookies, "cookies")?;
        let headers = matches.headers.iter().enumerate();
        let headers = headers
            .map(|(i, h)| HeaderMatch::decode(h).within(|| format!("headers[{i}]")))
            .collect::<Result<_, _>>()?;
        let query = matches.query_parameters.iter().enumerate();
        let query = query
            .map(|(i, q)| QueryMatch::decode(q).within(|| format!("query_parameters[{i}]")))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            path: path(matches)?,
            ignore_case: matches.case_sensitive.as_ref().is_some_and(|sensitive| !sensitive.value),
            headers,
            query,
            grpc: matches.grpc.is_some(),
            fraction: fraction(matches, notes)?,
        })
    }

    /// Whether the request matches.
    pub fn matches(&self, head: &RequestHead<'_>, random: u64) -> bool {
        self.matches_path(head)
            && self.headers.iter().all(|header| header.matches(head, Lean::Miss))
            && (self.query.is_empty()
                || self.query.iter().all(|query| query.matches(head.query().unwrap_or_default())))
            && (!self.grpc || is_grpc(head))
            && self.fraction.is_none_or(|parts| random % 1_000_000 < u64::from(parts))
    }

    /// How many bytes of the path are what `prefix_rewrite` replaces.
    pub(super) fn matched_len(&self, path: &str) -> usize {
        match &self.path {
            PathMatch::Prefix(prefix) | PathMatch::Below(prefix) => prefix.len().min(path.len()),
            PathMatch::Exact(_) | PathMatch::Regex(_) | PathMatch::Connect => path.len(),
        }
    }

    fn matches_path(&self, head: &RequestHead<'_>) -> bool {
        let path = head.path_only();
        let starts = |prefix: &str| match path.as_bytes().get(..prefix.len()) {
            Some(start) if self.ignore_case => start.eq_ignore_ascii_case(prefix.as_bytes()),
            Some(start) => start == prefix.as_bytes(),
            None => false,
        };
        match &self.path {
            PathMatch::Prefix(prefix) => starts(prefix),
            PathMatch::Exact(exact) => path.len() == exact.len() && starts(exact),
            PathMatch::Below(prefix) => {
                starts(prefix) && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
            }
            PathMatch::Regex(regex) => regex.is_match(path.as_bytes()),
            PathMatch::Connect => head.method == "CONNECT",
        }
    }
}

fn is_grpc(head: &RequestHead<'_>) -> bool {
    let content_type =
        head.headers.get(http::header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    content_type
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn path(matches: &wire::RouteMatch) -> Result<PathMatch, Rejection> {
    match &matches.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => Ok(PathMatch::Prefix(prefix.as_str().into())),
        Some(PathSpecifier::Path(path)) => Ok(PathMatch::Exact(path.as_str().into())),
        Some(PathSpecifier::SafeRegex(regex)) => {
            whole_regex(regex).within(|| "safe_regex").map(PathMatch::Regex)
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

fn fraction(matches: &wire::RouteMatch, notes: &mut Notes) -> Result<Option<u32>, Rejection> {
    let Some(fraction) = &matches.runtime_fraction else { return Ok(None) };
    notes.ignored(&fraction.runtime_key, "match.runtime_fraction.runtime_key");
    let percent = fraction
        .default_value
        .as_ref()
        .ok_or_else(|| Rejection::new("runtime_fraction.default_value", "is missing"))?;
    let factor = match DenominatorType::try_from(percent.denominator) {
        Ok(DenominatorType::Hundred) => 10_000,
        Ok(DenominatorType::TenThousand) => 100,
        Ok(DenominatorType::Million) => 1,
        Err(_) => return Err(Rejection::new("runtime_fraction.default_value.denominator", "is unknown")),
    };
    Ok(Some(percent.numerator.saturating_mul(factor)))
}

impl QueryMatch {
    fn decode(matcher: &wire::QueryParameterMatcher) -> Result<Self, Rejection> {
        let rule = match &matcher.query_parameter_match_specifier {
            None => QueryRule::Present(true),
            Some(QueryParameterMatchSpecifier::PresentMatch(present)) => QueryRule::Present(*present),
            Some(QueryParameterMatchSpecifier::StringMatch(text)) => {
                QueryRule::Text(StringMatch::decode(text).within(|| "string_match")?)
            }
        };
        if matcher.name.is_empty() {
            return Err(Rejection::new("name", "is empty"));
        }
        Ok(Self { name: matcher.name.as_str().into(), rule })
    }

    /// The first parameter of that name counts, undecoded, as in Envoy.
    fn matches(&self, query: &str) -> bool {
        let value = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find_map(|(name, value)| (*name == *self.name).then_some(value));
        match &self.rule {
            QueryRule::Present(present) => value.is_some() == *present,
            QueryRule::Text(text) => value.is_some_and(|value| text.matches(value.as_bytes(), Lean::Miss)),
        }
    }
}
