//! New paths and places.

use std::borrow::Cow;

use envoy_types::pb::envoy::config::route::v3 as wire;
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use http::StatusCode;
use regex::bytes::Regex;
use wire::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};

use super::matching::{PathMatch, RouteMatch};
use super::without_port;
use crate::matcher::{RequestHead, search_regex};
use crate::rejection::{Rejection, Within as _};

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
    pub(super) fn decode(wire: &RegexMatchAndSubstitute) -> Result<Self, Rejection> {
        let pattern = wire.pattern.as_ref().ok_or_else(|| Rejection::new("pattern", "is missing"))?;
        let pattern = search_regex(pattern).within(|| "pattern")?;
        let replacement = replacement(&wire.substitution, pattern.captures_len())?;
        Ok(Self { pattern, replacement })
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
fn replacement(template: &str, groups: usize) -> Result<Vec<u8>, Rejection> {
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
                _ => {
                    let reason = format!("{template:?} names a group that the pattern does not have");
                    return Err(Rejection::new("substitution", reason));
                }
            },
            c => out.push(c),
        }
    }
    Ok(out.into_bytes())
}

/// `RedirectAction`, meant.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    scheme: Option<Box<str>>,
    host: Option<Box<str>>,
    port: Option<u16>,
    path: Option<NewPath>,
    strip_query: bool,
}

#[derive(Clone, Debug)]
enum NewPath {
    Whole(Box<str>),
    Rewrite(PathRewrite),
}

impl Redirect {
    pub(super) fn decode(wire: &wire::RedirectAction) -> Result<Self, Rejection> {
        let status = match RedirectResponseCode::try_from(wire.response_code) {
            Ok(RedirectResponseCode::MovedPermanently) => StatusCode::MOVED_PERMANENTLY,
            Ok(RedirectResponseCode::Found) => StatusCode::FOUND,
            Ok(RedirectResponseCode::SeeOther) => StatusCode::SEE_OTHER,
            Ok(RedirectResponseCode::TemporaryRedirect) => StatusCode::TEMPORARY_REDIRECT,
            Ok(RedirectResponseCode::PermanentRedirect) => StatusCode::PERMANENT_REDIRECT,
            Err(_) => return Err(Rejection::new("response_code", "is unknown")),
        };
        let scheme = match &wire.scheme_rewrite_specifier {
            Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
            Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => Some(scheme.as_str().into()),
            Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => None,
        };
        let path = match &wire.path_rewrite_specifier {
            Some(PathRewriteSpecifier::PathRedirect(path)) => Some(NewPath::Whole(path.as_str().into())),
            Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => {
                Some(NewPath::Rewrite(PathRewrite::Prefix(prefix.as_str().into())))
            }
            Some(PathRewriteSpecifier::RegexRewrite(regex)) => {
                let substitution = Substitution::decode(regex).within(|| "regex_rewrite")?;
                Some(NewPath::Rewrite(PathRewrite::Regex(substitution)))
            }
            Some(PathRewriteSpecifier::PathRewrite(_)) => return Err(Rejection::unsupported("path_rewrite")),
            None => None,
        };
        let port = u16::try_from(wire.port_redirect)
            .map_err(|_| Rejection::new("port_redirect", format!("{} is not a port", wire.port_redirect)))?;
        Ok(Self {
            status,
            scheme,
            host: (!wire.host_redirect.is_empty()).then(|| wire.host_redirect.as_str().into()),
            port: (port != 0).then_some(port),
            path,
            strip_query: wire.strip_query,
        })
    }

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

/// Refuses a prefix rewrite where no prefix is matched, as it would replace the whole path.
pub(super) fn check_prefix_rewrite(matches: &RouteMatch) -> Result<(), Rejection> {
    match matches.path {
        PathMatch::Connect => Err(Rejection::new("prefix_rewrite", "a CONNECT request has no path")),
        PathMatch::Prefix(_) | PathMatch::Exact(_) | PathMatch::Regex(_) | PathMatch::Below(_) => Ok(()),
    }
}
