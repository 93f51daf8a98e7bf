//! `RedirectAction`, rewrites of paths, and `RegexMatchAndSubstitute`.

use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::{RedirectAction, RouteAction};
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use http::StatusCode;

use crate::matcher::search_regex;
use crate::rejection::{Rejection, Within as _};
use crate::route::{NewPath, PathMatch, PathRewrite, Redirect, RouteMatch, Substitution};

/// Reads a `RegexMatchAndSubstitute`, whose substitution may name groups of its pattern only.
///
/// # Errors
/// It names others, or the pattern does not compile.
pub fn substitution(given: &RegexMatchAndSubstitute) -> Result<Substitution, Rejection> {
    let pattern = given.pattern.as_ref().ok_or_else(|| Rejection::new("pattern", "is missing"))?;
    let pattern = search_regex(&pattern.regex).within(|| "pattern")?;
    let template = &given.substitution;
    let wrong = || {
        let reason = format!("{template:?} names a group that the pattern does not have");
        Rejection::new("substitution", reason)
    };
    Substitution::try_new(pattern, template).ok_or_else(wrong)
}

/// Reads where a redirect leads.
///
/// # Errors
/// A status or a port that is none.
pub fn redirect(given: &RedirectAction) -> Result<Redirect, Rejection> {
    let status = match RedirectResponseCode::try_from(given.response_code) {
        Ok(RedirectResponseCode::MovedPermanently) => StatusCode::MOVED_PERMANENTLY,
        Ok(RedirectResponseCode::Found) => StatusCode::FOUND,
        Ok(RedirectResponseCode::SeeOther) => StatusCode::SEE_OTHER,
        Ok(RedirectResponseCode::TemporaryRedirect) => StatusCode::TEMPORARY_REDIRECT,
        Ok(RedirectResponseCode::PermanentRedirect) => StatusCode::PERMANENT_REDIRECT,
        Err(_) => return Err(Rejection::new("response_code", "is unknown")),
    };
    let scheme = match &given.scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => Some(scheme.as_str().into()),
        Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => None,
    };
    let path = match &given.path_rewrite_specifier {
        Some(PathRewriteSpecifier::PathRedirect(path)) => Some(NewPath::Whole(path.as_str().into())),
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => {
            Some(NewPath::Rewrite(PathRewrite::Prefix(prefix.as_str().into())))
        }
        Some(PathRewriteSpecifier::RegexRewrite(regex)) => {
            let substitution = substitution(regex).within(|| "regex_rewrite")?;
            Some(NewPath::Rewrite(PathRewrite::Regex(substitution)))
        }
        Some(PathRewriteSpecifier::PathRewrite(_)) => return Err(Rejection::unsupported("path_rewrite")),
        None => None,
    };
    let port = u16::try_from(given.port_redirect)
        .map_err(|_| Rejection::new("port_redirect", format!("{} is not a port", given.port_redirect)))?;
    Ok(Redirect {
        status,
        scheme,
        host: (!given.host_redirect.is_empty()).then(|| given.host_redirect.as_str().into()),
        port: (port != 0).then_some(port),
        path,
        strip_query: given.strip_query,
    })
}

/// Reads how the path changes on the way to the upstream, where it does.
///
/// # Errors
/// Both kinds of rewrite, or one that cannot be carried out.
pub fn path_rewrite(action: &RouteAction, matches: &RouteMatch) -> Result<Option<PathRewrite>, Rejection> {
    match (&action.prefix_rewrite, &action.regex_rewrite) {
        (prefix, Some(_)) if !prefix.is_empty() => {
            Err(Rejection::new("regex_rewrite", "may not stand beside prefix_rewrite"))
        }
        (_, Some(regex)) => Ok(Some(PathRewrite::Regex(substitution(regex).within(|| "regex_rewrite")?))),
        (prefix, None) if !prefix.is_empty() => {
            check_prefix_rewrite(matches)?;
            Ok(Some(PathRewrite::Prefix(prefix.as_str().into())))
        }
        _ => Ok(None),
    }
}

/// Refuses a prefix rewrite where no prefix is matched, as it would replace the whole path.
fn check_prefix_rewrite(matches: &RouteMatch) -> Result<(), Rejection> {
    match matches.path {
        PathMatch::Connect => Err(Rejection::new("prefix_rewrite", "a CONNECT request has no path")),
        PathMatch::Prefix(_) | PathMatch::Exact(_) | PathMatch::Regex(_) | PathMatch::Below(_) => Ok(()),
    }
}
