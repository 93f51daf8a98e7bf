//! Matching of text and headers, shared by routes, authorization and filters of access logs.
//!
//! Values are bytes: a header need not be UTF-8. Where a value cannot be judged (a regular expression against bytes
//! that are no UTF-8, several values of one header), the caller says by [`Lean`] which mistake is the safe one.

#![expect(deprecated, reason = "configurations that use the old forms mean the same")]

use std::borrow::Cow;

use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::r#type::matcher::v3 as wire;
use http::{HeaderMap, HeaderName};
use regex::bytes::{Regex, RegexBuilder};

use crate::rejection::{Rejection, Within as _};

/// Largest compiled regular expression, in bytes.
const REGEX_SIZE: usize = 1 << 20;

/// The head of a request as matchers see it. `path` is normalised and has the query.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// `:method`.
    pub method: &'a str,
    /// `:scheme`.
    pub scheme: &'a str,
    /// `:authority`, or the `host` of HTTP/1.
    pub authority: &'a str,
    /// `:path`; empty for CONNECT.
    pub path: &'a str,
    /// All other headers.
    pub headers: &'a HeaderMap,
}

impl<'a> RequestHead<'a> {
    /// The path without query and fragment.
    pub fn path_only(&self) -> &'a str {
        let end = self.path.find(['?', '#']).unwrap_or(self.path.len());
        &self.path[..end]
    }

    /// The query without the question mark.
    pub fn query(&self) -> Option<&'a str> {
        let (_, query) = self.path.split_once('?')?;
        Some(query.split_once('#').map_or(query, |(query, _)| query))
    }
}

/// What to answer about a value that cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lean {
    /// It matches: the safe mistake where a match denies.
    Match,
    /// It does not match: the safe mistake where a match allows.
    Miss,
}

impl Lean {
    /// The lean below a negation.
    #[must_use]
    pub fn flipped(self) -> Self {
        match self {
            Self::Match => Self::Miss,
            Self::Miss => Self::Match,
        }
    }
}

/// `StringMatcher`.
#[derive(Clone, Debug)]
pub struct StringMatch {
    pattern: Pattern,
    ignore_case: bool,
}

#[derive(Clone, Debug)]
enum Pattern {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<[u8]>),
    Regex(Regex),
}

impl StringMatch {
    /// A matcher for exactly `value`.
    pub fn exact(value: &str) -> Self {
        Self { pattern: Pattern::Exact(value.as_bytes().into()), ignore_case: false }
    }

    /// Decodes Envoy's matcher.
    ///
    /// # Errors
    /// No pattern, a custom one, or a regular expression that does not compile.
    pub fn decode(matcher: &wire::StringMatcher) -> Result<Self, Rejection> {
        use wire::string_matcher::MatchPattern as P;
        let bytes = |text: &String| -> Box<[u8]> {
            if matcher.ignore_case {
                text.to_ascii_lowercase().into_bytes().into()
            } else {
                text.as_bytes().into()
            }
        };
        let filled = |text: &String, field: &str| {
            if text.is_empty() {
                Err(Rejection::new(field, "is empty and would match everything"))
            } else {
                Ok(bytes(text))
            }
        };
        let pattern = match &matcher.match_pattern {
            Some(P::Exact(text)) => Pattern::Exact(bytes(text)),
            Some(P::Prefix(text)) => Pattern::Prefix(filled(text, "prefix")?),
            Some(P::Suffix(text)) => Pattern::Suffix(filled(text, "suffix")?),
            Some(P::Contains(text)) => Pattern::Contains(filled(text, "contains")?),
            Some(P::SafeRegex(regex)) => Pattern::Regex(whole_regex(regex).within(|| "safe_regex")?),
            Some(P::Custom(_)) => return Err(Rejection::unsupported("custom")),
            None => return Err(Rejection::new("match_pattern", "is missing")),
        };
        // Envoy ignores `ignore_case` for regular expressions: `(?i)` says it there.
        Ok(Self { ignore_case: matcher.ignore_case && !matches!(pattern, Pattern::Regex(_)), pattern })
    }

