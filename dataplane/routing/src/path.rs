//! The one place where a request's path is normalised: routing, authorization and the upstream see its result.
//!
//! What no option can allow: `%00`, control characters, a fragment, and dot segments that hide behind a path
//! parameter (`/..;/`), since servers disagree about them and an authorization rule could be walked around.

use std::borrow::Cow;

use percent_encoding::percent_encode_byte;

/// How a request's path is normalised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PathOptions {
    /// `normalize_path`: RFC 3986 dot segments and case of escapes.
    pub normalize: bool,
    /// `merge_slashes`.
    pub merge_slashes: bool,
    /// `path_with_escaped_slashes_action`.
    pub escaped_slashes: EscapedSlashes,
    /// Whether what servers disagree about passes, as it does in Envoy: an escape that is cut off, and a dot segment with a
    /// parameter, which is one like those without. weft-proxy takes neither.
    pub lenient: bool,
}

/// `path_with_escaped_slashes_action`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// Leave `%2F` and `%5C` as they are.
    #[default]
    Keep,
    /// Answer 400.
    Reject,
    /// Redirect to the unescaped path.
    UnescapeAndRedirect,
    /// Unescape, then go on.
    UnescapeAndForward,
}

/// Why a path is refused, with status 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with a slash.
    #[error("path does not begin with a slash")]
    Relative,
    /// It holds a control character or an escaped NUL.
    #[error("path holds a control character")]
    Control,
    /// It holds a fragment.
    #[error("path holds a fragment")]
    Fragment,
    /// It holds `/.;` or `/..;`.
    #[error("path holds a dot segment with a parameter")]
    DotParameter,
    /// It holds `%2F` or `%5C`, and these are to be refused.
    #[error("path holds an escaped slash")]
    EscapedSlash,
    /// It holds a percent sign without two hexadecimal digits.
    #[error("path holds an escape that is cut off")]
    BadEscape,
}

/// A path that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Normal<'a> {
    /// Go on with this path, which has the query of the original.
    Forward(Cow<'a, str>),
    /// Send the caller to this path with status 307 (`UNESCAPE_AND_REDIRECT`).
    Redirect(String),
}

/// Normalises `path`, which may have a query; the query stays as it is. `*` (of OPTIONS) passes. What comes out
/// normalises to itself.
///
/// # Errors
/// The path is refused; the answer is 400.
#[inline]
pub fn normalize<'a>(path: &'a str, options: &PathOptions) -> Result<Normal<'a>, PathError> {
    if path == "*" {
        return Ok(Normal::Forward(path.into()));
    }
    if path.contains('#') {
        return Err(PathError::Fragment);
    }
    let end = path.find('?').unwrap_or(path.len());
    let (only, query) = path.split_at(end);
    check(only)?;
    if !options.lenient {
        check_dot_parameters(only)?;
    }
    if is_plain(only) {
        return Ok(Normal::Forward(path.into()));
    }
    let (unescaped, had_escaped_slash) = escaped_slashes(only, options)?;
    let mut normal = unescaped;
    if options.normalize {
        if options.lenient {
            normal = without_dot_parameters(&normal).into();
        }
        normal = remove_dots(&decode_unreserved(&normal, options.lenient)?).into();
    }
    if options.merge_slashes {
        normal = merge(&normal).into();
    }
    if !options.lenient {
        check_dot_parameters(&normal)?;
    }
    if had_escaped_slash && options.escaped_slashes == EscapedSlashes::UnescapeAndRedirect {
        return Ok(Normal::Redirect(format!("{normal}{query}")));
    }
    if normal == only {
        return Ok(Normal::Forward(path.into()));
    }
    Ok(Normal::Forward(format!("{normal}{query}").into()))
}

/// Nothing in it could change: the common case, decided without allocating.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    !bytes.iter().any(|b| matches!(b, b'%' | b'\\' | b';') || must_be_escaped(*b))
        && !bytes.windows(2).any(|pair| pair[0] == b'/' && matches!(pair[1], b'/' | b'.'))
}

fn check(path: &str) -> Result<(), PathError> {
    if !path.starts_with(['/', '\\']) {
        return Err(PathError::Relative);
    }
    if path.bytes().any(|b| b < 0x20 || b == 0x7f) || path.contains("%00") {
        return Err(PathError::Control);
    }
    Ok(())
}

/// `/..;x` and `/.;x`, however the dots and the semicolon are written.
fn check_dot_parameters(path: &str) -> Result<(), PathError> {
    if !path.contains([';', '%']) {
        return Ok(());
    }
    let flat = path
        .to_ascii_lowercase()
        .replace("%2e", ".")
        .replace("%3b", ";")
        .replace("%2f", "/")
        .replace("%5c", "/");
    let hidden = |segment: &str| segment.split_once(';').is_some_and(|(name, _)| matches!(name, "." | ".."));
    if flat.split(['/', '\\']).any(hidden) { Err(PathError::DotParameter) } else { Ok(()) }
}

