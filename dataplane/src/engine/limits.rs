//! The time limits of one request, apart from the request: whoever drives the connection polls them.
//!
//! ```text
//! HTTP/1   the connection's own task      one request at a time, so one set of limits for the connection
//! HTTP/2   the stream's own task          a set for each stream, handed over when hyper makes the task
//! tunnel   the task that copies
//! ```
//!
//! Nobody polls a body whose bytes cannot be written. A limit that only the body looked at would never be reached
//! while the caller does not read, and the request would hold its endpoint's connection and its places in the circuit
//! breakers for as long as the caller likes. So the request's own task looks at its limits while it can still answer
//! ([`RequestLimits::answerable`]); what is reached in spite of it ends the stream from outside, wherever the request is.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::StatusCode;

use super::body::Progress;
use super::clock::{Deadline, Deadlines, now};
use super::reply::Reply;
use crate::format::ResponseFlags;
use crate::runtime::HttpTimeouts;

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimedOut {
    Route,
    /// The retry policy's limit of one try.
    PerTry,
    /// The stream was silent.
    Idle,
    /// The longest life of a stream.
    Duration,
    /// The caller took too long to send its request.
    Request,
}

impl TimedOut {
    /// `%RESPONSE_CODE_DETAILS%`.
    pub(super) fn details(self) -> &'static str {
        match self {
            Self::Route => "response_timeout",
            Self::PerTry => "upstream_per_try_timeout",
            Self::Idle => "stream_idle_timeout",
            Self::Duration => "max_duration_timeout",
            Self::Request => "request_overall_timeout",
        }
    }

    /// What `%RESPONSE_FLAGS%` says; Envoy has no word for the last two.
    pub(super) fn flag(self) -> Option<ResponseFlags> {
        match self {
            Self::Route | Self::PerTry => Some(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT),
            Self::Idle => Some(ResponseFlags::STREAM_IDLE_TIMEOUT),
            Self::Duration | Self::Request => None,
        }
    }

    /// The answer. 408 where the caller has not sent its request yet: it is not the endpoint that is late then.
    pub(crate) fn reply(self, request_ended: bool) -> Reply {
        let late = if request_ended { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::REQUEST_TIMEOUT };
        let (code, body) = match self {
            Self::Route | Self::PerTry => (StatusCode::GATEWAY_TIMEOUT, "upstream request timeout"),
            Self::Idle => (late, "stream timeout"),
            Self::Duration => (late, "downstream duration timeout"),
            Self::Request => (StatusCode::REQUEST_TIMEOUT, "request timeout"),
        };
        let reply = Reply::new(code, self.details()).body(body);
        match self.flag() {
            Some(flag) => reply.flag(flag),
            None => reply,
        }
    }
}

/// The time limits of one request, shared by its own task and the one that drives its connection.
#[derive(Debug)]
pub(crate) struct RequestLimits {
    deadline: Deadline,
    /// Something may be reached; else nobody looks at the deadline.
    armed: Cell<bool>,
    idle: Cell<Option<Duration>>,
    /// When something moved last, but for what [`Progress`] saw of the request's body.
    moved: Cell<Instant>,
    /// The request's body, where it has one.
    request: RefCell<Option<Rc<Progress>>>,
    /// When the whole request must be there.
    request_ends: Cell<Option<Instant>>,
    /// The route's timeout, and the earliest moment from which it may run.
    route: Cell<Option<(Duration, Instant)>>,
    try_ends: Cell<Option<Instant>>,
    ends: Cell<Option<Instant>>,
    reached: Cell<Option<TimedOut>>,
}

impl RequestLimits {
    /// Limits that no request has yet.
    pub(super) fn new(deadlines: &Rc<Deadlines>) -> Rc<Self> {
        Rc::new(Self {
            deadline: Deadline::new(deadlines),
            armed: Cell::new(false),
            idle: Cell::new(None),
            moved: Cell::new(now()),
            request: RefCell::default(),
            request_ends: Cell::new(None),
            route: Cell::new(None),
            try_ends: Cell::new(None),
            ends: Cell::new(None),
            reached: Cell::new(None),
        })
    }

    /// A request begins. Nothing is watched before it waits for something.
    pub(super) fn begin(&self, timeouts: &HttpTimeouts, start: Instant) {
        self.idle.set(timeouts.stream_idle);
        self.moved.set(start);
        self.request_ends.set(timeouts.request.map(|span| start + span));
        self.route.set(None);
        self.try_ends.set(None);
        self.ends.set(timeouts.max_stream.map(|span| start + span));
        self.reached.set(None);
    }

    /// The request has a body, whose progress counts.
    pub(super) fn follow(&self, progress: &Rc<Progress>) {
        *self.request.borrow_mut() = Some(progress.clone());
    }

    /// The request waits for something before it is sent: what has been set so far counts.
    pub(crate) fn watch(&self) {
        self.arm(now());
    }

    /// The limits that a route gives; said when the request is about to be sent.
    pub(super) fn route(
        &self,
        start: Instant,
        timeout: Option<Duration>,
        idle: Option<Option<Duration>>,
        longest: Option<Option<Duration>>,
    ) {
        let at = now();
        self.route.set(timeout.map(|span| (span, at)));
        if let Some(idle) = idle {
            self.idle.set(idle);
        }
        if let Some(longest) = longest {
            self.ends.set(longest.map(|span| start + span));
        }
        self.arm(at);
    }

