//! Who may open one more stream. Each identity has a bucket and a number of streams of its own, asked first, so that one
//! identity takes nothing from the others; then comes a bucket of all, so that a crowd that reconnects at once is spread
//! out (R4).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::PeerIdentity;
use super::buckets::{Bucket, Buckets, Rate};
use crate::server::MAX_NAMES;

/// New streams of all together.
const ALL: Rate = Rate { per_second: 100.0, burst: 100.0 };

/// New streams of one identity: an Envoy with a stream for each type, and its reconnect.
const OWN: Rate = Rate { per_second: 2.0, burst: 20.0 };

/// Open streams of one identity. An Envoy with separate streams needs about 6, twice that while it reconnects.
pub const MAX_STREAMS: usize = 16;

/// Names that one identity is subscribed to, on all of its streams: each type twice, as during a reconnect.
const MAX_OWN_NAMES: usize = 12 * MAX_NAMES;

/// Why a stream is refused or ended, though its client is known and entitled: it asks for more than its share.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Excess {
    /// R4: all together open too many.
    #[error("too many new streams in the mesh at once, more than {} a second; come back later", ALL.per_second)]
    Crowd,
    /// This identity opens too many.
    #[error(
        "too many new streams of this workload, more than {} at once or {} a second; come back later", OWN.burst, OWN.per_second
    )]
    Rate,
    /// This identity has too many open.
    #[error(
        "this workload has {MAX_STREAMS} discovery streams open, which is the most; end one before opening another"
    )]
    Streams,
    /// This identity is subscribed to too many names.
    #[error(
        "this workload is subscribed to more than {MAX_OWN_NAMES} names on all its streams; subscribe to fewer, or to all by *"
    )]
    Names,
}

#[derive(Debug)]
pub(super) struct Admission {
    // A lock, because streams open and end on any thread; a few look-ups happen under it, never I/O.
    ledger: Mutex<Ledger>,
}

#[derive(Debug)]
struct Ledger {
    all: Bucket,
    own: Buckets<Arc<str>>,
    open: HashMap<Arc<str>, Open>,
}

#[derive(Debug, Default)]
struct Open {
    streams: usize,
    names: Arc<AtomicUsize>,
}

impl Admission {
    pub fn new(now: Instant) -> Self {
        let ledger =
            Ledger { all: Bucket::full(ALL, now), own: Buckets::new(OWN, now), open: HashMap::new() };
        Self { ledger: Mutex::new(ledger) }
    }