fn escaped_slashes<'a>(path: &'a str, options: &PathOptions) -> Result<(Cow<'a, str>, bool), PathError> {
    let escaped = |bytes: &[u8]| matches!(bytes, [b'%', b'2', b'f' | b'F'] | [b'%', b'5', b'c' | b'C']);
    let found = path.as_bytes().windows(3).any(escaped);
    if !found {
        return Ok((path.into(), false));
    }
    match options.escaped_slashes {
        EscapedSlashes::Keep => Ok((path.into(), true)),
        EscapedSlashes::Reject => Err(PathError::EscapedSlash),
        EscapedSlashes::UnescapeAndRedirect | EscapedSlashes::UnescapeAndForward => {
            let path = path.replace("%2f", "/").replace("%2F", "/").replace("%5c", "\\").replace("%5C", "\\");
            // Unescaping may not make a new escape out of its neighbours, which would be unescaped by the next hop.
            if path.as_bytes().windows(3).any(escaped) {
                return Err(PathError::EscapedSlash);
            }
            Ok((path.into(), true))
        }
    }
}

/// Letters, digits and `-._~` need no escape (RFC 3986 section 6.2.2.2); backslashes count as slashes.
fn decode_unreserved(path: &str, lenient: bool) -> Result<String, PathError> {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => out.push(b'/'),
            b'%' => {
                let digit = |i: usize| bytes.get(i).and_then(|b| (*b as char).to_digit(16));
                let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2)) else {
                    if !lenient {
                        return Err(PathError::BadEscape);
                    }
                    out.push(b'%');
                    at += 1;
                    continue;
                };
                let value = (high * 16 + low) as u8;
                if value.is_ascii_alphanumeric() || b"-._~".contains(&value) {
                    out.push(value);
                } else {
                    out.extend_from_slice(&bytes[at..at + 3]);
                }
                at += 2;
            }
            byte if must_be_escaped(byte) => out.extend_from_slice(percent_encode_byte(byte).as_bytes()),
            byte => out.push(byte),
        }
        at += 1;
    }
    // Only ASCII was put in place of ASCII.
    String::from_utf8(out).map_err(|_| PathError::BadEscape)
}

/// What may not stand in a path by itself and some clients send all the same.
fn must_be_escaped(byte: u8) -> bool {
    byte >= 0x80 || matches!(byte, b' ' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// `/..;x` and `/.;x` as Envoy takes them: without the parameter, where the dots are no escapes.
fn without_dot_parameters(path: &str) -> String {
    let segments = path.split('/').map(|segment| match segment.split_once(';') {
        Some((dots @ ("." | ".."), _)) => dots,
        Some(_) | None => segment,
    });
    segments.collect::<Vec<_>>().join("/")
}

/// RFC 3986 section 5.2.4; a path never climbs above the root.
fn remove_dots(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    out.pop();
                }
                if last {
                    out.push("");
                }
            }
            name => out.push(name),
        }
    }
    let mut normal = String::with_capacity(path.len());
    for segment in out {
        normal.push('/');
        normal.push_str(segment);
    }
    if normal.is_empty() { "/".to_owned() } else { normal }
}

