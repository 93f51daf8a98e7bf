//! However bytes are cut on their way, the same is taken from them and the same refused.

use proptest::prelude::*;

use super::messages::{REQUESTS, RESPONSES};
use super::{LIMITS, Side, take};
use crate::{Asked, HeadLimits};

const SMALL: HeadLimits = HeadLimits { fields: 4, bytes: 120 };

fn assert_cuts_alike(side: Side, limits: HeadLimits, bytes: &[u8]) {
    let whole = take(side, limits, [bytes]);
    for at in 0..=bytes.len() {
        let (one, two) = bytes.split_at(at);
        assert_eq!(take(side, limits, [one, two]), whole, "cut at {at}: {}", bytes.escape_ascii());
    }
    assert_eq!(take(side, limits, bytes.chunks(1)), whole, "byte by byte: {}", bytes.escape_ascii());
}

#[test]
fn a_cut_changes_nothing_of_what_is_in_order() {
    for limits in [LIMITS, SMALL] {
        REQUESTS.iter().for_each(|bytes| assert_cuts_alike(Side::Server, limits, bytes));
        for asked in [Asked::Plain, Asked::Head, Asked::Connect, Asked::Upgrade] {
            RESPONSES.iter().for_each(|bytes| assert_cuts_alike(Side::Client(asked), limits, bytes));
        }
    }
}

/// Bytes like those of a message, some of them changed, dropped or doubled.
fn mutated(messages: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    let edit =
        (any::<prop::sample::Index>(), prop::sample::select(b"\r\n\0 \t:;,#/0aF\x7f\xe9".to_vec()), 0..4_u8);
    (prop::sample::select(messages), prop::collection::vec(edit, 0..4)).prop_map(|(message, edits)| {
        let mut bytes = message.to_vec();
        for (at, byte, kind) in edits {
            let at = at.index(bytes.len().max(1));
            match kind {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.insert(at, byte),
                _ => bytes.truncate(at.max(1)),
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn a_cut_changes_nothing_of_a_request(bytes in mutated(REQUESTS)) {
        assert_cuts_alike(Side::Server, LIMITS, &bytes);
        assert_cuts_alike(Side::Server, SMALL, &bytes);
    }

    #[test]
    fn a_cut_changes_nothing_of_a_response(bytes in mutated(RESPONSES)) {
        assert_cuts_alike(Side::Client(Asked::Plain), LIMITS, &bytes);
        assert_cuts_alike(Side::Client(Asked::Upgrade), SMALL, &bytes);
    }

    #[test]
    fn a_cut_changes_nothing_of_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        assert_cuts_alike(Side::Server, SMALL, &bytes);
        assert_cuts_alike(Side::Client(Asked::Plain), SMALL, &bytes);
    }
}