    /// Whether `value` matches.
    pub fn matches(&self, value: &[u8], lean: Lean) -> bool {
        let folded: Cow<'_, [u8]> =
            if self.ignore_case { value.to_ascii_lowercase().into() } else { value.into() };
        match &self.pattern {
            Pattern::Exact(wanted) => *folded == **wanted,
            Pattern::Prefix(wanted) => folded.starts_with(wanted),
            Pattern::Suffix(wanted) => folded.ends_with(wanted),
            Pattern::Contains(wanted) => {
                wanted.is_empty() || folded.windows(wanted.len()).any(|part| part == &**wanted)
            }
            Pattern::Regex(regex) => regex_matches(regex, value, lean),
        }
    }
}

fn regex_matches(regex: &Regex, value: &[u8], lean: Lean) -> bool {
    match std::str::from_utf8(value) {
        Ok(_) => regex.is_match(value),
        Err(_) => lean == Lean::Match,
    }
}

/// A regular expression that has to match the whole value, as Envoy's matchers do.
///
/// # Errors
/// The expression is empty, does not compile, or is too large.
pub fn whole_regex(matcher: &wire::RegexMatcher) -> Result<Regex, Rejection> {
    if matcher.regex.is_empty() {
        return Err(Rejection::new("regex", "is empty"));
    }
    // The expression alone first: `a)|(b` must not escape the group around it.
    compile(&matcher.regex)?;
    compile(&format!(r"\A(?:{})\z", matcher.regex))
}

/// A regular expression that is searched for, for substitutions.
///
/// # Errors
/// As [`whole_regex`].
pub fn search_regex(matcher: &wire::RegexMatcher) -> Result<Regex, Rejection> {
    if matcher.regex.is_empty() {
        return Err(Rejection::new("regex", "is empty"));
    }
    compile(&matcher.regex)
}

fn compile(pattern: &str) -> Result<Regex, Rejection> {
    RegexBuilder::new(pattern)
        // RE2's \d, \w and \b are ASCII.
        .unicode(false)
        .size_limit(REGEX_SIZE)
        .build()
        .map_err(|error| Rejection::new("regex", format!("does not compile: {error}")))
}

/// `HeaderMatcher`.
#[derive(Clone, Debug)]
pub struct HeaderMatch {
    name: Name,
    rule: Rule,
    invert: bool,
    missing_is_empty: bool,
}

#[derive(Clone, Debug)]
enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Header(HeaderName),
}

#[derive(Clone, Debug)]
enum Rule {
    Present(bool),
    Text(StringMatch),
    Range(std::ops::Range<i64>),
}

impl HeaderMatch {
    /// Decodes Envoy's matcher, with the deprecated forms.
    ///
    /// # Errors
    /// The name or the pattern cannot be used.
    pub fn decode(matcher: &route::HeaderMatcher) -> Result<Self, Rejection> {
        use route::header_matcher::HeaderMatchSpecifier as S;
        let text = |pattern: wire::string_matcher::MatchPattern| {
            let matcher = wire::StringMatcher { ignore_case: false, match_pattern: Some(pattern) };
            StringMatch::decode(&matcher).map(Rule::Text)
        };
        let rule = match &matcher.header_match_specifier {
            None => Rule::Present(true),
            Some(S::PresentMatch(present)) => Rule::Present(*present),
            Some(S::StringMatch(matcher)) => {
                Rule::Text(StringMatch::decode(matcher).within(|| "string_match")?)
            }
            Some(S::ExactMatch(value)) => Rule::Text(StringMatch::exact(value)),
            Some(S::PrefixMatch(value)) => text(wire::string_matcher::MatchPattern::Prefix(value.clone()))?,
            Some(S::SuffixMatch(value)) => text(wire::string_matcher::MatchPattern::Suffix(value.clone()))?,
            Some(S::ContainsMatch(value)) => {
                text(wire::string_matcher::MatchPattern::Contains(value.clone()))?
            }
            Some(S::SafeRegexMatch(regex)) => {
                text(wire::string_matcher::MatchPattern::SafeRegex(regex.clone()))?
            }
            Some(S::RangeMatch(range)) => Rule::Range(range.start..range.end),
        };
        let name = match matcher.name.to_ascii_lowercase().as_str() {
            ":method" => Name::Method,
            ":scheme" => Name::Scheme,
            ":authority" | "host" => Name::Authority,
            ":path" => Name::Path,
            other => Name::Header(HeaderName::try_from(other).map_err(|_| {
                Rejection::new("name", format!("{:?} is not the name of a header", matcher.name))
            })?),
        };
        let missing_is_empty = matcher.treat_missing_header_as_empty;
        Ok(Self { name, rule, invert: matcher.invert_match, missing_is_empty })
    }

