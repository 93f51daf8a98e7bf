//! The task that sends a request's body on an HTTP/2 connection, and its end.
//!
//! hyper makes the task and keeps no hold on it: one that waits for the server's window would wait for ever, with the
//! caller's stream in its hands, after the request is over. So it runs inside of [`Uploads`], and the request's lease
//! ends it. Which task belongs to which request is known by order: hyper polls a body once before it makes a task for
//! the rest, and does nothing in between.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Runs the tasks of one HTTP/2 connection to a server.
#[derive(Clone, Default)]
pub(super) struct Uploads(Rc<Cell<Option<Rc<Stop>>>>);

impl std::fmt::Debug for Uploads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Uploads")
    }
}

/// A body that is about to be sent.
#[derive(Debug)]
pub(crate) struct Upload {
    of: Uploads,
    stop: Rc<Stop>,
}

/// Ends the task of one body.
#[derive(Debug, Default)]
pub(super) struct Stop {
    stopped: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Uploads {
    /// A body for the next request, and what ends its task.
    pub(super) fn upload(&self) -> (Upload, Rc<Stop>) {
        let stop = Rc::<Stop>::default();
        (Upload { of: self.clone(), stop: stop.clone() }, stop)
    }
}

impl Upload {
    /// The body is polled for the first time: the task that is made next is its own.
    pub(crate) fn begin(self) {
        self.of.0.set(Some(self.stop));
    }
}

impl Stop {
    pub(super) fn stop(&self) {
        self.stopped.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl<F> hyper::rt::Executor<F> for Uploads
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        match self.0.take() {
            Some(stop) => drop(tokio::task::spawn_local(Stoppable { task, stop })),
            None => drop(tokio::task::spawn_local(task)),
        }
    }
}

pin_project_lite::pin_project! {
    struct Stoppable<F> {
        #[pin]
        task: F,
        stop: Rc<Stop>,
    }
}

impl<F: Future> Future for Stoppable<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stop.stopped.get() {
            return Poll::Ready(());
        }
        match &mut *this.stop.waker.borrow_mut() {
            Some(known) => known.clone_from(cx.waker()),
            slot => *slot = Some(cx.waker().clone()),
        }
        this.task.poll(cx).map(drop)
    }
}
