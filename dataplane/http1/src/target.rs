//! What a request is about: its method and its target.

use bytes::Bytes;
use http::{Method, Uri};

use super::error::Malformed;

/// The methods that are not in [`Method`]'s constants and that Envoy lets through, in order.
const RARE: [&str; 25] = [
    "ACL",
    "BIND",
    "CHECKOUT",
    "COPY",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "MSEARCH",
    "NOTIFY",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
];

/// A method that Envoy knows too: with others, two proxies in a row would disagree about what goes through.
pub(super) fn method(name: &[u8]) -> Result<Method, Malformed> {
    let method = Method::from_bytes(name).map_err(|_| Malformed::Method)?;
    let standard = matches!(
        method,
        Method::GET
            | Method::POST
            | Method::PUT
            | Method::DELETE
            | Method::HEAD
            | Method::OPTIONS
            | Method::CONNECT
            | Method::PATCH
            | Method::TRACE
    );
    if standard || RARE.binary_search(&method.as_str()).is_ok() { Ok(method) } else { Err(Malformed::Method) }
}

/// A target in the form that its method wants (RFC 9112, section 3.2). A fragment is refused: a parser drops it, and
/// what is judged would not be what is sent.
pub(super) fn uri(method: &Method, target: Bytes) -> Result<Uri, Malformed> {
    if !target.iter().fold(true, |good, byte| good & byte.is_ascii_graphic() & (*byte != b'#')) {
        return Err(Malformed::Target);
    }
    let first = target.first().copied();
    let uri = Uri::from_maybe_shared(target).map_err(|_| Malformed::Target)?;
    let fits = match first {
        _ if *method == Method::CONNECT => {
            uri.scheme().is_none() && uri.authority().is_some_and(|host| host.port().is_some())
        }
        Some(b'/') => uri.authority().is_none(),
        Some(b'*') => *method == Method::OPTIONS && uri.path() == "*",
        Some(_) | None => matches!(uri.scheme_str(), Some("http" | "https")),
    };
    let named = uri.authority().is_none_or(|authority| is_authority(authority.as_str().as_bytes()));
    if fits && named { Ok(uri) } else { Err(Malformed::Target) }
}

/// Whether these are characters of a host and a port (RFC 3986, section 3.2), without a user's name before them.
pub(super) fn is_authority(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte))
}
