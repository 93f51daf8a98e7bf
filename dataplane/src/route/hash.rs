//! What of a request is hashed, so that requests alike in it go to the same endpoint (`hash_policy`).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::header::{COOKIE, HeaderValue};
use http::{HeaderMap, HeaderName};
use weft_routing::matcher::RequestHead;
use weft_routing::route::Substitution;
use xxhash_rust::xxh64::xxh64;

/// One entry of `hash_policy`.
#[derive(Debug)]
pub struct HashPolicy {
    pub source: HashSource,
    /// With a hash so far, the entries behind this one do not count.
    pub terminal: bool,
}

#[derive(Debug)]
pub enum HashSource {
    Header {
        name: HeaderName,
        rewrite: Option<Substitution>,
    },
    Cookie(HashCookie),
    /// `source_ip`.
    SourceAddress,
    /// The first of this name in the query, as it is written there.
    QueryParameter(Box<str>),
}

/// A cookie that is hashed, and made for whoever does not bring it.
#[derive(Debug)]
pub struct HashCookie {
    pub name: Box<str>,
    /// How long a cookie made here lives: `None` makes none, zero is until the client ends.
    pub ttl: Option<Duration>,
    /// `Path` of the cookie made here.
    pub path: Box<str>,
    /// Other attributes of the cookie made here, as they are written.
    pub attributes: Box<str>,
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct HashedPeer {
    /// The caller's address after trusted hops.
    pub remote: IpAddr,
    /// Both ends of the connection that the request came by.
    pub connection: (SocketAddr, SocketAddr),
}

/// The hash of a request; `None` where it has nothing of what is hashed. Cookies that are made for it are added to `cookies`
/// for the response.
pub fn hash(
    policies: &[HashPolicy],
    head: &RequestHead<'_>,
    peer: HashedPeer,
    cookies: &mut Vec<HeaderValue>,
) -> Option<u64> {
    let mut hash: Option<u64> = None;
    for policy in policies {
        if let Some(one) = policy.source.hash(head, peer, cookies) {
            // Turned, so that two equal ones do not cancel each other out.
            hash = Some(hash.unwrap_or(0).rotate_left(1) ^ one);
        }
        if policy.terminal && hash.is_some() {
            break;
        }
    }
    hash
}

/// The hash of an address.
pub fn hash_address(address: IpAddr) -> u64 {
    xxh64(address.to_string().as_bytes(), 0)
}

impl HashSource {
    fn hash(&self, head: &RequestHead<'_>, peer: HashedPeer, cookies: &mut Vec<HeaderValue>) -> Option<u64> {
        match self {
            Self::Header { name, rewrite } => of_header(head, name, rewrite.as_ref()),
            Self::Cookie(cookie) => match cookie.value(head.headers) {
                Some(value) => Some(xxh64(value, 0)),
                None => {
                    let (value, made) = cookie.make(peer)?;
                    cookies.push(made);
                    Some(xxh64(value.as_bytes(), 0))
                }
            },
            Self::SourceAddress => Some(hash_address(peer.remote)),
            Self::QueryParameter(name) => {
                let pairs = head.query()?.split('&').filter(|pair| !pair.is_empty());
                let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
                let (_, value) = pairs.find(|(key, _)| **key == **name)?;
                Some(xxh64(value.as_bytes(), 0))
            }
        }
    }
}

/// All values of a header, in whatever order they came.
fn of_header(head: &RequestHead<'_>, name: &HeaderName, rewrite: Option<&Substitution>) -> Option<u64> {
    let pseudo = match name.as_str() {
        "host" => Some(head.authority),
        _ => None,
    };
    let values = head.headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let mut values: Vec<&[u8]> = match pseudo {
        Some(value) => vec![value.as_bytes()],
        None => values.collect(),
    };
    if let (None, [only]) = (rewrite, &values[..]) {
        return Some(xxh64(only, 0));
    }
    let rewritten: Vec<String>;
    if let Some(rewrite) = rewrite {
        rewritten = values.iter().map(|value| rewrite.apply(&String::from_utf8_lossy(value))).collect();
        values = rewritten.iter().map(String::as_bytes).collect();
    }
    values.sort_unstable();
    (!values.is_empty()).then(|| values.iter().fold(0, |seed, value| xxh64(value, seed)))
}

impl HashCookie {
    /// The value that the request brings, without quotes.
    fn value<'a>(&self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        let fields = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
        let mut pairs = fields.flat_map(|field| field.split(|byte| *byte == b';'));
        let value = pairs.find_map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let (key, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
            (key == self.name.as_bytes()).then_some(value)
        })?;
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        (!unquoted.is_empty()).then_some(unquoted)
    }

    /// A value that all requests of a connection share, and the cookie with it.
    fn make(&self, peer: HashedPeer) -> Option<(String, HeaderValue)> {
        let ttl = self.ttl?;
        let (remote, local) = peer.connection;
        let value = format!("{:016x}", xxh64(format!("{remote}{local}").as_bytes(), 0));
        let mut cookie = format!("{}=\"{value}\"", self.name);
        if ttl.as_secs() > 0 {
            cookie.push_str(&format!("; Max-Age={}", ttl.as_secs()));
        }
        if !self.path.is_empty() {
            cookie.push_str(&format!("; Path={}", self.path));
        }
        cookie.push_str(&self.attributes);
        cookie.push_str("; HttpOnly");
        HeaderValue::from_str(&cookie).ok().map(|cookie| (value, cookie))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> HashedPeer {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        HashedPeer { remote: IpAddr::from([10, 0, 0, 1]), connection: (address(1), address(2)) }
    }

    fn of(
        source: HashSource,
        path: &str,
        fields: &[(&'static str, &str)],
    ) -> (Option<u64>, Vec<HeaderValue>) {
        let policies = [HashPolicy { source, terminal: false }];
        all(&policies, path, fields)
    }

    fn all(
        policies: &[HashPolicy],
        path: &str,
        fields: &[(&'static str, &str)],
    ) -> (Option<u64>, Vec<HeaderValue>) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let head = RequestHead { method: "GET", scheme: "http", authority: "a", path, headers: &headers };
        let mut cookies = Vec::new();
        (hash(policies, &head, peer(), &mut cookies), cookies)
    }

    fn header() -> HashSource {
        HashSource::Header { name: HeaderName::from_static("x-user"), rewrite: None }
    }

    fn query(name: &str) -> HashSource {
        HashSource::QueryParameter(name.into())
    }

    fn cookie(ttl: Option<Duration>) -> HashSource {
        let (path, attributes) = ("/p".into(), "; SameSite=Strict".into());
        HashSource::Cookie(HashCookie { name: "sid".into(), ttl, path, attributes })
    }

    #[test]
    fn the_values_of_a_header_count_in_any_order() {
        assert_eq!(of(header(), "/", &[("x-user", "a")]).0, Some(xxh64(b"a", 0)));
        let (first, second) = ([("x-user", "a"), ("x-user", "b")], [("x-user", "b"), ("x-user", "a")]);
        assert_eq!(of(header(), "/", &first).0, Some(xxh64(b"b", xxh64(b"a", 0))));
        assert_eq!(of(header(), "/", &second).0, Some(xxh64(b"b", xxh64(b"a", 0))));
        assert_eq!(of(header(), "/", &[]).0, None);
    }

    #[test]
    fn the_first_parameter_of_the_query_counts_as_it_is_written() {
        assert_eq!(of(query("id"), "/?x=1&id=a%20b&id=c", &[]).0, Some(xxh64(b"a%20b", 0)));
        assert_eq!(of(query("id"), "/?id", &[]).0, Some(xxh64(b"", 0)));
        assert_eq!(of(query("id"), "/?ids=1", &[]).0, None);
        assert_eq!(of(query("id"), "/", &[]).0, None);
    }

    #[test]
    fn a_cookie_is_hashed_or_made() {
        let brought = of(cookie(Some(Duration::ZERO)), "/", &[("cookie", "a=b; sid=\"x\"; c")]);
        assert_eq!(brought, (Some(xxh64(b"x", 0)), vec![]));
        assert_eq!(of(cookie(None), "/", &[("cookie", "sid=")]), (None, vec![]));
        let (hash, made) = of(cookie(Some(Duration::from_secs(60))), "/", &[]);
        let value = format!("{:016x}", xxh64(b"127.0.0.1:1127.0.0.1:2", 0));
        assert_eq!(hash, Some(xxh64(value.as_bytes(), 0)));
        assert_eq!(made, [format!("sid=\"{value}\"; Max-Age=60; Path=/p; SameSite=Strict; HttpOnly")]);
    }

    #[test]
    fn several_are_turned_and_combined_until_a_terminal_one_has_a_hash() {
        let policies = |terminal| {
            [HashPolicy { source: header(), terminal }, HashPolicy { source: query("id"), terminal: false }]
        };
        let (a, b) = (xxh64(b"a", 0), xxh64(b"b", 0));
        assert_eq!(all(&policies(false), "/?id=b", &[("x-user", "a")]).0, Some(a.rotate_left(1) ^ b));
        assert_eq!(all(&policies(true), "/?id=b", &[("x-user", "a")]).0, Some(a));
        assert_eq!(all(&policies(true), "/?id=b", &[]).0, Some(b));
        assert_eq!(of(HashSource::SourceAddress, "/", &[]).0, Some(xxh64(b"10.0.0.1", 0)));
    }
}
