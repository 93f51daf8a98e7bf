//! One worker: a thread with its own event loop, listeners, pools, balancers, timers and counters.
//!
//! ```text
//!   Engine --WorkerCommand--> Worker --spawns--> accept loops --> connections --> requests
//!                         |  listeners: name -> ListenerState -> ChainState
//!                         +  Clusters: Runtime + ClusterState by name      (one load a request)
//!                         +  Local: shard, deadlines, connections
//! ```
//!
//! It stands on top: what it serves with knows [`Local`] and [`Clusters`], and nothing of the worker.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use imbl::ordmap::DiffItem;
use tokio::sync::mpsc;

use super::clusters::Clusters;
use super::command::{Draining, WorkerCommand};
use super::connection::Urgency;
use super::connection_balance::ConnectionCounts;
use super::failure_log::FailureLog;
use super::listen::ListenerState;
use super::local::{Local, WorkerReports};
use super::otlp_exporter;
use super::trust::{clients, servers};
use crate::runtime::Runtime;

/// One worker thread: its clusters, its listeners, and the command channels of all workers.
#[derive(Debug)]
pub(crate) struct Worker {
    local: Rc<Local>,
    clusters: Rc<Clusters>,
    /// The queues of all workers, in order.
    peers: Rc<[mpsc::Sender<WorkerCommand>]>,
    listeners: RefCell<HashMap<Arc<str>, Rc<ListenerState>>>,
}

