//! Where requests have tokens, and how one is taken away.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use http::request::Parts;
use percent_encoding::percent_decode_str;

use crate::engine::request_head::set_path;

/// Tokens of one request that are looked at: each costs the verification of a signature.
const MOST_TOKENS: usize = 8;

/// Where tokens of some providers are, in the order of their names.
#[derive(Debug, Default)]
pub(super) struct TokenLocations {
    /// By name and what stands before the token.
    headers: BTreeMap<(String, Box<str>), HeaderLocation>,
    params: BTreeMap<Box<str>, LocationIssuers>,
    cookies: BTreeMap<Box<str>, LocationIssuers>,
    /// What the providers write themselves: nobody else's word is passed on under these names.
    written: Vec<HeaderName>,
}

#[derive(Debug)]
struct HeaderLocation {
    name: HeaderName,
    issuers: LocationIssuers,
}

/// Whose tokens may be in a place.
#[derive(Debug, Default)]
pub(super) struct LocationIssuers {
    anybody: bool,
    these: BTreeSet<Box<str>>,
}

impl LocationIssuers {
    fn add(&mut self, issuer: &str) {
        if issuer.is_empty() {
            self.anybody = true;
        } else {
            self.these.insert(issuer.into());
        }
    }

    pub(super) fn include(&self, issuer: &str) -> bool {
        self.anybody || self.these.contains(issuer)
    }
}

/// A token in its place.
#[derive(Debug)]
pub(super) struct FoundToken<'a> {
    pub(super) text: String,
    pub(super) issuers: &'a LocationIssuers,
    place: TokenPlace<'a>,
}

#[derive(Debug, Clone, Copy)]
enum TokenPlace<'a> {
    Header(&'a HeaderName),
    Param(&'a str),
    Cookie,
}

/// There are more tokens than are looked at.
#[derive(Debug)]
pub(super) struct TooManyTokens;

impl TokenLocations {
    /// Without any place given, tokens are where RFC 6750 has them.
    pub(super) fn add(
        &mut self,
        issuer: &str,
        headers: &[(HeaderName, Box<str>)],
        params: &[String],
        cookies: &[String],
    ) {
        let bearer = [(AUTHORIZATION, Box::from("Bearer "))];
        let access_token = ["access_token".to_owned()];
        let by_default = headers.is_empty() && params.is_empty() && cookies.is_empty();
        let (headers, params) = if by_default { (&bearer[..], &access_token[..]) } else { (headers, params) };
        for (name, prefix) in headers {
            let key = (name.as_str().to_owned(), prefix.clone());
            let location = self.headers.entry(key).or_insert_with(|| HeaderLocation {
                name: name.clone(),
                issuers: LocationIssuers::default(),
            });
            location.issuers.add(issuer);
        }
        for name in params {
            self.params.entry(name.as_str().into()).or_default().add(issuer);
        }
        for name in cookies {
            self.cookies.entry(name.as_str().into()).or_default().add(issuer);
        }
    }

    pub(super) fn will_write(&mut self, name: &HeaderName) {
        self.written.push(name.clone());
    }

    /// Takes away what only this filter may say.
    pub(super) fn sanitize(&self, headers: &mut HeaderMap) {
        self.written.iter().for_each(|name| drop(headers.remove(name)));
    }

    /// All tokens, those of headers first.
    pub(super) fn find(&self, parts: &Parts) -> Result<Vec<FoundToken<'_>>, TooManyTokens> {
        let mut found = Vec::new();
        for ((_, prefix), HeaderLocation { name, issuers }) in &self.headers {
            for value in values(&parts.headers, name) {
                if let Some(text) = behind(&value, prefix) {
                    let place = TokenPlace::Header(name);
                    found.push(FoundToken { text: text.to_owned(), issuers, place });
                }
            }
        }
        let query = parts.uri.query().unwrap_or_default();
        for (name, issuers) in &self.params {
            if let Some(value) = first_param(query, name) {
                let place = TokenPlace::Param(name);
                found.push(FoundToken { text: value.into_owned(), issuers, place });
            }
        }
        for (name, issuers) in &self.cookies {
            if let Some(value) = cookie(&parts.headers, name) {
                found.push(FoundToken { text: value.to_owned(), issuers, place: TokenPlace::Cookie });
            }
        }
        if found.len() > MOST_TOKENS { Err(TooManyTokens) } else { Ok(found) }
    }
}

impl FoundToken<'_> {
    /// Takes the token away, so that the server does not see it. As in Envoy a cookie stays.
    pub(super) fn remove(&self, parts: &mut Parts) {
        match self.place {
            TokenPlace::Header(name) => drop(parts.headers.remove(name)),
            TokenPlace::Param(name) => {
                let Some(path) = parts.uri.path_and_query() else { return };
                let path = without_param(path.path(), path.query().unwrap_or_default(), name);
                set_path(parts, &path);
            }
            TokenPlace::Cookie => {}
        }
    }
}

