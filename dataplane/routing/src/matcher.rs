//! Matching of text and headers, shared by routes, authorization and filters of access logs.
//!
//! Values are bytes: a header need not be UTF-8. Where a value cannot be judged (a regular expression against bytes
//! that are no UTF-8, several values of one header), the caller says by [`UndecidedAs`] which mistake is the safe one.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use regex::bytes::{Regex, RegexBuilder};

use crate::rejection::Rejection;

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
    pub headers: &'a HeaderMap,
}

impl<'a> RequestHead<'a> {
    /// The path without query and fragment.
    #[inline]
    pub fn path_only(&self) -> &'a str {
        let end = self.path.find(['?', '#']).unwrap_or(self.path.len());
        &self.path[..end]
    }

    /// The query without the question mark.
    #[inline]
    pub fn query(&self) -> Option<&'a str> {
        let (_, query) = self.path.split_once('?')?;
        Some(query.split_once('#').map_or(query, |(query, _)| query))
    }
}

/// What to answer about a value that cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UndecidedAs {
    /// It matches: the safe mistake where a match denies.
    Match,
    /// It does not match: the safe mistake where a match allows.
    Miss,
}

impl UndecidedAs {
    /// How an undecided value counts below a negation.
    #[must_use]
    #[inline]
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

/// How a text is compared.
#[derive(Clone, Debug)]
pub enum Pattern {
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Contains(Box<str>),
    /// Matches an expression that [`whole_regex`] compiled.
    Regex(Regex),
}

impl StringMatch {
    /// A matcher that minds case.
    #[must_use]
    pub fn new(pattern: Pattern) -> Self {
        Self { pattern, ignore_case: false }
    }

    /// A matcher for exactly `value`.
    #[must_use]
    pub fn exact(value: &str) -> Self {
        Self::new(Pattern::Exact(value.into()))
    }

    /// The same matcher without regard to ASCII case. It has no effect on a regular expression, as in Envoy: `(?i)` says
    /// it there.
    #[must_use]
    pub fn ignoring_case(mut self) -> Self {
        match &mut self.pattern {
            Pattern::Exact(text)
            | Pattern::Prefix(text)
            | Pattern::Suffix(text)
            | Pattern::Contains(text) => {
                text.make_ascii_lowercase();
                self.ignore_case = true;
            }
            Pattern::Regex(_) => {}
        }
        self
    }

    /// The one text that matches, where there is one.
    #[must_use]
    pub fn as_exact(&self) -> Option<&str> {
        match &self.pattern {
            Pattern::Exact(text) if !self.ignore_case => Some(text),
            Pattern::Exact(_)
            | Pattern::Prefix(_)
            | Pattern::Suffix(_)
            | Pattern::Contains(_)
            | Pattern::Regex(_) => None,
        }
    }

    /// Whether `value` matches.
    #[inline]
    pub fn matches(&self, value: &[u8], undecided: UndecidedAs) -> bool {
        let folded: Cow<'_, [u8]> =
            if self.ignore_case { value.to_ascii_lowercase().into() } else { value.into() };
        match &self.pattern {
            Pattern::Exact(wanted) => *folded == *wanted.as_bytes(),
            Pattern::Prefix(wanted) => folded.starts_with(wanted.as_bytes()),
            Pattern::Suffix(wanted) => folded.ends_with(wanted.as_bytes()),
            Pattern::Contains(wanted) => {
                wanted.is_empty() || folded.windows(wanted.len()).any(|part| part == wanted.as_bytes())
            }
            Pattern::Regex(regex) => regex_matches(regex, value, undecided),
        }
    }
}

fn regex_matches(regex: &Regex, value: &[u8], undecided: UndecidedAs) -> bool {
    match std::str::from_utf8(value) {
        Ok(_) => regex.is_match(value),
        Err(_) => undecided == UndecidedAs::Match,
    }
}

/// A regular expression that has to match the whole value, as Envoy's matchers do.
///
/// # Errors
/// The expression is empty, does not compile, or is too large.
pub fn whole_regex(expression: &str) -> Result<Regex, Rejection> {
    // The expression alone first: `a)|(b` must not escape the group around it.
    search_regex(expression)?;
    compile(&format!(r"\A(?:{expression})\z"))
}

/// A regular expression that is searched for, for substitutions.
///
/// # Errors
/// As [`whole_regex`].
pub fn search_regex(expression: &str) -> Result<Regex, Rejection> {
    if expression.is_empty() {
        return Err(Rejection::new("regex", "is empty"));
    }
    compile(expression)
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
    pub(crate) name: MatchedName,
    pub(crate) rule: HeaderRule,
    /// `invert_match`.
    pub(crate) invert: bool,
    /// `treat_missing_header_as_empty`.
    pub(crate) missing_is_empty: bool,
}

/// The header, or the part of a request's head, that a matcher looks at.
#[derive(Clone, Debug)]
pub(crate) enum MatchedName {
    Method,
    Scheme,
    Authority,
    Path,
    Header(HeaderName),
}

impl MatchedName {
    /// Reads the name of a header or pseudo header; `None` where it is neither.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            ":method" => Self::Method,
            ":scheme" => Self::Scheme,
            ":authority" | "host" => Self::Authority,
            ":path" => Self::Path,
            other => Self::Header(HeaderName::try_from(other).ok()?),
        })
    }
}

