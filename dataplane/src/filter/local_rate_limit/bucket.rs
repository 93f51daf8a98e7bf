//! Tokens that come back with time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A bucket for all workers: one number, the moment at which it was empty, from which follows what is in it now.
#[derive(Debug)]
pub(in super::super) struct TokenBucket {
    most: u32,
    /// Nanoseconds until one more token is there.
    interval: u64,
    /// Nanoseconds until an empty bucket is full. Moments are counted from so long before `origin`, when the bucket was
    /// full.
    whole: u64,
    origin: Instant,
    /// When the bucket was empty, if nothing had been taken since.
    empty: AtomicU64,
}

/// What a request finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenResult {
    Token,
    /// There is none; the next one comes after this long.
    Nothing(Duration),
}

impl TokenBucket {
    /// A full bucket, which gets `per_fill` tokens more in each `fill`, evenly spread over it.
    pub(super) fn new(most: u32, per_fill: u32, fill: Duration, origin: Instant) -> Self {
        let fill = u64::try_from(fill.as_nanos()).unwrap_or(u64::MAX);
        let interval = (fill / u64::from(per_fill.max(1))).max(1);
        let whole = interval.saturating_mul(u64::from(most));
        Self { most, interval, whole, origin, empty: AtomicU64::new(0) }
    }

    /// Takes a token, or says when the next one comes.
    pub(super) fn take(&self, now: Instant) -> TokenResult {
        let now = self.moment(now);
        let taken = self.empty.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |empty| {
            let after = self.floor(empty, now) + self.interval;
            (after <= now && self.most > 0).then_some(after)
        });
        match taken {
            Ok(_) => TokenResult::Token,
            Err(empty) => {
                let next = self.floor(empty, now) + self.interval;
                TokenResult::Nothing(Duration::from_nanos(next.saturating_sub(now)))
            }
        }
    }

    pub(super) fn most(&self) -> u32 {
        self.most
    }

    /// How many tokens there are.
    pub(super) fn left(&self, now: Instant) -> u64 {
        let now = self.moment(now);
        now.saturating_sub(self.floor(self.empty.load(Ordering::Relaxed), now)) / self.interval
    }

    /// How long it takes until there is a token; nothing while there is one.
    pub(super) fn next(&self, now: Instant) -> Duration {
        let now = self.moment(now);
        let filled = now.saturating_sub(self.floor(self.empty.load(Ordering::Relaxed), now));
        Duration::from_nanos(self.interval.saturating_sub(filled))
    }

    /// The bucket holds no more than `most`, however long nothing was taken.
    fn floor(&self, empty: u64, now: u64) -> u64 {
        empty.max(now.saturating_sub(self.whole))
    }

    fn moment(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin);
        self.whole.saturating_add(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_taken_and_come_back_one_by_one() {
        let start = Instant::now() + Duration::from_secs(1000);
        let bucket = TokenBucket::new(3, 2, Duration::from_secs(1), start);
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(bucket.left(at(0)), 3);
        for left in [2, 1, 0] {
            assert_eq!(bucket.take(at(0)), TokenResult::Token);
            assert_eq!(bucket.left(at(0)), left);
        }
        assert_eq!(bucket.take(at(100)), TokenResult::Nothing(Duration::from_millis(400)));
        assert_eq!(bucket.take(at(500)), TokenResult::Token);
        assert_eq!(bucket.take(at(500)), TokenResult::Nothing(Duration::from_millis(500)));
        assert_eq!(bucket.next(at(600)), Duration::from_millis(400));
        assert_eq!(bucket.left(at(60_000)), 3, "a bucket does not overflow");
        assert_eq!(bucket.next(at(60_000)), Duration::ZERO);
    }

    #[test]
    fn an_empty_bucket_lets_nothing_through() {
        let start = Instant::now() + Duration::from_secs(1000);
        let bucket = TokenBucket::new(0, 1, Duration::from_secs(1), start);
        assert_eq!(bucket.take(start + Duration::from_secs(9)), TokenResult::Nothing(Duration::from_secs(1)));
    }
}
