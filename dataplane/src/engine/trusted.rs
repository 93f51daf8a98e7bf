//! Connections to servers over TLS, as the worker holds them, to end those whose server is not trusted any more.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::connect::Dialed;
use super::trust::Lists;
use super::worker::Worker;
use crate::runtime::{PeerCertificate, UpstreamTls};

/// A connection whose server was checked.
#[derive(Debug)]
pub(super) struct Trusted {
    number: u64,
    cluster: Arc<str>,
    /// The context by which the server was checked last.
    tls: RefCell<Arc<UpstreamTls>>,
    peer: Arc<PeerCertificate>,
    refused: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    of: Weak<Servers>,
}

/// All of them of a worker.
#[derive(Debug, Default)]
pub(super) struct Servers {
    live: RefCell<HashMap<u64, Weak<Trusted>>>,
    next: Cell<u64>,
}

impl Trusted {
    /// Ready when the server would not be accepted any more; else the task is woken then. One task asks.
    pub(super) fn poll_refused(&self, cx: &Context<'_>) -> Poll<()> {
        if self.refused.get() {
            return Poll::Ready(());
        }
        match &mut *self.waker.borrow_mut() {
            Some(known) => known.clone_from(cx.waker()),
            slot => *slot = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn check(&self, worker: &Worker, lists: &Lists) {
        if self.refused.get() {
            return;
        }
        let newest = worker.newest_tls(&self.cluster, &self.tls.borrow());
        let refusal = match newest {
            // Its cluster is gone, or has another server name.
            None => lists.refusal(&self.peer),
            Some(newest) if Arc::ptr_eq(&newest, &self.tls.borrow()) => None,
            Some(newest) => {
                let change = newest.change_since(&self.tls.borrow());
                let refusal = newest.refusal(&self.peer, change);
                *self.tls.borrow_mut() = newest;
                refusal
            }
        };
        let Some(reason) = refusal else { return };
        let (cluster, peer) = (&self.cluster, self.peer.described());
        worker.repeats.note(&peer, &reason, |unsaid| {
            tracing::warn!(%cluster, %peer, reason, unsaid, "connections to a server that is not trusted any more end");
        });
        self.refused.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for Trusted {
    fn drop(&mut self) {
        if let Some(of) = self.of.upgrade() {
            of.live.borrow_mut().remove(&self.number);
        }
    }
}

impl Servers {
    /// Holds a new connection, where its server has a certificate. What changed while the handshake ran counts.
    pub(super) fn hold(
        self: &Rc<Self>,
        worker: &Worker,
        cluster: &Arc<str>,
        dialed: &Dialed,
    ) -> Option<Rc<Trusted>> {
        let (tls, peer) = (dialed.tls.as_ref()?, dialed.peer.as_ref()?);
        let number = self.next.get();
        self.next.set(number + 1);
        let trusted = Rc::new(Trusted {
            number,
            cluster: cluster.clone(),
            tls: RefCell::new(tls.clone()),
            peer: peer.clone(),
            refused: Cell::new(false),
            waker: RefCell::default(),
            of: Rc::downgrade(self),
        });
        self.live.borrow_mut().insert(number, Rc::downgrade(&trusted));
        if worker.newest_tls(cluster, tls).is_none_or(|newest| !Arc::ptr_eq(&newest, tls)) {
            trusted.check(worker, &Lists::of(&worker.snapshot().runtime));
        }
        Some(trusted)
    }

    /// Looks at all of them again, after a cluster's contexts changed. One whose context says the same as before costs a
    /// comparison.
    pub(super) fn check(&self, worker: &Worker, lists: &Lists) {
        let all: Vec<Rc<Trusted>> = self.live.borrow().values().filter_map(Weak::upgrade).collect();
        all.iter().for_each(|trusted| trusted.check(worker, lists));
    }
}
