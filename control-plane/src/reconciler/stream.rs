//! One open discovery stream, as the reconciler sees it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use weft_api::{ResourceKey, Version, WorkloadId};
use weft_policies::compile::RouteForm;
use weft_xds::mailbox::Delivery;
use weft_xds::server::ServedTypes;
use weft_xds::transport::server::{StreamHandle, StreamKind};
use weft_xds::{Changes, View};

/// Names a stream within this process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(u64);

impl StreamId {
    /// A name that no other stream has.
    #[must_use]
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// How far a stream has come: the reconciler notes what it gave, the stream's task what was answered.
#[derive(Debug, Default)]
pub struct StreamProgress {
    answered: AtomicU64,
    /// Version of the bundle that it took last; 0 before the first.
    bundle: AtomicU64,
    /// It has the listener for other workloads.
    listens: AtomicBool,
    /// It takes a layer of its runtime.
    takes_runtime: AtomicBool,
    // A lock, because both tasks write the pair; nothing but moves happens under it.
    waiting: Mutex<Unacknowledged>,
}

#[derive(Debug, Default)]
struct Unacknowledged {
    oldest: Option<(u64, Instant)>,
    newest: Option<(u64, Instant)>,
}

impl StreamProgress {
    /// The newest revision of which everything was answered; 0 before the first.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }

    /// It took a bundle.
    pub fn took_bundle(&self, version: Version) {
        self.bundle.store(version.as_u64(), Ordering::Release);
    }

    /// It has its listener for other workloads. Whether that is new.
    pub fn took_listener(&self) -> bool {
        !self.listens.swap(true, Ordering::AcqRel)
    }

    /// It took a layer of its runtime.
    pub fn took_runtime(&self) {
        self.takes_runtime.store(true, Ordering::Release);
    }

    /// Notes a view that the stream was woken for. The stream may have answered already, where it holds all of it.
    fn gave(&self, now: Instant, revision: u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.answered() >= revision {
            return;
        }
        waiting.newest = Some((revision, now));
        waiting.oldest.get_or_insert((revision, now));
    }

    /// Everything of a revision was answered; says how long the oldest change took that is answered by that.
    pub fn synced(&self, now: Instant, revision: u64) -> Option<Duration> {
        self.answered.fetch_max(revision, Ordering::Release);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, since) = waiting.oldest.take_if(|(oldest, _)| *oldest <= revision)?;
        waiting.oldest = waiting.newest.filter(|(newest, _)| *newest > revision);
        Some(now.saturating_duration_since(since))
    }
}

/// A stream that was just admitted.
#[derive(Debug)]
pub struct Connected {
    pub id: StreamId,
    /// Whose it is, by certificate.
    pub workload: WorkloadId,
    /// Which joining of that name.
    pub instance: Arc<str>,
    /// What the node calls itself, for instance `envoy 1.40.0`.
    pub user_agent: String,
    pub kind: StreamKind,
    /// How it is told virtual hosts.
    pub form: RouteForm,
    /// Where its answers are noted.
    pub progress: Arc<StreamProgress>,
    pub handle: StreamHandle,
}

/// A stream that is being served.
#[derive(Clone, Debug)]
pub struct ServedStream {
    pub workload: WorkloadId,
    /// Which joining of that name: another one's record, key or configuration is never given to it.
    pub instance: Arc<str>,
    /// What the node calls itself.
    pub user_agent: String,
    pub kind: StreamKind,
    /// How it is told virtual hosts.
    pub form: RouteForm,
    pub since: SystemTime,
    /// Revision of the newest view that concerned it; 0 before the first. It may have a newer one by now.
    pub published: u64,
    opened: Instant,
    progress: Arc<StreamProgress>,
    handle: Arc<StreamHandle>,
}

impl From<Connected> for ServedStream {
    fn from(connected: Connected) -> Self {
        let Connected { id: _, workload, instance, user_agent, kind, form, progress, handle } = connected;
        Self {
            workload,
            instance,
            user_agent,
            kind,
            form,
            since: SystemTime::now(),
            published: 0,
            opened: Instant::now(),
            progress,
            handle: Arc::new(handle),
        }
    }
}

impl ServedStream {
    /// Gives it a view. Where the client asked for nothing of what changed, the view is kept for it, and nobody waits for
    /// its answer.
    pub(super) fn publish(&mut self, view: View, changes: Changes) -> Delivery {
        // Its first view is all new to it.
        let changes = if self.published == 0 { Changes::All } else { changes };
        let (revision, now) = (view.revision, Instant::now());
        let delivery = self.handle.publish(view, changes);
        match delivery {
            Delivery::Woken => {
                self.published = revision;
                self.progress.gave(now, revision);
            }
            Delivery::Kept => {}
        }
        delivery
    }

    /// Ends it with these words.
    pub(super) fn close(self, status: tonic::Status) {
        // Whoever is asking it something at this moment holds it a little longer; then it ends without words.
        if let Ok(handle) = Arc::try_unwrap(self.handle) {
            handle.close(status);
        }
    }

    /// Whether it has waited for its first view for this long.
    pub(super) fn waited(&self, now: Instant, timeout: Duration) -> bool {
        self.published == 0 && now.saturating_duration_since(self.opened) >= timeout
    }

    /// Whether a change of this resource may concern it.
    pub(super) fn carries(&self, key: &ResourceKey) -> bool {
        match self.kind.served {
            ServedTypes::Aggregated => true,
            ServedTypes::Only(kind) => key.kind == kind,
        }
    }

    /// Whether a change of this resource goes out to it.
    #[must_use]
    pub fn takes(&self, key: &ResourceKey) -> bool {
        self.carries(key) && self.handle.is_asked_for(key)
    }

    /// The newest revision of which it has answered everything.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.progress.answered()
    }

    /// The bundle that it took last; none where it has not asked for one.
    #[must_use]
    pub fn bundle(&self) -> Option<Version> {
        let version = self.progress.bundle.load(Ordering::Acquire);
        (version != 0).then(|| Version::from_u64(version))
    }

    /// Whether it has its listener for other workloads: acknowledged here, or brought along from an earlier stream.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.progress.listens.load(Ordering::Acquire)
    }

    /// Whether it takes a layer of its runtime from here.
    #[must_use]
    pub fn takes_runtime(&self) -> bool {
        self.progress.takes_runtime.load(Ordering::Acquire)
    }

    /// What it looks like now.
    pub async fn status(&self) -> Option<weft_xds::server::StreamStatus> {
        self.handle.status().await
    }

    /// What its client was sent and took, resource by resource.
    pub async fn deliveries(&self) -> Option<Vec<weft_xds::server::ResourceDelivery>> {
        self.handle.deliveries().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_times_the_oldest_change_that_an_answer_covers() {
        let (progress, start) = (StreamProgress::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        progress.gave(start, 3);
        progress.gave(after(1), 4);
        assert_eq!(progress.synced(after(2), 3), Some(Duration::from_secs(2)));
        assert_eq!(progress.answered(), 3);
        assert_eq!(progress.synced(after(5), 4), Some(Duration::from_secs(4)));
        assert_eq!(progress.synced(after(6), 4), None);
        assert_eq!(progress.answered(), 4);
        // The stream was quicker than the note of what it was given.
        assert_eq!(progress.synced(after(7), 5), None);
        progress.gave(after(7), 5);
        progress.gave(after(8), 6);
        assert_eq!(progress.synced(after(9), 6), Some(Duration::from_secs(1)));
    }
}
