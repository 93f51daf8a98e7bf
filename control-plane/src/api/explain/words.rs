//! What a route matches, for people.

use envoy_types::pb::envoy::config::route::v3 as wire;
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use wire::header_matcher::HeaderMatchSpecifier;
use wire::query_parameter_matcher::QueryParameterMatchSpecifier;
use wire::route_match::PathSpecifier;

/// A match in a line: `GET, path /items and below, header x-team = a`.
pub fn of_match(matched: &wire::RouteMatch) -> String {
    let (mut method, mut words) = (None, Vec::new());
    for header in &matched.headers {
        let value = match &header.header_match_specifier {
            Some(HeaderMatchSpecifier::StringMatch(text)) => of_text(text),
            Some(_) | None => " is there".to_owned(),
        };
        match (header.name.as_str(), value.strip_prefix(" = ")) {
            (":method", Some(exact)) => method = Some(exact.to_owned()),
            (name, _) => words.push(format!("header {name}{value}")),
        }
    }
    for parameter in &matched.query_parameters {
        let value = match &parameter.query_parameter_match_specifier {
            Some(QueryParameterMatchSpecifier::StringMatch(text)) => of_text(text),
            Some(QueryParameterMatchSpecifier::PresentMatch(_)) | None => " is there".to_owned(),
        };
        words.push(format!("query {}{value}", parameter.name));
    }
    let path = match &matched.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) if prefix == "/" => None,
        Some(PathSpecifier::Prefix(prefix)) => Some(format!("path that begins with {prefix}")),
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => Some(format!("path {prefix} and below")),
        Some(PathSpecifier::Path(path)) => Some(format!("path = {path}")),
        Some(PathSpecifier::SafeRegex(regex)) => Some(format!("path ~ {}", regex.regex)),
        Some(PathSpecifier::ConnectMatcher(_)) => Some("a tunnel (CONNECT)".to_owned()),
        Some(PathSpecifier::PathMatchPolicy(_)) | None => None,
    };
    let words: Vec<String> = method.into_iter().chain(path).chain(words).collect();
    if words.is_empty() { "everything".to_owned() } else { words.join(", ") }
}

fn of_text(text: &StringMatcher) -> String {
    match &text.match_pattern {
        Some(MatchPattern::Exact(value)) => format!(" = {value}"),
        Some(MatchPattern::Prefix(value)) => format!(" begins with {value}"),
        Some(MatchPattern::Suffix(value)) => format!(" ends with {value}"),
        Some(MatchPattern::Contains(value)) => format!(" has {value}"),
        Some(MatchPattern::SafeRegex(regex)) => format!(" ~ {}", regex.regex),
        Some(MatchPattern::Custom(_)) | None => " is there".to_owned(),
    }
}
