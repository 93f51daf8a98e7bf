//! The latest view for one stream: a slot that a publisher overwrites and a stream empties.
//!
//! A slow stream costs one slot: what it has not taken yet is merged, never queued (a storm becomes one update).

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use futures::task::AtomicWaker;

use crate::view::{Changes, View};

#[derive(Debug, Default)]
struct Shared {
    // A lock, because publisher and stream are different threads; only moves of a view and of a list of
    // names happen under it, never I/O or waking.
    slot: Mutex<Slot>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Slot {
    latest: Option<(View, Changes)>,
    closed: bool,
}

impl Shared {
    fn with<T>(&self, work: impl FnOnce(&mut Slot) -> T) -> T {
        work(&mut self.slot.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The publisher's end. Dropping it closes the mailbox once what it holds has been taken.
#[derive(Debug)]
pub struct Sender(Arc<Shared>);

/// The stream's end.
#[derive(Debug)]
pub struct Receiver(Arc<Shared>);

/// Makes an empty mailbox.
#[must_use]
pub fn mailbox() -> (Sender, Receiver) {
    let shared = Arc::new(Shared::default());
    (Sender(shared.clone()), Receiver(shared))
}

impl Sender {
    /// Replaces the view that waits, if any, and merges what changed. Never waits.
    pub fn send(&self, view: View, changes: Changes) {
        self.0.with(|slot| {
            let changes = match slot.latest.take() {
                Some((_, mut earlier)) => {
                    earlier.merge(changes);
                    earlier
                }
                None => changes,
            };
            slot.latest = Some((view, changes));
        });
        self.0.waker.wake();
    }

    /// Whether the stream has gone.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.with(|slot| slot.closed = true);
        self.0.waker.wake();
    }
}

impl Receiver {
    /// Waits for the next view; `None` when the publisher has gone and the slot is empty.
    pub async fn recv(&mut self) -> Option<(View, Changes)> {
        std::future::poll_fn(|context| {
            self.0.waker.register(context.waker());
            self.0.with(|slot| match slot.latest.take() {
                Some(latest) => Poll::Ready(Some(latest)),
                None if slot.closed => Poll::Ready(None),
                None => Poll::Pending,
            })
        })
        .await
    }

    /// Takes what waits, if anything does.
    pub fn try_recv(&mut self) -> Option<(View, Changes)> {
        self.0.with(|slot| slot.latest.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_api::resource::{ResourceKey, ResourceKind};

    fn key(name: &str) -> ResourceKey {
        ResourceKey::new(ResourceKind::Endpoint, name)
    }

    #[test]
    fn keeps_the_latest_view_and_merges_what_changed() {
        let (sender, mut receiver) = mailbox();
        sender.send(View::new(1, vec![]), Changes::Keys(vec![key("a")]));
        sender.send(View::new(2, vec![]), Changes::Keys(vec![key("b")]));
        let (view, changes) = receiver.try_recv().unwrap();
        assert_eq!(view.revision, 2);
        assert_eq!(changes, Changes::Keys(vec![key("a"), key("b")]));
        assert!(receiver.try_recv().is_none());
    }

    #[test]
    fn closes_only_after_what_waits_was_taken() {
        let (sender, mut receiver) = mailbox();
        sender.send(View::new(1, vec![]), Changes::All);
        drop(sender);
        futures::executor::block_on(async {
            assert_eq!(receiver.recv().await.unwrap().0.revision, 1);
            assert!(receiver.recv().await.is_none());
        });
    }
}
