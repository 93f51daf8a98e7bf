//! What a GRPCRoute changes: a call of gRPC is a request to `/package.Service/Method`, so its rules are put in the terms
//! of an HTTPRoute.

use std::cmp::Reverse;
use std::sync::Arc;

use super::{GrpcFilter, GrpcFilterType, GrpcMatch, GrpcRoute, GrpcRule, MethodMatch, PORT_FIT};
use crate::kinds::http_rule::{RequestMatch, RequestRule, RequestRules, Rule, Unresolved};
use crate::kinds::route_filter::{Filter, FilterType};
use crate::kinds::route_match::{PathMatch, PathMatchType, RouteMatch, Specificity, ValueMatchType};

/// Any service, and any method.
const ANY: &str = "[^/]+";

pub(super) fn rules(route: &GrpcRoute) -> RequestRules<'_> {
    RequestRules {
        parents: &route.parent_refs,
        clients: &route.clients,
        hostnames: &route.hostnames,
        carries: PORT_FIT.carries,
        unresolved: Unresolved::ServiceUnavailable,
        rules: route.rules.iter().map(request_rule).collect(),
    }
}

fn request_rule(rule: &GrpcRule) -> RequestRule {
    let all = rule.matches.is_empty().then(GrpcMatch::default);
    RequestRule {
        matches: rule.matches.iter().chain(&all).map(request_match).collect(),
        rule: Arc::new(Rule {
            name: rule.name.clone(),
            matches: rule.matches.iter().map(|one| request_match(one).route_match).collect(),
            filters: rule.filters.iter().map(filter).collect(),
            backend_refs: rule.backend_refs.clone(),
            timeouts: rule.timeouts,
            retry: rule.retry.clone(),
            session_persistence: None,
        }),
    }
}

fn request_match(one: &GrpcMatch) -> RequestMatch {
    RequestMatch {
        route_match: RouteMatch {
            path: one.method.as_ref().map(path),
            headers: one.headers.clone(),
            ..RouteMatch::default()
        },
        specificity: specificity(one.method.as_ref()),
    }
}

fn path(method: &MethodMatch) -> PathMatch {
    let service = method.service.as_deref().map(|service| service.trim_start_matches('.'));
    let (match_type, value) = match (method.match_type, service, method.method.as_deref()) {
        (ValueMatchType::Exact, Some(service), Some(method)) => {
            (PathMatchType::Exact, format!("/{service}/{method}"))
        }
        (ValueMatchType::Exact, Some(service), None) => (PathMatchType::PathPrefix, format!("/{service}/")),
        (ValueMatchType::Exact, None, method) => {
            (PathMatchType::RegularExpression, format!("/{ANY}/{}", method.unwrap_or(ANY)))
        }
        (ValueMatchType::RegularExpression, service, method) => {
            let (service, method) = (service.unwrap_or(ANY), method.unwrap_or(ANY));
            (PathMatchType::RegularExpression, format!("/(?:{service})/(?:{method})"))
        }
    };
    PathMatch { match_type, value }
}

/// By Gateway API's order: what is exact, then the longer service, then the longer method.
fn specificity(method: Option<&MethodMatch>) -> Specificity {
    let length = |text: Option<&String>| Reverse(text.map_or(0, String::len));
    let match_type = method.map_or(PathMatchType::PathPrefix, |method| match method.match_type {
        ValueMatchType::Exact => PathMatchType::Exact,
        ValueMatchType::RegularExpression => PathMatchType::RegularExpression,
    });
    let characters = (
        length(method.and_then(|method| method.service.as_ref())),
        length(method.and_then(|method| method.method.as_ref())),
    );
    Specificity { match_type, characters }
}

/// The same filter in the terms of an HTTPRoute.
pub(super) fn filter(filter: &GrpcFilter) -> Filter {
    Filter {
        filter_type: match filter.filter_type {
            GrpcFilterType::RequestHeaderModifier => FilterType::RequestHeaderModifier,
            GrpcFilterType::ResponseHeaderModifier => FilterType::ResponseHeaderModifier,
            GrpcFilterType::RequestMirror => FilterType::RequestMirror,
            GrpcFilterType::ExtensionRef => FilterType::ExtensionRef,
        },
        request_header_modifier: filter.request_header_modifier.clone(),
        response_header_modifier: filter.response_header_modifier.clone(),
        request_mirror: filter.request_mirror.clone(),
        request_redirect: None,
        url_rewrite: None,
        cors: None,
        extension_ref: filter.extension_ref.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(match_type: ValueMatchType, service: Option<&str>, method: Option<&str>) -> MethodMatch {
        MethodMatch { match_type, service: service.map(str::to_owned), method: method.map(str::to_owned) }
    }

    #[test]
    fn method_of_a_service_is_a_path() {
        use PathMatchType::{Exact, PathPrefix, RegularExpression};
        let exact = |service, name| path(&method(ValueMatchType::Exact, service, name));
        let expression = |service, name| path(&method(ValueMatchType::RegularExpression, service, name));
        for (found, match_type, value) in [
            (exact(Some("a.B"), Some("C")), Exact, "/a.B/C"),
            (exact(Some(".a.B"), Some("C")), Exact, "/a.B/C"),
            (exact(Some("a.B"), None), PathPrefix, "/a.B/"),
            (exact(None, Some("C")), RegularExpression, "/[^/]+/C"),
            (expression(Some("a|b"), Some("C.*")), RegularExpression, "/(?:a|b)/(?:C.*)"),
            (expression(None, Some("C")), RegularExpression, "/(?:[^/]+)/(?:C)"),
        ] {
            assert_eq!(found, PathMatch { match_type, value: value.to_owned() });
        }
    }

    #[test]
    fn calls_compete_in_the_order_of_gateway_api() {
        let exact = |service, name| specificity(Some(&method(ValueMatchType::Exact, service, name)));
        let order = [
            exact(Some("shop.Catalog"), Some("List")),
            exact(Some("shop.Catalog"), None),
            exact(None, Some("List")),
            specificity(Some(&method(ValueMatchType::RegularExpression, Some("shop.*"), Some("L.*")))),
            specificity(None),
        ];
        assert!(order.is_sorted_by(|one, two| one < two), "{order:?}");
    }
}