/// What the value of a header has to be.
#[derive(Clone, Debug)]
pub(crate) enum HeaderRule {
    Present(bool),
    Text(StringMatch),
    Range(std::ops::Range<i64>),
}

impl HeaderMatch {
    /// Whether the request matches.
    #[inline]
    pub fn matches(&self, request: &RequestHead<'_>, undecided: UndecidedAs) -> bool {
        let pseudo = |text: &'_ str| (!text.is_empty()).then(|| self.judge(text.as_bytes(), undecided));
        let judged = match &self.name {
            MatchedName::Method => pseudo(request.method),
            MatchedName::Scheme => pseudo(request.scheme),
            MatchedName::Authority => pseudo(request.authority),
            MatchedName::Path => pseudo(request.path),
            MatchedName::Header(name) => return self.matches_header(request.headers, name, undecided),
        };
        judged.unwrap_or_else(|| self.without_value(undecided))
    }

    /// Whether plain headers (of a response, for instance) match.
    pub fn matches_headers(&self, headers: &HeaderMap, undecided: UndecidedAs) -> bool {
        match &self.name {
            MatchedName::Header(name) => self.matches_header(headers, name, undecided),
            MatchedName::Method | MatchedName::Scheme | MatchedName::Authority | MatchedName::Path => {
                self.without_value(undecided)
            }
        }
    }

    fn matches_header(&self, headers: &HeaderMap, name: &HeaderName, undecided: UndecidedAs) -> bool {
        let mut values = headers.get_all(name).iter();
        let Some(first) = values.next() else { return self.without_value(undecided) };
        if values.next().is_none() {
            return self.judge(first.as_bytes(), undecided);
        }
        // Envoy joins several values by commas. Where a match is the safe answer, one value alone is enough too:
        // nobody slips past a Deny by sending the header twice.
        let inner = if self.invert { undecided.flipped() } else { undecided };
        let all: Vec<&[u8]> = headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect();
        let joined = all.join(&b","[..]);
        let mut matched = self.rule.matches(&joined, inner);
        if inner == UndecidedAs::Match {
            matched = matched || all.iter().any(|value| self.rule.matches(value, inner));
        }
        matched != self.invert
    }

    fn judge(&self, value: &[u8], undecided: UndecidedAs) -> bool {
        let inner = if self.invert { undecided.flipped() } else { undecided };
        self.rule.matches(value, inner) != self.invert
    }

    /// Envoy: a header that is missing matches no pattern, inverted or not.
    fn without_value(&self, undecided: UndecidedAs) -> bool {
        if self.missing_is_empty {
            return self.judge(b"", undecided);
        }
        matches!(self.rule, HeaderRule::Present(present) if present == self.invert)
    }
}

impl HeaderRule {
    fn matches(&self, value: &[u8], undecided: UndecidedAs) -> bool {
        match self {
            Self::Present(present) => *present,
            Self::Text(text) => text.matches(value, undecided),
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

    fn regex(pattern: &str) -> StringMatch {
        StringMatch::new(Pattern::Regex(whole_regex(pattern).unwrap()))
    }

    fn header(name: &str, rule: HeaderRule) -> HeaderMatch {
        let name = MatchedName::parse(name).unwrap();
        HeaderMatch { name, rule, invert: false, missing_is_empty: false }
    }

    fn exact(value: &str) -> HeaderRule {
        HeaderRule::Text(StringMatch::exact(value))
    }

    fn not(matcher: HeaderMatch) -> HeaderMatch {
        HeaderMatch { invert: true, ..matcher }
    }

    fn matches(matcher: &HeaderMatch, values: &[&[u8]], undecided: UndecidedAs) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-role", HeaderValue::from_bytes(value).unwrap());
        }
        matcher.matches_headers(&headers, undecided)
    }

