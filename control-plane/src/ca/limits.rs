//! How many certificates may be asked for: with a token, by renewal, and how many bad tokens a stranger may show.
//!
//! ```text
//! join     source has shown few bad tokens? ─▶ token looked up ─▶ bucket of the token ─▶ bucket of all joins
//! renewal                                    bucket of the workload ─▶ bucket of all renewals
//! both                                       room among the leaves that live
//! ```
//!
//! Whoever has no token takes from nobody's bucket but its own, and joins never from those of renewals: nothing that comes
//! from outside keeps the mesh from renewing. The own bucket is asked first, so that one who asks too often takes nothing
//! from the rest either.
//!
//! A revocation lists every leaf of a name that lives, in a bundle that all proxies get: how many those can be is bounded
//! too.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use weft_api::WorkloadId;
use weft_xds::transport::buckets::{Bucket, Buckets, Rate};

use crate::metrics::{Limit, Metrics};
use crate::source::SourceAddress;

/// Joins a second for each core of the machine, and as many renewals.
pub const PER_CORE_PER_SECOND: f64 = 50.0;
/// Renewals of one workload.
pub const OF_A_WORKLOAD: Rate = Rate { per_second: 1.0, burst: 5.0 };
/// Goodbyes of one workload, and returns after them. Each writes its record, which others have to change too.
pub const MARKS_OF_A_WORKLOAD: Rate = Rate { per_second: 1.0, burst: 10.0 };
/// Joins with one token: a group of machines that start together has one.
pub const OF_A_TOKEN: Rate = Rate { per_second: 10.0, burst: 20.0 };
/// Tokens that are none, shown from one source.
pub const BAD_OF_A_SOURCE: Rate = Rate { per_second: 1.0, burst: 20.0 };

/// Certificates of one instance that live at once. Two are in use, since one is renewed when half of its life is over; the
/// others are for answers that were lost on the way.
pub const LEAVES_OF_AN_INSTANCE: usize = 16;
/// Certificates of one name that live at once, of all its instances: one that loses its key with each restart may do so
/// every other minute for a day.
pub const LEAVES_OF_A_NAME: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many {}; try again in {} ms", limit.what(), retry_after.as_millis())]
pub struct Limited {
    pub limit: Limit,
    /// When the next one would be let through.
    pub retry_after: Duration,
}

/// As many live as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are {most} {} already, the most that there may be", limit.what())]
pub struct NoRoom {
    limit: Limit,
    most: usize,
}

/// Tells a token that is known to be good, by id and secret, without asking the store.
pub type IsGoodToken = Box<dyn Fn(&str, &[u8]) -> bool + Send + Sync>;

/// Counts requests in token buckets.
pub struct SigningLimits {
    // A lock because any connection asks; held for a map look-up, never while signing or waiting.
    buckets: Mutex<SigningBuckets>,
    is_good_token: IsGoodToken,
    metrics: Metrics,
}

#[derive(Debug)]
struct SigningBuckets {
    all: Rate,
    joins: Bucket,
    renewals: Bucket,
    tokens: Buckets<String>,
    workloads: Buckets<WorkloadId>,
    marks: Buckets<WorkloadId>,
    sources: Buckets<SourceAddress>,
}

impl SigningLimits {
    /// Limits for a machine of so many cores.
    #[must_use]
    pub fn new(cores: usize) -> Self {
        let cores = u32::try_from(cores.clamp(1, 1024)).unwrap_or(1);
        let rate = PER_CORE_PER_SECOND * f64::from(cores);
        let all = Rate { per_second: rate, burst: rate };
        let now = now();
        let buckets = SigningBuckets {
            all,
            joins: Bucket::full(all, now),
            renewals: Bucket::full(all, now),
            tokens: Buckets::new(OF_A_TOKEN, now),
            workloads: Buckets::new(OF_A_WORKLOAD, now),
            marks: Buckets::new(MARKS_OF_A_WORKLOAD, now),
            sources: Buckets::new(BAD_OF_A_SOURCE, now),
        };
        Self { buckets: Mutex::new(buckets), is_good_token: Box::new(|_, _| false), metrics: Metrics::new() }
    }

