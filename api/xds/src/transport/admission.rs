//! Who may open one more stream. Each identity has a bucket and a number of streams of its own, asked first, so that one
//! identity takes nothing from the others; then comes a bucket of all, so that a crowd that reconnects at once is spread
//! out (R4).
//!
//! An Envoy without an aggregated stream opens a stream for each cluster's endpoints, each route configuration and each
//! secret: it shares none between subscriptions. Those have a number and buckets of their own, so that a large view takes
//! nothing from the streams that views begin with.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use weft_api::resource::ResourceKind;

use super::PeerIdentity;
use super::buckets::{Bucket, Buckets, Rate};
use crate::server::{MAX_NAMES, ServedTypes};

/// What is let in of one kind of streams.
#[derive(Debug)]
struct Bounds {
    /// New ones of all together.
    all: Rate,
    /// New ones of one identity.
    own: Rate,
    /// OpenStreams ones of one identity.
    open: usize,
}

/// The aggregated stream, or one for clusters and one for listeners: what they hold, twice while they reconnect.
const VIEWS: Bounds = Bounds {
    all: Rate { per_second: 100.0, burst: 100.0 },
    own: Rate { per_second: 2.0, burst: 20.0 },
    open: MAX_STREAMS,
};

/// Streams for single children. One identity has all of its own back within some ten seconds.
const CHILDREN: Bounds = Bounds {
    all: Rate { per_second: 500.0, burst: 1000.0 },
    own: Rate { per_second: 32.0, burst: 192.0 },
    open: MAX_CHILD_STREAMS,
};

/// OpenStreams streams of one identity, but for those of children.
pub const MAX_STREAMS: usize = 16;

/// OpenStreams streams of one identity for endpoints, routes, virtual hosts or secrets alone.
pub const MAX_CHILD_STREAMS: usize = 512;

/// Names that one identity is subscribed to, on all of its streams: each type twice, as during a reconnect.
const MAX_OWN_NAMES: usize = 12 * MAX_NAMES;

/// What a client opens a stream for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A view: all types, or what names the others.
    View,
    /// What a cluster or listener names.
    Child,
}

impl Purpose {
    fn of(served: ServedTypes) -> Self {
        match served {
            ServedTypes::Aggregated | ServedTypes::Only(ResourceKind::Cluster | ResourceKind::Listener) => {
                Self::View
            }
            ServedTypes::Only(
                ResourceKind::Endpoint
                | ResourceKind::Route
                | ResourceKind::VirtualHost
                | ResourceKind::Secret
                | ResourceKind::Runtime,
            ) => Self::Child,
        }
    }

    fn bounds(self) -> &'static Bounds {
        match self {
            Self::View => &VIEWS,
            Self::Child => &CHILDREN,
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::View => "end one before opening another",
            Self::Child => "take all types on the aggregated stream, which needs one",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::View => "discovery streams",
            Self::Child => "discovery streams for endpoints, routes and secrets alone",
        }
    }
}

/// Why a stream is refused or ended, though its client is known and entitled: it asks for more than its share.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Excess {
    /// R4: all together open too many.
    #[error("too many new {} in the mesh at once, more than {} a second; come back later", .0.word(), .0.bounds().all.per_second)]
    Crowd(Purpose),
    /// This identity opens too many.
    #[error(
        "too many new {} of this workload, more than {} at once or {} a second; come back later",
        .0.word(), .0.bounds().own.burst, .0.bounds().own.per_second
    )]
    Rate(Purpose),
    /// This identity has too many open.
    #[error("this workload has {} {} open, which is the most; {}", .0.bounds().open, .0.word(), .0.advice())]
    Streams(Purpose),
    /// This identity is subscribed to too many names.
    #[error(
        "this workload is subscribed to more than {MAX_OWN_NAMES} names on all its streams; subscribe to fewer, or to all by *"
    )]
    Names,
}

#[derive(Debug)]
pub(super) struct Admission {
    // A lock, because streams open and end on any thread; a few look-ups happen under it, never I/O.
    state: Mutex<AdmissionState>,
}

