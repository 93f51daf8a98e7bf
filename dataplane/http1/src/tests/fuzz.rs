//! Random bytes, for as long as there is time: nothing panics, nothing is taken that was not sent, and what is passed on
//! is read again as what it was.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::messages::{REQUESTS, RESPONSES};
use super::{LIMITS, Side, Taken, take};
use crate::Asked;

/// A second by default; `WEFT_FUZZ_SECONDS` says otherwise.
fn budget() -> Duration {
    let seconds = std::env::var("WEFT_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}

const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b": ",
    b":",
    b" ",
    b"\t",
    b"0",
    b"1",
    b"a",
    b"F",
    b";",
    b",",
    b"#",
    b"\0",
    b"GET / HTTP/1.1\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0",
    b"host: a\r\n",
    b"content-length: 3\r\n",
    b"transfer-encoding: chunked\r\n",
    b"connection: close\r\n",
    b"content-length",
    b"Transfer-Encoding",
    b"chunked",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"expect: 100-continue\r\n",
    b"upgrade: websocket\r\n",
    b"\xff",
    b"\x7f",
];

fn bytes(random: &mut StdRng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.random_range(1..4) {
        let seeds = if random.random() { REQUESTS } else { RESPONSES };
        bytes.extend_from_slice(seeds[random.random_range(0..seeds.len())]);
    }
    for _ in 0..random.random_range(0..8) {
        let at = random.random_range(0..=bytes.len());
        let to = (at + random.random_range(0..6)).min(bytes.len());
        let token = TOKENS[random.random_range(0..TOKENS.len())];
        bytes.splice(at..to, token.iter().copied());
    }
    bytes
}

/// Writes what was taken as plain messages, and reads that.
fn again(taken: &Taken, side: Side) -> Taken {
    let mut bytes = Vec::new();
    for message in taken.messages.iter().filter(|message| message.whole) {
        match side {
            Side::Server => bytes.extend_from_slice(b"POST / HTTP/1.1\r\nhost: a\r\n"),
            Side::Client(_) => bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
        }
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", message.data.len()).as_bytes());
        bytes.extend_from_slice(&message.data);
    }
    take(side, LIMITS, [&bytes[..]])
}

#[test]
fn random_bytes_do_no_harm() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let until = Instant::now() + budget();
    let mut rounds = 0_u64;
    while Instant::now() < until {
        let bytes = bytes(&mut random);
        for side in [Side::Server, Side::Client(Asked::Plain), Side::Client(Asked::Head)] {
            let whole = take(side, LIMITS, [&bytes[..]]);
            let data: usize = whole.messages.iter().map(|message| message.data.len()).sum();
            assert!(data + whole.left <= bytes.len(), "{}", bytes.escape_ascii());
            let at = random.random_range(0..=bytes.len());
            assert_eq!(
                take(side, LIMITS, [&bytes[..at], &bytes[at..]]),
                whole,
                "at {at}: {}",
                bytes.escape_ascii()
            );
            let again = again(&whole, side);
            let of = |taken: &Taken| -> Vec<Vec<u8>> {
                taken
                    .messages
                    .iter()
                    .filter(|message| message.whole)
                    .map(|message| message.data.clone())
                    .collect()
            };
            assert_eq!(again.refused, None, "{}", bytes.escape_ascii());
            if side != Side::Client(Asked::Head) {
                assert_eq!(of(&again), of(&whole), "{}", bytes.escape_ascii());
            }
        }
        rounds += 1;
    }
    println!("{rounds} rounds");
}