    /// Limits for this machine.
    #[must_use]
    pub fn for_this_machine() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
    }

    /// Counts what is refused.
    #[must_use]
    pub fn counted_by(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// A token that is known to be good is looked up wherever it comes from: a stranger at the same address, behind the
    /// same gateway for example, keeps nobody out.
    #[must_use]
    pub fn knowing(self, is_good_token: IsGoodToken) -> Self {
        Self { is_good_token, ..self }
    }

    /// Asked before a token is looked up.
    ///
    /// # Errors
    /// When its source has shown too many bad ones.
    pub fn admit_token(&self, source: Option<SourceAddress>, id: &str, secret: &[u8]) -> Result<(), Limited> {
        let Some(source) = source else { return Ok(()) };
        let waits = self.lock().sources.look(&source, now());
        match waits {
            Err(retry_after) if !(self.is_good_token)(id, secret) => {
                self.refuse(Limit::BadTokensOfASource, retry_after)
            }
            _ => Ok(()),
        }
    }

    /// The token was looked up, and is none.
    pub fn note_bad_token(&self, source: Option<SourceAddress>) {
        let Some(source) = source else { return };
        // What is below nothing is not counted.
        let _ = self.lock().sources.take(source, now());
    }

    /// Counts one join with a token that is one.
    ///
    /// # Errors
    /// When too many join with this token, or all together.
    pub fn admit_join(&self, token: &str) -> Result<(), Limited> {
        let mut buckets = self.lock();
        let own = buckets.tokens.take(token.to_owned(), now());
        let all = buckets.all;
        let (limit, wait) = match own {
            Err(wait) => (Limit::JoinsOfAToken, wait),
            Ok(()) => match buckets.joins.take(all, now()) {
                Err(wait) => (Limit::Joins, wait),
                Ok(()) => return Ok(()),
            },
        };
        self.refuse(limit, wait)
    }

    /// Counts one renewal.
    ///
    /// # Errors
    /// When the workload asks for too much, or all together.
    pub fn admit_renewal(&self, workload: &WorkloadId) -> Result<(), Limited> {
        let mut buckets = self.lock();
        let own = buckets.workloads.take(workload.clone(), now());
        let all = buckets.all;
        let (limit, wait) = match own {
            Err(wait) => (Limit::RenewalsOfAWorkload, wait),
            Ok(()) => match buckets.renewals.take(all, now()) {
                Err(wait) => (Limit::Renewals, wait),
                Ok(()) => return Ok(()),
            },
        };
        self.refuse(limit, wait)
    }

    /// Whether an instance may have one leaf more than those of it that live.
    ///
    /// # Errors
    /// When it has enough.
    pub fn admit_leaf(&self, live: usize) -> Result<(), NoRoom> {
        self.admit_one_more(Limit::LeavesOfAnInstance, live, LEAVES_OF_AN_INSTANCE)
    }

    /// Whether a name may have an instance more, beside leaves of others that live.
    ///
    /// # Errors
    /// When it has enough.
    pub fn admit_instance(&self, live: usize) -> Result<(), NoRoom> {
        self.admit_one_more(Limit::LeavesOfAName, live, LEAVES_OF_A_NAME)
    }

    /// Counts one goodbye, or one return.
    ///
    /// # Errors
    /// When the workload does nothing else.
    pub fn admit_mark(&self, workload: &WorkloadId) -> Result<(), Limited> {
        let own = self.lock().marks.take(workload.clone(), now());
        own.or_else(|wait| self.refuse(Limit::MarksOfAWorkload, wait))
    }

    fn admit_one_more(&self, limit: Limit, live: usize, most: usize) -> Result<(), NoRoom> {
        if live < most {
            return Ok(());
        }
        self.metrics.limited(limit);
        Err(NoRoom { limit, most })
    }

    fn refuse(&self, limit: Limit, retry_after: Duration) -> Result<(), Limited> {
        self.metrics.limited(limit);
        Err(Limited { limit, retry_after })
    }

    fn lock(&self) -> MutexGuard<'_, SigningBuckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SigningLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningLimits").field("buckets", &self.buckets).finish_non_exhaustive()
    }
}

// Tests pause the clock of tokio.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn id(name: &str) -> WorkloadId {
        WorkloadId::try_new("shop", name).unwrap()
    }

    fn source(text: &str) -> Option<SourceAddress> {
        Some(text.parse::<IpAddr>().unwrap().into())
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn workload_renews_five_times_at_once_then_once_a_second() {
        let limits = SigningLimits::new(1);
        for _ in 0..5 {
            limits.admit_renewal(&id("web-1")).unwrap();
        }
        let limited = limits.admit_renewal(&id("web-1")).unwrap_err();
        assert_eq!(limited, Limited { limit: Limit::RenewalsOfAWorkload, retry_after: SECOND });
        assert_eq!(limited.to_string(), "too many renewals of this workload; try again in 1000 ms");
        limits.admit_renewal(&id("web-2")).expect("another workload is not held up");
        tokio::time::advance(SECOND).await;
        limits.admit_renewal(&id("web-1")).unwrap();
        limits.admit_renewal(&id("web-1")).unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn all_together_join_fifty_times_a_second_for_each_core_and_renew_as_often() {
        let limits = SigningLimits::new(2);
        let joins = || (0..200).filter(|n| limits.admit_join(&format!("t-{n}")).is_ok()).count();
        assert_eq!(joins(), 100);
        let renewals = (0..200).filter(|n| limits.admit_renewal(&id(&format!("w-{n}"))).is_ok()).count();
        assert_eq!(renewals, 100, "joins take nothing from renewals (H4)");
        tokio::time::advance(SECOND / 2).await;
        assert_eq!(joins(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_too_often_takes_nothing_from_the_others() {
        let limits = SigningLimits::new(1);
        for _ in 0..1000 {
            let _ = limits.admit_renewal(&id("greedy"));
            let _ = limits.admit_join("t-greedy");
        }
        for n in 0..30 {
            limits.admit_renewal(&id(&format!("w-{n}"))).unwrap();
            limits.admit_join(&format!("t-{n}")).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn source_of_bad_tokens_is_refused_before_the_look_up_unless_the_token_is_known() {
        let limits = SigningLimits::new(1).knowing(Box::new(|id, secret| id == "t-1" && secret == b"good"));
        let stranger = source("192.0.2.1");
        for _ in 0..20 {
            limits.admit_token(stranger, "t-0", b"bad").unwrap();
            limits.note_bad_token(stranger);
        }
        let limited = limits.admit_token(stranger, "t-0", b"bad").unwrap_err();
        assert_eq!(limited.limit, Limit::BadTokensOfASource);
        limits.admit_token(stranger, "t-1", b"bad").unwrap_err();
        limits.admit_token(stranger, "t-1", b"good").expect("somebody else behind the same gateway");
        limits.admit_token(source("192.0.2.2"), "t-0", b"bad").expect("another source");
        tokio::time::advance(SECOND).await;
        limits.admit_token(stranger, "t-0", b"bad").unwrap();
    }
}
