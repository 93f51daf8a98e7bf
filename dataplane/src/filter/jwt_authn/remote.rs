//! Fetches keys, once for all requests that need them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};

use super::super::request::Request;
use super::JwtAuthnStats;
use super::key_cache::{FetchedKeys, KeySource, KeysNow};
use super::keys::KeySet;
use super::status::JwtFailure;
use crate::engine::async_client::{self, Call};
use crate::engine::clock::now;
use crate::engine::cluster::ClusterState;
use crate::engine::limits::limited;
use crate::engine::local::Local;
use crate::engine::reply::Reply;

/// Bytes of a set of keys: many times what 64 of them have.
const LARGEST: usize = 256 * 1024;

/// The keys of a source, for a request that may wait for them.
///
/// # Errors
/// The answer where a limit of the request is reached meanwhile.
pub(super) async fn keys(
    source: &Arc<KeySource>,
    stats: &JwtAuthnStats,
    request: &Request<'_>,
) -> Result<Result<Rc<KeySet>, JwtFailure>, Box<Reply>> {
    let worker = &request.stream.connection.worker;
    let known = worker.jwt_keys.of(source, now());
    let mut has_waited = false;
    loop {
        match known.now(source, now()) {
            KeysNow::Fresh(keys) => return Ok(Ok(keys)),
            KeysNow::Aging(keys) => {
                fetch(&known, source, stats, request);
                return Ok(Ok(keys));
            }
            KeysNow::Unavailable => return Ok(Err(JwtFailure::FetchFailed)),
            // Whoever waited for a fetch has its outcome, whatever it was.
            KeysNow::Fetch | KeysNow::Wait if has_waited => return Ok(Err(JwtFailure::FetchFailed)),
            KeysNow::Fetch => fetch(&known, source, stats, request),
            KeysNow::Wait => {
                let limits = &request.stream.limits;
                limits.watch();
                limited(limits, known.wait()).await.map_err(|reached| request.timed_out(reached))?;
                has_waited = true;
            }
        }
    }
}

/// Begins to fetch, in a task of its own: the request that needs the keys may go, and others need them too.
fn fetch(known: &Rc<FetchedKeys>, source: &Arc<KeySource>, stats: &JwtAuthnStats, request: &Request<'_>) {
    known.begin_fetch();
    let fetch = KeyFetch {
        worker: Rc::clone(&request.stream.connection.worker),
        cluster: request.snapshot.cluster(&source.cluster).cloned(),
        source: Arc::clone(source),
        stats: stats.clone(),
    };
    let known = Rc::clone(known);
    tokio::task::spawn_local(async move {
        let fetched = fetch.run().await;
        known.end_fetch(&fetch.source, fetched, now());
    });
}

struct KeyFetch {
    worker: Rc<Local>,
    cluster: Option<Rc<ClusterState>>,
    source: Arc<KeySource>,
    stats: JwtAuthnStats,
}

impl KeyFetch {
    async fn run(&self) -> Option<KeySet> {
        let mut fetched = self.once().await;
        for retry in 0..self.source.retries {
            if fetched.is_ok() {
                break;
            }
            tokio::time::sleep(self.wait(retry)).await;
            fetched = self.once().await;
        }
        let KeySource { cluster, authority, path, .. } = &*self.source;
        match fetched {
            Ok(keys) => {
                self.worker.shard.inc(self.stats.jwks_fetch_success);
                Some(keys)
            }
            Err(error) => {
                self.worker.shard.inc(self.stats.jwks_fetch_failed);
                tracing::debug!(%cluster, %authority, %path, error, "no keys to verify tokens with");
                None
            }
        }
    }

    async fn once(&self) -> Result<KeySet, String> {
        let cluster = self.cluster.as_ref().ok_or("there is no such cluster")?;
        let call = Call {
            method: Method::GET,
            authority: self.source.authority.clone(),
            path: self.source.path.clone(),
            headers: HeaderMap::new(),
            body: bytes::Bytes::new(),
            timeout: self.source.timeout,
            largest: LARGEST,
        };
        let answer =
            async_client::call(&self.worker, cluster, call).await.map_err(|error| error.to_string())?;
        match answer.head.status {
            StatusCode::OK => KeySet::parse(&answer.body).map_err(|error| format!("the answer {error}")),
            other => Err(format!("status {other}")),
        }
    }

    /// Envoy's: anything up to a base that doubles.
    fn wait(&self, retry: u32) -> Duration {
        let most = self.source.backoff.saturating_mul(1 << retry.min(16)).min(self.source.longest_backoff);
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(self.worker.random() % most)
    }
}
