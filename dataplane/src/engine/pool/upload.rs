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

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::super::body::{BodyError, RequestBody};
use super::h2::StreamPlace;

/// A request's body on a connection.
#[derive(Debug)]
pub(crate) struct UploadBody {
    body: RequestBody,
    /// What is said when it begins to be sent, where a task of its own will send it.
    upload: Option<Upload>,
}

impl UploadBody {
    pub(super) fn new(body: RequestBody, upload: Option<Upload>) -> Self {
        Self { body, upload }
    }

    /// What was to be sent.
    pub(crate) fn into_inner(self) -> RequestBody {
        self.body
    }
}

impl http_body::Body for UploadBody {
    type Data = Bytes;
    type Error = BodyError;

    #[inline]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(upload) = self.upload.take() {
            upload.begin();
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs the tasks of one HTTP/2 connection to a server, but for the first: that one reads and writes the connection, and
/// is for whoever drives it.
#[derive(Clone, Default)]
pub(super) struct Uploads(Rc<Tasks>);

#[derive(Default)]
struct Tasks {
    wire: RefCell<ConnectionDriver>,
    next: Cell<Option<Rc<Stop>>>,
}

#[derive(Default)]
enum ConnectionDriver {
    #[default]
    NotMade,
    Made(Task),
    Taken,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

impl std::fmt::Debug for Uploads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Uploads")
    }
}

/// A body that is about to be sent.
#[derive(Debug)]
pub(super) struct Upload {
    of: Uploads,
    stop: Rc<Stop>,
}

/// Ends the task of one body.
#[derive(Debug, Default)]
pub(super) struct Stop {
    stopped: Cell<bool>,
    /// The stream's place on the connection, where the task outlives the request.
    place: RefCell<Option<StreamPlace>>,
    waker: RefCell<Option<Waker>>,
}

impl Uploads {
    /// The task that reads and writes.
    pub(super) fn take_wire(&self) -> Option<Task> {
        match self.0.wire.replace(ConnectionDriver::Taken) {
            ConnectionDriver::Made(task) => Some(task),
            ConnectionDriver::NotMade | ConnectionDriver::Taken => None,
        }
    }

    /// A body for the next request, and what ends its task.
    pub(super) fn upload(&self) -> (Upload, Rc<Stop>) {
        let stop = Rc::<Stop>::default();
        (Upload { of: self.clone(), stop: stop.clone() }, stop)
    }
}

impl Upload {
    /// The body is polled for the first time: the task that is made next is its own.
    fn begin(self) {
        self.of.0.next.set(Some(self.stop));
    }
}

impl Stop {
    /// The request is over, and the task goes on: it has the place until it ends, or at once where there is no task.
    pub(super) fn keep(self: Rc<Self>, place: Option<StreamPlace>) {
        *self.place.borrow_mut() = place;
    }

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
        let mut wire = self.0.wire.borrow_mut();
        if matches!(*wire, ConnectionDriver::NotMade) {
            *wire = ConnectionDriver::Made(Box::pin(async { drop(task.await) }));
            return;
        }
        drop(wire);
        match self.0.next.take() {
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
