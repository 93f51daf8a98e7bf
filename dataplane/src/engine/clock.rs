//! Deadlines of a worker, cheap enough to have several for each request.
//!
//! Arming, moving and dropping a deadline is a write into a vector. One ticker task sleeps until the earliest
//! deadline that it knows of; a deadline that was moved or dropped meanwhile costs one look. A worker without
//! deadlines has no timer at all.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// No deadline: later than every moment.
const NEVER: u64 = u64::MAX;
/// The ticker wakes at most this often, in milliseconds.
const TICK: u64 = 5;

#[derive(Default)]
struct Slot {
    at: u64,
    waker: Option<Waker>,
}

/// All deadlines of one worker.
pub(crate) struct Deadlines {
    origin: Instant,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    next_wake: Cell<u64>,
    sooner: Notify,
}

impl fmt::Debug for Deadlines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadlines").field("slots", &self.slots.borrow().len()).finish_non_exhaustive()
    }
}

impl Deadlines {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            origin: now(),
            slots: RefCell::default(),
            free: RefCell::default(),
            next_wake: Cell::new(NEVER),
            sooner: Notify::new(),
        })
    }

    /// Wakes what is due, for ever. One task of the worker runs this.
    pub(crate) async fn tick(self: Rc<Self>) {
        loop {
            let wake = self.next_wake.get();
            if wake == NEVER {
                self.sooner.notified().await;
                continue;
            }
            let at = self.origin + Duration::from_millis(wake);
            tokio::select! {
                () = tokio::time::sleep_until(at.into()) => self.wake_due(),
                () = self.sooner.notified() => {}
            }
        }
    }

    fn wake_due(&self) {
        let now = self.millis();
        let mut next = NEVER;
        let mut due = Vec::new();
        for slot in self.slots.borrow_mut().iter_mut() {
            if slot.at <= now {
                due.extend(slot.waker.take());
            } else if slot.at != NEVER {
                next = next.min(slot.at);
            }
        }
        self.next_wake.set(if next == NEVER { NEVER } else { next.max(now + TICK) });
        due.into_iter().for_each(Waker::wake);
    }

    fn millis(&self) -> u64 {
        u64::try_from((now() - self.origin).as_millis()).unwrap_or(NEVER - 1)
    }

    fn arm(&self, at: u64) {
        if at < self.next_wake.get() {
            self.next_wake.set(at);
            self.sooner.notify_one();
        }
    }
}

/// Time as tokio sees it, so that tests can pause it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// One deadline; dropping it disarms it.
pub(crate) struct Deadline {
    of: Rc<Deadlines>,
    slot: u32,
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline").field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl Deadline {
    /// A deadline that is not armed yet.
    pub(crate) fn new(of: &Rc<Deadlines>) -> Self {
        let mut slots = of.slots.borrow_mut();
        let slot = of.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(Slot::default());
            u32::try_from(slots.len() - 1).expect("fewer than four thousand million deadlines")
        });
        slots[slot as usize] = Slot { at: NEVER, waker: None };
        Self { of: of.clone(), slot }
    }

    /// A deadline that is due after `span`.
    pub(crate) fn after(of: &Rc<Deadlines>, span: Duration) -> Self {
        let deadline = Self::new(of);
        deadline.set(span);
        deadline
    }

    /// Moves it to `span` from now. A task that waits is woken at the new time, not at the old one.
    pub(crate) fn set(&self, span: Duration) {
        let span = u64::try_from(span.as_millis()).unwrap_or(NEVER / 2).min(NEVER / 2);
        let at = self.of.millis() + span.max(1);
        self.of.slots.borrow_mut()[self.slot as usize].at = at;
        self.of.arm(at);
    }

    pub(crate) fn clear(&self) {
        self.of.slots.borrow_mut()[self.slot as usize].at = NEVER;
    }

    /// Ready when it is due; else the task is woken then.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut slots = self.of.slots.borrow_mut();
        let slot = &mut slots[self.slot as usize];
        if slot.at != NEVER && slot.waker.is_some() && self.of.next_wake.get() <= slot.at {
            // Not due for as long as the ticker has not come by: no clock is read on a frequent poll.
            if let Some(waker) = &mut slot.waker {
                waker.clone_from(cx.waker());
            }
            return Poll::Pending;
        }
        if slot.at != NEVER && slot.at <= self.of.millis() {
            return Poll::Ready(());
        }
        match &mut slot.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => slot.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Waits until it is due.
    pub(crate) async fn wait(&self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.of.slots.borrow_mut()[self.slot as usize] = Slot { at: NEVER, waker: None };
        self.of.free.borrow_mut().push(self.slot);
    }
}

/// Runs `work` for at most `limit`; `None` when the time was over first.
pub(crate) async fn within<F: Future>(
    deadlines: &Rc<Deadlines>,
    limit: Option<Duration>,
    work: F,
) -> Option<F::Output> {
    let Some(limit) = limit else { return Some(work.await) };
    let deadline = Deadline::after(deadlines, limit);
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => deadline.poll(cx).map(|()| None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paused(test: impl AsyncFnOnce(Rc<Deadlines>)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap();
        runtime.block_on(async {
            let deadlines = Deadlines::new();
            tokio::task::spawn_local(deadlines.clone().tick());
            test(deadlines).await;
        });
    }

    #[test]
    fn is_due_after_its_span_and_not_before() {
        paused(async |deadlines| {
            let start = now();
            Deadline::after(&deadlines, Duration::from_millis(300)).wait().await;
            let waited = now() - start;
            assert!(
                waited >= Duration::from_millis(300) && waited < Duration::from_millis(320),
                "{waited:?}"
            );
        });
    }

    #[test]
    fn a_deadline_that_moves_on_is_due_later() {
        paused(async |deadlines| {
            let start = now();
            let deadline = Rc::new(Deadline::after(&deadlines, Duration::from_secs(1)));
            let mover = deadline.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(Duration::from_millis(900)).await;
                mover.set(Duration::from_secs(5));
            });
            deadline.wait().await;
            assert!(now() - start >= Duration::from_millis(5900));
        });
    }

    #[test]
    fn a_sooner_deadline_is_not_held_up_by_a_later_one() {
        paused(async |deadlines| {
            let start = now();
            let _late = Deadline::after(&deadlines, Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert!(
                within(&deadlines, Some(Duration::from_millis(50)), std::future::pending::<()>())
                    .await
                    .is_none()
            );
            assert!(now() - start < Duration::from_millis(100));
        });
    }

    #[test]
    fn slots_are_used_again() {
        paused(async |deadlines| {
            for _ in 0..100 {
                let _one = Deadline::after(&deadlines, Duration::from_secs(9));
                let _two = Deadline::new(&deadlines);
            }
            assert_eq!(deadlines.slots.borrow().len(), 2);
        });
    }
}