/// The values of a header. RFC 9110 section 11.6.2 has one `authorization`: several are one value, as in Envoy, and none that is
/// a token.
fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<Cow<'a, str>> {
    let each: Vec<_> =
        headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    if *name == AUTHORIZATION && each.len() > 1 { vec![Cow::Owned(each.join(","))] } else { each }
}

/// The token in a header's value: what begins as one behind the prefix, wherever that is.
fn behind<'a>(value: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() {
        return Some(value);
    }
    let rest = &value[value.find(prefix)? + prefix.len()..];
    let begins = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    Some(rest.find(begins).map_or(value, |start| &rest[start..]))
}

fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

fn first_param<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let params = query.split('&').map(|param| param.split_once('=').unwrap_or((param, "")));
    params.into_iter().find(|(key, _)| decoded(key) == name).map(|(_, value)| decoded(value))
}

/// The path without the parameters of a name; the others stay as they were sent.
fn without_param(path: &str, query: &str, name: &str) -> String {
    let key = |param: &&str| decoded(param.split_once('=').map_or(*param, |(key, _)| key)) != name;
    let rest: Vec<&str> = query.split('&').filter(|param| !param.is_empty()).filter(key).collect();
    if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) }
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let crumbs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        crumbs.flat_map(|crumbs| crumbs.split(';')).filter_map(|crumb| crumb.trim().split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(path: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn texts(locations: &TokenLocations, parts: &Parts) -> Vec<String> {
        locations.find(parts).unwrap().into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn tokens_are_where_rfc_6750_has_them_unless_somebody_says_otherwise() {
        let mut locations = TokenLocations::default();
        locations.add("me", &[], &[], &[]);
        let both = parts("/?a=1&access_token=t%2e2&b", &[("authorization", "Bearer t1"), ("cookie", "x=t3")]);
        assert_eq!(texts(&locations, &both), ["t1", "t.2"]);
        for (value, wanted) in [
            ("Basic x, Bearer  t", &["t"][..]),
            ("Bearer", &[]),
            ("bearer t", &[]),
            ("Bearer !", &["Bearer !"]),
        ] {
            assert_eq!(texts(&locations, &parts("/", &[("authorization", value)])), wanted, "{value}");
        }
        let twice = parts("/", &[("authorization", "Bearer t"), ("authorization", "Bearer u")]);
        assert_eq!(texts(&locations, &twice), ["t,Bearer u"]);
        let mut others = TokenLocations::default();
        others.add("", &[("x-token".parse().unwrap(), "".into())], &[], &["x".to_owned(), "y".to_owned()]);
        let asked = parts("/?access_token=t", &[("x-token", "t1"), ("cookie", "y=\"t4\"; x=t3; x=other")]);
        assert_eq!(texts(&others, &asked), ["t1", "t3", "t4"]);
    }

    #[test]
    fn a_token_is_taken_away_and_nothing_else() {
        let mut locations = TokenLocations::default();
        locations.add("me", &[], &[], &[]);
        let mut asked =
            parts("/p?a=%20&access%5Ftoken=t&b&access_token=u", &[("authorization", "Bearer t"), ("x", "y")]);
        locations.find(&asked.clone()).unwrap().iter().for_each(|token| token.remove(&mut asked));
        assert_eq!(asked.uri, "/p?a=%20&b");
        assert_eq!(asked.headers.len(), 1);
        let mut only = parts("/p?access_token=t", &[]);
        locations.find(&only.clone()).unwrap()[0].remove(&mut only);
        assert_eq!(only.uri, "/p");
    }

    #[test]
    fn tokens_of_one_request_are_bounded() {
        let mut locations = TokenLocations::default();
        locations.add("me", &[("x-token".parse().unwrap(), "".into())], &[], &[]);
        let many = |count| parts("/", &vec![("x-token", "t"); count]);
        assert_eq!(locations.find(&many(MOST_TOKENS)).unwrap().len(), MOST_TOKENS);
        assert!(locations.find(&many(MOST_TOKENS + 1)).is_err());
    }

    #[test]
    fn an_issuer_is_known_where_it_was_added() {
        let mut locations = TokenLocations::default();
        locations.add("me", &[("a".parse().unwrap(), "".into())], &[], &[]);
        locations.add("", &[("b".parse().unwrap(), "".into())], &[], &[]);
        let asked = parts("/", &[("a", "t"), ("b", "t")]);
        let found = locations.find(&asked).unwrap();
        assert!(found[0].issuers.include("me") && !found[0].issuers.include("other"));
        assert!(found[1].issuers.include("other"));
    }
}