    /// Whether the request matches.
    pub fn matches(&self, request: &RequestHead<'_>, lean: Lean) -> bool {
        let pseudo = |text: &'_ str| (!text.is_empty()).then(|| self.judge(text.as_bytes(), lean));
        let judged = match &self.name {
            Name::Method => pseudo(request.method),
            Name::Scheme => pseudo(request.scheme),
            Name::Authority => pseudo(request.authority),
            Name::Path => pseudo(request.path),
            Name::Header(name) => return self.matches_header(request.headers, name, lean),
        };
        judged.unwrap_or_else(|| self.without_value(lean))
    }

    /// Whether plain headers (of a response, for instance) match.
    pub fn matches_headers(&self, headers: &HeaderMap, lean: Lean) -> bool {
        match &self.name {
            Name::Header(name) => self.matches_header(headers, name, lean),
            Name::Method | Name::Scheme | Name::Authority | Name::Path => self.without_value(lean),
        }
    }

    fn matches_header(&self, headers: &HeaderMap, name: &HeaderName, lean: Lean) -> bool {
        let mut values = headers.get_all(name).iter();
        let Some(first) = values.next() else { return self.without_value(lean) };
        if values.next().is_none() {
            return self.judge(first.as_bytes(), lean);
        }
        // Envoy joins several values by commas. Where a match is the safe answer, one value alone is enough too:
        // nobody slips past a Deny by sending the header twice.
        let inner = if self.invert { lean.flipped() } else { lean };
        let all: Vec<&[u8]> = headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect();
        let joined = all.join(&b","[..]);
        let mut matched = self.rule.matches(&joined, inner);
        if inner == Lean::Match {
            matched = matched || all.iter().any(|value| self.rule.matches(value, inner));
        }
        matched != self.invert
    }

    fn judge(&self, value: &[u8], lean: Lean) -> bool {
        let inner = if self.invert { lean.flipped() } else { lean };
        self.rule.matches(value, inner) != self.invert
    }

    /// Envoy: a header that is missing matches no pattern, inverted or not.
    fn without_value(&self, lean: Lean) -> bool {
        if self.missing_is_empty {
            return self.judge(b"", lean);
        }
        matches!(self.rule, Rule::Present(present) if present == self.invert)
    }
}

