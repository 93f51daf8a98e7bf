//! A request's head as matchers see it, and how its authority is replaced.

use http::header::{HOST, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Uri};
use weft_routing::matcher::RequestHead;

/// The head of a request as matchers see it; the authority is in the URI or in `host`.
pub(crate) fn head<'a>(parts: &'a Parts, scheme: &'static str) -> RequestHead<'a> {
    head_of(&parts.method, &parts.uri, &parts.headers, target(parts), scheme)
}

/// What a request's URI names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TargetForm {
    Path,
    /// CONNECT's has no path.
    Authority,
}

pub(super) fn target(parts: &Parts) -> TargetForm {
    let connects =
        parts.method == Method::CONNECT && parts.extensions.get::<hyper::ext::Protocol>().is_none();
    if connects { TargetForm::Authority } else { TargetForm::Path }
}

/// The same of a head in pieces.
pub(super) fn head_of<'a>(
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    target: TargetForm,
    scheme: &'static str,
) -> RequestHead<'a> {
    let authority = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
    };
    let path = match target {
        TargetForm::Authority => "",
        TargetForm::Path => uri.path_and_query().map_or("/", |path| path.as_str()),
    };
    RequestHead { method: method.as_str(), scheme, authority, path, headers }
}

/// Puts a new authority where the old one is.
pub(super) fn set_authority(parts: &mut Parts, host: &str) {
    if let Ok(value) = HeaderValue::from_str(host)
        && (parts.headers.contains_key(HOST) || parts.uri.authority().is_none())
    {
        parts.headers.insert(HOST, value);
    }
    parts.uri = with_authority(std::mem::take(&mut parts.uri), host);
}

/// Puts a new path with its query where the old one is; whether it is one. Else the old one stays.
pub(crate) fn set_path(parts: &mut Parts, path: &str) -> bool {
    let Ok(path) = path.parse() else { return false };
    let old = parts.uri.clone();
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.path_and_query = Some(path);
    let changed = Uri::from_parts(uri);
    let is_uri = changed.is_ok();
    parts.uri = changed.unwrap_or(old);
    is_uri
}

/// The same URI with another authority, where it has one.
pub(super) fn with_authority(uri: Uri, host: &str) -> Uri {
    if uri.authority().is_none() {
        return uri;
    }
    let old = uri.clone();
    let mut parts = uri.into_parts();
    parts.authority = host.parse().ok().or(parts.authority);
    Uri::from_parts(parts).unwrap_or(old)
}
