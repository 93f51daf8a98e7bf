//! The taps of a moment, as every worker has them.
//!
//! Room and counts are of the whole process, so that many workers tell no more than one: relaxed atomics, a line of the
//! cache each, which are written only where a request is wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderName;
use weft_api::tapping::{NotShown, Tap};

use super::filter::{is_inbound, wants};
use crate::format::{FormatContext, LogNeeds};
use crate::runtime::TrafficDirection;

/// Requests a second that one tap is told of.
pub(crate) const PER_SECOND: u64 = 200;
/// Taps of one proxy: more viewers than all replicas together let in.
const MOST_TAPS: usize = 64;
/// Headers that one tap may ask for.
const MOST_HEADERS: usize = 32;

/// On a line of the cache of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct SharedCount(AtomicU64);

/// One tap, what it may still tell of, and what it could not.
#[derive(Debug)]
struct ArmedTap {
    order: Tap,
    room: SharedCount,
    beyond: [SharedCount; 2],
}

/// All taps of a moment.
#[derive(Debug, Default)]
pub(crate) struct TapSet {
    taps: Vec<Arc<ArmedTap>>,
    /// Headers that any of them asks for.
    headers: Vec<HeaderName>,
}

impl TapSet {
    /// What an order asks for. A tap that was there before keeps its room and its counts.
    pub(crate) fn of(orders: Vec<Tap>, before: &Self) -> Self {
        let taps: Vec<Arc<ArmedTap>> = orders
            .into_iter()
            .take(MOST_TAPS)
            .map(|order| {
                let known = before.taps.iter().find(|tap| tap.order == order).cloned();
                let room = SharedCount(AtomicU64::new(PER_SECOND));
                known.unwrap_or_else(|| Arc::new(ArmedTap { order, room, beyond: Default::default() }))
            })
            .collect();
        let named = taps.iter().flat_map(|tap| tap.order.headers.iter().take(MOST_HEADERS));
        let mut headers: Vec<HeaderName> = named.filter_map(|name| name.parse().ok()).collect();
        headers.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        headers.dedup();
        Self { taps, headers }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.taps.is_empty()
    }

    /// Whether these are the taps of an order already.
    pub(crate) fn is_of(&self, orders: &[Tap]) -> bool {
        self.taps.iter().map(|tap| &tap.order).eq(orders.iter().take(MOST_TAPS))
    }

    pub(crate) fn headers(&self) -> &[HeaderName] {
        &self.headers
    }

    /// What has to be kept of a request that begins now. Where there is no room, its headers are not copied: it will be
    /// counted, unless room comes and it was wanted without them.
    pub(crate) fn needs(&self) -> LogNeeds {
        let headers =
            !self.headers.is_empty() && self.taps.iter().any(|tap| tap.room.0.load(Ordering::Relaxed) > 0);
        LogNeeds { request_headers: headers, response_headers: headers, response_trailers: headers }
    }

    /// Whether a request that ended so is to be told of. What is wanted and has no room is counted.
    pub(crate) fn take(&self, direction: TrafficDirection, kept: LogNeeds, at: &FormatContext<'_>) -> bool {
        let mut taken = false;
        for tap in self.taps.iter().filter(|tap| wants(&tap.order, direction, at)) {
            let is_whole = tap.order.headers.is_empty() || kept.request_headers;
            if is_whole && tap.take_room() {
                taken = true;
            } else {
                tap.count_beyond(direction, 1);
            }
        }
        taken
    }

    /// Counts what was taken and could not be told.
    pub(crate) fn lost(&self, direction: TrafficDirection, count: u64) {
        self.taps.iter().for_each(|tap| tap.count_beyond(direction, count));
    }

    /// A part of a second has gone by: there is room for as many more.
    pub(crate) fn refill(&self, more: u64) {
        for tap in &self.taps {
            let room = tap.room.0.load(Ordering::Relaxed);
            tap.room.0.store((room + more).min(PER_SECOND), Ordering::Relaxed);
        }
    }

    /// What had no room since the last time.
    pub(crate) fn take_beyond(&self) -> Vec<NotShown> {
        let sides = self.taps.iter().flat_map(|tap| [(tap, false), (tap, true)]);
        let counts = sides.map(|(tap, inbound)| NotShown {
            tap: tap.order.id.clone(),
            inbound,
            requests: tap.beyond[usize::from(inbound)].0.swap(0, Ordering::Relaxed),
        });
        counts.filter(|not_shown| not_shown.requests > 0).collect()
    }
}

impl ArmedTap {
    fn count_beyond(&self, direction: TrafficDirection, count: u64) {
        self.beyond[usize::from(is_inbound(direction))].0.fetch_add(count, Ordering::Relaxed);
    }

    fn take_room(&self) -> bool {
        // Looked at before it is written: at the bound, workers only read it.
        self.room.0.load(Ordering::Relaxed) > 0
            && self
                .room
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(1))
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(id: &str, headers: &[&str]) -> Tap {
        let headers = headers.iter().map(|name| (*name).to_owned()).collect();
        Tap { id: id.to_owned(), outbound: true, headers, ..Tap::default() }
    }

    fn told(set: &TapSet, requests: u64, kept: LogNeeds) -> u64 {
        let at = FormatContext::default();
        (0..requests).filter(|_| set.take(TrafficDirection::Outbound, kept, &at)).count() as u64
    }

    fn beyond_a(requests: u64) -> Vec<NotShown> {
        vec![NotShown { tap: "a".to_owned(), inbound: false, requests }]
    }

    #[test]
    fn what_has_no_room_is_counted_and_room_comes_back_up_to_the_bound() {
        let set = TapSet::of(vec![order("a", &[])], &TapSet::default());
        assert_eq!(told(&set, 250, LogNeeds::default()), PER_SECOND);
        assert_eq!(set.take_beyond(), beyond_a(50));
        set.refill(50);
        assert_eq!(told(&set, 60, LogNeeds::default()), 50);
        for _ in 0..9 {
            set.refill(50);
        }
        assert_eq!(told(&set, 1000, LogNeeds::default()), PER_SECOND);
    }

    #[test]
    fn order_that_names_the_same_tap_gives_it_no_new_room() {
        let set = TapSet::of(vec![order("a", &[])], &TapSet::default());
        told(&set, 201, LogNeeds::default());
        let next = TapSet::of(vec![order("a", &[]), order("b", &[])], &set);
        assert!(next.is_of(&[order("a", &[]), order("b", &[])]) && !next.is_of(&[order("a", &[])]));
        assert_eq!(next.take_beyond(), beyond_a(1));
        assert!(
            next.take(TrafficDirection::Outbound, LogNeeds::default(), &FormatContext::default()),
            "b has room"
        );
        assert_eq!(next.take_beyond(), beyond_a(1));
    }

    #[test]
    fn headers_are_kept_while_there_is_room_and_a_request_without_them_is_counted() {
        let set = TapSet::of(vec![order("a", &["x-b", "x-a", "x-a", "no header"])], &TapSet::default());
        assert_eq!(set.headers(), ["x-a", "x-b"]);
        let kept = set.needs();
        assert!(kept.request_headers);
        assert_eq!(told(&set, 1, LogNeeds::default()), 0);
        assert_eq!(told(&set, PER_SECOND, kept), PER_SECOND);
        assert!(!set.needs().request_headers);
        assert_eq!(set.take_beyond(), beyond_a(1));
    }
}
