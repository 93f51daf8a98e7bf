//! A connection to a server, and what ends it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use super::super::clock::{Deadline, now};
use super::super::cluster_info::ClusterInfo;
use super::super::connect::Dialed;
use super::super::local::Local;
use super::super::trust::GRACE;
use super::super::trust::servers::Trusted;
use super::place::ConnectionPlace;
use crate::peer::PeerCertificate;

/// No request begins on a connection this long before a certificate expires: before the server announces its end, so
/// that no request crosses that.
const MARGIN: Duration = Duration::from_secs(4);

/// How often a connection whose time is over is looked at while requests still use it.
const RECHECK: Duration = Duration::from_secs(60);

/// One upstream connection, as its users and its driving task see it.
#[derive(Debug)]
pub(crate) struct UpstreamConnection {
    worker: Rc<Local>,
    cluster: Rc<ClusterInfo>,
    /// Requests that it has begun to serve.
    pub(crate) served: Cell<u32>,
    /// Requests that it serves now.
    pub(crate) active: Cell<u32>,
    /// No new request may use it.
    pub(crate) spent: Cell<bool>,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) peer: Option<Arc<PeerCertificate>>,
    /// Its part of the worker's list, where it has a server's certificate.
    trusted: Option<Rc<Trusted>>,
    /// When it ends whatever is under way.
    cut_at: Cell<Option<Instant>>,
    certificate_end: Option<SystemTime>,
    opened: Instant,
    idle_since: Cell<Instant>,
    ends: Option<Instant>,
    deadline: Deadline,
    _place: ConnectionPlace,
}

impl UpstreamConnection {
    pub(super) fn new(
        worker: &Rc<Local>,
        cluster: &Rc<ClusterInfo>,
        dialed: &Dialed,
        place: ConnectionPlace,
    ) -> Rc<Self> {
        let opened = now();
        let life = [cluster.http.max_connection, certificate_life(dialed)].into_iter().flatten().min();
        worker.shard.up(cluster.stats.upstream_cx_active);
        let connection = Self {
            worker: worker.clone(),
            cluster: cluster.clone(),
            served: Cell::new(0),
            active: Cell::new(0),
            spent: Cell::new(false),
            local: dialed.local,
            peer: dialed.peer.clone(),
            trusted: worker.servers.hold(&worker.throttle, &cluster.name, dialed),
            cut_at: Cell::new(None),
            certificate_end: dialed.certificate_end(),
            opened,
            idle_since: Cell::new(opened),
            ends: life.map(|life| opened + life),
            deadline: Deadline::new(&worker.deadlines),
            _place: place,
        };
        connection.arm();
        Rc::new(connection)
    }

    /// One more request; the last one that the connection may serve marks it as spent.
    pub(super) fn begin(&self) {
        self.active.set(self.active.get() + 1);
        self.served.set(self.served.get() + 1);
        if self.cluster.http.requests_per_connection.is_some_and(|most| self.served.get() >= most) {
            self.worker.shard.inc(self.cluster.stats.upstream_cx_max_requests);
            self.spent.set(true);
        }
    }

    /// A request is over.
    pub(super) fn end(&self) {
        self.active.set(self.active.get() - 1);
        if self.active.get() == 0 {
            let at = now();
            self.idle_since.set(at);
            if let Some(end) = self.next_end() {
                self.deadline.set(end.saturating_duration_since(at));
            }
        }
    }

    /// For a tunnel over it, which ends with the trust in its server.
    pub(crate) fn trusted(&self) -> Option<Rc<Trusted>> {
        self.trusted.clone()
    }

    /// When the first of its two certificates expires.
    pub(crate) fn certificate_end(&self) -> Option<SystemTime> {
        self.certificate_end
    }

    pub(super) fn idle_for(&self) -> Duration {
        now().saturating_duration_since(self.idle_since.get())
    }

    /// Whether requests under way are not waited for any more.
    pub(super) fn is_cut(&self) -> bool {
        self.cut_at.get().is_some_and(|cut| now() >= cut)
    }

    /// The server is not trusted any more: no new request, and those under way may take a moment.
    fn watch_trust(&self, cx: &Context<'_>) {
        if let Some(trusted) = &self.trusted
            && self.cut_at.get().is_none()
            && trusted.poll_refused(cx).is_ready()
        {
            self.spent.set(true);
            self.cut_at.set(Some(now() + GRACE));
            self.deadline.set(if self.active.get() == 0 { Duration::ZERO } else { GRACE });
        }
    }

    /// Ready when the connection has to end: it was idle for too long, or its time is over. Requests under way
    /// are not cut; the last one's end brings the task back here.
    pub(super) fn poll_end(&self, cx: &Context<'_>) -> Poll<()> {
        self.watch_trust(cx);
        if self.deadline.poll(cx).is_pending() {
            return Poll::Pending;
        }
        let at = now();
        if let Some(cut) = self.cut_at.get() {
            if at >= cut || self.active.get() == 0 {
                return Poll::Ready(());
            }
            self.rearm(at, cx);
            return Poll::Pending;
        }
        if self.ends.is_some_and(|ends| at >= ends) {
            if !self.spent.replace(true) {
                self.worker.shard.inc(self.cluster.stats.upstream_cx_max_duration_reached);
            }
        } else if self.active.get() > 0 {
            self.rearm(at, cx);
            return Poll::Pending;
        } else if self.idle_end().is_some_and(|end| at >= end) {
            self.worker.shard.inc(self.cluster.stats.upstream_cx_idle_timeout);
            self.spent.set(true);
        } else {
            self.rearm(at, cx);
            return Poll::Pending;
        }
        if self.active.get() == 0 {
            return Poll::Ready(());
        }
        // The last request's end brings the task back, if it is heard of.
        self.deadline.set(RECHECK);
        let _ = self.deadline.poll(cx);
        Poll::Pending
    }

    fn rearm(&self, at: Instant, cx: &Context<'_>) {
        match self.next_end() {
            Some(end) => self.deadline.set(end.saturating_duration_since(at).max(Duration::from_millis(10))),
            None => self.deadline.clear(),
        }
        let _ = self.deadline.poll(cx);
    }

    fn arm(&self) {
        if let Some(end) = self.next_end() {
            self.deadline.set(end.saturating_duration_since(now()));
        }
    }

    fn idle_end(&self) -> Option<Instant> {
        self.cluster.http.idle_timeout.map(|span| self.idle_since.get() + span)
    }

    fn next_end(&self) -> Option<Instant> {
        if let Some(cut) = self.cut_at.get() {
            return Some(if self.active.get() == 0 { now() } else { cut });
        }
        let idle = if self.active.get() == 0 { self.idle_end() } else { None };
        [idle, self.ends].into_iter().flatten().min()
    }
}

impl Drop for UpstreamConnection {
    fn drop(&mut self) {
        let (shard, stats) = (&self.worker.shard, &self.cluster.stats);
        shard.down(stats.upstream_cx_active);
        shard.inc(stats.upstream_cx_destroy);
        shard.record(stats.upstream_cx_length_ms, now().saturating_duration_since(self.opened));
    }
}

fn certificate_life(dialed: &Dialed) -> Option<Duration> {
    let end = dialed.certificate_end()?;
    Some(end.duration_since(SystemTime::now()).unwrap_or_default().saturating_sub(MARGIN))
}
