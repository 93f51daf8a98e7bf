//! Headers that concern only the connection that they came on (RFC 9110, section 7.6.1).

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Takes them off a request. One that asks for an upgrade says so on the next connection too; of `te`, `trailers` alone is
/// passed on.
pub(super) fn remove_from_request(headers: &mut HeaderMap, keep_upgrade: bool) {
    let concerns = |name: &HeaderName| is_of_connection(name) || *name == TE || *name == EXPECT;
    if !keep_upgrade && !headers.keys().any(concerns) {
        return;
    }
    remove_named(headers);
    if keep_upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    } else {
        headers.remove(CONNECTION);
        headers.remove(UPGRADE);
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    headers.remove(EXPECT);
    if let Some(te) = headers.get(TE) {
        let trailers = te
            .to_str()
            .is_ok_and(|te| te.split(',').any(|word| word.trim().eq_ignore_ascii_case("trailers")));
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(TE);
        }
    }
}

/// Takes them off a response.
pub(super) fn remove_from_response(headers: &mut HeaderMap) {
    let left = headers.keys().filter(|name| is_of_connection(name)).count();
    if left == 0 {
        return;
    }
    // The coding framed what came (RFC 9112, section 6.3): the length beside it says nothing.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    remove_named(headers);
    if headers.remove(CONNECTION).is_some() && left == 1 {
        return;
    }
    headers.remove(TRANSFER_ENCODING);
    headers.remove(UPGRADE);
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
}

/// Most messages have none of them: a look at each name that is there costs less than asking for each that could be.
fn is_of_connection(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == UPGRADE
        || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
}

/// Headers that say who the caller is, or where the request goes: set by proxies, so that a caller who names them in
/// `connection` does not get rid of them.
fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    name == "host"
        || name == "x-request-id"
        || name.starts_with("x-forwarded-")
        || name.starts_with("x-envoy-")
}

/// Removes what the message's `connection` fields, all of them, name.
fn remove_named(headers: &mut HeaderMap) {
    let fields = headers.get_all(CONNECTION).iter();
    let words = fields.flat_map(|field| field.to_str().unwrap_or_default().split(',')).map(str::trim);
    // What most messages say; neither names a header that would stay.
    let names =
        words.filter(|word| !word.eq_ignore_ascii_case("keep-alive") && !word.eq_ignore_ascii_case("close"));
    let named: Vec<HeaderName> = names
        .filter_map(|word| word.parse().ok())
        .filter(|name| *name != UPGRADE && *name != TE && *name != CONNECTION && !is_ours(name))
        .collect();
    named.iter().for_each(|name| drop(headers.remove(name)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_connection_do_not_travel() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, x-private"),
            ("keep-alive", "timeout=5"),
            ("x-private", "1"),
            ("x-forwarded-client-cert", "By=spiffe://test"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("x-public", "2"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers.append(CONNECTION, HeaderValue::from_static("x-second, x-forwarded-client-cert"));
        headers.insert("x-second", HeaderValue::from_static("3"));
        remove_from_request(&mut headers, false);
        let mut left: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort_unstable();
        let kept = ("x-forwarded-client-cert", "By=spiffe://test");
        assert_eq!(left, [("te", "trailers"), kept, ("x-public", "2")]);
    }

    #[test]
    fn all_that_a_response_names_in_any_field_stays_on_its_connection() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "x-private"),
            ("connection", "close, x-second"),
            ("x-private", "1"),
            ("x-second", "2"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("content-length", "7"),
            ("x-public", "3"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        remove_from_response(&mut headers);
        let left: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(left, [("x-public", "3")]);
    }
}
