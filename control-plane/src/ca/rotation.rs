//! When a certificate is replaced: at a random point between 50 and 60 % of its life.

use rand::Rng as _;
use time::{Duration, OffsetDateTime};

use crate::clock::Clock;

/// A random moment between 50 and 60 % of a life, so that a mesh does not renew all at once.
#[must_use]
pub fn rotate_at(issued_at: OffsetDateTime, not_after: OffsetDateTime) -> OffsetDateTime {
    let life = not_after - issued_at;
    issued_at + life * rand::rng().random_range(0.5..0.6)
}

/// Sleeps until the wall clock reads `at`. The clock is read again each minute: when it jumps, the sleep follows.
pub async fn sleep_until(clock: &Clock, at: OffsetDateTime) {
    loop {
        let left = at - clock.now();
        let Ok(left) = std::time::Duration::try_from(left) else { return };
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(Duration::MINUTE.unsigned_abs())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::tests::Hand;

    #[test]
    fn rotation_falls_between_half_and_three_fifths_of_life() {
        let start = OffsetDateTime::UNIX_EPOCH;
        let end = start + Duration::hours(10);
        let points: Vec<_> = (0..1000).map(|_| rotate_at(start, end)).collect();
        assert!(points.iter().all(|at| (5.0..6.0).contains(&((*at - start).as_seconds_f64() / 3600.0))));
        let spread = *points.iter().max().unwrap() - *points.iter().min().unwrap();
        assert!(spread > Duration::minutes(50), "spread over the tenth, got {spread}");
    }

    #[tokio::test(start_paused = true)]
    async fn sleep_ends_within_a_minute_of_a_clock_jump() {
        let hand = Hand::new();
        let clock = hand.clock();
        let at = clock.now() + Duration::hours(12);
        let sleeping = tokio::spawn(async move { sleep_until(&clock, at).await });
        tokio::task::yield_now().await;
        hand.forward(Duration::hours(13));
        let before = tokio::time::Instant::now();
        sleeping.await.unwrap();
        assert!(before.elapsed() <= Duration::MINUTE.unsigned_abs());
    }
}
