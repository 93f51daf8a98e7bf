//! How long to wait before the next attempt.

use std::time::Duration;

use rand::Rng as _;

/// Waits that grow while something fails, so that nobody hammers what is down, and that differ, so that a crowd spreads out.
///
/// Each wait is anywhere between the first one and a ceiling, which doubles with each wait from twice the first one up to
/// the longest.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// No wait is shorter than `first` or longer than `longest`, which must not be shorter than `first`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, ceiling: first }
    }

    /// The wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        self.ceiling = (self.ceiling * 2).min(self.longest);
        rand::rng().random_range(self.first..=self.ceiling)
    }

    /// Something succeeded: the next wait is as the first one.
    pub fn reset(&mut self) {
        self.ceiling = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(30);

    #[test]
    fn waits_grow_within_their_bounds_and_differ() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let waits: Vec<_> = (0..200).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] <= FIRST * 2);
        assert!(waits.iter().all(|wait| (FIRST..=LONGEST).contains(wait)));
        assert!(waits.iter().any(|wait| *wait > LONGEST / 2));
        let distinct: std::collections::BTreeSet<_> = waits[10..].iter().collect();
        assert!(distinct.len() > 100, "jitter");
    }

    #[test]
    fn begins_anew_after_a_success() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        for _ in 0..10 {
            backoff.next_wait();
        }
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST * 2);
    }
}
