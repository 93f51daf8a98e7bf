//! New paths and places.

use std::borrow::Cow;

use http::StatusCode;
use regex::bytes::Regex;

use super::matching::RouteMatch;
use super::without_port;
use crate::matcher::RequestHead;

/// How a path changes on the way to the upstream. The query always stays.
#[derive(Clone, Debug)]
pub enum PathRewrite {
    /// `prefix_rewrite`: replaces what the route matched.
    Prefix(Box<str>),
    /// `regex_rewrite`: replaces every match.
    Regex(Substitution),
}

impl PathRewrite {
    /// The new path with the old query.
    pub fn apply(&self, path: &str, matched: &RouteMatch) -> String {
        let end = path.find(['?', '#']).unwrap_or(path.len());
        let (only, rest) = path.split_at(end);
        match self {
            Self::Prefix(prefix) => {
                let kept = only.get(matched.matched_len(only)..).unwrap_or_default();
                format!("{prefix}{kept}{rest}")
            }
            Self::Regex(substitution) => substitution.apply(only) + rest,
        }
    }
}

/// `RegexMatchAndSubstitute`: replaces every match.
#[derive(Clone, Debug)]
pub struct Substitution {
    pattern: Regex,
    replacement: Vec<u8>,
}

impl Substitution {
    /// Replaces by `template`, in which `\1` stands for what the first group matched; `None` where it names a group that
    /// the pattern does not have.
    pub(crate) fn try_new(pattern: Regex, template: &str) -> Option<Self> {
        let replacement = replacement(template, pattern.captures_len())?;
        Some(Self { pattern, replacement })
    }

    /// `text` with every match replaced.
    pub fn apply(&self, text: &str) -> String {
        let replaced = self.pattern.replace_all(text.as_bytes(), &self.replacement[..]);
        String::from_utf8(replaced.into_owned()).unwrap_or_else(|error| {
            // The expression works on bytes and may have cut a character in two.
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        })
    }
}

/// RE2's `\1` becomes `${1}`.
fn replacement(template: &str, groups: usize) -> Option<Vec<u8>> {
    let mut out = String::with_capacity(template.len() + 8);
    let mut chars = template.chars();
    while let Some(c) = chars.next() {
        match c {
            '$' => out.push_str("$$"),
            '\\' => match chars.next() {
                Some('\\') => out.push('\\'),
                Some(digit) if digit.to_digit(10).is_some_and(|group| (group as usize) < groups) => {
                    out.push_str(&format!("${{{digit}}}"));
                }
                Some(_) | None => return None,
            },
            c => out.push(c),
        }
    }
    Some(out.into_bytes())
}

/// `RedirectAction`, meant.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// The new scheme; the request's own where there is none. The same holds for host, port and path.
    pub(crate) scheme: Option<Box<str>>,
    pub(crate) host: Option<Box<str>>,
    pub(crate) port: Option<u16>,
    pub(crate) path: Option<NewPath>,
    pub(crate) strip_query: bool,
}

/// Where a redirect leads on its host.
#[derive(Clone, Debug)]
pub(crate) enum NewPath {
    Whole(Box<str>),
    Rewrite(PathRewrite),
}

impl Redirect {
    /// The value of the `location` header.
    pub fn location(&self, head: &RequestHead<'_>, matched: &RouteMatch) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(head.scheme);
        let mut host = Cow::Borrowed(self.host.as_deref().unwrap_or(head.authority));
        match self.port {
            Some(port) => host = Cow::Owned(format!("{}:{port}", without_port(&host))),
            // A port that is only the old scheme's own would be wrong with the new one.
            None if self.scheme.is_some() && self.host.is_none() => {
                host = Cow::Owned(drop_default_port(head));
            }
            None => {}
        }
        let (path, query) =
            head.path.split_once('?').map_or((head.path, None), |(path, query)| (path, Some(query)));
        let mut target = match &self.path {
            Some(NewPath::Whole(whole)) => whole.to_string(),
            Some(NewPath::Rewrite(rewrite)) => rewrite.apply(path, matched),
            None => path.to_owned(),
        };
        if let Some(query) = query.filter(|_| !self.strip_query && !target.contains('?')) {
            target.push('?');
            target.push_str(query);
        }
        format!("{scheme}://{host}{target}")
    }
}

fn drop_default_port(head: &RequestHead<'_>) -> String {
    let default = match head.scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return head.authority.to_owned(),
    };
    head.authority.strip_suffix(default).unwrap_or(head.authority).to_owned()
}
