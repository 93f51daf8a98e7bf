//! What ends a downstream connection but its peer: silence, slow heads, bytes that nobody takes, its longest life,
//! certificates.

use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use super::super::clock::{Deadline, now};
use super::super::connection::Urgency;
use super::super::http_connection::{CodecType, HttpConnection};
use crate::runtime::HttpManager;

/// A request's head has to be complete this long after its first byte, or after the connection was opened.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections end this long before a certificate does.
const MARGIN: Duration = Duration::from_secs(1);
/// They are announced to end this long before it: time for each to carry one more response.
const ANNOUNCED: Duration = Duration::from_secs(3);

/// How long a peer that was told all may take to close.
const LINGERS: Duration = Duration::from_secs(1);

/// The timers of a downstream connection.
pub(super) struct ConnectionTimers {
    deadline: Deadline,
    idle: Option<Duration>,
    /// From then on responses say that the connection ends.
    announce_at: Option<Instant>,
    /// Then it ends also where no response came by.
    finish_at: Option<Instant>,
    grace: Duration,
    cut_at: Option<Instant>,
    first_head: Option<Instant>,
    head: Duration,
    /// When a head that has begun must be complete; only of later heads of an HTTP/1 connection.
    head_ends: Option<Instant>,
    /// How long the peer may take nothing of what is there for it.
    stall: Option<Duration>,
    /// The last time that it was seen to take nothing, as [`StreamActivity::stalled`] says it, and when that has lasted too long.
    stalled: Option<(u32, Instant)>,
    /// How many requests there had been when bytes were last looked for.
    requests: u32,
    /// The peer was too slow, and is about to be cut off.
    timed_out: bool,
}

impl ConnectionTimers {
    pub(super) fn new(connection: &HttpConnection, manager: &HttpManager) -> Self {
        let at = now();
        let certificate = connection
            .downstream
            .facts
            .expires()
            .map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
        let (most, grace) = (manager.timeouts.max_connection, manager.timeouts.drain);
        let announce = certificate.map(|life| life.saturating_sub(ANNOUNCED));
        let finish = certificate.map(|life| life.saturating_sub(MARGIN));
        let announce = [most, announce].into_iter().flatten().min();
        let finish = [most.map(|most| most + grace), finish].into_iter().flatten().min();
        let deadline = Deadline::new(&connection.worker.deadlines);
        let head = manager.timeouts.request_headers.unwrap_or(HEAD_TIMEOUT);
        let mut this = Self {
            deadline,
            idle: manager.timeouts.idle,
            announce_at: announce.map(|life| at + life),
            finish_at: finish.map(|life| at + life),
            grace,
            cut_at: None,
            first_head: Some(at + head),
            head,
            head_ends: None,
            stall: manager.timeouts.stream_idle,
            stalled: None,
            requests: 0,
            timed_out: false,
        };
        this.arm(connection, at);
        this
    }

    fn arm(&mut self, connection: &HttpConnection, at: Instant) {
        let idle = self.idle_end(connection);
        let stalled = self.stalled.map(|(_, end)| end);
        match [idle, self.announce_at, self.finish_at, self.cut_at, stalled].into_iter().flatten().min() {
            Some(end) => self.deadline.set(end.saturating_duration_since(at)),
            None => self.deadline.clear(),
        }
    }

    fn idle_end(&self, connection: &HttpConnection) -> Option<Instant> {
        if connection.in_flight.get() > 0 {
            return self.idle.map(|idle| now() + idle);
        }
        let since = connection.idle_since.get();
        // A peer that connects and never sends a request head is not kept for the idle timeout's hour.
        let unused = connection.requests.get() == 0 && connection.protocol == CodecType::Http1;
        let unused = self.first_head.filter(|_| unused);
        [self.idle.map(|idle| since + idle), unused, self.head_ends].into_iter().flatten().min()
    }

    /// Bytes between two requests begin a head, which has to be complete in time.
    fn look_for_a_head(&mut self, connection: &HttpConnection) {
        if connection.protocol == CodecType::Http2 || !connection.activity.take_received() {
            return;
        }
        let requests = connection.requests.get();
        if std::mem::replace(&mut self.requests, requests) != requests || connection.in_flight.get() > 0 {
            self.head_ends = None;
        } else if self.head_ends.is_none() && requests > 0 && !self.timed_out {
            let at = now();
            self.head_ends = Some(at + self.head);
            self.arm(connection, at);
        }
    }

    /// Responses that have gone to the peer whole, as far as their requests are concerned, still wait to be taken. The
    /// limits of a request watch that while there is one; this is the same for what is left without.
    fn look_for_a_stall(&mut self, connection: &HttpConnection) {
        let Some(number) = connection.activity.stalled().filter(|_| connection.in_flight.get() == 0) else {
            self.stalled = None;
            return;
        };
        if self.stalled.is_none_or(|(known, _)| known != number)
            && let Some(stall) = self.stall
        {
            let at = now();
            self.stalled = Some((number, at + stall));
            self.arm(connection, at);
        }
    }

    /// All was said: the peer has a moment to close the connection, so that it reads what it was told.
    pub(super) fn linger(&mut self, connection: &HttpConnection) {
        let at = now();
        if self.cut_at.is_none_or(|cut| cut > at + LINGERS) {
            self.cut_at = Some(at + LINGERS);
            self.arm(connection, at);
        }
    }

    /// Ready when the connection must be cut.
    pub(super) fn poll(&mut self, connection: &HttpConnection, cx: &Context<'_>) -> Poll<()> {
        self.look_for_a_head(connection);
        self.look_for_a_stall(connection);
        while self.deadline.poll(cx).is_ready() {
            let at = now();
            if self.cut_at.is_some_and(|cut| at >= cut) || self.stalled.is_some_and(|(_, end)| at >= end) {
                return Poll::Ready(());
            }
            if self.announce_at.take_if(|announce| at >= *announce).is_some() {
                // The certificate's or the connection's time is nearly over: a peer that hears of it in a response
                // sends no request that would cross the end.
                connection.downstream.end(Urgency::Announce);
                cx.waker().wake_by_ref();
            }
            if self.finish_at.take_if(|finish| at >= *finish).is_some() {
                self.cut_at = Some(at + self.grace);
                connection.downstream.end(Urgency::Finish);
                cx.waker().wake_by_ref();
            } else if self.idle_end(connection).is_some_and(|end| at >= end) {
                // Said once: said again, it would put off the end for as long as the peer sends anything.
                (self.idle, self.first_head, self.head_ends) = (None, None, None);
                self.timed_out = true;
                self.cut_at = Some(at + LINGERS);
                connection.downstream.end(Urgency::Finish);
                cx.waker().wake_by_ref();
            }
            self.arm(connection, at);
        }
        Poll::Pending
    }
}
