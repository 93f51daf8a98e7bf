//! When a certificate is renewed: at a random point between 50 and 60 % of its life, so that a fleet started at
//! once does not renew at once. A failure is tried again after 1 s, doubling to 60 s with jitter, and every 10 s
//! once 90 % of the life is over. The old identity serves until it expires.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::Rng as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weft_api::Backoff;

use super::Identity;
use super::join::{Issuer, renew};

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
const URGENT_RETRY: Duration = Duration::from_secs(10);
/// Sleeps are cut into pieces, so that a wall clock that jumps is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// An issuer whose certificates are born old cannot make the proxy spin.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// Where wall-clock time comes from.
#[derive(Debug, Clone, Copy)]
pub enum WallClock {
    /// The system's clock, with its jumps.
    System,
    /// A wall clock that advances with tokio's time: for tests that pause it.
    Anchored {
        /// Wall-clock time at `since`.
        wall: SystemTime,
        since: Instant,
    },
}

impl WallClock {
    /// A clock that starts at `wall` and follows tokio's time.
    #[must_use]
    pub fn anchored(wall: SystemTime) -> Self {
        Self::Anchored { wall, since: Instant::now() }
    }

    #[must_use]
    pub fn now(self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            Self::Anchored { wall, since } => wall + since.elapsed(),
        }
    }
}

/// A point of an identity's life, from 0.0 (issued) to 1.0 (expired).
fn point(identity: &Identity, fraction: f64) -> SystemTime {
    let life = identity.not_after().duration_since(identity.issued()).unwrap_or_default();
    identity.issued() + life.mul_f64(fraction)
}

/// When to renew, drawn once for each certificate.
#[must_use]
pub fn renewal_point(identity: &Identity) -> SystemTime {
    point(identity, rand::rng().random_range(0.5..0.6))
}

/// What is left of a wait before the next try when the certificate's end is near.
fn not_too_late(wait: Duration, identity: &Identity, now: SystemTime) -> Duration {
    match point(identity, 0.9).duration_since(now) {
        // A long wait must not reach far into the urgent part.
        Ok(calm) if !calm.is_zero() => wait.min(calm.max(FIRST_RETRY)),
        Ok(_) | Err(_) => wait.min(URGENT_RETRY),
    }
}

/// Renews for as long as `stop` is not cancelled. `keep` stores each new identity before it is published.
pub async fn rotate(
    identity: watch::Sender<Arc<Identity>>,
    issuer: impl Issuer,
    clock: WallClock,
    keep: impl Fn(&Identity),
    stop: CancellationToken,
) {
    let mut retry = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
    let mut due = renewal_point(&identity.borrow());
    loop {
        let waited = stop.run_until_cancelled(sleep_until(due, clock)).await;
        if waited.is_none() {
            return;
        }
        let current = identity.borrow().clone();
        let Some(renewed) = stop.run_until_cancelled(renew(&issuer, &current)).await else { return };
        let now = clock.now();
        match renewed {
            Ok(renewed) => {
                retry.reset();
                due = renewal_point(&renewed).max(now + SHORTEST_WAIT);
                keep(&renewed);
                tracing::info!(
                    event = "certificate_renewed",
                    serial = renewed.serial(),
                    "certificate renewed"
                );
                identity.send_replace(Arc::new(renewed));
            }
            Err(error) => {
                let wait = not_too_late(retry.next_wait(), &current, now);
                due = now + wait;
                let left = current.not_after().duration_since(now).unwrap_or_default();
                tracing::warn!(
                    event = "certificate_not_renewed",
                    %error, ?wait, expires_in = ?left,
                    "the certificate is not renewed, trying again"
                );
            }
        }
    }
}

