//! Whether anything happens on a connection: what it was heard to say, and the calls that run on it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

/// What a connection does. Written by the connection, read by whoever needs room.
#[derive(Debug)]
pub(crate) struct Activity {
    since: Instant,
    is_heard: AtomicBool,
    running: AtomicUsize,
    // Milliseconds since the start, when last a call began or a part of a body passed.
    moved: AtomicU64,
    changed: Notify,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            since: Instant::now(),
            is_heard: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            moved: AtomicU64::new(0),
            changed: Notify::new(),
        })
    }

    /// The client has said something.
    pub(super) fn note_activity(&self) {
        self.is_heard.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_heard(&self) -> bool {
        self.is_heard.load(Ordering::Relaxed)
    }

    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.running.load(Ordering::Relaxed) == 0
    }

    /// How long nothing moved.
    pub(super) fn quiet(&self) -> Duration {
        self.age().saturating_sub(Duration::from_millis(self.moved.load(Ordering::Relaxed)))
    }

    /// Waits until no call has run for so long.
    pub(super) async fn idles_for(&self, limit: Duration) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.is_idle() {
                tokio::select! {
                    () = tokio::time::sleep(limit) => return,
                    () = changed => {}
                }
            } else {
                changed.await;
            }
        }
    }

    fn note_move(&self) {
        let now = u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
    }
}

/// A call that runs: from its head to the end of its answer.
#[derive(Debug)]
pub(super) struct RunningCall(Arc<Activity>);

impl RunningCall {
    pub(super) fn start(activity: &Arc<Activity>) -> Self {
        activity.running.fetch_add(1, Ordering::Relaxed);
        activity.note_move();
        activity.changed.notify_waiters();
        Self(Arc::clone(activity))
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
        self.0.note_move();
        self.0.changed.notify_waiters();
    }
}

/// An answer's body, with which its call ends.
#[derive(Debug)]
pub(super) struct TrackedResponseBody {
    pub(super) body: Body,
    pub(super) running: RunningCall,
}

impl hyper::body::Body for TrackedResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        this.running.0.note_move();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request's body, of which some part must come within a time.
#[derive(Debug)]
pub(super) struct TimedRequestBody {
    body: Incoming,
    activity: Arc<Activity>,
    limit: Option<Duration>,
    late: Option<Pin<Box<Sleep>>>,
}

impl TimedRequestBody {
    /// Without a limit, the body may take as long as its connection: a stream of a workload does.
    pub(super) fn new(body: Incoming, activity: &Arc<Activity>, limit: Option<Duration>) -> Self {
        Self { body, activity: Arc::clone(activity), limit, late: None }
    }
}

impl hyper::body::Body for TimedRequestBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.late = None;
            this.activity.note_move();
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some(limit) = this.limit else { return Poll::Pending };
        let late = this.late.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(late.as_mut().poll(cx));
        let text = format!("nothing more of the request came within {} s", limit.as_secs());
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, text).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn idle_time_begins_again_with_the_end_of_each_call() {
        let activity = Activity::new();
        let start = Instant::now();
        let waiting = tokio::spawn({
            let activity = Arc::clone(&activity);
            async move { activity.idles_for(LIMIT).await }
        });
        tokio::time::sleep(Duration::from_secs(9)).await;
        let call = RunningCall::start(&activity);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!waiting.is_finished() && !activity.is_idle());
        assert_eq!(activity.quiet(), Duration::from_secs(60));
        drop(call);
        waiting.await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(79));
    }
}
