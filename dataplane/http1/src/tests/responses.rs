//! Responses: what is taken as the answer to what, and what is refused.

use super::messages::RESPONSES;
use super::{Taken, responses};
use crate::{Asked, Malformed};

fn refusal(lines: &str) -> Option<Malformed> {
    responses(Asked::Plain, format!("HTTP/1.1 {lines}\r\n").as_bytes()).refused
}

#[test]
fn takes_what_is_in_order() {
    for bytes in RESPONSES {
        let taken = responses(Asked::Plain, bytes);
        assert_eq!((taken.refused, taken.left), (None, 0), "{}", bytes.escape_ascii());
    }
}

#[test]
fn reads_to_the_end_of_the_connection_only_without_framing() {
    let Taken { messages, .. } = responses(Asked::Plain, RESPONSES[3]);
    assert_eq!((messages[0].data.as_slice(), messages[0].whole), (&b"to the end"[..], false));
    assert!(messages[0].head.ends_with("Close"));
}

#[test]
fn knows_which_responses_have_no_content() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n";
    assert!(responses(Asked::Head, head).messages[0].whole);
    assert!(!responses(Asked::Plain, head).messages[0].whole);
    for bytes in [RESPONSES[5], RESPONSES[6], RESPONSES[7]] {
        assert!(responses(Asked::Plain, bytes).messages[0].whole, "{}", bytes.escape_ascii());
    }
    let none = responses(Asked::Plain, RESPONSES[6]);
    assert!(none.messages[0].fields.is_empty(), "204 has no length, not even zero");
}

#[test]
fn changes_the_protocol_only_when_asked() {
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nraw";
    assert_eq!(responses(Asked::Upgrade, switch).left, 3);
    for asked in [Asked::Plain, Asked::Head, Asked::Connect] {
        assert_eq!(responses(asked, switch).refused, Some(Malformed::Upgrade), "{asked:?}");
    }
    let connected = b"HTTP/1.1 200 OK\r\n\r\nraw";
    assert_eq!(responses(Asked::Connect, connected).left, 3);
    let refused = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno";
    assert_eq!(responses(Asked::Connect, refused).messages[0].data, b"no");
}

#[test]
fn refuses_what_can_be_framed_in_two_ways() {
    let cases = [
        ("200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n", Malformed::LengthAndCoding),
        ("200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n", Malformed::Length),
        ("200 OK\r\ncontent-length: 2, 2\r\n", Malformed::Length),
        ("200 OK\r\ntransfer-encoding: gzip, chunked\r\n", Malformed::Coding),
        ("200 OK\r\ntransfer-encoding: identity\r\n", Malformed::Coding),
        ("200 OK\r\ntransfer-encoding: xchunked\r\n", Malformed::Coding),
        ("304 Not Modified\r\ntransfer-encoding: gzip\r\n", Malformed::Coding),
        ("204 No Content\r\ntransfer-encoding: chunked\r\n", Malformed::CodingNotAllowed),
        ("204 No Content\r\ncontent-length: 1\r\n", Malformed::LengthNotAllowed),
        ("100 Continue\r\ncontent-length: 1\r\n", Malformed::LengthNotAllowed),
        ("200 OK\r\nx: a\r\n b\r\n", Malformed::Syntax),
        ("200 OK\r\nx : a\r\n", Malformed::Syntax),
        ("20 OK\r\n", Malformed::Syntax),
        ("099 OK\r\n", Malformed::Syntax),
        ("2000 OK\r\n", Malformed::Syntax),
    ];
    for (lines, expected) in cases {
        assert_eq!(refusal(lines), Some(expected), "{lines:?}");
    }
    let old = b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(responses(Asked::Plain, old).refused, Some(Malformed::CodingNotAllowed));
    assert_eq!(
        responses(Asked::Plain, b"\r\nHTTP/1.1 204 No Content\r\n\r\n").refused,
        Some(Malformed::Syntax)
    );
    let many = format!("200 OK\r\n{}", "x: y\r\n".repeat(101));
    assert_eq!(refusal(&many), Some(Malformed::TooManyFields));
    let large = format!("200 OK\r\nx: {}\r\n", "y".repeat(70_000));
    assert_eq!(refusal(&large), Some(Malformed::TooLarge));
}