impl Rule {
    fn matches(&self, value: &[u8], lean: Lean) -> bool {
        match self {
            Self::Present(present) => *present,
            Self::Text(text) => text.matches(value, lean),
            Self::Range(range) => std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.trim().parse::<i64>().ok())
                .is_some_and(|number| range.contains(&number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use route::header_matcher::HeaderMatchSpecifier as S;
    use wire::string_matcher::MatchPattern as P;

    fn text(pattern: P, ignore_case: bool) -> StringMatch {
        StringMatch::decode(&wire::StringMatcher { ignore_case, match_pattern: Some(pattern) }).unwrap()
    }

    fn regex(pattern: &str) -> P {
        P::SafeRegex(wire::RegexMatcher { regex: pattern.into(), ..Default::default() })
    }

    fn header(name: &str, invert_match: bool, specifier: S) -> HeaderMatch {
        let matcher = route::HeaderMatcher {
            name: name.into(),
            invert_match,
            header_match_specifier: Some(specifier),
            ..Default::default()
        };
        HeaderMatch::decode(&matcher).unwrap()
    }

    fn matches(matcher: &HeaderMatch, values: &[&[u8]], lean: Lean) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-role", HeaderValue::from_bytes(value).unwrap());
        }
        matcher.matches_headers(&headers, lean)
    }

    #[test]
    fn compares_text_in_all_of_envoys_ways() {
        for (matcher, yes, no) in [
            (text(P::Exact("Ab".into()), true), "aB", "abc"),
            (text(P::Prefix("ab".into()), false), "abc", "Abc"),
            (text(P::Suffix("bc".into()), false), "abc", "bcd"),
            (text(P::Contains("B".into()), true), "abc", "acd"),
            (text(regex("a.c"), false), "abc", "xabc"),
        ] {
            assert!(matcher.matches(yes.as_bytes(), Lean::Miss), "{matcher:?} {yes}");
            assert!(!matcher.matches(no.as_bytes(), Lean::Miss), "{matcher:?} {no}");
        }
    }

    #[test]
    fn an_expression_has_to_match_the_whole_value_whatever_its_groups() {
        assert!(!text(regex("a|b"), false).matches(b"ab", Lean::Miss));
        assert!(whole_regex(&wire::RegexMatcher { regex: "a)|(b".into(), ..Default::default() }).is_err());
        assert!(!text(regex("(?m)^a$"), false).matches(b"a\nb", Lean::Miss));
    }

    #[test]
    fn an_expression_against_bytes_that_are_no_text_takes_the_safe_side() {
        let any = text(regex(".*"), false);
        assert!(any.matches(b"\xff", Lean::Match));
        assert!(!any.matches(b"\xff", Lean::Miss));
    }

    #[test]
    fn an_inverted_pattern_does_not_match_a_missing_header() {
        let not_admin = header("x-role", true, S::ExactMatch("admin".into()));
        assert!(!matches(&not_admin, &[], Lean::Miss));
        assert!(matches(&not_admin, &[b"user"], Lean::Miss));
        let absent = header("x-role", true, S::PresentMatch(true));
        assert!(matches(&absent, &[], Lean::Miss) && !matches(&absent, &[b"a"], Lean::Miss));
        let absent = header("x-role", false, S::PresentMatch(false));
        assert!(matches(&absent, &[], Lean::Miss) && !matches(&absent, &[b"a"], Lean::Miss));
    }

    #[test]
    fn one_of_several_values_is_enough_only_where_a_match_is_the_safe_answer() {
        let admin = header("x-role", false, S::ExactMatch("admin".into()));
        assert!(matches(&admin, &[b"user", b"admin"], Lean::Match));
        assert!(!matches(&admin, &[b"user", b"admin"], Lean::Miss));
        let not_admin = header("x-role", true, S::ExactMatch("admin".into()));
        assert!(
            !matches(&not_admin, &[b"user", b"admin"], Lean::Miss),
            "an Allow of non-admins stays closed"
        );
    }

    #[test]
    fn a_range_holds_its_start_and_not_its_end() {
        use envoy_types::pb::envoy::r#type::v3::Int64Range;
        let range = header("x-role", false, S::RangeMatch(Int64Range { start: -1, end: 3 }));
        for (value, wanted) in [("-1", true), ("2", true), ("3", false), ("two", false)] {
            assert_eq!(matches(&range, &[value.as_bytes()], Lean::Miss), wanted, "{value}");
        }
    }

    #[test]
    fn host_and_pseudo_headers_come_from_the_head() {
        let headers = HeaderMap::new();
        let head =
            RequestHead { method: "GET", scheme: "http", authority: "a", path: "/x?y#z", headers: &headers };
        assert!(header("Host", false, S::ExactMatch("a".into())).matches(&head, Lean::Miss));
        assert!(header(":path", false, S::PrefixMatch("/x?".into())).matches(&head, Lean::Miss));
        assert_eq!((head.path_only(), head.query()), ("/x", Some("y")));
    }
}
