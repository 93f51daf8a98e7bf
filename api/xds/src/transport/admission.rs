//! New streams pass a token bucket, so that a crowd that reconnects at once is spread out (R4).

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// New streams a second, and how many may come at once.
const STREAMS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Admission {
    // A lock, because streams open on any thread; two numbers change under it.
    bucket: Mutex<(f64, Instant)>,
}

impl Admission {
    pub fn new(now: Instant) -> Self {
        Self { bucket: Mutex::new((STREAMS_PER_SECOND, now)) }
    }

    pub fn admit(&self, now: Instant) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = now.saturating_duration_since(bucket.1).as_secs_f64() * STREAMS_PER_SECOND;
        let tokens = (bucket.0 + gained).min(STREAMS_PER_SECOND);
        let admitted = tokens >= 1.0;
        *bucket = (if admitted { tokens - 1.0 } else { tokens }, now.max(bucket.1));
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn r4_refuses_a_crowd_and_admits_it_later() {
        let start = Instant::now();
        let admission = Admission::new(start);
        assert_eq!((0..500).filter(|_| admission.admit(start)).count(), 100);
        let later = start + Duration::from_millis(500);
        assert_eq!((0..500).filter(|_| admission.admit(later)).count(), 50);
    }
}
