//! A load at a fixed rate that forgets nothing: every request ends in an answer that names who answered, or in a
//! failure with its reason.
//!
//! ```text
//! clock ──▶ one task a request ──▶ Tally { era -> who answered how often, failures }
//! ```
//!
//! Requests start when the clock says so, whatever became of the ones before. A request belongs to the era in which it
//! was started: [`Load::next_era`] draws the line between before and after a change.

mod tally;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::demo::Dialer;

pub use tally::{Era, FailedRequest, Tally};

/// A request that has no answer by then has failed: longer than anything takes on a busy machine, and short enough that
/// nobody waits for a change in silence.
const LIMIT: Duration = Duration::from_secs(5);
/// Requests under way at once. With more waiting, the rate is not kept, and the tally says so.
const AT_ONCE: usize = 256;
/// The header in which the demo application says which workload answers.
const WORKLOAD: &str = "x-echo-workload";

/// Where a load goes.
#[derive(Clone, Debug)]
pub struct LoadTarget {
    /// How the test calls it.
    pub name: String,
    /// The caller's sidecar.
    pub sidecar: SocketAddr,
    /// What to get; the demo application answers it.
    pub url: String,
    /// Requests a second.
    pub rate: u32,
}

/// A load that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Load {
    target: LoadTarget,
    shared: Arc<LoadState>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct LoadState {
    /// A lock because requests end on any thread; nothing is awaited under it.
    tally: Mutex<Tally>,
    era: AtomicUsize,
    ended: Notify,
    started_at: Instant,
}

impl Load {
    /// Starts sending.
    #[must_use]
    pub fn start(target: LoadTarget) -> Self {
        let shared = Arc::new(LoadState {
            tally: Mutex::default(),
            era: AtomicUsize::new(0),
            ended: Notify::new(),
            started_at: Instant::now(),
        });
        let task = tokio::spawn(send_steadily(target.clone(), Arc::clone(&shared)));
        Self { target, shared, task }
    }

    /// Where it goes.
    #[must_use]
    pub fn target(&self) -> &LoadTarget {
        &self.target
    }

    /// Requests that start from now on belong to a new era, whose number is returned.
    pub fn next_era(&self) -> usize {
        self.shared.era.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// What became of the requests so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.shared.lock().clone()
    }

    /// Waits until so many requests of an era have ended, whatever their end; returns the era.
    ///
    /// # Errors
    /// When it takes three times as long as the rate says, and 20 s more.
    pub async fn reach(&self, era: usize, requests: u64) -> anyhow::Result<Era> {
        let expected = Duration::from_secs_f64(requests as f64 / f64::from(self.target.rate));
        let limit = expected * 3 + Duration::from_secs(20);
        let reached = async {
            loop {
                let ended = self.shared.ended.notified();
                let now = self.shared.lock().era(era);
                if now.ended() >= requests {
                    return now;
                }
                ended.await;
            }
        };
        tokio::time::timeout(limit, reached)
            .await
            .with_context(|| format!("{}: not {requests} requests within {limit:?}", self.target.name))
    }

    /// Stops sending, waits for the answers that are due, and returns everything.
    pub async fn stop(self) -> Tally {
        self.task.abort();
        let deadline = Instant::now() + LIMIT + Duration::from_secs(1);
        while self.shared.lock().under_way() > 0 && Instant::now() < deadline {
            drop(tokio::time::timeout(Duration::from_millis(100), self.shared.ended.notified()).await);
        }
        self.tally()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl LoadState {
    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Http = Client<Dialer, Empty<Bytes>>;

async fn send_steadily(target: LoadTarget, shared: Arc<LoadState>) {
    let client: Http = Client::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .build(Dialer { sidecar: Some(target.sidecar), tunnel: false });
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut clock = interval(Duration::from_secs(1) / target.rate.max(1));
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        clock.tick().await;
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let (client, url, shared) = (client.clone(), target.url.clone(), Arc::clone(&shared));
        let era = shared.era.load(Ordering::SeqCst);
        shared.lock().start();
        tokio::spawn(async move {
            let started = Instant::now();
            let outcome = match tokio::time::timeout(LIMIT, get(&client, &url)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(format!("no answer within {LIMIT:?}")),
            };
            let at = started.duration_since(shared.started_at);
            shared.lock().end(era, at, started.elapsed(), outcome);
            shared.ended.notify_waiters();
            drop(permit);
        });
    }
}

/// Who answered, or why nobody did.
async fn get(client: &Http, url: &str) -> Result<String, String> {
    let request = Request::get(url).body(Empty::new()).map_err(|error| error.to_string())?;
    let answer = client.request(request).await.map_err(|error| chain(&error))?;
    let status = answer.status();
    let workload = answer.headers().get(WORKLOAD).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = answer.into_body().collect().await.map_err(|error| chain(&error))?.to_bytes();
    match workload {
        Some(workload) if status.is_success() => Ok(workload),
        _ => Err(format!("{status}: {}", String::from_utf8_lossy(&body[..body.len().min(200)]).trim())),
    }
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
