//! HTTPRoute: which requests to a service go where. Also taken under Gateway API's own API version.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::Name;

use super::reference::{BackendRef, ClientKind, ClientRef, ParentRef, check_backends};
use super::resilience::{RouteRetry, Timeouts};
use super::route_filter::{Filter, FilterType};
use super::route_match::{PathMatchType, RouteMatch};
use super::{Kind, Spec};
use crate::finding::{Code, Findings};
use crate::metadata::Metadata;
use crate::value::Hostname;

/// Which requests to a service go where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRoute {
    /// The services whose callers follow this route.
    pub parent_refs: Vec<ParentRef>,
    /// Only these callers follow it; all when it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientRef>,
    /// Host names that a request must have one of. A route on a Service applies to all of that service's names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<Hostname>,
    /// The rules. All rules of all routes of a service compete: the most specific match wins.
    #[serde(default = "one_rule")]
    pub rules: Vec<Rule>,
}

fn one_rule() -> Vec<Rule> {
    vec![Rule::default()]
}

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

/// The most rules in a route, as in Gateway API.
const RULES_MAX: usize = 64;
/// The most matches of a route together.
const MATCHES_MAX: usize = 512;

impl Rule {
    /// The redirect that answers in place of a backend.
    #[must_use]
    pub fn redirect(&self) -> Option<&super::route_filter::RequestRedirect> {
        self.filters.iter().find_map(|filter| filter.request_redirect.as_ref())
    }

    fn check(&self, out: &mut Findings) {
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
        check_backends(&self.backend_refs, out);
        if let Some(timeouts) = &self.timeouts {
            out.at("timeouts", |out| timeouts.check(out));
        }
        if let Some(retry) = &self.retry {
            out.at("retry", |out| retry.check(out));
        }
        if self.session_persistence.is_some() {
            out.not_supported("sessionPersistence", "sessionPersistence");
        }
    }
}

/// Notes what is wrong with the parents of a route.
pub(crate) fn check_parents(parents: &[ParentRef], metadata: &Metadata, out: &mut Findings) {
    if parents.is_empty() {
        out.add_at("parentRefs", Code::Required, "a route names at least one parent");
    }
    out.each("parentRefs", parents, |out, parent| parent.check(out));
    out.unique("parentRefs", parents, "", |parent| {
        let port = parent.port.map(|port| format!(" port {port}")).unwrap_or_default();
        let section = parent.section_name.as_ref().map(|name| format!(" section {name}")).unwrap_or_default();
        format!("Service {}{port}{section}", parent.service(&metadata.namespace))
    });
}

impl Spec for HttpRoute {
    const KIND: Kind = Kind::HttpRoute;

    fn check(&self, metadata: &Metadata, out: &mut Findings) {
        check_parents(&self.parent_refs, metadata, out);
        out.each("clients", &self.clients, |out, client| {
            if client.kind == ClientKind::Service {
                out.not_supported("kind", "a Service as client of a route")
                    .value("Service")
                    .hint("name its namespace: kind: Namespace");
            }
        });
        if !self.hostnames.is_empty() {
            out.not_supported("hostnames", "hostnames of a route whose parent is a Service").hint(
                "a route applies to all names of its Service; write more of them in the Service's hostnames",
            );
        }
        let matches: usize = self.rules.iter().map(|rule| rule.matches.len()).sum();
        if self.rules.len() > RULES_MAX || matches > MATCHES_MAX {
            let message = format!("a route has at most {RULES_MAX} rules and {MATCHES_MAX} matches");
            out.add_at("rules", Code::InvalidValue, message).hint("split it into several routes");
            return;
        }
        check_rule_names(self.rules.iter().map(|rule| rule.name.as_ref()), out);
        out.each("rules", &self.rules, |out, rule| rule.check(out));
    }
}

/// Notes names of rules that stand twice.
pub(crate) fn check_rule_names<'a>(names: impl Iterator<Item = Option<&'a Name>>, out: &mut Findings) {
    let mut seen = std::collections::BTreeMap::new();
    for (index, name) in names.enumerate() {
        let Some(name) = name else { continue };
        if let Some(first) = seen.insert(name, index) {
            out.at("rules", |out| {
                out.at(index, |out| {
                    out.add_at("name", Code::Duplicate, format!("{name} is already used by rules[{first}]"))
                        .value(name);
                });
            });
        }
    }
}
