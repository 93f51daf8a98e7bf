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
/// How often the trusted roots are told where the control plane says nothing of it.
const REPORTS: Duration = Duration::from_secs(60);
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

/// Renews for as long as `stop` is not cancelled, and tells in between which roots are trusted. `keep` stores each new
/// identity before it is published.
pub async fn rotate(
    identity: watch::Sender<Arc<Identity>>,
    issuer: impl Issuer,
    clock: WallClock,
    keep: impl Fn(&Identity),
    stop: CancellationToken,
) {
    let due = renewal_point(&identity.borrow());
    let mut rotation = Rotation { identity, issuer, clock, keep, due, retry: renewal_retry() };
    stop.run_until_cancelled(rotation.run()).await;
}

fn renewal_retry() -> Backoff {
    Backoff::new(FIRST_RETRY, LONGEST_RETRY)
}

struct Rotation<I, K> {
    identity: watch::Sender<Arc<Identity>>,
    issuer: I,
    clock: WallClock,
    keep: K,
    /// When the certificate is renewed.
    due: SystemTime,
    retry: Backoff,
}

impl<I: Issuer, K: Fn(&Identity)> Rotation<I, K> {
    async fn run(&mut self) {
        let mut report_at = Instant::now();
        loop {
            let now = self.clock.now();
            if self.due <= now {
                if self.renew().await {
                    report_at = Instant::now();
                }
            } else if report_at <= Instant::now() {
                report_at = Instant::now() + self.report().await;
            } else {
                // Sleeps are cut into pieces, so that a wall clock that jumps is noticed.
                let left = self.due.duration_since(now).unwrap_or_default().min(LONGEST_SLEEP);
                tokio::time::sleep_until(report_at.min(Instant::now() + left)).await;
            }
        }
    }

    /// Whether there is a new certificate.
    async fn renew(&mut self) -> bool {
        let current = self.identity.borrow().clone();
        let renewed = renew(&self.issuer, &current).await;
        let now = self.clock.now();
        match renewed {
            Ok(renewed) => {
                self.retry.reset();
                self.due = renewal_point(&renewed).max(now + SHORTEST_WAIT);
                tracing::info!(
                    event = "certificate_renewed",
                    serial = renewed.serial(),
                    "certificate renewed"
                );
                self.publish(renewed);
                true
            }
            Err(error) => {
                let wait = not_too_late(self.retry.next_wait(), &current, now);
                self.due = now + wait;
                let left = current.not_after().duration_since(now).unwrap_or_default();
                tracing::warn!(
                    event = "certificate_not_renewed",
                    %error, ?wait, expires_in = ?left,
                    "the certificate is not renewed, trying again"
                );
                false
            }
        }
    }

    /// Tells which roots are trusted, and does what the answer says. Gives when to tell again.
    async fn report(&mut self) -> Duration {
        let current = self.identity.borrow().clone();
        let answer = match self.issuer.report(&current).await {
            Ok(answer) => answer,
            // An older control plane takes no reports, and one that is away is asked again in its time.
            Err(error) => {
                tracing::debug!(%error, "the control plane does not know which roots are trusted here");
                return REPORTS;
            }
        };
        if let Some(within) = answer.renew_within {
            self.due = self.due.min(self.clock.now() + within);
        }
        let Some(bundle) = answer.bundle.filter(|bundle| *bundle != current.bundle()) else {
            return answer.again;
        };
        match current.with_bundle(bundle) {
            Ok(changed) => {
                tracing::info!(
                    event = "roots_replaced",
                    roots = changed.bundle().len(),
                    "other roots are trusted from now on"
                );
                self.publish(changed);
                // What is trusted now is told soon: a rotation of the root waits for it.
                SHORTEST_WAIT
            }
            Err(error) => {
                tracing::error!(
                    event = "roots_not_replaced",
                    %error,
                    "the roots that the control plane sends cannot be used; those before are"
                );
                answer.again
            }
        }
    }

    fn publish(&self, identity: Identity) {
        (self.keep)(&identity);
        self.identity.send_replace(Arc::new(identity));
    }
}

#[cfg(test)]
mod tests {
    use super::super::join::{IssueError, ReportAnswer};
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
        /// What was told to be trusted, each time.
        told: Rc<RefCell<Vec<Vec<CertificateDer<'static>>>>>,
        /// What is to be trusted; no reports are taken without.
        wanted: Rc<RefCell<Option<Vec<CertificateDer<'static>>>>>,
    }

    impl Issuer for TestIssuer {
        async fn report(&self, identity: &Identity) -> Result<ReportAnswer, IssueError> {
            self.told.borrow_mut().push(identity.bundle().to_vec());
            let Some(roots) = self.wanted.borrow().clone() else {
                return Err(IssueError::Refused("it takes no reports".to_owned()));
            };
            let renew_within = (identity.bundle() == roots).then_some(Duration::from_secs(20));
            Ok(ReportAnswer { bundle: Some(roots), renew_within, again: REPORTS })
        }

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

    struct TestRotation {
        identity: watch::Receiver<Arc<Identity>>,
        asked: Rc<RefCell<Vec<Duration>>>,
        broken: Rc<RefCell<bool>>,
        told: Rc<RefCell<Vec<Vec<CertificateDer<'static>>>>>,
        wanted: Rc<RefCell<Option<Vec<CertificateDer<'static>>>>>,
        stop: CancellationToken,
    }

    fn spawn(name: &'static str) -> TestRotation {
        let authority = Rc::new(Authority::new());
        let start = SystemTime::now();
        let clock = WallClock::anchored(start);
        let (sender, identity) = watch::channel(Arc::new(authority.identity(WEB, LIFE)));
        let (asked, broken) = (Rc::default(), Rc::new(RefCell::new(false)));
        let (told, wanted) = (Rc::default(), Rc::default());
        let stop = CancellationToken::new();
        let issuer = TestIssuer {
            authority,
            clock,
            start,
            broken: Rc::clone(&broken),
            asked: Rc::clone(&asked),
            name,
            told: Rc::clone(&told),
            wanted: Rc::clone(&wanted),
        };
        tokio::task::spawn_local(rotate(sender, issuer, clock, |_| {}, stop.clone()));
        TestRotation { identity, asked, broken, told, wanted, stop }
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
    async fn roots_that_the_control_plane_sends_are_trusted_and_told_and_renewal_does_not_wait() {
        within(async {
            let mut rotation = spawn(WEB);
            let first = rotation.identity.borrow_and_update().clone();
            let both = vec![first.bundle()[0].clone(), Authority::new().root()];
            *rotation.wanted.borrow_mut() = Some(both.clone());
            rotation.identity.changed().await.unwrap();
            let changed = rotation.identity.borrow_and_update().clone();
            assert_eq!((changed.bundle(), changed.serial()), (&*both, first.serial()));
            rotation.identity.changed().await.unwrap();
            assert_ne!(rotation.identity.borrow().serial(), first.serial());
            let asked = rotation.asked.borrow()[0].as_secs();
            assert!((20..=23).contains(&asked), "{asked}: what the answer to the second report says");
            let told = rotation.told.borrow().clone();
            assert_eq!((&told[0], &told[1]), (&first.bundle().to_vec(), &both), "told before and after");
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