    /// One more stream of this peer. What one bucket refuses is taken from none.
    pub fn admit(self: &Arc<Self>, peer: &PeerIdentity, now: Instant) -> Result<Permit, Excess> {
        let who: Arc<str> = match &peer.workload {
            Some(workload) => workload.to_string().into(),
            None => peer.spiffe.to_string().into(),
        };
        let mut ledger = self.ledger();
        if ledger.open.get(&who).is_some_and(|open| open.streams >= MAX_STREAMS) {
            return Err(Excess::Streams);
        }
        ledger.own.look(&who, now).map_err(|_| Excess::Rate)?;
        ledger.all.take(ALL, now).map_err(|_| Excess::Crowd)?;
        ledger.own.take(who.clone(), now).map_err(|_| Excess::Rate)?;
        let open = ledger.open.entry(who.clone()).or_default();
        open.streams += 1;
        let names = open.names.clone();
        Ok(Permit { admission: self.clone(), who, names, held: 0 })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open stream's place among those of its identity, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    who: Arc<str>,
    /// What all streams of the identity hold; `held` of it is this one's.
    names: Arc<AtomicUsize>,
    held: usize,
}

impl Permit {
    /// Notes how many names this stream is subscribed to now.
    pub fn holds(&mut self, names: usize) -> Result<(), Excess> {
        let before = std::mem::replace(&mut self.held, names);
        let all = if names >= before {
            self.names.fetch_add(names - before, Ordering::Relaxed) + (names - before)
        } else {
            self.names.fetch_sub(before - names, Ordering::Relaxed) - (before - names)
        };
        if names > before && all > MAX_OWN_NAMES { Err(Excess::Names) } else { Ok(()) }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.names.fetch_sub(self.held, Ordering::Relaxed);
        let mut ledger = self.admission.ledger();
        if let Some(open) = ledger.open.get_mut(&self.who) {
            open.streams -= 1;
            if open.streams == 0 {
                ledger.open.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn peer(number: usize) -> PeerIdentity {
        PeerIdentity {
            spiffe: "spiffe://mesh.test/ns/shop/svc/web".parse().unwrap(),
            workload: Some(format!("shop/web-{number}").parse().unwrap()),
            service: None,
            instance: None,
        }
    }

    #[test]
    fn r4_refuses_a_crowd_and_admits_it_later() {
        let start = Instant::now();
        let admission = Arc::new(Admission::new(start));
        let mut open = Vec::new();
        let mut come = |from: usize, now| {
            let before = open.len();
            open.extend((from..from + 500).filter_map(|n| admission.admit(&peer(n), now).ok()));
            open.len() - before
        };
        assert_eq!(come(0, start), 100);
        assert_eq!(come(500, start + Duration::from_millis(500)), 50);
        assert_eq!(admission.admit(&peer(7777), start).unwrap_err(), Excess::Crowd);
    }

    /// M3: one identity that opens streams without end is refused by its own bucket, and the others notice nothing.
    #[test]
    fn r4_m3_an_identity_that_storms_takes_no_stream_from_another() {
        let start = Instant::now();
        let admission = Arc::new(Admission::new(start));
        let admitted = (0..5000).filter(|_| admission.admit(&peer(1), start).is_ok()).count();
        assert_eq!(admitted, 20);
        assert_eq!(admission.admit(&peer(1), start).unwrap_err(), Excess::Rate);
        assert_eq!((2..500).filter(|n| admission.admit(&peer(*n), start).is_ok()).count(), 80);
    }

    /// R4: a crowd costs those nothing whom it keeps out: their own bucket is as full as before.
    #[test]
    fn r4_a_stream_that_the_crowd_keeps_out_is_not_counted_against_its_identity() {
        let start = Instant::now();
        let admission = Arc::new(Admission::new(start));
        for n in 0..100 {
            admission.admit(&peer(n), start).unwrap();
        }
        for _ in 0..50 {
            assert_eq!(admission.admit(&peer(100), start).unwrap_err(), Excess::Crowd);
        }
        let later = start + Duration::from_millis(200);
        assert_eq!((0..50).filter(|_| admission.admit(&peer(100), later).is_ok()).count(), 20);
    }

    /// D8: open streams of one identity are bounded; one that ends makes room.
    #[test]
    fn d8_streams_of_one_identity_are_bounded() {
        let start = Instant::now();
        let admission = Arc::new(Admission::new(start));
        let mut open: Vec<_> = (0..MAX_STREAMS).map(|_| admission.admit(&peer(1), start).unwrap()).collect();
        let excess = admission.admit(&peer(1), start).unwrap_err();
        assert_eq!(excess, Excess::Streams);
        assert!(excess.to_string().contains("16 discovery streams"), "{excess}");
        assert!(admission.admit(&peer(2), start).is_ok());
        open.pop();
        assert!(admission.admit(&peer(1), start).is_ok());
        drop(open);
        assert!(admission.ledger().open.is_empty());
    }

    /// M4: names count for the identity, however they are spread over its streams.
    #[test]
    fn m4_names_of_one_identity_are_bounded_over_its_streams() {
        let start = Instant::now();
        let admission = Arc::new(Admission::new(start));
        let mut one = admission.admit(&peer(1), start).unwrap();
        let mut two = admission.admit(&peer(1), start).unwrap();
        one.holds(MAX_OWN_NAMES).unwrap();
        two.holds(0).unwrap();
        assert_eq!(two.holds(1), Err(Excess::Names));
        one.holds(MAX_OWN_NAMES - 1).unwrap();
        drop(one);
        two.holds(MAX_OWN_NAMES).unwrap();
        admission.admit(&peer(2), start).unwrap().holds(1).unwrap();
    }
}
