//! Requests: what is taken, and what is refused with which answer.

use super::messages::REQUESTS;
use super::{LIMITS, Side, Taken, requests, take};
use crate::{HeadLimits, Malformed};

fn one(bytes: &[u8]) -> super::Message {
    let Taken { mut messages, refused, left } = requests(bytes);
    assert_eq!((messages.len(), refused, left), (1, None, 0), "{}", bytes.escape_ascii());
    messages.remove(0)
}

/// A head with these lines between its first line and the empty one.
fn head(lines: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{lines}\r\n").into_bytes()
}

fn refusal(bytes: &[u8]) -> Option<Malformed> {
    requests(bytes).refused
}

#[test]
fn takes_what_is_in_order() {
    for bytes in REQUESTS {
        let taken = requests(bytes);
        assert_eq!(taken.refused, None, "{}", bytes.escape_ascii());
        assert!(!taken.messages.is_empty() && taken.messages.iter().all(|message| message.whole));
    }
}

#[test]
fn finds_the_end_of_each_content() {
    let taken = requests(REQUESTS[16]);
    let bodies: Vec<&[u8]> = taken.messages.iter().map(|message| message.data.as_slice()).collect();
    assert_eq!(bodies, [&b""[..], b"abc", b""]);
    assert_eq!(one(REQUESTS[9]).data, b"hello!");
    let with_trailers = one(REQUESTS[10]);
    assert_eq!(with_trailers.data, b"0123456789");
    assert_eq!(
        with_trailers.trailers,
        [("x-sum".to_owned(), b"1".to_vec())],
        "a host comes too late in trailers"
    );
}

#[test]
fn leaves_what_follows_connect_to_the_tunnel() {
    let taken = requests(REQUESTS[5]);
    assert_eq!((taken.messages.len(), taken.refused, taken.left), (1, None, b"not a message".len()));
}

#[test]
fn says_what_becomes_of_the_connection() {
    let cases = [
        (REQUESTS[0], "KeepAlive"),
        (REQUESTS[12], "Close"),
        (REQUESTS[13], "KeepAlive"),
        (REQUESTS[14], "Close"),
    ];
    for (bytes, persistence) in cases {
        assert!(one(bytes).head.contains(persistence), "{}", bytes.escape_ascii());
    }
    assert!(one(REQUESTS[11]).head.ends_with("(KeepAlive, true, false)"), "waits for 100");
    assert!(one(REQUESTS[15]).head.ends_with("(KeepAlive, false, true)"), "asks for an upgrade");
}

