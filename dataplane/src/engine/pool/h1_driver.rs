//! Who drives an h1 connection: the request that uses it, and between requests the connection's own task.
//!
//! ```text
//! request in flight   task of the downstream connection ── poll ──▶ H1Driver ──▶ hyper's connection
//! idle                own task, from a moment after the last use ───▶ H1Driver
//! ```
//!
//! A request that drives its own connection needs no other task to be woken for it, and passes bytes on while they are
//! still in the processor's cache. An idle connection is left to nobody at first, since it is mostly used again at
//! once; its own task takes over when [`WATCH`] has passed, so that it notices when the server closes.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// After this long without use, a connection's own task looks after it.
pub(super) const WATCH: Duration = Duration::from_millis(100);

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>>>>;

/// An h1 connection's protocol machine.
pub(crate) struct H1Driver {
    driver: RefCell<Option<Driver>>,
    /// A request drives it.
    attended: Cell<bool>,
    /// Wakes its own task.
    keeper: RefCell<Option<Waker>>,
    /// Wakes the request that drives it.
    attendant: RefCell<Option<Waker>>,
}

impl fmt::Debug for H1Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("H1Driver").field("attended", &self.attended).finish_non_exhaustive()
    }
}

impl H1Driver {
    pub(super) fn new(driver: impl Future<Output = hyper::Result<()>> + 'static) -> Self {
        Self {
            driver: RefCell::new(Some(Box::pin(driver))),
            attended: Cell::new(false),
            keeper: RefCell::default(),
            attendant: RefCell::default(),
        }
    }

    /// Moves bytes; ready when the connection is over.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut slot = self.driver.borrow_mut();
        let Some(driver) = slot.as_mut() else { return Poll::Ready(()) };
        if driver.as_mut().poll(cx).is_pending() {
            if self.attended.get() {
                match &mut *self.attendant.borrow_mut() {
                    Some(known) => known.clone_from(cx.waker()),
                    slot => *slot = Some(cx.waker().clone()),
                }
            }
            return Poll::Pending;
        }
        *slot = None;
        drop(slot);
        self.wake_keeper();
        Poll::Ready(())
    }

    /// Looks what has happened, without being told of what happens next.
    pub(super) fn glance(&self) {
        // Whoever asks looks at the sender for the result.
        let _ = self.poll(&mut Context::from_waker(Waker::noop()));
    }

    /// Waits for the answer to what was sent over it, and drives it meanwhile.
    pub(crate) async fn drive<F: Future>(&self, answer: F) -> F::Output {
        // Out of turn: where the task has used up its budget, a channel says "later" and wakes the task for it, which the
        // waker below would swallow.
        let mut answer = std::pin::pin!(tokio::task::coop::unconstrained(answer));
        std::future::poll_fn(|cx| {
            // What became of it is in the answer, which changes in this call or not at all: it needs no waker.
            let _ = self.poll(cx);
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }

    /// A request begins to drive it.
    pub(super) fn attend(&self) {
        self.attended.set(true);
    }

    /// The request is over, and the connection may be used again.
    pub(super) fn rest(&self) {
        self.attended.set(false);
    }

    /// Nobody drives it from now on but its own task.
    pub(crate) fn leave(&self) {
        self.attended.set(false);
        self.wake_keeper();
    }

    /// Closes it whatever it waits for, and lets its own task know.
    pub(super) fn cut(&self) {
        self.close();
        self.leave();
    }

    /// One turn of its own task; ready when the connection is over.
    pub(super) fn keep(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.keeper.borrow_mut() {
            Some(known) => known.clone_from(cx.waker()),
            slot => *slot = Some(cx.waker().clone()),
        }
        if !self.attended.get() {
            return self.poll(cx);
        }
        if self.driver.borrow().is_some() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Closes it; a request that drives it hears of that.
    pub(super) fn close(&self) {
        let driver = self.driver.borrow_mut().take();
        drop(driver);
        if let Some(attendant) = self.attendant.take() {
            attendant.wake();
        }
    }

    fn wake_keeper(&self) {
        let keeper = self.keeper.borrow().clone();
        if let Some(keeper) = keeper {
            keeper.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hears_the_answer_when_the_task_has_used_up_its_budget() {
        let driver = H1Driver::new(std::future::pending());
        let (sender, answer) = tokio::sync::oneshot::channel();
        sender.send(7).expect("the receiver is there");
        let mut driven = std::pin::pin!(driver.drive(answer));
        let heard = std::future::poll_fn(|cx| {
            while tokio::task::coop::has_budget_remaining() {
                let mut spend = std::pin::pin!(tokio::task::coop::consume_budget());
                let _ = spend.as_mut().poll(cx);
            }
            Poll::Ready(driven.as_mut().poll(&mut Context::from_waker(Waker::noop())))
        })
        .await;
        assert_eq!(heard, Poll::Ready(Ok(7)));
    }
}
