//! Which rule takes a request: the union of all routes of a service, in Gateway API's order.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use weft_api::{Name, ServiceId};

use super::PolicySet;
use crate::kinds::http_rule::{RequestRule, RequestRules, Rule, Unresolved};
use crate::kinds::port::Port;
use crate::kinds::reference::{ClientKind, ClientRef, ParentKind, ParentRef};
use crate::kinds::route_match::{RouteMatch, Specificity};
use crate::kinds::spec::{Relation, Target};
use crate::kinds::tcp_route::TcpRoute;
use crate::metadata::Metadata;
use crate::object::{Object, PolicyKey};
use crate::policy::Policy;
use crate::value::Hostname;

/// One match of one rule. A rule with three matches gives three of these, at three places in the order; of a route with
/// host names, each as often as there are places in the order of hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpRouteMatch {
    /// The route, of a kind that routes requests.
    pub route: Policy,
    /// What happens to the requests.
    pub rule: Arc<Rule>,
    /// Which of the route's rules.
    pub rule_index: usize,
    /// Which of the rule's matches; 0 for a rule without, which matches everything.
    pub match_index: usize,
    /// The hosts that a request may be for; any when it is empty.
    pub hosts: Vec<Hostname>,
    /// What of a request must fit, all of it at once.
    pub route_match: RouteMatch,
    /// How specific that is about the path.
    pub specificity: Specificity,
    /// What is answered in place of a backend that does not exist.
    pub unresolved: Unresolved,
}

impl HttpRouteMatch {
    /// The rule's name, or its index where it has none.
    #[must_use]
    pub fn rule_name(&self) -> String {
        self.rule.name_at(self.rule_index)
    }
}

impl PolicySet {
    /// The matches that calls from `caller_namespace` to a port of a service go through, the first that fits wins.
    ///
    /// The order is Gateway API's: hosts by their whole name, then by longer wildcards; exact paths, expressions, then longer prefixes; a method; more headers; more query
    /// parameters. Among equals a route of the caller's own namespace goes before one of the service's, then the
    /// older route, then the name, then the order in the route.
    #[must_use]
    pub fn http_rules_for(
        &self,
        service: &ServiceId,
        port: &Port,
        caller_namespace: &Name,
    ) -> Vec<HttpRouteMatch> {
        let mut found = Vec::new();
        for route in self.naming_any(Relation::Parent, &Target::service(service, None)) {
            let Some(rules) = route.request_rules() else { continue };
            let metadata = route.metadata();
            if takes(&rules, metadata, service, port)
                && applies(metadata, rules.clients, service, caller_namespace)
            {
                found.extend(matches_of(route, rules));
            }
        }
        found.sort_by_cached_key(|one| MatchPrecedence::of(one, service));
        found
    }

    /// Whether a route has a rule of that name, or at that index where it has none.
    #[must_use]
    pub fn has_rule(&self, route: &PolicyKey, name: &str) -> bool {
        let rules = self.get(route).and_then(Policy::request_rules).map(|rules| rules.rules);
        rules.into_iter().flatten().enumerate().any(|(index, one)| one.rule.name_at(index) == name)
    }

    /// The route that connections from `caller_namespace` to a port of a service follow. One of the caller's own
    /// namespace goes before one of the service's, then the older, then the name.
    #[must_use]
    pub fn tcp_route_for(
        &self,
        service: &ServiceId,
        port: &Port,
        caller_namespace: &Name,
    ) -> Option<&Arc<Object<TcpRoute>>> {
        self.naming::<TcpRoute>(Relation::Parent, &Target::service(service, None))
            .filter(|route| applies(&route.metadata, &route.spec.clients, service, caller_namespace))
            .filter(|route| names_port(&route.spec.parent_refs, &route.metadata.namespace, service, port))
            .min_by_key(|route| RouteAge::of(&route.metadata, service))
    }
}

