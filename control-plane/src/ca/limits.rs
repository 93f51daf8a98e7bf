//! How many certificates may be asked for: by all together, and by one workload.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;
use weft_api::WorkloadId;

/// Requests a second for each core of the machine.
pub const PER_CORE_PER_SECOND: u32 = 50;
/// Requests a second of one workload.
pub const PER_WORKLOAD_PER_SECOND: u32 = 1;
/// How many a workload may ask for at once.
pub const WORKLOAD_BURST: u32 = 5;

// Above this, buckets that have filled up again are forgotten; a full bucket says nothing.
const SWEEP_ABOVE: usize = 4096;

/// Too many requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many certificate requests; try again in {} ms", retry_after.as_millis())]
pub struct Limited {
    /// When the next one would be let through.
    pub retry_after: Duration,
}

/// Counts requests in token buckets.
#[derive(Debug)]
pub struct SigningLimits {
    // A lock because any connection asks; held for a map look-up, never while signing or waiting.
    buckets: Mutex<Buckets>,
    mesh_rate: u32,
}

#[derive(Debug)]
struct Buckets {
    mesh: Bucket,
    workloads: HashMap<WorkloadId, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl SigningLimits {
    /// Limits for a machine of so many cores.
    #[must_use]
    pub fn new(cores: usize) -> Self {
        let cores = u32::try_from(cores.clamp(1, 1024)).unwrap_or(1);
        let mesh_rate = PER_CORE_PER_SECOND * cores;
        let buckets = Buckets { mesh: Bucket::full(mesh_rate), workloads: HashMap::new() };
        Self { buckets: Mutex::new(buckets), mesh_rate }
    }

    /// Limits for this machine.
    #[must_use]
    pub fn for_this_machine() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
    }

    /// Counts one request of nobody in particular: asked first, before anything that costs.
    ///
    /// # Errors
    /// When all together ask for too much.
    pub fn admit(&self) -> Result<(), Limited> {
        let rate = self.mesh_rate;
        self.lock().mesh.take(Instant::now(), rate, rate)
    }

    /// Counts one request of a workload.
    ///
    /// # Errors
    /// When the workload asks for too much.
    pub fn admit_workload(&self, workload: &WorkloadId) -> Result<(), Limited> {
        let now = Instant::now();
        let mut buckets = self.lock();
        if buckets.workloads.len() > SWEEP_ABOVE {
            let refill = Duration::from_secs(u64::from(WORKLOAD_BURST / PER_WORKLOAD_PER_SECOND));
            buckets.workloads.retain(|_, bucket| now.duration_since(bucket.at) < refill);
        }
        let bucket =
            buckets.workloads.entry(workload.clone()).or_insert_with(|| Bucket::full(WORKLOAD_BURST));
        bucket.take(now, PER_WORKLOAD_PER_SECOND, WORKLOAD_BURST)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Bucket {
    fn full(burst: u32) -> Self {
        Self { tokens: f64::from(burst), at: Instant::now() }
    }

    fn take(&mut self, now: Instant, per_second: u32, burst: u32) -> Result<(), Limited> {
        let rate = f64::from(per_second);
        let refilled = self.tokens + now.duration_since(self.at).as_secs_f64() * rate;
        self.tokens = refilled.min(f64::from(burst));
        self.at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Limited { retry_after: Duration::from_secs_f64((1.0 - self.tokens) / rate) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> WorkloadId {
        WorkloadId::try_new("shop", name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn workload_gets_five_at_once_then_one_a_second() {
        let limits = SigningLimits::new(1);
        for _ in 0..5 {
            limits.admit_workload(&id("web-1")).unwrap();
        }
        let limited = limits.admit_workload(&id("web-1")).unwrap_err();
        assert_eq!(limited.retry_after, Duration::from_secs(1));
        limits.admit_workload(&id("web-2")).expect("another workload is not held up");
        tokio::time::advance(Duration::from_secs(1)).await;
        limits.admit_workload(&id("web-1")).unwrap();
        limits.admit_workload(&id("web-1")).unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn mesh_gets_fifty_a_second_for_each_core() {
        let limits = SigningLimits::new(2);
        let admitted = (0..200).filter(|_| limits.admit().is_ok()).count();
        assert_eq!(admitted, 100);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!((0..200).filter(|_| limits.admit().is_ok()).count(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn buckets_of_many_workloads_are_forgotten_when_full_again() {
        let limits = SigningLimits::new(1);
        for number in 0..=SWEEP_ABOVE {
            limits.admit_workload(&id(&format!("w-{number}"))).unwrap();
        }
        tokio::time::advance(Duration::from_secs(6)).await;
        limits.admit_workload(&id("last")).unwrap();
        assert_eq!(limits.lock().workloads.len(), 1);
    }
}
