//! Handshakes at once: as many as the machine should do, with a share for each source.
//!
//! Only who has sent a ClientHello takes part; who is silent holds a connection and no more. Those that wait do so in
//! order. When nothing moves, the oldest handshake that is slow is given up: of the source that waits for its share, or of
//! the one that has most.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::source::SourceAddress;

/// Handshakes of all sources.
pub const PENDING_HANDSHAKES: usize = 256;
/// Handshakes of one source. Many sidecars may share a host: those beyond wait, a handshake takes some milliseconds.
pub const HANDSHAKES_OF_A_SOURCE: usize = 32;

// One that takes longer than this may be given up for others.
const SLOW: Duration = Duration::from_secs(1);
// How long one waits before another is given up for it.
const WAIT_FOR_A_PLACE: Duration = Duration::from_millis(250);

/// The handshakes of one listener. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Handshakes(Arc<HandshakesInner>);

#[derive(Debug)]
struct HandshakesInner {
    all: Arc<Semaphore>,
    // A lock because each connection greets in its own task; held for a look at the table, never while waiting.
    table: Mutex<HandshakeTable>,
}

#[derive(Debug, Default)]
struct HandshakeTable {
    last: u64,
    shares: HashMap<SourceAddress, Arc<Semaphore>>,
    running: BTreeMap<u64, RunningHandshake>,
}

#[derive(Debug)]
struct RunningHandshake {
    source: SourceAddress,
    since: Instant,
    stop: CancellationToken,
}

/// Leave to do a handshake, until it is dropped.
#[derive(Debug)]
pub(super) struct HandshakePermit {
    id: u64,
    /// Cancelled when it takes too long and others wait.
    pub(super) stop: CancellationToken,
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    share: SourceShare,
}

/// The share of a source, which is forgotten with its last user.
#[derive(Debug)]
struct SourceShare {
    source: SourceAddress,
    handshakes: Handshakes,
}

impl Handshakes {
    pub(super) fn new() -> Self {
        let all = Arc::new(Semaphore::new(PENDING_HANDSHAKES));
        Self(Arc::new(HandshakesInner { all, table: Mutex::default() }))
    }

    /// Waits for a permit.
    pub(super) async fn admit(&self, source: SourceAddress) -> HandshakePermit {
        let share = SourceShare { source, handshakes: self.clone() };
        let own = self.wait(share.semaphore(), Some(source)).await;
        let all = self.wait(Arc::clone(&self.0.all), None).await;
        let stop = CancellationToken::new();
        let mut table = self.lock();
        table.last += 1;
        let id = table.last;
        table.running.insert(id, RunningHandshake { source, since: Instant::now(), stop: stop.clone() });
        drop(table);
        HandshakePermit { id, stop, _all: all, _own: own, share }
    }

    async fn wait(&self, semaphore: Arc<Semaphore>, of: Option<SourceAddress>) -> OwnedSemaphorePermit {
        let mut acquiring = std::pin::pin!(semaphore.acquire_owned());
        loop {
            tokio::select! {
                permit = acquiring.as_mut() => return permit.expect("it is never closed"),
                () = tokio::time::sleep(WAIT_FOR_A_PLACE) => self.lock().give_one_up(of),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HandshakeTable> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HandshakeTable {
    fn give_one_up(&self, of: Option<SourceAddress>) {
        let mut held: HashMap<SourceAddress, usize> = HashMap::new();
        for running in self.running.values() {
            *held.entry(running.source).or_default() += 1;
        }
        let of = of.or_else(|| held.into_iter().max_by_key(|(_, held)| *held).map(|(source, _)| source));
        let oldest =
            self.running.values().find(|running| Some(running.source) == of && !running.stop.is_cancelled());
        if let Some(oldest) = oldest.filter(|oldest| oldest.since.elapsed() >= SLOW) {
            oldest.stop.cancel();
        }
    }
}

impl SourceShare {
    fn semaphore(&self) -> Arc<Semaphore> {
        let mut table = self.handshakes.lock();
        let share = table.shares.entry(self.source);
        Arc::clone(share.or_insert_with(|| Arc::new(Semaphore::new(HANDSHAKES_OF_A_SOURCE))))
    }
}

impl Drop for SourceShare {
    fn drop(&mut self) {
        let mut table = self.handshakes.lock();
        // One reference is the table's; whoever waits or runs has another.
        if table.shares.get(&self.source).is_some_and(|share| Arc::strong_count(share) == 1) {
            table.shares.remove(&self.source);
        }
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        self.share.handshakes.lock().running.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> SourceAddress {
        std::net::IpAddr::from([192, 0, 2, last]).into()
    }

    #[tokio::test(start_paused = true)]
    async fn source_has_its_share_and_leaves_the_rest_to_others() {
        let handshakes = Handshakes::new();
        let mut held = Vec::new();
        for _ in 0..HANDSHAKES_OF_A_SOURCE {
            held.push(handshakes.admit(source(1)).await);
        }
        let start = Instant::now();
        handshakes.admit(source(2)).await;
        assert_eq!(start.elapsed(), Duration::ZERO, "another source does not wait");
        let mut waiting = std::pin::pin!(handshakes.admit(source(1)));
        assert!(tokio::time::timeout(SLOW / 2, waiting.as_mut()).await.is_err());
        assert!(!held[0].stop.is_cancelled(), "it is not slow yet");
        assert!(tokio::time::timeout(SLOW, waiting.as_mut()).await.is_err());
        assert!(held[0].stop.is_cancelled(), "the oldest of the same source is given up");
        drop(held.remove(0));
        waiting.await;
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_are_taken_the_source_with_most_loses_its_oldest() {
        let handshakes = Handshakes::new();
        let mut held = Vec::new();
        for last in 0..8 {
            for _ in 0..HANDSHAKES_OF_A_SOURCE - usize::from(last == 0) {
                held.push(handshakes.admit(source(last)).await);
            }
        }
        held.push(handshakes.admit(source(100)).await);
        let mut waiting = std::pin::pin!(handshakes.admit(source(200)));
        assert!(tokio::time::timeout(2 * SLOW, waiting.as_mut()).await.is_err());
        assert!(held.iter().any(|permit| permit.stop.is_cancelled()));
        assert!(!held.last().unwrap().stop.is_cancelled());
        held.retain(|permit| !permit.stop.is_cancelled());
        waiting.await;
    }

    #[tokio::test(start_paused = true)]
    async fn sources_are_forgotten_with_their_last_handshake() {
        let handshakes = Handshakes::new();
        let permits = futures::future::join_all((0..40).map(|_| handshakes.admit(source(1)))).now_or_never();
        assert!(permits.is_none());
        drop(handshakes.admit(source(2)).await);
        assert!(handshakes.lock().shares.is_empty());
    }

    use futures::FutureExt as _;
}