    /// Sets or removes the limit of one try.
    pub(super) fn one_try(&self, span: Option<Duration>) {
        if span.is_some() || self.try_ends.get().is_some() {
            let at = now();
            self.try_ends.set(span.map(|span| at + span));
            self.arm(at);
        }
    }

    /// The response's head has come: only the limits of the whole go on.
    pub(super) fn responded(&self) {
        self.moved.set(now());
        self.try_ends.set(None);
        self.request_ends.set(None);
    }

    /// An answer of our own goes out, or the rest of a response that has come whole: what is left to wait for is the
    /// caller, who must take it before the stream has been silent for too long.
    pub(super) fn flush(&self) {
        let at = now();
        self.moved.set(at);
        self.route.set(None);
        self.try_ends.set(None);
        self.request_ends.set(None);
        self.request.take();
        // A deadline that is set already comes too early at worst, and is moved then.
        if !self.armed.get() {
            self.arm(at);
        }
    }

    /// A tunnel begins, which watches itself.
    pub(super) fn rest(&self) {
        self.disarm();
    }

    /// Nothing is left to wait for.
    pub(super) fn end(&self) {
        self.disarm();
        self.request.take();
    }

    /// Something of the response moved.
    #[inline]
    pub(super) fn moved(&self) {
        if self.armed.get() {
            self.moved.set(now());
        }
    }

    /// How long the stream may be silent.
    pub(super) fn idle(&self) -> Option<Duration> {
        self.idle.get()
    }

    /// How long the stream may go on.
    pub(super) fn left(&self) -> Option<Duration> {
        self.ends.get().map(|end| end.saturating_duration_since(now()))
    }

    /// Whether the request has come whole.
    pub(crate) fn request_ended(&self) -> bool {
        self.request.borrow().as_ref().is_none_or(|progress| progress.ended.get().is_some())
    }

    /// Whether there is anything to look at.
    #[inline]
    pub(super) fn are_armed(&self) -> bool {
        self.armed.get()
    }

    /// For the request, which can still answer: ready when a limit is reached.
    pub(super) fn answerable(&self, cx: &Context<'_>) -> Poll<TimedOut> {
        while self.deadline.poll(cx).is_ready() {
            let at = now();
            if let Some(reached) = self.reached_at(at) {
                return Poll::Ready(reached);
            }
            self.arm(at);
        }
        Poll::Pending
    }

    /// For the driver, after everything that it drives was polled: ready when a limit is reached that nobody has
    /// answered, and the stream has to be cut.
    pub(super) fn overdue(&self, cx: &Context<'_>) -> Poll<()> {
        let Poll::Ready(reached) = self.answerable(cx) else { return Poll::Pending };
        if self.reached.get().is_none() {
            self.reached.set(Some(reached));
        }
        Poll::Ready(())
    }

    /// The stream is cut for a limit that somebody else has watched: its driver hears of it.
    pub(super) fn cut(&self, reached: TimedOut) {
        self.reached.set(Some(reached));
        self.ends.set(Some(now()));
        self.armed.set(true);
        self.deadline.set(Duration::ZERO);
    }

    /// The limit for which the stream was cut.
    pub(super) fn cut_for(&self) -> Option<TimedOut> {
        self.reached.get()
    }

    fn reached_at(&self, at: Instant) -> Option<TimedOut> {
        let over = |end: Option<Instant>| end.is_some_and(|end| at >= end);
        if over(self.try_ends.get()) {
            return Some(TimedOut::PerTry);
        }
        if over(self.request_ends.get()) && !self.request_ended() {
            return Some(TimedOut::Request);
        }
        if self.request_ended() && over(self.route_end()) {
            return Some(TimedOut::Route);
        }
        if over(self.ends.get()) {
            return Some(TimedOut::Duration);
        }
        over(self.idle_end()).then_some(TimedOut::Idle)
    }

    /// The route's clock runs from the end of the request. While that is not known, this is the first moment at which
    /// it has to be looked at again.
    fn route_end(&self) -> Option<Instant> {
        let (span, sent) = self.route.get()?;
        let request = self.request.borrow();
        let ended = request.as_ref().and_then(|progress| progress.ended.get());
        Some(ended.map_or(sent, |ended| ended.max(sent)) + span)
    }

    fn idle_end(&self) -> Option<Instant> {
        let request = self.request.borrow();
        let moved =
            request.as_ref().map_or(self.moved.get(), |progress| progress.moved.get().max(self.moved.get()));
        self.idle.get().map(|idle| moved + idle)
    }

    fn arm(&self, at: Instant) {
        // A route's end that is behind us and was not reached waits for the request's end.
        let route = self.route.get().zip(self.route_end());
        let route = route.map(|((span, _), end)| if end > at { end } else { at + span });
        let request = self.request_ends.get().filter(|end| *end > at);
        let next = [self.idle_end(), route, self.try_ends.get(), self.ends.get(), request];
        match next.into_iter().flatten().min() {
            Some(end) => {
                self.armed.set(true);
                self.deadline.set(end.saturating_duration_since(at));
            }
            None => self.disarm(),
        }
    }

    fn disarm(&self) {
        if self.armed.replace(false) {
            self.deadline.clear();
        }
    }
}

/// Runs `work` unless a limit of the request is reached first. Everything that a request waits for before it has a
/// response runs in here: what is reached elsewhere cuts the stream without an answer.
pub(crate) async fn limited<F: Future>(limits: &RequestLimits, work: F) -> Result<F::Output, TimedOut> {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => limits.answerable(cx).map(Err),
    })
    .await
}
