//! Downstream connections as the worker holds them, to tell them to end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::SystemTime;

use super::chain::ChainState;
use super::command::Draining;
use crate::format::DownstreamInfo;
use crate::peer::PeerCertificate;
use crate::runtime::TrafficDirection;

/// How urgently a connection should end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    #[default]
    Stay,
    /// Say so with the next response (GOAWAY, `connection: close`), and wait for the peer to act on it.
    Announce,
    /// End when nothing is in flight.
    Finish,
    Cut,
}

/// What is known of a connection from its handshake.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) tls: Option<TlsFacts>,
    /// A number that no other connection of the process has.
    pub(crate) id: u64,
}

/// What a TLS handshake said.
#[derive(Debug)]
pub(crate) struct TlsFacts {
    pub(crate) server_name: Option<Arc<str>>,
    pub(crate) peer: Option<Arc<PeerCertificate>>,
    pub(crate) own: Arc<PeerCertificate>,
    pub(crate) version: &'static str,
    pub(crate) cipher: &'static str,
}

impl Facts {
    /// The caller's verified certificate.
    pub(crate) fn peer_certificate(&self) -> Option<&PeerCertificate> {
        self.tls.as_ref()?.peer.as_deref()
    }

    pub(crate) fn server_name(&self) -> Option<&str> {
        self.tls.as_ref()?.server_name.as_deref()
    }

    /// As access logs and formats see them.
    pub(crate) fn for_formats(&self) -> DownstreamInfo<'_> {
        let tls = self.tls.as_ref();
        DownstreamInfo {
            local: Some(self.local),
            direct_remote: Some(self.peer),
            remote: None,
            server_name: self.server_name(),
            peer: self.peer_certificate(),
            certificate: tls.map(|tls| -> &PeerCertificate { &tls.own }),
            tls_version: tls.map(|tls| tls.version),
            tls_cipher: tls.map(|tls| tls.cipher),
            transport_failure: None,
            connection_id: self.id,
        }
    }

    /// When the first certificate of the connection expires.
    pub(crate) fn expires(&self) -> Option<SystemTime> {
        let tls = self.tls.as_ref()?;
        let peer = tls.peer.as_ref().map(|peer| peer.not_after);
        Some(peer.map_or(tls.own.not_after, |peer| peer.min(tls.own.not_after)))
    }
}

#[derive(Debug)]
pub(crate) struct DownstreamConnection {
    pub(crate) chain: Rc<ChainState>,
    pub(crate) facts: Facts,
    /// Of the listener that accepted it.
    pub(crate) direction: TrafficDirection,
    ending: Cell<Urgency>,
    waker: RefCell<Option<Waker>>,
    of: Weak<DownstreamConnections>,
}

impl DownstreamConnection {
    pub(crate) fn ending(&self) -> Urgency {
        self.ending.get()
    }

    /// Asks the connection to end; a request never becomes less urgent.
    pub(crate) fn end(&self, ending: Urgency) {
        if ending > self.ending.get() {
            self.ending.set(ending);
            if let Some(waker) = self.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// Remembers whom to wake when [`DownstreamConnection::end`] is called.
    pub(crate) fn watch(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(known) => known.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
    }
}

impl Drop for DownstreamConnection {
    fn drop(&mut self) {
        if let Some(of) = self.of.upgrade() {
            of.live.borrow_mut().remove(&self.facts.id);
            if self.direction == TrafficDirection::Outbound {
                of.outbound.set(of.outbound.get() - 1);
            }
            of.fewer.notify_waiters();
        }
    }
}

/// All downstream connections of a worker.
#[derive(Debug)]
pub(crate) struct DownstreamConnections {
    live: RefCell<HashMap<u64, Weak<DownstreamConnection>>>,
    /// How many of them are the application's own.
    outbound: Cell<usize>,
    fewer: tokio::sync::Notify,
    pub(crate) load: super::connection_balance::ConnectionCounts,
}

impl DownstreamConnections {
    pub(crate) fn new(load: super::connection_balance::ConnectionCounts) -> Rc<Self> {
        Rc::new(Self {
            live: RefCell::default(),
            outbound: Cell::new(0),
            fewer: tokio::sync::Notify::new(),
            load,
        })
    }

    /// Holds a connection until the returned handle is dropped. The load was counted when it was accepted.
    pub(crate) fn hold(self: &Rc<Self>, chain: Rc<ChainState>, facts: Facts) -> Rc<DownstreamConnection> {
        let id = facts.id;
        let direction = chain.view().listener.direction;
        if direction == TrafficDirection::Outbound {
            self.outbound.set(self.outbound.get() + 1);
        }
        let connection = Rc::new(DownstreamConnection {
            chain,
            facts,
            direction,
            ending: Cell::default(),
            waker: RefCell::default(),
            of: Rc::downgrade(self),
        });
        self.live.borrow_mut().insert(id, Rc::downgrade(&connection));
        connection
    }

    pub(crate) fn each(&self, mut act: impl FnMut(&DownstreamConnection)) {
        let all: Vec<Rc<DownstreamConnection>> =
            self.live.borrow().values().filter_map(Weak::upgrade).collect();
        all.iter().for_each(|connection| act(connection));
    }

    /// Tells those to end that drain.
    pub(crate) fn end(&self, of: Draining, ending: Urgency) {
        self.each(|connection| {
            if of.takes(connection.direction) {
                connection.end(ending);
            }
        });
    }

    /// The connections that `wanted` holds of.
    pub(crate) fn find_all(
        &self,
        wanted: impl Fn(&DownstreamConnection) -> bool,
    ) -> Vec<Weak<DownstreamConnection>> {
        let live = self.live.borrow();
        live.values()
            .filter(|connection| connection.upgrade().is_some_and(|connection| wanted(&connection)))
            .cloned()
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.live.borrow().len()
    }

    /// Waits until there is none.
    pub(crate) async fn emptied(&self, of: Draining) {
        let left = || match of {
            Draining::Nothing => 0,
            Draining::Inbound => self.len() - self.outbound.get(),
            Draining::Everything => self.len(),
        };
        while left() > 0 {
            self.fewer.notified().await;
        }
    }
}
