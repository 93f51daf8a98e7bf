//! How long to wait before the next attempt.

use std::time::Duration;

use rand::Rng as _;

const FIRST: Duration = Duration::from_millis(500);
const LAST: Duration = Duration::from_secs(30);

/// Doubles from 500 ms to 30 s; the wait is anywhere between 500 ms and that, so that a crowd spreads out (R4).
#[derive(Debug)]
pub(super) struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    pub fn new() -> Self {
        Self { ceiling: FIRST }
    }

    pub fn next(&mut self) -> Duration {
        self.ceiling = (self.ceiling * 2).min(LAST);
        rand::rng().random_range(FIRST..=self.ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_between_half_a_second_and_thirty_seconds() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..200).map(|_| backoff.next()).collect();
        assert!(waits[0] <= FIRST * 2);
        assert!(waits.iter().all(|wait| (FIRST..=LAST).contains(wait)));
        let distinct: std::collections::BTreeSet<_> = waits[10..].iter().collect();
        assert!(distinct.len() > 100, "jitter");
    }
}
