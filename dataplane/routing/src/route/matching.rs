//! What a route matches.

use regex::bytes::Regex;

use crate::grpc::is_grpc;
use crate::matcher::{HeaderMatch, RequestHead, StringMatch, UndecidedAs};

/// `RouteMatch`, meant.
#[derive(Clone, Debug)]
pub struct RouteMatch {
    pub path: PathMatch,
    pub(crate) ignore_case: bool,
    pub(crate) headers: Vec<HeaderMatch>,
    pub(crate) query: Vec<QueryMatch>,
    /// Whether only gRPC matches.
    pub(crate) grpc: bool,
    /// `runtime_fraction`: how many of a million requests match.
    pub(crate) fraction: Option<u32>,
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

/// `QueryParameterMatcher`.
#[derive(Clone, Debug)]
pub(crate) struct QueryMatch {
    pub(crate) name: Box<str>,
    pub(crate) rule: QueryRule,
}

/// What a parameter of the query has to be.
#[derive(Clone, Debug)]
pub(crate) enum QueryRule {
    Present(bool),
    Text(StringMatch),
}

impl RouteMatch {
    /// Whether the request matches.
    #[inline]
    pub fn matches(&self, head: &RequestHead<'_>, random: u64) -> bool {
        self.matches_path(head)
            && self.headers.iter().all(|header| header.matches(head, UndecidedAs::Miss))
            && (self.query.is_empty()
                || self.query.iter().all(|query| query.matches(head.query().unwrap_or_default())))
            && (!self.grpc || is_grpc(head.headers))
            && self.fraction.is_none_or(|parts| random % 1_000_000 < u64::from(parts))
    }

    /// How many bytes of the path are what `prefix_rewrite` replaces.
    pub(super) fn matched_len(&self, path: &str) -> usize {
        match &self.path {
            PathMatch::Prefix(prefix) | PathMatch::Below(prefix) => prefix.len().min(path.len()),
            PathMatch::Exact(_) | PathMatch::Regex(_) | PathMatch::Connect => path.len(),
        }
    }

    #[inline]
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

impl QueryMatch {
    /// The first parameter of that name counts, undecoded, as in Envoy.
    fn matches(&self, query: &str) -> bool {
        let value = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find_map(|(name, value)| (*name == *self.name).then_some(value));
        match &self.rule {
            QueryRule::Present(present) => value.is_some() == *present,
            QueryRule::Text(text) => {
                value.is_some_and(|value| text.matches(value.as_bytes(), UndecidedAs::Miss))
            }
        }
    }
}
