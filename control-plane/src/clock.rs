//! Wall-clock time, read in one place.
//!
//! Durations and timers go through `tokio::time`; only what is written into certificates and records, or compared
//! with them, needs to know what time it is. Tests pass a clock that they turn by hand.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use time::OffsetDateTime;

/// Says what time it is. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    #[must_use]
    pub fn system() -> Self {
        Self::from_fn(SystemTime::now)
    }

    /// A clock that asks `read` each time.
    pub fn from_fn(read: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Now, in UTC.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from((self.0)())
    }

    /// Now, in whole seconds since 1970.
    #[must_use]
    pub fn unix_seconds(&self) -> i64 {
        self.now().unix_timestamp()
    }

    /// Now, in milliseconds since 1970.
    #[must_use]
    pub fn unix_millis(&self) -> u64 {
        let nanos = self.now().unix_timestamp_nanos().max(0);
        u64::try_from(nanos / 1_000_000).unwrap_or(u64::MAX)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use super::*;

    /// A clock that stands still until it is turned.
    #[derive(Clone)]
    pub(crate) struct Hand(Arc<AtomicI64>);

    impl Hand {
        /// Starts at the machine's time, so that certificates made with it also pass rustls' own checks.
        pub(crate) fn new() -> Self {
            Self(Arc::new(AtomicI64::new(OffsetDateTime::now_utc().unix_timestamp())))
        }

        pub(crate) fn clock(&self) -> Clock {
            let at = Arc::clone(&self.0);
            Clock::from_fn(move || {
                let seconds = u64::try_from(at.load(Ordering::Relaxed)).expect("tests stay after 1970");
                SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
            })
        }

        pub(crate) fn forward(&self, by: time::Duration) {
            self.0.fetch_add(by.whole_seconds(), Ordering::Relaxed);
        }
    }

    #[test]
    fn clock_reads_its_source_each_time() {
        let hand = Hand::new();
        let clock = hand.clock();
        let before = clock.unix_seconds();
        hand.forward(time::Duration::hours(1));
        assert_eq!(clock.unix_seconds() - before, 3600);
        assert_eq!(clock.unix_millis(), u64::try_from(clock.unix_seconds()).unwrap() * 1000);
    }
}
