//! Connections to servers over TLS, as the worker holds them, to end those whose server is not trusted any more.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use imbl::ordmap::DiffItem;

use super::super::connect::Dialed;
use super::super::failure_log::FailureLog;
use crate::peer::PeerCertificate;
use crate::runtime::{RevocationListSet, Runtime, Transport, UpstreamTls};

/// A connection whose server was checked.
#[derive(Debug)]
pub(crate) struct Trusted {
    number: u64,
    cluster: Arc<str>,
    /// The context by which the server was checked last.
    tls: RefCell<Arc<UpstreamTls>>,
    peer: Arc<PeerCertificate>,
    refused: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    of: Weak<Servers>,
}

/// All of them of a worker, with the configuration by which they are checked.
#[derive(Debug)]
pub(in super::super) struct Servers {
    live: RefCell<HashMap<u64, Weak<Trusted>>>,
    next: Cell<u64>,
    runtime: RefCell<Arc<Runtime>>,
}

impl Trusted {
    /// Ready when the server would not be accepted any more; else the task is woken then. One task asks.
    pub(in super::super) fn poll_refused(&self, cx: &Context<'_>) -> Poll<()> {
        if self.refused.get() {
            return Poll::Ready(());
        }
        match &mut *self.waker.borrow_mut() {
            Some(known) => known.clone_from(cx.waker()),
            slot => *slot = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn check(&self, newest: Option<Arc<UpstreamTls>>, lists: &RevocationListSet, throttle: &FailureLog) {
        if self.refused.get() {
            return;
        }
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
        throttle.note(&peer, &reason, |unsaid| {
            tracing::warn!(
                event = "server_distrusted",
                %cluster, %peer, reason, unsaid,
                "connections to a server that is not trusted any more end"
            );
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
    pub(in super::super) fn new() -> Rc<Self> {
        let (live, next) = (RefCell::default(), Cell::new(0));
        Rc::new(Self { live, next, runtime: RefCell::new(Runtime::empty()) })
    }

    /// Is told of a configuration, by which connections are checked from now on.
    pub(in super::super) fn swap(&self, runtime: &Arc<Runtime>) {
        *self.runtime.borrow_mut() = runtime.clone();
    }

    /// Holds a new connection, where its server has a certificate. What changed while the handshake ran counts.
    pub(in super::super) fn hold(
        self: &Rc<Self>,
        throttle: &FailureLog,
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
        let newest = self.newest(cluster, tls);
        if newest.as_ref().is_none_or(|newest| !Arc::ptr_eq(newest, tls)) {
            trusted.check(newest, &self.runtime.borrow().revocations, throttle);
        }
        Some(trusted)
    }

    /// Looks at all of them again, after a cluster's contexts changed. One whose context says the same as before costs a
    /// comparison.
    pub(in super::super) fn check(&self, throttle: &FailureLog, lists: &RevocationListSet) {
        let all: Vec<Rc<Trusted>> = self.live.borrow().values().filter_map(Weak::upgrade).collect();
        for trusted in all {
            let newest = self.newest(&trusted.cluster, &trusted.tls.borrow());
            trusted.check(newest, lists, throttle);
        }
    }

    /// The TLS context of a cluster that has taken the place of `old`.
    fn newest(&self, cluster: &str, old: &Arc<UpstreamTls>) -> Option<Arc<UpstreamTls>> {
        let runtime = self.runtime.borrow();
        let contexts = runtime.clusters.get(cluster)?.transports.iter().filter_map(Transport::tls);
        let mut same_name = contexts.filter(|tls| tls.server_name == old.server_name);
        same_name.next().cloned()
    }
}

/// Whether a cluster has other TLS contexts than before.
pub(in super::super) fn are_secured_anew(old: &Runtime, new: &Runtime) -> bool {
    old.clusters.diff(&new.clusters).any(|change| match change {
        DiffItem::Update { old: (_, old), new: (_, new) } => {
            transports_differ(&old.transports, &new.transports)
        }
        // Nobody holds connections of a new one; those of one that is gone were checked by it.
        DiffItem::Add(..) | DiffItem::Remove(..) => false,
    })
}

fn transports_differ(one: &[Transport], other: &[Transport]) -> bool {
    one.len() != other.len()
        || one.iter().zip(other).any(|pair| match pair {
            (Transport::Plaintext, Transport::Plaintext) => false,
            (Transport::Tls(a), Transport::Tls(b)) => !Arc::ptr_eq(a, b),
            (Transport::Plaintext, Transport::Tls(_)) | (Transport::Tls(_), Transport::Plaintext) => true,
        })
}
