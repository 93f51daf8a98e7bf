//! Who moves the bytes of an h1 connection: the request that uses it, and between requests nobody.
//!
//! ```text
//! request in flight   task of the downstream connection ── poll_head, poll_frame ──▶ H1Wire
//! idle                own task, woken only when the server says or closes something ─▶ H1Wire
//! ```
//!
//! A request that moves the bytes itself needs no other task to be woken for it, and passes them on while they are still
//! in the processor's cache.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use weft_http1::client::ClientConnection;
use weft_http1::{CodecOptions, Error, FieldCase, HeadLimits};

use super::super::body::RequestBody;
use super::super::stream::Stream;

/// What a response's head may be at most: Envoy's defaults.
const LIMITS: HeadLimits = HeadLimits { fields: 100, bytes: 80 * 1024 };

type Http1Connection = ClientConnection<Stream, RequestBody>;

/// An h1 connection, shared by the request that uses it and the connection's own task.
pub(super) struct H1Wire {
    /// Gone when it is closed, or has become a tunnel.
    http: RefCell<Option<Http1Connection>>,
    /// A request uses it.
    in_use: Cell<bool>,
    /// It ends when what is left of its last request was sent.
    closing: Cell<bool>,
    /// Wakes its own task.
    task_waker: RefCell<Option<Waker>>,
    /// Wakes the request that uses it.
    request_waker: RefCell<Option<Waker>>,
}

impl fmt::Debug for H1Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("H1Wire").field("in_use", &self.in_use).finish_non_exhaustive()
    }
}

impl H1Wire {
    pub(super) fn new(stream: Stream) -> Rc<Self> {
        let http = Http1Connection::new(stream, CodecOptions { limits: LIMITS, case: FieldCase::Lower });
        Rc::new(Self {
            http: RefCell::new(Some(http)),
            in_use: Cell::new(false),
            closing: Cell::new(false),
            task_waker: RefCell::default(),
            request_waker: RefCell::default(),
        })
    }

    /// A request begins to use it.
    pub(super) fn begin_request(&self) {
        self.in_use.set(true);
    }

    /// Takes a request; it goes out when the response is polled.
    pub(super) fn send(&self, request: Request<RequestBody>) {
        if let Some(http) = &mut *self.http.borrow_mut() {
            http.send(request);
        }
    }

    /// Sends the request, and waits for the head of what answers it.
    pub(super) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, Error>> {
        let mut slot = self.http.borrow_mut();
        let Some(http) = &mut *slot else { return Poll::Ready(Err(Error::Gone)) };
        let polled = http.poll_head(cx);
        if polled.is_pending() {
            store_waker(&self.request_waker, cx);
        }
        polled
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut slot = self.http.borrow_mut();
        let Some(http) = &mut *slot else { return Poll::Ready(Some(Err(Error::Gone))) };
        let polled = http.poll_frame(cx);
        if polled.is_pending() {
            store_waker(&self.request_waker, cx);
        }
        polled
    }

    /// Whether the next request may be sent.
    pub(super) fn is_reusable(&self) -> bool {
        self.http.borrow().as_ref().is_some_and(Http1Connection::is_reusable)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.http.borrow().is_none()
    }

    /// The request is over, and has its response; whether the connection may be kept for others.
    pub(super) fn finish_request(&self) -> bool {
        self.in_use.set(false);
        self.check_idle();
        !self.is_closed()
    }

    /// Looks what has happened. What happens next is for its own task, which need not be woken to learn so.
    pub(super) fn check_idle(&self) {
        let task_waker = self.task_waker.borrow().clone();
        // One that had no turn yet looks by itself.
        let Some(task_waker) = task_waker else { return };
        if self.poll_idle(&mut Context::from_waker(&task_waker)).is_ready() {
            self.close();
        }
    }

    fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut slot = self.http.borrow_mut();
        let Some(http) = &mut *slot else { return Poll::Ready(()) };
        if http.poll_idle(cx).is_ready() || (self.closing.get() && http.is_reusable()) {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// One turn of its own task; ready when the connection is over.
    pub(super) fn poll_task(&self, cx: &mut Context<'_>) -> Poll<()> {
        store_waker(&self.task_waker, cx);
        if !self.in_use.get() {
            return self.poll_idle(cx);
        }
        if self.is_closed() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ends it when what is left of its request was sent.
    pub(super) fn finish(&self) {
        self.closing.set(true);
        self.in_use.set(false);
        if let Some(task_waker) = &*self.task_waker.borrow() {
            task_waker.wake_by_ref();
        }
    }

    /// Closes it whatever it waits for; both who know it hear of that.
    pub(super) fn close(&self) {
        drop(self.take());
    }

    /// The stream of a connection that has become a tunnel, with what was read ahead.
    pub(super) fn take_stream(&self) -> Option<Stream> {
        let (stream, ahead) = self.take()?.into_parts();
        Some(stream.rewind(ahead.into()))
    }

    fn take(&self) -> Option<Http1Connection> {
        let http = self.http.borrow_mut().take();
        if let Some(request_waker) = self.request_waker.take() {
            request_waker.wake();
        }
        if let Some(task_waker) = &*self.task_waker.borrow() {
            task_waker.wake_by_ref();
        }
        http
    }
}

/// Remembers whom to wake.
#[inline]
fn store_waker(slot: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    match &mut *slot.borrow_mut() {
        Some(known) => known.clone_from(cx.waker()),
        slot => *slot = Some(cx.waker().clone()),
    }
}

/// A response's content. The connection may be with the next request as soon as it has ended.
#[derive(Debug)]
pub(crate) struct H1Body {
    state: ReadingState,
}

#[derive(Debug)]
enum ReadingState {
    Reading(Rc<H1Wire>),
    Ended,
    Broken,
}

impl H1Body {
    /// Of a response whose head has just come.
    pub(super) fn new(wire: &Rc<H1Wire>) -> Self {
        let mut this = Self { state: ReadingState::Reading(wire.clone()) };
        this.look_for_the_end();
        this
    }

    fn look_for_the_end(&mut self) {
        if let ReadingState::Reading(wire) = &self.state
            && wire.http.borrow().as_ref().is_some_and(Http1Connection::is_end_stream)
        {
            self.state = ReadingState::Ended;
        }
    }
}

impl Body for H1Body {
    type Data = Bytes;
    type Error = Error;

    #[inline]
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let polled = match &this.state {
            ReadingState::Reading(wire) => wire.poll_frame(cx),
            ReadingState::Ended => return Poll::Ready(None),
            ReadingState::Broken => return Poll::Ready(Some(Err(Error::Gone))),
        };
        match &polled {
            Poll::Ready(Some(Err(_))) => this.state = ReadingState::Broken,
            Poll::Ready(Some(Ok(_)) | None) => this.look_for_the_end(),
            Poll::Pending => {}
        }
        polled
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        matches!(self.state, ReadingState::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        let length = match &self.state {
            ReadingState::Reading(wire) => wire.http.borrow().as_ref().and_then(Http1Connection::remaining),
            ReadingState::Ended => Some(0),
            ReadingState::Broken => None,
        };
        length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
