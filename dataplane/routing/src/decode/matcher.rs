//! `StringMatcher` and `HeaderMatcher`.

use envoy_types::pb::envoy::config::route::v3::HeaderMatcher;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};

use crate::matcher::{HeaderMatch, HeaderRule, MatchedName, Pattern, StringMatch, whole_regex};
use crate::rejection::{Rejection, Within as _};

/// Reads a matcher of text.
///
/// # Errors
/// No pattern, an empty or a custom one, or a regular expression that does not compile.
pub fn string(given: &StringMatcher) -> Result<StringMatch, Rejection> {
    let matcher = match &given.match_pattern {
        Some(pattern) => StringMatch::new(self::pattern(pattern)?),
        None => return Err(Rejection::new("match_pattern", "is missing")),
    };
    Ok(if given.ignore_case { matcher.ignoring_case() } else { matcher })
}

fn pattern(given: &MatchPattern) -> Result<Pattern, Rejection> {
    Ok(match given {
        MatchPattern::Exact(text) => Pattern::Exact(text.as_str().into()),
        MatchPattern::Prefix(text) => Pattern::Prefix(filled(text, "prefix")?),
        MatchPattern::Suffix(text) => Pattern::Suffix(filled(text, "suffix")?),
        MatchPattern::Contains(text) => Pattern::Contains(filled(text, "contains")?),
        MatchPattern::SafeRegex(regex) => safe_regex(regex)?,
        MatchPattern::Custom(_) => return Err(Rejection::unsupported("custom")),
    })
}

fn filled(text: &str, field: &str) -> Result<Box<str>, Rejection> {
    if text.is_empty() {
        return Err(Rejection::new(field, "is empty and would match everything"));
    }
    Ok(text.into())
}

fn safe_regex(given: &RegexMatcher) -> Result<Pattern, Rejection> {
    whole_regex(&given.regex).within(|| "safe_regex").map(Pattern::Regex)
}

/// Reads a matcher of a header, with the deprecated forms.
///
/// # Errors
/// The name or the pattern cannot be used.
pub fn header(given: &HeaderMatcher) -> Result<HeaderMatch, Rejection> {
    let text = |pattern| HeaderRule::Text(StringMatch::new(pattern));
    let rule = match &given.header_match_specifier {
        None => HeaderRule::Present(true),
        Some(HeaderMatchSpecifier::PresentMatch(present)) => HeaderRule::Present(*present),
        Some(HeaderMatchSpecifier::StringMatch(matcher)) => {
            HeaderRule::Text(string(matcher).within(|| "string_match")?)
        }
        Some(HeaderMatchSpecifier::ExactMatch(value)) => text(Pattern::Exact(value.as_str().into())),
        Some(HeaderMatchSpecifier::PrefixMatch(value)) => text(Pattern::Prefix(filled(value, "prefix")?)),
        Some(HeaderMatchSpecifier::SuffixMatch(value)) => text(Pattern::Suffix(filled(value, "suffix")?)),
        Some(HeaderMatchSpecifier::ContainsMatch(value)) => {
            text(Pattern::Contains(filled(value, "contains")?))
        }
        Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => text(safe_regex(regex)?),
        Some(HeaderMatchSpecifier::RangeMatch(range)) => HeaderRule::Range(range.start..range.end),
    };
    let wrong = || Rejection::new("name", format!("{:?} is not the name of a header", given.name));
    Ok(HeaderMatch {
        name: MatchedName::parse(&given.name).ok_or_else(wrong)?,
        rule,
        invert: given.invert_match,
        missing_is_empty: given.treat_missing_header_as_empty,
    })
}