#[derive(Debug)]
struct AdmissionState {
    views: StreamBuckets,
    children: StreamBuckets,
    open: HashMap<Arc<str>, OpenStreams>,
}

/// New streams for one purpose.
#[derive(Debug)]
struct StreamBuckets {
    purpose: Purpose,
    all: Bucket,
    own: Buckets<Arc<str>>,
}

impl StreamBuckets {
    fn new(purpose: Purpose, now: Instant) -> Self {
        let bounds = purpose.bounds();
        Self { purpose, all: Bucket::full(bounds.all, now), own: Buckets::new(bounds.own, now) }
    }

    /// What one bucket refuses is taken from none.
    fn pass(&mut self, who: &Arc<str>, now: Instant) -> Result<(), Excess> {
        self.own.look(who, now).map_err(|_| Excess::Rate(self.purpose))?;
        self.all.take(self.purpose.bounds().all, now).map_err(|_| Excess::Crowd(self.purpose))?;
        self.own.take(who.clone(), now).map_err(|_| Excess::Rate(self.purpose))
    }
}

#[derive(Debug, Default)]
struct OpenStreams {
    views: usize,
    children: usize,
    names: Arc<AtomicUsize>,
}

impl OpenStreams {
    fn count(&mut self, purpose: Purpose) -> &mut usize {
        match purpose {
            Purpose::View => &mut self.views,
            Purpose::Child => &mut self.children,
        }
    }
}

impl Admission {
    pub fn new(now: Instant) -> Self {
        let [views, children] =
            [Purpose::View, Purpose::Child].map(|purpose| StreamBuckets::new(purpose, now));
        Self { state: Mutex::new(AdmissionState { views, children, open: HashMap::new() }) }
    }

    /// One more stream of this peer.
    pub fn admit(
        self: &Arc<Self>,
        peer: &PeerIdentity,
        served: ServedTypes,
        now: Instant,
    ) -> Result<AdmittedStream, Excess> {
        let who: Arc<str> = match &peer.workload {
            Some(workload) => workload.to_string().into(),
            None => peer.spiffe.to_string().into(),
        };
        let purpose = Purpose::of(served);
        let mut state = self.state();
        if state.open.get_mut(&who).is_some_and(|open| *open.count(purpose) >= purpose.bounds().open) {
            return Err(Excess::Streams(purpose));
        }
        match purpose {
            Purpose::View => state.views.pass(&who, now)?,
            Purpose::Child => state.children.pass(&who, now)?,
        }
        let open = state.open.entry(who.clone()).or_default();
        *open.count(purpose) += 1;
        let names = open.names.clone();
        Ok(AdmittedStream { admission: self.clone(), who, purpose, names, held: 0 })
    }