    #[test]
    fn compares_text_in_all_of_envoys_ways() {
        for (matcher, yes, no) in [
            (StringMatch::exact("Ab").ignoring_case(), "aB", "abc"),
            (StringMatch::new(Pattern::Prefix("ab".into())), "abc", "Abc"),
            (StringMatch::new(Pattern::Suffix("bc".into())), "abc", "bcd"),
            (StringMatch::new(Pattern::Contains("B".into())).ignoring_case(), "abc", "acd"),
            (regex("a.c").ignoring_case(), "abc", "aBC"),
            (regex("a.c"), "abc", "xabc"),
        ] {
            assert!(matcher.matches(yes.as_bytes(), UndecidedAs::Miss), "{matcher:?} {yes}");
            assert!(!matcher.matches(no.as_bytes(), UndecidedAs::Miss), "{matcher:?} {no}");
        }
    }

    #[test]
    fn an_expression_has_to_match_the_whole_value_whatever_its_groups() {
        assert!(!regex("a|b").matches(b"ab", UndecidedAs::Miss));
        assert!(whole_regex("a)|(b").is_err());
        assert!(!regex("(?m)^a$").matches(b"a\nb", UndecidedAs::Miss));
    }

    #[test]
    fn an_expression_against_bytes_that_are_no_text_takes_the_safe_side() {
        let any = regex(".*");
        assert!(any.matches(b"\xff", UndecidedAs::Match));
        assert!(!any.matches(b"\xff", UndecidedAs::Miss));
    }

    #[test]
    fn an_inverted_pattern_does_not_match_a_missing_header() {
        let not_admin = not(header("x-role", exact("admin")));
        assert!(!matches(&not_admin, &[], UndecidedAs::Miss));
        assert!(matches(&not_admin, &[b"user"], UndecidedAs::Miss));
        let absent = not(header("x-role", HeaderRule::Present(true)));
        assert!(matches(&absent, &[], UndecidedAs::Miss) && !matches(&absent, &[b"a"], UndecidedAs::Miss));
        let absent = header("x-role", HeaderRule::Present(false));
        assert!(matches(&absent, &[], UndecidedAs::Miss) && !matches(&absent, &[b"a"], UndecidedAs::Miss));
    }

    #[test]
    fn one_of_several_values_is_enough_only_where_a_match_is_the_safe_answer() {
        let admin = header("x-role", exact("admin"));
        assert!(matches(&admin, &[b"user", b"admin"], UndecidedAs::Match));
        assert!(!matches(&admin, &[b"user", b"admin"], UndecidedAs::Miss));
        let not_admin = not(header("x-role", exact("admin")));
        assert!(
            !matches(&not_admin, &[b"user", b"admin"], UndecidedAs::Miss),
            "an Allow of non-admins stays closed"
        );
    }

    #[test]
    fn a_range_holds_its_start_and_not_its_end() {
        let range = header("x-role", HeaderRule::Range(-1..3));
        for (value, wanted) in [("-1", true), ("2", true), ("3", false), ("two", false)] {
            assert_eq!(matches(&range, &[value.as_bytes()], UndecidedAs::Miss), wanted, "{value}");
        }
    }

    #[test]
    fn host_and_pseudo_headers_come_from_the_head() {
        let headers = HeaderMap::new();
        let head =
            RequestHead { method: "GET", scheme: "http", authority: "a", path: "/x?y#z", headers: &headers };
        assert!(header("Host", exact("a")).matches(&head, UndecidedAs::Miss));
        let prefix = HeaderRule::Text(StringMatch::new(Pattern::Prefix("/x?".into())));
        assert!(header(":path", prefix).matches(&head, UndecidedAs::Miss));
        assert_eq!((head.path_only(), head.query()), ("/x", Some("y")));
    }
}