async fn sleep_until(due: SystemTime, clock: WallClock) {
    while let Ok(left) = due.duration_since(clock.now()) {
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::join::IssueError;
    use super::super::testing::Authority;
    use super::*;
    use rustls::pki_types::CertificateDer;
    use std::cell::RefCell;
    use std::rc::Rc;

    const WEB: &str = "spiffe://mesh.local/ns/shop/svc/web";
    const LIFE: Duration = Duration::from_secs(1000);

    /// Signs at the time of an anchored clock, unless it is out of order; notes when it was asked.
    struct TestIssuer {
        authority: Rc<Authority>,
        clock: WallClock,
        start: SystemTime,
        broken: Rc<RefCell<bool>>,
        asked: Rc<RefCell<Vec<Duration>>>,
        name: &'static str,
    }

    impl Issuer for TestIssuer {
        async fn issue(
            &self,
            csr: Vec<u8>,
        ) -> Result<(Vec<CertificateDer<'static>>, Vec<CertificateDer<'static>>), IssueError> {
            let now = self.clock.now();
            self.asked.borrow_mut().push(now.duration_since(self.start).unwrap());
            if *self.broken.borrow() {
                return Err(IssueError::Unavailable("out of order".to_owned()));
            }
            Ok((vec![self.authority.sign(&csr, &[self.name], now, LIFE)], vec![self.authority.root()]))
        }
    }

    struct Rotation {
        identity: watch::Receiver<Arc<Identity>>,
        asked: Rc<RefCell<Vec<Duration>>>,
        broken: Rc<RefCell<bool>>,
        stop: CancellationToken,
    }

    fn spawn(name: &'static str) -> Rotation {
        let authority = Rc::new(Authority::new());
        let start = SystemTime::now();
        let clock = WallClock::anchored(start);
        let (sender, identity) = watch::channel(Arc::new(authority.identity(WEB, LIFE)));
        let (asked, broken) = (Rc::default(), Rc::new(RefCell::new(false)));
        let stop = CancellationToken::new();
        let issuer = TestIssuer {
            authority,
            clock,
            start,
            broken: Rc::clone(&broken),
            asked: Rc::clone(&asked),
            name,
        };
        tokio::task::spawn_local(rotate(sender, issuer, clock, |_| {}, stop.clone()));
        Rotation { identity, asked, broken, stop }
    }

    async fn within<F: Future<Output = ()>>(test: F) {
        tokio::task::LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn renews_between_50_and_60_percent_of_life_with_a_new_key() {
        within(async {
            let mut rotation = spawn(WEB);
            let first = rotation.identity.borrow_and_update().clone();
            rotation.identity.changed().await.unwrap();
            let second = rotation.identity.borrow_and_update().clone();
            assert_ne!(first.key_pem(), second.key_pem());
            let asked = rotation.asked.borrow()[0].as_secs();
            assert!((499..=601).contains(&asked), "{asked}");
            rotation.identity.changed().await.unwrap();
            let again = rotation.asked.borrow()[1].as_secs() - asked;
            assert!((499..=601).contains(&again), "{again}");
            rotation.stop.cancel();
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_to_a_minute_and_then_hurry_after_90_percent() {
        within(async {
            let mut rotation = spawn(WEB);
            *rotation.broken.borrow_mut() = true;
            let first = rotation.identity.borrow_and_update().clone();
            tokio::time::sleep(Duration::from_secs(990)).await;
            assert_eq!(rotation.identity.borrow().serial(), first.serial(), "the old one serves");
            let asked = rotation.asked.borrow().clone();
            let gaps: Vec<f64> = asked.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
            assert!((0.9..=2.1).contains(&gaps[0]), "{gaps:?}");
            assert!((0.9..=4.1).contains(&gaps[1]), "{gaps:?}");
            assert!(gaps.iter().all(|gap| *gap <= 60.5), "{gaps:?}");
            let late = asked.iter().zip(&gaps).filter(|(at, _)| at.as_secs() >= 901);
            assert!(late.clone().count() >= 5, "{asked:?}");
            assert!(late.clone().all(|(_, gap)| *gap <= 10.1), "{gaps:?}");
            *rotation.broken.borrow_mut() = false;
            rotation.identity.changed().await.unwrap();
            rotation.stop.cancel();
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_for_somebody_else_is_never_used() {
        within(async {
            let rotation = spawn("spiffe://mesh.local/ns/shop/svc/cart");
            tokio::time::sleep(Duration::from_secs(700)).await;
            assert!(!rotation.asked.borrow().is_empty());
            assert_eq!(rotation.identity.borrow().spiffe().to_string(), WEB);
            rotation.stop.cancel();
        })
        .await;
    }
}