    fn state(&self) -> MutexGuard<'_, AdmissionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open stream's place among those of its identity, given back when it is dropped.
#[derive(Debug)]
pub(super) struct AdmittedStream {
    admission: Arc<Admission>,
    who: Arc<str>,
    purpose: Purpose,
    /// What all streams of the identity hold; `held` of it is this one's.
    names: Arc<AtomicUsize>,
    held: usize,
}

impl AdmittedStream {
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

impl Drop for AdmittedStream {
    fn drop(&mut self) {
        self.names.fetch_sub(self.held, Ordering::Relaxed);
        let mut state = self.admission.state();
        if let Some(open) = state.open.get_mut(&self.who) {
            *open.count(self.purpose) -= 1;
            if open.views + open.children == 0 {
                state.open.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ADS: ServedTypes = ServedTypes::Aggregated;

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
            open.extend((from..from + 500).filter_map(|n| admission.admit(&peer(n), ADS, now).ok()));
            open.len() - before
        };
        assert_eq!(come(0, start), 100);
        assert_eq!(come(500, start + Duration::from_millis(500)), 50);
        assert_eq!(admission.admit(&peer(7777), ADS, start).unwrap_err(), Excess::Crowd(Purpose::View));
    }

    /// M3: one identity that opens streams without end is refused by its own bucket, and the others notice nothing.
    #[test]
    fn r4_m3_an_identity_that_storms_takes_no_stream_from_another() {
        let start = Instant::now();
        let admission = Arc::new(Admission::new(start));
        let admitted = (0..5000).filter(|_| admission.admit(&peer(1), ADS, start).is_ok()).count();
        assert_eq!(admitted, 20);
        assert_eq!(admission.admit(&peer(1), ADS, start).unwrap_err(), Excess::Rate(Purpose::View));
        assert_eq!((2..500).filter(|n| admission.admit(&peer(*n), ADS, start).is_ok()).count(), 80);
    }

    /// R4: a crowd costs those nothing whom it keeps out: their own bucket is as full as before.
    #[test]
    fn r4_a_stream_that_the_crowd_keeps_out_is_not_counted_against_its_identity() {
        let start = Instant::now();
        let admission = Arc::new(Admission::new(start));
        for n in 0..100 {
            admission.admit(&peer(n), ADS, start).unwrap();
        }
        for _ in 0..50 {
            assert_eq!(admission.admit(&peer(100), ADS, start).unwrap_err(), Excess::Crowd(Purpose::View));
        }
        let later = start + Duration::from_millis(200);
        assert_eq!((0..50).filter(|_| admission.admit(&peer(100), ADS, later).is_ok()).count(), 20);
    }

    /// D8: open streams of one identity are bounded; one that ends makes room.
    #[test]
    fn d8_streams_of_one_identity_are_bounded() {
        let start = Instant::now();
        let admission = Arc::new(Admission::new(start));
        let mut open: Vec<_> =
            (0..MAX_STREAMS).map(|_| admission.admit(&peer(1), ADS, start).unwrap()).collect();
        let excess = admission.admit(&peer(1), ADS, start).unwrap_err();
        assert_eq!(excess, Excess::Streams(Purpose::View));
        assert!(excess.to_string().contains("16 discovery streams"), "{excess}");
        assert!(admission.admit(&peer(2), ADS, start).is_ok());
        open.pop();
        assert!(admission.admit(&peer(1), ADS, start).is_ok());
        drop(open);
        assert!(admission.state().open.is_empty());
    }

    /// D10: an Envoy without an aggregated stream opens one for each child; they take no place from the streams of views,
    /// nor those from them.
    #[test]
    fn d10_streams_of_children_have_bounds_of_their_own() {
        let start = Instant::now();
        let admission = Arc::new(Admission::new(start));
        let eds = ServedTypes::Only(ResourceKind::Endpoint);
        let mut open = Vec::new();
        for second in 0..11 {
            let now = start + Duration::from_secs(second);
            open.extend((0..MAX_CHILD_STREAMS).filter_map(|_| admission.admit(&peer(1), eds, now).ok()));
        }
        assert_eq!(open.len(), MAX_CHILD_STREAMS);
        let later = start + Duration::from_secs(60);
        let excess = admission.admit(&peer(1), ServedTypes::Only(ResourceKind::Secret), later).unwrap_err();
        assert_eq!(excess, Excess::Streams(Purpose::Child));
        assert!(excess.to_string().contains("512 discovery streams for endpoints"), "{excess}");
        for served in [ADS, ServedTypes::Only(ResourceKind::Cluster)] {
            assert!(admission.admit(&peer(1), served, start).is_ok());
        }
        assert!(admission.admit(&peer(2), eds, later).is_ok());
        drop(open);
        assert!(admission.state().open.is_empty());
    }

    /// M4: names count for the identity, however they are spread over its streams.
    #[test]
    fn m4_names_of_one_identity_are_bounded_over_its_streams() {
        let start = Instant::now();
        let admission = Arc::new(Admission::new(start));
        let mut one = admission.admit(&peer(1), ADS, start).unwrap();
        let mut two = admission.admit(&peer(1), ADS, start).unwrap();
        one.holds(MAX_OWN_NAMES).unwrap();
        two.holds(0).unwrap();
        assert_eq!(two.holds(1), Err(Excess::Names));
        one.holds(MAX_OWN_NAMES - 1).unwrap();
        drop(one);
        two.holds(MAX_OWN_NAMES).unwrap();
        admission.admit(&peer(2), ADS, start).unwrap().holds(1).unwrap();
    }
}
