//! Runs hyper's tasks on the worker's own thread, and can end them from outside.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::limits::RequestLimits;

/// The limits of a stream on their way from the call that begins it, or that makes a tunnel of it, to the task that
/// hyper makes right after that call.
#[derive(Clone, Default)]
pub(super) struct Handover(Rc<Cell<Option<Rc<RequestLimits>>>>);

impl Handover {
    pub(super) fn set(&self, limits: Option<Rc<RequestLimits>>) {
        self.0.set(limits);
    }
}

impl std::fmt::Debug for Handover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handover")
    }
}

/// Runs the streams of a downstream HTTP/2 connection. A stream whose limit is reached is dropped, and so reset,
/// whatever hyper waits for.
#[derive(Debug, Clone)]
pub(super) struct StreamExecutor(pub(super) Handover);

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, stream: F) {
        match self.0.0.take() {
            Some(limits) => drop(tokio::task::spawn_local(Limited { stream, limits })),
            None => drop(tokio::task::spawn_local(stream)),
        }
    }
}

pin_project_lite::pin_project! {
    struct Limited<F> {
        #[pin]
        stream: F,
        limits: Rc<RequestLimits>,
    }
}

impl<F: Future> Future for Limited<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        this.limits.overdue(cx)
    }
}