/// Whether a route speaks to callers of `caller`: one of the service's namespace to all, another only to its own.
pub(super) fn applies(
    metadata: &Metadata,
    clients: &[ClientRef],
    service: &ServiceId,
    caller: &Name,
) -> bool {
    let in_reach = metadata.namespace == service.namespace || metadata.namespace == *caller;
    let named = clients.is_empty()
        || clients.iter().any(|client| client.kind == ClientKind::Namespace && client.name == *caller);
    in_reach && named
}

fn names_port(parents: &[ParentRef], namespace: &Name, service: &ServiceId, port: &Port) -> bool {
    parents.iter().any(|parent| {
        parent.kind == ParentKind::Service && parent.service(namespace) == *service && parent.names_port(port)
    })
}

/// Whether a route takes requests to a port of a service.
pub(super) fn takes(rules: &RequestRules<'_>, metadata: &Metadata, service: &ServiceId, port: &Port) -> bool {
    (rules.carries)(port.protocol) && names_port(rules.parents, &metadata.namespace, service, port)
}

fn matches_of(route: &Policy, rules: RequestRules<'_>) -> Vec<HttpRouteMatch> {
    let mut found = Vec::new();
    let hosts = by_specificity(rules.hostnames);
    for (rule_index, RequestRule { rule, matches }) in rules.rules.into_iter().enumerate() {
        for (match_index, one) in matches.into_iter().enumerate() {
            found.extend(hosts.iter().map(|hosts| HttpRouteMatch {
                route: route.clone(),
                rule: Arc::clone(&rule),
                rule_index,
                match_index,
                hosts: hosts.clone(),
                route_match: one.route_match.clone(),
                specificity: one.specificity,
                unresolved: rules.unresolved,
            }));
        }
    }
    found
}

/// Host names in groups of one place in the order: whole names together, since a request has one of them, then
/// wildcards by their length. One empty group where there are none.
fn by_specificity(hostnames: &[Hostname]) -> Vec<Vec<Hostname>> {
    if hostnames.is_empty() {
        return vec![Vec::new()];
    }
    let mut groups: BTreeMap<HostSpecificity, Vec<Hostname>> = BTreeMap::new();
    for hostname in hostnames {
        groups.entry(HostSpecificity::of(Some(hostname))).or_default().push(hostname.clone());
    }
    groups.into_values().collect()
}

/// Where a host stands in the order. Lower goes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum HostSpecificity {
    Whole,
    Wildcard(Reverse<usize>),
    Any,
}

impl HostSpecificity {
    fn of(hostname: Option<&Hostname>) -> Self {
        match hostname {
            Some(hostname) if hostname.is_wildcard() => Self::Wildcard(Reverse(hostname.as_str().len())),
            Some(_) => Self::Whole,
            None => Self::Any,
        }
    }
}

/// Where a route stands among those that say the same. Lower goes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct RouteAge {
    of_service: bool,
    created: (bool, Option<String>),
    namespace: Name,
    name: Name,
}

impl RouteAge {
    fn of(metadata: &Metadata, service: &ServiceId) -> Self {
        Self {
            of_service: metadata.namespace == service.namespace,
            created: (metadata.created_at.is_none(), metadata.created_at.clone()),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
        }
    }
}

/// Where a match stands in the order. Lower goes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct MatchPrecedence {
    host: HostSpecificity,
    path: Specificity,
    any_method: bool,
    headers: Reverse<usize>,
    query_params: Reverse<usize>,
    age: RouteAge,
    rule: usize,
    part: usize,
}

impl MatchPrecedence {
    fn of(one: &HttpRouteMatch, service: &ServiceId) -> Self {
        Self {
            host: HostSpecificity::of(one.hosts.first()),
            path: one.specificity,
            any_method: one.route_match.method.is_none(),
            headers: Reverse(one.route_match.headers.len()),
            query_params: Reverse(one.route_match.query_params.len()),
            age: RouteAge::of(one.route.metadata(), service),
            rule: one.rule_index,
            part: one.match_index,
        }
    }
}
