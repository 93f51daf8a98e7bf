//! How many connections of a pool are open, and who hears when there may be one more.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

use super::super::cluster_info::{BreakerOf, ClusterInfo};
use crate::breaker::{BreakerResource, Permit};

/// The places for connections to one endpoint.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Connections that are open or being opened.
    open: Cell<u32>,
    /// An h1 connection may be had, or opened.
    pub(super) connections: Notify,
    /// An h2 stream may be had, or a connection for it opened.
    pub(super) streams: Notify,
}

impl Places {
    /// A place for one more connection. The first to an endpoint is always allowed, as in Envoy: else a cluster
    /// whose connections all go to other endpoints could never reach this one.
    pub(super) fn take(self: &Rc<Self>, cluster: &Rc<ClusterInfo>) -> Option<ConnectionPlace> {
        let breaker = BreakerOf::Default(cluster.clone());
        let permit = if self.open.get() == 0 {
            Permit::new(breaker, BreakerResource::Connections)
        } else {
            Permit::try_new(breaker, BreakerResource::Connections)?
        };
        self.open.set(self.open.get() + 1);
        Some(ConnectionPlace { of: self.clone(), _permit: permit })
    }

    /// Wakes all who wait.
    pub(super) fn notify_all(&self) {
        self.connections.notify_waiters();
        self.streams.notify_waiters();
    }
}

/// An open connection's part of the cluster's limit.
#[derive(Debug)]
pub(crate) struct ConnectionPlace {
    of: Rc<Places>,
    _permit: Permit<BreakerOf>,
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.of.open.set(self.of.open.get() - 1);
        self.of.connections.notify_one();
        self.of.streams.notify_one();
    }
}
