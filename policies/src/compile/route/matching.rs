//! What a rule of an HTTPRoute matches, as Envoy matches it.

use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    HeaderMatcher, QueryParameterMatcher, RouteMatch as EnvoyMatch,
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;

use super::super::wire;
use crate::kinds::route_match::{PathMatch, PathMatchType, ValueMatchType};
use crate::set::HttpRouteMatch;
use crate::value::Hostname;

/// The match in Envoy's terms.
pub(super) fn compile(found: &HttpRouteMatch) -> EnvoyMatch {
    let one = &found.route_match;
    let host = hosts(&found.hosts).map(|expression| header(":authority", wire::regex(&expression)));
    let method = one.method.map(|method| header(":method", wire::exact(method.as_str())));
    let headers = one
        .headers
        .iter()
        .map(|match_| header(match_.name.as_str(), value(match_.match_type, &match_.value)));
    let query = one.query_params.iter().map(|match_| QueryParameterMatcher {
        name: match_.name.clone(),
        query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(value(
            match_.match_type,
            &match_.value,
        ))),
    });
    EnvoyMatch {
        path_specifier: Some(path(&one.path())),
        headers: host.into_iter().chain(method).chain(headers).collect(),
        query_parameters: query.collect(),
        ..Default::default()
    }
}

/// Whether every request fits.
pub(super) fn catches_all(found: &HttpRouteMatch) -> bool {
    let one = &found.route_match;
    let path = one.path();
    found.hosts.is_empty()
        && path.match_type == PathMatchType::PathPrefix
        && path.value == "/"
        && one.headers.is_empty()
        && one.query_params.is_empty()
        && one.method.is_none()
}

/// What fits a Host or :authority for one of these, in any case and with any port; nothing where all hosts fit.
fn hosts(hostnames: &[Hostname]) -> Option<String> {
    let one = |hostname: &Hostname| {
        let escaped = hostname.as_str().replace('.', r"\.");
        match escaped.strip_prefix('*') {
            Some(suffix) => format!("[^:]+{suffix}"),
            None => escaped,
        }
    };
    let all: Vec<String> = hostnames.iter().map(one).collect();
    (!all.is_empty()).then(|| format!("(?i)(?:{})(?::[0-9]+)?", all.join("|")))
}

fn path(path: &PathMatch) -> PathSpecifier {
    match path.match_type {
        PathMatchType::Exact => PathSpecifier::Path(path.value.clone()),
        PathMatchType::RegularExpression => PathSpecifier::SafeRegex(wire::expression_of(&path.value)),
        // Of whole elements: `/a` fits `/a` and `/a/b`, not `/ab`.
        PathMatchType::PathPrefix => match path.value.trim_end_matches('/') {
            "" => PathSpecifier::Prefix("/".to_owned()),
            prefix => PathSpecifier::PathSeparatedPrefix(prefix.to_owned()),
        },
    }
}

fn header(name: &str, matcher: StringMatcher) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(matcher)),
        ..Default::default()
    }
}

fn value(match_type: ValueMatchType, text: &str) -> StringMatcher {
    match match_type {
        ValueMatchType::Exact => wire::exact(text),
        ValueMatchType::RegularExpression => wire::regex(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_fit_whole_in_any_case_and_with_any_port() {
        let names = ["shop.example", "*.shop.example"].map(|name| name.parse::<Hostname>().unwrap());
        let expression = regex::Regex::new(&format!("^(?:{})$", hosts(&names).unwrap())).unwrap();
        for host in ["shop.example", "SHOP.example:8080", "a.shop.example", "a.b.shop.example:1"] {
            assert!(expression.is_match(host), "{host}");
        }
        for host in
            ["shopXexample", "my-shop.example", ".shop.example", "shop.example.org", "a:1.shop.example"]
        {
            assert!(!expression.is_match(host), "{host}");
        }
        assert_eq!(hosts(&[]), None);
    }
}
