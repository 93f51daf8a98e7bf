//! A rule for requests. HTTPRoutes are made of them; other kinds that route requests are put in their terms.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::Name;

use super::port::Protocol;
use super::reference::{BackendRef, ClientRef, ParentRef, check_backends};
use super::resilience::{RouteRetry, Timeouts};
use super::route_filter::{Filter, FilterType, RequestRedirect};
use super::route_match::{PathMatchType, RouteMatch, Specificity};
use crate::finding::{Code, Finding, Findings, steps};
use crate::value::Hostname;

/// What happens to the requests that fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// A name, unique in the route, by which policies target the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// A request fits when one of these does; all fit when there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<RouteMatch>,
    /// What is done to requests and answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// Where requests go, in proportion to the weights. With none, and no redirect, they are answered with 500.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<BackendRef>,
    /// How long requests may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// What is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RouteRetry>,
    /// How requests of one session stay with one backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Rule {
    /// The rule's name, or its index where it has none.
    #[must_use]
    pub fn name_at(&self, index: usize) -> String {
        self.name.as_ref().map_or_else(|| index.to_string(), Name::to_string)
    }

    /// The redirect that answers in place of a backend.
    #[must_use]
    pub fn redirect(&self) -> Option<&RequestRedirect> {
        self.filters.iter().find_map(|filter| filter.request_redirect.as_ref())
    }

    pub(crate) fn check(&self, out: &mut Findings) {
        out.each("matches", &self.matches, |out, one| one.check(out));
        let prefix_only = self.matches.iter().all(|one| one.path().match_type == PathMatchType::PathPrefix);
        out.each("filters", &self.filters, |out, filter| filter.check(prefix_only, out));
        out.unique("filters", &self.filters, "type", |filter| format!("{:?}", filter.filter_type));
        let has = |filter_type| self.filters.iter().position(|filter| filter.filter_type == filter_type);
        if let Some(index) = has(FilterType::RequestRedirect) {
            if has(FilterType::UrlRewrite).is_some() {
                out.at("filters", |out| {
                    out.add_at(index, Code::Inconsistent, "a redirect and a rewrite do not go together");
                });
            }
            if !self.backend_refs.is_empty() {
                out.add_at("backendRefs", Code::Inconsistent, "a rule that redirects has no backends");
            }
        }
        let Self { backend_refs, timeouts, retry, session_persistence, .. } = self;
        check_forwarding(backend_refs, timeouts.as_ref(), retry.as_ref(), session_persistence.as_ref(), out);
    }
}

/// Notes what is wrong with how a rule of any kind of request sends on what fits.
pub(super) fn check_forwarding(
    backend_refs: &[BackendRef],
    timeouts: Option<&Timeouts>,
    retry: Option<&RouteRetry>,
    session_persistence: Option<&serde_json::Map<String, serde_json::Value>>,
    out: &mut Findings,
) {
    check_backends(backend_refs, out);
    if let Some(timeouts) = timeouts {
        out.at("timeouts", |out| timeouts.check(out));
    }
    if let Some(retry) = retry {
        out.at("retry", |out| retry.check(out));
    }
    if session_persistence.is_some() {
        out.not_supported("sessionPersistence", "sessionPersistence");
    }
}

/// How a route sends on the requests of its parents' callers.
#[derive(Debug)]
pub struct RequestRules<'a> {
    /// The services whose callers follow the route.
    pub parents: &'a [ParentRef],
    /// Only these callers follow it; all when it is empty.
    pub clients: &'a [ClientRef],
    /// Only requests for one of these hosts follow it; all when it is empty.
    pub hostnames: &'a [Hostname],
    /// What is spoken on the ports that it is for.
    pub carries: fn(Protocol) -> bool,
    /// What is answered in place of a backend that does not exist.
    pub unresolved: Unresolved,
    /// The rules in the order in which they are written.
    pub rules: Vec<RequestRule>,
}

/// What is answered in place of a backend that does not exist, as Gateway API wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unresolved {
    /// 500, as an HTTPRoute answers.
    InternalServerError,
    /// 503, which callers of gRPC are told as UNAVAILABLE.
    ServiceUnavailable,
}

impl Unresolved {
    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::InternalServerError => 500,
            Self::ServiceUnavailable => 503,
        }
    }
}

/// One rule of a route, and which requests it takes.
#[derive(Debug)]
pub struct RequestRule {
    /// What happens to the requests.
    pub rule: Arc<Rule>,
    /// A request fits when one of these does; never empty.
    pub matches: Vec<RequestMatch>,
}

/// A match, and where it stands among those of all routes.
#[derive(Debug)]
pub struct RequestMatch {
    /// What of a request must fit, all of it at once.
    pub route_match: RouteMatch,
    /// How specific it is about the path.
    pub specificity: Specificity,
}

impl RequestRules<'_> {
    /// Notes rules that lead nowhere, and matches that an equal one before them in the route always wins over.
    pub(crate) fn check_reach(&self, out: &mut Vec<Finding>) {
        let mut seen: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for (rule_index, RequestRule { rule, matches }) in self.rules.iter().enumerate() {
            let path = steps!["spec", "rules", rule_index];
            if rule.backend_refs.is_empty() && rule.redirect().is_none() {
                let message = format!(
                    "the rule has no backend and no redirect: its requests are answered with {}",
                    self.unresolved.status()
                );
                out.push(Finding::new(path.clone(), Code::UnreachableRule, message));
            }
            for (match_index, one) in matches.iter().enumerate() {
                let Some((rule_before, match_before)) = seen.get(&one.canonical()) else {
                    seen.insert(one.canonical(), (rule_index, match_index));
                    continue;
                };
                let path = match rule.matches.is_empty() {
                    true => path.clone(),
                    false => path.then("matches").then(match_index),
                };
                let message = format!(
                    "can never match: rules[{rule_before}] match {match_before} of this route takes the same requests first"
                );
                out.push(Finding::new(path, Code::UnreachableRule, message));
            }
        }
    }
}

impl RequestMatch {
    /// Text that is equal for matches that take the same requests.
    fn canonical(&self) -> String {
        let mut one = self.route_match.clone();
        one.path = Some(one.path());
        one.headers.sort();
        one.query_params.sort();
        format!("{one:?}")
    }
}