fn merge(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(escaped_slashes: EscapedSlashes) -> PathOptions {
        PathOptions { normalize: true, merge_slashes: true, escaped_slashes, lenient: false }
    }

    fn forward(path: &str, options: &PathOptions) -> String {
        match normalize(path, options) {
            Ok(Normal::Forward(path)) => path.into_owned(),
            other => panic!("{path} gave {other:?}"),
        }
    }

    #[test]
    fn resolves_dots_slashes_and_needless_escapes() {
        for (path, wanted) in [
            ("/a/./b/../c", "/a/c"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/../../etc", "/etc"),
            ("/a//b///c", "/a/b/c"),
            ("/%61dmin", "/admin"),
            ("/x/%2e%2E/admin", "/admin"),
            ("/x\\..\\admin", "/admin"),
            ("/a%20b", "/a%20b"),
            ("/...", "/..."),
            ("/a|b\"c<é>^`{}", "/a%7Cb%22c%3C%C3%A9%3E%5E%60%7B%7D"),
            ("/a!$&'()*+,=:@~", "/a!$&'()*+,=:@~"),
            ("/a?b=/../c//d", "/a?b=/../c//d"),
            ("/", "/"),
        ] {
            assert_eq!(forward(path, &all(EscapedSlashes::Keep)), wanted, "{path}");
        }
    }

    #[test]
    fn a_path_in_order_is_not_copied() {
        let Ok(Normal::Forward(path)) = normalize("/api/v1/items?x=%2F", &all(EscapedSlashes::Reject)) else {
            panic!("refused")
        };
        assert!(matches!(path, Cow::Borrowed(_)));
    }

    #[test]
    fn refuses_what_servers_disagree_about_whatever_the_options_say() {
        for options in
            [PathOptions::default(), all(EscapedSlashes::Keep), all(EscapedSlashes::UnescapeAndForward)]
        {
            for (path, error) in [
                ("/a%00b", PathError::Control),
                ("/a\u{1}b", PathError::Control),
                ("/public/..;/admin", PathError::DotParameter),
                ("/public/.;x/admin", PathError::DotParameter),
                ("/public/%2e%2E;/admin", PathError::DotParameter),
                ("/public/..%3B/admin", PathError::DotParameter),
                ("/public%2F..;/admin", PathError::DotParameter),
                ("/a#b", PathError::Fragment),
                ("a/b", PathError::Relative),
                ("", PathError::Relative),
            ] {
                assert_eq!(normalize(path, &options), Err(error), "{path}");
            }
        }
    }

    #[test]
    fn what_servers_disagree_about_passes_where_envoy_stands() {
        let options = PathOptions { lenient: true, ..all(EscapedSlashes::Reject) };
        for (path, wanted) in [
            ("/public/..;/admin", "/admin"),
            ("/public/.;x/admin", "/public/admin"),
            ("/public/%2e%2e;/admin", "/public/..;/admin"),
            ("/public/..%3B/admin", "/public/..%3B/admin"),
            ("/a%", "/a%"),
            ("/a%zz/b", "/a%zz/b"),
        ] {
            assert_eq!(forward(path, &options), wanted, "{path}");
        }
        assert_eq!(normalize("/a%00b", &options), Err(PathError::Control));
        assert_eq!(normalize("/a%2Fb", &options), Err(PathError::EscapedSlash));
    }

    #[test]
    fn a_parameter_on_a_real_segment_passes() {
        assert_eq!(forward("/a;v=1/b", &all(EscapedSlashes::Keep)), "/a;v=1/b");
        assert_eq!(forward("/..a;v=1/b", &all(EscapedSlashes::Keep)), "/..a;v=1/b");
    }

    #[test]
    fn escaped_slashes_follow_their_option() {
        let path = "/a%2fb%5Cc?q";
        assert_eq!(forward(path, &all(EscapedSlashes::Keep)), path);
        assert_eq!(normalize(path, &all(EscapedSlashes::Reject)), Err(PathError::EscapedSlash));
        assert_eq!(forward(path, &all(EscapedSlashes::UnescapeAndForward)), "/a/b/c?q");
        assert_eq!(
            normalize(path, &all(EscapedSlashes::UnescapeAndRedirect)),
            Ok(Normal::Redirect("/a/b/c?q".into()))
        );
        assert_eq!(forward("/a/b", &all(EscapedSlashes::UnescapeAndRedirect)), "/a/b");
    }

    #[test]
    fn an_escape_is_decoded_once_only() {
        assert_eq!(forward("/a%252e%252e/b", &all(EscapedSlashes::Keep)), "/a%252e%252e/b");
        assert_eq!(normalize("/%2%66etc", &all(EscapedSlashes::Reject)), Err(PathError::BadEscape));
        assert_eq!(normalize("/a%", &all(EscapedSlashes::Keep)), Err(PathError::BadEscape));
    }

    #[test]
    fn without_options_a_path_stays_as_it_is() {
        for path in ["/a/../b", "//a", "/%61", "/a%2Fb", "*"] {
            assert_eq!(forward(path, &PathOptions::default()), path);
        }
    }

    fn options() -> impl Strategy<Value = PathOptions> {
        let action = prop_oneof![
            Just(EscapedSlashes::Keep),
            Just(EscapedSlashes::Reject),
            Just(EscapedSlashes::UnescapeAndForward),
        ];
        (any::<bool>(), any::<bool>(), action).prop_map(|(normalize, merge_slashes, escaped_slashes)| {
            PathOptions { normalize, merge_slashes, escaped_slashes, lenient: false }
        })
    }

    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/", "/", "a", "b", ".", "..", "%2e", "%2F", "%5c", "\\", ";", "%3b", "%25", "%", "2", "f", "|",
            "F", "%66", "5", "c", "é", "%00", "//",
        ]);
        prop::collection::vec(piece, 0..14).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn normalising_again_changes_nothing(path in pieces(), options in options()) {
            if let Ok(Normal::Forward(once)) = normalize(&path, &options) {
                prop_assert_eq!(normalize(&once, &options), Ok(Normal::Forward(once.clone())));
            }
        }

        #[test]
        fn no_dot_segment_survives_normalisation(path in pieces()) {
            if let Ok(Normal::Forward(normal)) = normalize(&path, &all(EscapedSlashes::UnescapeAndForward)) {
                let lower = normal.to_ascii_lowercase().replace("%2e", ".");
                prop_assert!(!lower.split(['/', '\\']).any(|s| s == "." || s == ".." || s.starts_with("..;")), "{}", normal);
                prop_assert!(!lower.contains("//") && !lower.contains("%2f") && !lower.contains("%5c"), "{}", normal);
            }
        }

        #[test]
        fn the_query_is_never_touched(path in pieces(), query in "[a-z/%.;=&]{0,20}") {
            if let Ok(Normal::Forward(normal)) = normalize(&format!("{path}?{query}"), &all(EscapedSlashes::Keep)) {
                let kept = normal.split_once('?').map(|(_, query)| query.to_owned());
                prop_assert_eq!(kept, Some(query));
            }
        }
    }
}
