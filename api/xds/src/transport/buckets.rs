//! Token buckets: one for everybody, or one for each key.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Above this many, buckets that have filled up again are forgotten: a full bucket says nothing.
const SWEEP_ABOVE: usize = 1024;

/// At this many buckets that are not full, whoever else comes shares one.
const MOST: usize = 1 << 16;

/// How often something may happen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate {
    /// Times a second, for ever; more than 0.
    pub per_second: f64,
    /// Times at once, after a rest; at least 1.
    pub burst: f64,
}

impl Rate {
    /// How long an empty bucket takes to be full.
    fn refill(self) -> Duration {
        Duration::from_secs_f64(self.burst / self.per_second)
    }
}

/// One bucket. It reads no clock: the caller says when it is.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A bucket that allows a whole burst at once.
    #[must_use]
    pub fn full(rate: Rate, now: Instant) -> Self {
        Self { tokens: rate.burst, at: now }
    }

    /// Whether something may happen now, without counting it.
    ///
    /// # Errors
    /// How long to wait until it may.
    pub fn look(&self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let tokens = self.tokens_at(rate, now);
        if tokens >= 1.0 { Ok(()) } else { Err(Duration::from_secs_f64((1.0 - tokens) / rate.per_second)) }
    }

    /// Counts something that happens now, if it may.
    ///
    /// # Errors
    /// How long to wait until it may.
    pub fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.look(rate, now)?;
        self.tokens = self.tokens_at(rate, now) - 1.0;
        self.at = self.at.max(now);
        Ok(())
    }

    fn tokens_at(&self, rate: Rate, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * rate.per_second;
        (self.tokens + gained).min(rate.burst)
    }
}

/// A bucket for each key. Their number is bounded by how many keys are busy, and by a fixed limit, beyond which newcomers
/// share one bucket.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    busy: HashMap<K, Bucket>,
    rest: Bucket,
    sweep_above: usize,
}

impl<K: Hash + Eq> Buckets<K> {
    /// No key is busy: each is allowed a whole burst at once.
    #[must_use]
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, busy: HashMap::new(), rest: Bucket::full(rate, now), sweep_above: SWEEP_ABOVE }
    }

    /// Whether something may happen now for this key, without counting it.
    ///
    /// # Errors
    /// How long to wait until it may.
    pub fn look(&self, key: &K, now: Instant) -> Result<(), Duration> {
        match self.busy.get(key) {
            Some(bucket) => bucket.look(self.rate, now),
            None if self.busy.len() >= MOST => self.rest.look(self.rate, now),
            None => Ok(()),
        }
    }

    /// Counts something that happens now for this key, if it may.
    ///
    /// # Errors
    /// How long to wait until it may.
    pub fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        if self.busy.len() >= self.sweep_above {
            self.sweep(now);
        }
        if self.busy.len() >= MOST && !self.busy.contains_key(&key) {
            return self.rest.take(self.rate, now);
        }
        let rate = self.rate;
        self.busy.entry(key).or_insert_with(|| Bucket::full(rate, now)).take(rate, now)
    }

    /// How many buckets are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.busy.len()
    }

    /// Whether all buckets are full, as far as is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.busy.is_empty()
    }

    fn sweep(&mut self, now: Instant) {
        let refill = self.rate.refill();
        self.busy.retain(|_, bucket| now.saturating_duration_since(bucket.at) < refill);
        // Twice what is left, so that a crowd of busy keys is not walked over for each of its members.
        self.sweep_above = (2 * self.busy.len()).clamp(SWEEP_ABOVE, MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 2.0, burst: 20.0 };

    #[test]
    fn a_key_gets_its_burst_then_its_rate_and_costs_no_other_key_anything() {
        let start = Instant::now();
        let mut buckets = Buckets::new(RATE, start);
        assert_eq!((0..1000).filter(|_| buckets.take("a", start).is_ok()).count(), 20);
        assert_eq!(buckets.take("a", start), Err(Duration::from_millis(500)));
        assert_eq!(buckets.look(&"a", start), Err(Duration::from_millis(500)));
        assert!(buckets.take("b", start).is_ok());
        let later = start + Duration::from_secs(3);
        assert_eq!((0..1000).filter(|_| buckets.take("a", later).is_ok()).count(), 6);
    }

    #[test]
    fn a_refused_try_delays_nothing() {
        let start = Instant::now();
        let mut buckets = Buckets::new(RATE, start);
        while buckets.take("a", start).is_ok() {}
        let mut now = start;
        let mut taken = 0;
        for _ in 0..1000 {
            now += Duration::from_millis(1);
            taken += usize::from(buckets.take("a", now).is_ok());
        }
        assert_eq!(taken, 2);
    }

    #[test]
    fn buckets_are_forgotten_when_full_again_and_their_number_is_bounded() {
        let start = Instant::now();
        let mut buckets = Buckets::new(RATE, start);
        for key in 0..2 * MOST {
            let _ = buckets.take(key, start);
        }
        assert_eq!(buckets.len(), MOST);
        assert!(buckets.look(&usize::MAX, start).is_err(), "newcomers share one bucket, which is empty");
        let later = start + RATE.refill();
        assert!(buckets.take(usize::MAX, later).is_ok());
        assert_eq!(buckets.len(), 1);
    }
}