impl Worker {
    pub(super) fn new(
        index: usize,
        load: ConnectionCounts,
        reports: WorkerReports,
        throttle: Arc<FailureLog>,
        peers: Vec<mpsc::Sender<WorkerCommand>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            local: Local::new(index, peers.len(), load, reports, throttle),
            clusters: Clusters::new(),
            peers: peers.into(),
            listeners: RefCell::default(),
        })
    }

    /// Serves commands until the engine is gone.
    pub(super) async fn run(self: Rc<Self>, mut commands: mpsc::Receiver<WorkerCommand>) {
        tokio::task::spawn_local(self.local.deadlines.clone().tick());
        tokio::task::spawn_local(otlp_exporter::export(self.local.clone(), self.clusters.clone()));
        while let Some(command) = commands.recv().await {
            match command {
                WorkerCommand::Swap { runtime, sockets, done } => {
                    self.swap(&runtime, sockets);
                    // One turn of the event loop drops the sockets of listeners that are gone.
                    tokio::task::yield_now().await;
                    // Whoever asked may have stopped waiting; the swap stands.
                    let _ = done.send(());
                }
                WorkerCommand::Stats(reply) => {
                    self.clusters.count_panics(&self.local);
                    let _ = reply.send(self.local.shard.collect());
                }
                WorkerCommand::Connections(reply) => {
                    let _ = reply.send(self.local.connections.len());
                }
                WorkerCommand::Tap(set) => self.local.taps.set(set),
                WorkerCommand::Serve { listener, tcp, peer } => self.adopt(&listener, tcp, peer),
                WorkerCommand::Drain { what, minimum, limit, done } => {
                    let worker = self.clone();
                    tokio::task::spawn_local(async move {
                        worker.drain(what, minimum, limit).await;
                        let _ = done.send(());
                    });
                }
                WorkerCommand::Stop => break,
            }
        }
        self.stop_listening(Draining::Everything);
        self.local.connections.end(Draining::Everything, Urgency::Cut);
    }

    fn swap(&self, runtime: &Arc<Runtime>, sockets: Vec<(Arc<str>, std::net::TcpListener)>) {
        let old = self.clusters.swap(&self.local, runtime);
        self.local.servers.swap(runtime);
        self.swap_listeners(&old, runtime);
        self.listen(sockets);
        self.recheck_trust(&old, runtime);
    }

    /// Touches what is not the same in both, and the listeners whose routes have changed.
    fn swap_listeners(&self, old: &Runtime, runtime: &Arc<Runtime>) {
        let mut listeners = self.listeners.borrow_mut();
        for change in old.listeners.diff(&runtime.listeners) {
            match change {
                DiffItem::Add(name, config) => {
                    let (local, clusters, peers) = (&self.local, &self.clusters, &self.peers);
                    let state = ListenerState::new(local, clusters, peers, config, runtime);
                    listeners.insert(name.clone(), state);
                }
                DiffItem::Update { new: (name, config), .. } => {
                    if let Some(state) = listeners.get(name) {
                        state.update(config, runtime);
                    }
                }
                DiffItem::Remove(name, _) => {
                    if let Some(state) = listeners.remove(name) {
                        state.remove();
                    }
                }
            }
        }
        let routes: HashSet<&Arc<str>> =
            old.routes.diff(&runtime.routes).map(|change| name_of(&change)).collect();
        if routes.is_empty() {
            return;
        }
        for (name, config) in &runtime.listeners {
            if config.route_configurations().any(|named| routes.contains(named))
                && let Some(state) = listeners.get(name)
            {
                state.update(config, runtime);
            }
        }
    }

    fn listen(&self, sockets: Vec<(Arc<str>, std::net::TcpListener)>) {
        let listeners = self.listeners.borrow();
        for (name, socket) in sockets {
            if let Some(state) = listeners.get(&name) {
                state.listen(socket);
            }
        }
    }

    /// Ends connections whose peer would be refused now, on either side. Where nothing of this changed, nothing is
    /// looked at.
    fn recheck_trust(&self, old: &Runtime, new: &Runtime) {
        let lists = &*new.revocations;
        let are_new = lists.is_news_to(&old.revocations);
        if are_new || old.listeners.diff(&new.listeners).next().is_some() {
            let chains: Vec<_> =
                self.listeners.borrow().values().flat_map(|listener| listener.chains()).collect();
            clients::recheck(&self.local, &chains, are_new.then_some(lists));
        }
        if are_new || servers::are_secured_anew(old, new) {
            self.local.servers.check(&self.local.throttle, lists);
        }
    }

    fn adopt(&self, listener: &str, tcp: std::net::TcpStream, peer: SocketAddr) {
        let state = self.listeners.borrow().get(listener).cloned();
        match (state, tokio::net::TcpStream::from_std(tcp)) {
            (Some(state), Ok(tcp)) => state.serve(tcp, peer),
            // The listener went meanwhile, or the socket is beyond use: dropping it closes it.
            (None, _) | (_, Err(_)) => self.local.connections.load.leave(),
        }
    }

    async fn drain(self: Rc<Self>, what: Draining, minimum: Duration, limit: Duration) {
        let Local { draining, connections, .. } = &*self.local;
        // Who was told before has had the time.
        let minimum = if draining.get() >= what { Duration::ZERO } else { minimum };
        draining.set(draining.get().max(what));
        connections.end(what, Urgency::Announce);
        tokio::time::sleep(minimum).await;
        self.stop_listening(what);
        tokio::task::yield_now().await;
        connections.end(what, Urgency::Finish);
        let rest = limit.saturating_sub(minimum);
        if tokio::time::timeout(rest, connections.emptied(what)).await.is_err() {
            connections.end(what, Urgency::Cut);
        }
        if what == Draining::Everything {
            otlp_exporter::flush(&self.local, &self.clusters).await;
        }
    }

    fn stop_listening(&self, what: Draining) {
        let listeners = self.listeners.borrow();
        listeners.values().filter(|one| what.takes(one.direction())).for_each(|one| one.close());
    }
}

fn name_of<'a, T>(change: &DiffItem<'a, 'a, Arc<str>, T>) -> &'a Arc<str> {
    match change {
        DiffItem::Add(name, _) | DiffItem::Remove(name, _) | DiffItem::Update { new: (name, _), .. } => name,
    }
}
