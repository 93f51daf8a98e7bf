//! The latest view for one stream: a slot that a publisher overwrites and a stream empties.
//!
//! A slow stream costs one slot: what it has not taken yet is merged, never queued (a storm becomes one update). A stream
//! whose client asked for nothing of what changed is not woken: the view is kept for whenever it looks.
//!
//! No wake is lost. What the client asks for stands in the slot, and both ends read and write it under the slot's lock.
//! A change that comes before the stream says that its client asks for more is in the view that
//! [`Receiver::set_interest`] hands out with that word; one that comes after it wakes.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use futures::task::AtomicWaker;

use weft_api::ResourceKey;

use crate::interest::Interest;
use crate::view::{Changes, View};

#[derive(Debug, Default)]
struct MailboxState {
    // A lock, because publisher and stream are different threads; moves of a view and of a list of names and look-ups of
    // names in a set happen under it, never I/O or waking.
    slot: Mutex<MailboxSlot>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct MailboxSlot {
    latest: Option<(View, Changes)>,
    interest: Interest,
    closed: bool,
}

/// What became of a view that was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// The stream was woken to look at it.
    Woken,
    /// Nothing that changed concerns the client. The view waits until the stream looks for another reason.
    Kept,
}

impl MailboxSlot {
    fn put(&mut self, view: View, changes: Changes) -> Delivery {
        let (delivery, changes) = match (&self.interest, changes) {
            (Interest::Everything, changes) => (Delivery::Woken, changes),
            (Interest::Subscribed(_), Changes::All) => (Delivery::Woken, Changes::All),
            (Interest::Subscribed(_), Changes::Keys(mut keys)) => {
                // The other names need no memory here: the request that asks for one makes the session look at it.
                keys.retain(|key| self.interest.covers(key));
                (if keys.is_empty() { Delivery::Kept } else { Delivery::Woken }, Changes::Keys(keys))
            }
        };
        let changes = match self.latest.take() {
            Some((_, mut earlier)) => {
                earlier.merge(changes);
                earlier
            }
            None => changes,
        };
        self.latest = Some((view, changes));
        delivery
    }
}

impl MailboxState {
    fn with<T>(&self, work: impl FnOnce(&mut MailboxSlot) -> T) -> T {
        work(&mut self.slot.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The publisher's end. Dropping it closes the mailbox once what it holds has been taken.
#[derive(Debug)]
pub struct Sender(Arc<MailboxState>);

/// The stream's end, which takes the newest view.
#[derive(Debug)]
pub struct Receiver(Arc<MailboxState>);

/// Makes an empty mailbox.
#[must_use]
pub fn mailbox() -> (Sender, Receiver) {
    let shared = Arc::new(MailboxState::default());
    (Sender(shared.clone()), Receiver(shared))
}

impl Sender {
    /// Replaces the view that waits, if any, and merges what changed. Never waits.
    pub fn send(&self, view: View, changes: Changes) -> Delivery {
        let delivery = self.0.with(|slot| slot.put(view, changes));
        match delivery {
            Delivery::Woken => self.0.waker.wake(),
            Delivery::Kept => {}
        }
        delivery
    }

    /// Whether a change of this resource would wake the stream, as far as its client has asked by now.
    #[must_use]
    pub fn is_asked_for(&self, key: &ResourceKey) -> bool {
        self.0.with(|slot| slot.interest.covers(key))
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

    /// Says for what the stream is to be woken from now on, and takes what waits: the newest view of before, with what
    /// changed in it of what the stream was interested in until now.
    #[must_use]
    pub fn set_interest(&mut self, interest: Interest) -> Option<(View, Changes)> {
        let (latest, before) =
            self.0.with(|slot| (slot.latest.take(), std::mem::replace(&mut slot.interest, interest)));
        // Here and not under the lock: the last owner of many names takes its time.
        drop(before);
        latest
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
        for (revision, name) in [(1, "a"), (2, "b")] {
            let delivery = sender.send(View::new(revision, vec![]), Changes::Keys(vec![key(name)]));
            assert_eq!(delivery, Delivery::Woken);
        }
        let (view, changes) = receiver.try_recv().unwrap();
        assert_eq!(view.revision, 2);
        assert_eq!(changes, Changes::Keys(vec![key("a"), key("b")]));
        assert!(receiver.try_recv().is_none());
    }

    #[test]
    fn closes_only_after_what_waits_was_taken() {
        let (sender, mut receiver) = mailbox();
        assert_eq!(sender.send(View::new(1, vec![]), Changes::All), Delivery::Woken);
        drop(sender);
        futures::executor::block_on(async {
            assert_eq!(receiver.recv().await.unwrap().0.revision, 1);
            assert!(receiver.recv().await.is_none());
        });
    }
}