#[test]
fn refuses_what_can_be_framed_in_two_ways() {
    let cases = [
        ("content-length: 1\r\ntransfer-encoding: chunked\r\n", Malformed::LengthAndCoding),
        ("transfer-encoding: chunked\r\ncontent-length: 1\r\n", Malformed::LengthAndCoding),
        ("transfer-encoding: chunked\r\ncontent-length: 0\r\n", Malformed::LengthAndCoding),
        ("content-length: 1\r\ncontent-length: 2\r\n", Malformed::Length),
        ("content-length: 1\r\ncontent-length: 1\r\n", Malformed::Length),
        ("content-length: 1, 1\r\n", Malformed::Length),
        ("content-length: +1\r\n", Malformed::Length),
        ("content-length: -1\r\n", Malformed::Length),
        ("content-length: 0x1\r\n", Malformed::Length),
        ("content-length: 1 1\r\n", Malformed::Length),
        ("content-length:\r\n", Malformed::Length),
        ("content-length: 18446744073709551616\r\n", Malformed::Length),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", Malformed::Coding),
        ("transfer-encoding: chunked, chunked\r\n", Malformed::Coding),
        ("transfer-encoding: gzip, chunked\r\n", Malformed::Coding),
        ("transfer-encoding: identity\r\n", Malformed::Coding),
        ("transfer-encoding: xchunked\r\n", Malformed::Coding),
        ("transfer-encoding: chunked;q=1\r\n", Malformed::Coding),
        ("transfer-encoding: \"chunked\"\r\n", Malformed::Coding),
        ("transfer-encoding:\r\n", Malformed::Coding),
    ];
    for (lines, expected) in cases {
        assert_eq!(refusal(&head(lines)), Some(expected), "{lines:?}");
    }
    assert_eq!(
        refusal(b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"),
        Some(Malformed::CodingNotAllowed)
    );
    assert_eq!(
        refusal(b"CONNECT a:1 HTTP/1.1\r\ncontent-length: 1\r\n\r\n"),
        Some(Malformed::BodyNotAllowed)
    );
    assert_eq!(
        refusal(b"CONNECT a:1 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"),
        Some(Malformed::Coding)
    );
}

#[test]
fn takes_lines_of_a_head_that_end_in_a_line_feed_alone() {
    let cases: [&[u8]; 5] = [
        b"GET / HTTP/1.1\nhost: a\nx: b\n\n",
        b"GET / HTTP/1.1\nhost: a\r\nx: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\nx: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: b\r\n\n",
        b"\nGET / HTTP/1.1\r\nhost: a\r\nx: b\r\n\r\n",
    ];
    for bytes in cases {
        let taken = requests(bytes);
        assert_eq!(
            (taken.refused, taken.messages.len(), taken.left),
            (None, 1, 0),
            "{}",
            bytes.escape_ascii()
        );
        let fields = [("host".to_owned(), b"a".to_vec()), ("x".to_owned(), b"b".to_vec())];
        assert_eq!(taken.messages[0].fields, fields, "{}", bytes.escape_ascii());
    }
}

#[test]
fn refuses_lines_that_others_read_otherwise() {
    let cases: [&[u8]; 16] = [
        b"GET / HTTP/1.1\r\nhost: a\rx: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost\t: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\n x: b\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: b\0c\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx\xe9: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: b\x7f\r\n\r\n",
        b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /  HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1 \r\nhost: a\r\n\r\n",
        b" GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /\r\nhost: a\r\n\r\n",
        b"G(T / HTTP/1.1\r\nhost: a\r\n\r\n",
    ];
    for bytes in cases {
        let refused = refusal(bytes);
        // What stands where the version should is judged as one.
        let good = matches!(refused, Some(Malformed::Syntax | Malformed::Version));
        assert!(good, "{}: {refused:?}", bytes.escape_ascii());
    }
}

#[test]
fn refuses_versions_methods_and_targets_of_other_kinds() {
    let cases: [(&str, Malformed); 19] = [
        ("GET / HTTP/2.0", Malformed::Version),
        ("GET / HTTP/1.2", Malformed::Version),
        ("GET / HTTP/0.9", Malformed::Version),
        ("get / HTTP/1.1", Malformed::Method),
        ("BREW / HTTP/1.1", Malformed::Method),
        ("GET admin HTTP/1.1", Malformed::Target),
        ("GET a.test:80 HTTP/1.1", Malformed::Target),
        ("GET * HTTP/1.1", Malformed::Target),
        ("OPTIONS *a HTTP/1.1", Malformed::Target),
        ("GET ftp://a/ HTTP/1.1", Malformed::Target),
        ("GET //a@b/ HTTP/1.1 x", Malformed::Version),
        ("GET http://user@a/ HTTP/1.1", Malformed::Target),
        ("GET http:///x HTTP/1.1", Malformed::Target),
        ("GET /x#y HTTP/1.1", Malformed::Target),
        ("GET http://a/#y HTTP/1.1", Malformed::Target),
        ("GET ?x HTTP/1.1", Malformed::Target),
        ("CONNECT / HTTP/1.1", Malformed::Target),
        ("CONNECT a.test HTTP/1.1", Malformed::Target),
        ("CONNECT http://a.test:80 HTTP/1.1", Malformed::Target),
    ];
    for (line, expected) in cases {
        let bytes = format!("{line}\r\nhost: a\r\n\r\n").into_bytes();
        let refused = refusal(&bytes);
        assert!(
            refused == Some(expected) || expected == Malformed::Version && refused.is_some(),
            "{line}: {refused:?}"
        );
    }
    assert_eq!(refusal(b"GET /\xc3\xa9 HTTP/1.1\r\nhost: a\r\n\r\n"), Some(Malformed::Target));
}

#[test]
fn refuses_hosts_that_are_none() {
    for host in ["a/b", "a?b", "a#b", "a b", "u@a", "a\"b", "a\\b", "a|b", "caf\u{e9}"] {
        let bytes = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes();
        assert_eq!(refusal(&bytes), Some(Malformed::Host), "{host:?}");
    }
    for host in ["a", "a.test:80", "[::1]:80", "127.0.0.1", "a_b", "%41", ""] {
        let bytes = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes();
        assert_eq!(refusal(&bytes), None, "{host:?}");
    }
    assert_eq!(refusal(b"GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n"), Some(Malformed::Host));
}

#[test]
fn refuses_chunks_that_are_none() {
    let cases: [&[u8]; 16] = [
        b"1 x\r\na\r\n",
        b"\r\n",
        b";a\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"0x1\r\na\r\n",
        b"1\na\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"1\r\na\rx",
        b"1;a\nb\r\n",
        b"1;\x01\r\n",
        b"1;a\rb\r\n",
        b"00000000000000001\r\n",
        b"fffffffffffffffff\r\n",
        b"1 1\rx",
    ];
    for chunks in cases {
        let bytes = [&head("transfer-encoding: chunked\r\n")[..], chunks].concat();
        assert_eq!(refusal(&bytes), Some(Malformed::Chunk), "{}", chunks.escape_ascii());
    }
    let trailers: [(&[u8], Malformed); 4] = [
        (b"0\r\nx\r\n\r\n", Malformed::Syntax),
        (b"0\r\nx: a\n\r\n\r\n", Malformed::Syntax),
        (b"0\r\n x: a\r\n\r\n", Malformed::Syntax),
        (b"0\r\nx : a\r\n\r\n", Malformed::Syntax),
    ];
    for (chunks, expected) in trailers {
        let bytes = [&head("transfer-encoding: chunked\r\n")[..], chunks].concat();
        assert_eq!(refusal(&bytes), Some(expected), "{}", chunks.escape_ascii());
    }
}

#[test]
fn bounds_what_a_peer_may_send_beside_data() {
    let endless = head("transfer-encoding: chunked\r\n");
    let extensions = [&endless[..], b"1;", &[b'a'; 20_000]].concat();
    assert_eq!(refusal(&extensions), Some(Malformed::Chunk));
    let small = b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n".repeat(400);
    assert_eq!(refusal(&[&endless[..], &small].concat()), Some(Malformed::Chunk));
    let worth =
        [b"1000;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".to_vec(), vec![b'x'; 4096], b"\r\n".to_vec()].concat();
    assert_eq!(refusal(&[endless.clone(), worth.repeat(600)].concat()), None, "made up for by data");
    let trailers = [&endless[..], b"0\r\nx: ", &vec![b'a'; LIMITS.bytes]].concat();
    assert_eq!(refusal(&trailers), Some(Malformed::TooLarge));
    let many = [&endless[..], b"0\r\n", &b"x: a\r\n".repeat(101), b"\r\n"].concat();
    assert_eq!(refusal(&many), Some(Malformed::TooManyFields));
}

#[test]
fn bounds_heads() {
    let small = HeadLimits { fields: 3, bytes: 100 };
    let of = |bytes: &[u8]| take(Side::Server, small, [bytes]).refused;
    assert_eq!(of(b"GET / HTTP/1.1\r\nhost: a\r\nb: c\r\nd: e\r\n\r\n"), None);
    assert_eq!(
        of(b"GET / HTTP/1.1\r\nhost: a\r\nb: c\r\nd: e\r\nf: g\r\n\r\n"),
        Some(Malformed::TooManyFields)
    );
    let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(100));
    assert_eq!(of(long.as_bytes()), Some(Malformed::TooLarge));
    assert_eq!(of(&[b'G'; 100]), Some(Malformed::TooLarge));
    let many = HeadLimits { fields: 300, bytes: 60_000 };
    let fields: String = (0..299).map(|n| format!("x-{n}: y\r\n")).collect();
    let bytes = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
    assert_eq!(
        take(Side::Server, many, [bytes.as_bytes()]).refused,
        None,
        "more than there is room for on the stack"
    );
}

#[test]
fn answers_in_words_that_envoy_uses() {
    let cases = [
        (Malformed::Syntax, 400, "http1.codec_error"),
        (Malformed::Coding, 501, "http1.invalid_transfer_encoding"),
        (Malformed::TooLarge, 431, "http1.headers_too_large"),
        (Malformed::TooManyFields, 431, "http1.too_many_headers"),
        (Malformed::LengthAndCoding, 400, "http1.content_length_and_chunked_not_allowed"),
    ];
    for (malformed, status, details) in cases {
        assert_eq!((malformed.status().as_u16(), malformed.details()), (status, details));
    }
}
