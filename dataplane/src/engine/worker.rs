//! One worker: a thread with its own event loop, listeners, pools, balancers, timers and counters.
//!
//! ```text
//!   Engine --Command--> Worker --spawns--> accept loops --> connections --> requests
//!                         |  snapshot: Runtime + ClusterState by name      (one load a request)
//!                         |  listeners: name -> ListenerState -> ChainState
//!                         +  shard, deadlines, connections
//! ```

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::access::LogWriter;
use super::clock::Deadlines;
use super::cluster::ClusterState;
use super::held::{Connections, Ending};
use super::listen::ListenerState;
use super::repeats::Repeats;
use super::steer::Load;
use super::trust;
use super::trusted::Servers;
use crate::runtime::{Direction, Runtime, Transport, UpstreamTls};
use crate::stats::{Shard, ShardSnapshot};

/// What the engine asks of a worker.
pub(super) enum Command {
    /// Serve by this configuration from now on.
    Swap { runtime: Arc<Runtime>, sockets: Vec<(Arc<str>, std::net::TcpListener)>, done: oneshot::Sender<()> },
    /// A copy of all numbers.
    Stats(oneshot::Sender<ShardSnapshot>),
    /// How many connections are open.
    Connections(oneshot::Sender<usize>),
    /// A connection that another worker accepted.
    Serve { listener: Arc<str>, tcp: std::net::TcpStream, peer: SocketAddr },
    /// Announce the end, stop listening after `minimum`, and wait for what is in flight until `limit`.
    Drain { what: Draining, minimum: Duration, limit: Duration, done: oneshot::Sender<()> },
    /// End now.
    Stop,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Swap { .. } => "Swap",
            Self::Stats(_) => "Stats",
            Self::Connections(_) => "Connections",
            Self::Serve { .. } => "Serve",
            Self::Drain { .. } => "Drain",
            Self::Stop => "Stop",
        })
    }
}

/// What is told to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Draining {
    #[default]
    Nothing,
    /// What others reach. The calls of the application go on: it may need them to answer what it was asked.
    Inbound,
    Everything,
}

impl Draining {
    pub(crate) fn takes(self, direction: Direction) -> bool {
        match self {
            Self::Nothing => false,
            Self::Inbound => direction != Direction::Outbound,
            Self::Everything => true,
        }
    }
}

/// The configuration of the moment with this worker's state of each cluster.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) runtime: Arc<Runtime>,
    clusters: HashMap<Arc<str>, Rc<ClusterState>>,
}

impl Snapshot {
    pub(crate) fn cluster(&self, name: &str) -> Option<&Rc<ClusterState>> {
        self.clusters.get(name)
    }
}

/// A worker's state.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shard: Shard,
    pub(crate) deadlines: Rc<Deadlines>,
    pub(crate) connections: Rc<Connections>,
    pub(super) servers: Rc<Servers>,
    pub(crate) logs: LogWriter,
    pub(crate) repeats: Arc<Repeats>,
    pub(crate) draining: Cell<Draining>,
    pub(crate) peers: Vec<mpsc::Sender<Command>>,
    snapshot: RefCell<Rc<Snapshot>>,
    listeners: RefCell<HashMap<Arc<str>, Rc<ListenerState>>>,
    random: Cell<u64>,
    next_id: Cell<u64>,
}

impl Worker {
    pub(super) fn new(
        index: usize,
        load: Load,
        logs: LogWriter,
        repeats: Arc<Repeats>,
        peers: Vec<mpsc::Sender<Command>>,
    ) -> Rc<Self> {
        let snapshot = Snapshot { runtime: Runtime::empty(), clusters: HashMap::new() };
        Rc::new(Self {
            shard: Shard::default(),
            deadlines: Deadlines::new(),
            connections: Connections::new(load),
            servers: Rc::default(),
            logs,
            repeats,
            draining: Cell::default(),
            peers,
            snapshot: RefCell::new(Rc::new(snapshot)),
            listeners: RefCell::default(),
            random: Cell::new(rand::random::<u64>() | 1),
            next_id: Cell::new(index as u64),
        })
    }

    /// Serves commands until the engine is gone.
    pub(super) async fn run(self: Rc<Self>, mut commands: mpsc::Receiver<Command>) {
        tokio::task::spawn_local(self.deadlines.clone().tick());
        while let Some(command) = commands.recv().await {
            match command {
                Command::Swap { runtime, sockets, done } => {
                    self.swap(&runtime, sockets);
                    // One turn of the event loop drops the sockets of listeners that are gone.
                    tokio::task::yield_now().await;
                    // Whoever asked may have stopped waiting; the swap stands.
                    let _ = done.send(());
                }
                Command::Stats(reply) => {
                    self.count_panics();
                    let _ = reply.send(self.shard.collect());
                }
                Command::Connections(reply) => {
                    let _ = reply.send(self.connections.len());
                }
                Command::Serve { listener, tcp, peer } => self.adopt(&listener, tcp, peer),
                Command::Drain { what, minimum, limit, done } => {
                    let worker = self.clone();
                    tokio::task::spawn_local(async move {
                        worker.drain(what, minimum, limit).await;
                        let _ = done.send(());
                    });
                }
                Command::Stop => break,
            }
        }
        self.stop_listening(Draining::Everything);
        self.connections.end(Draining::Everything, Ending::Cut);
    }

    /// The configuration for a request that begins now.
    pub(crate) fn snapshot(&self) -> Rc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// A random number for choices that need no secrecy.
    pub(crate) fn random(&self) -> u64 {
        let mut x = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(x);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number for a connection, of no other connection of this process.
    pub(crate) fn next_id(&self) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + self.peers.len().max(1) as u64);
        id
    }

    /// The TLS context of a cluster that has taken the place of `old`.
    pub(crate) fn newest_tls(&self, cluster: &str, old: &Arc<UpstreamTls>) -> Option<Arc<UpstreamTls>> {
        let snapshot = self.snapshot();
        let view = snapshot.cluster(cluster)?.view();
        let contexts = view.config.transports.iter().filter_map(|transport| match transport {
            Transport::Plaintext => None,
            Transport::Tls(tls) => Some(tls),
        });
        let mut same_name = contexts.filter(|tls| tls.server_name == old.server_name);
        same_name.next().cloned()
    }

    fn swap(self: &Rc<Self>, runtime: &Arc<Runtime>, sockets: Vec<(Arc<str>, std::net::TcpListener)>) {
        let old = self.snapshot();
        let mut clusters = HashMap::with_capacity(runtime.clusters.len());
        for (name, config) in &runtime.clusters {
            let state = match old.clusters.get(name) {
                Some(known) => {
                    known.update(config.clone());
                    known.clone()
                }
                None => ClusterState::new(config.clone(), self.random()),
            };
            clusters.insert(name.clone(), state);
        }
        for (name, state) in &old.clusters {
            if !clusters.contains_key(name) {
                state.retire();
            }
        }
        *self.snapshot.borrow_mut() = Rc::new(Snapshot { runtime: runtime.clone(), clusters });
        self.swap_listeners(runtime, sockets);
        let chains: Vec<_> =
            self.listeners.borrow().values().flat_map(|listener| listener.chains()).collect();
        trust::recheck(self, &chains, &old.runtime, runtime);
    }

    fn swap_listeners(
        self: &Rc<Self>,
        runtime: &Arc<Runtime>,
        sockets: Vec<(Arc<str>, std::net::TcpListener)>,
    ) {
        let mut listeners = self.listeners.borrow_mut();
        listeners.retain(|name, state| {
            let stays = runtime.listeners.contains_key(name);
            if !stays {
                state.remove();
            }
            stays
        });
        for (name, config) in &runtime.listeners {
            match listeners.get(name) {
                Some(state) => state.update(config, runtime),
                None => {
                    listeners.insert(name.clone(), ListenerState::new(self, config, runtime));
                }
            }
        }
        for (name, socket) in sockets {
            if let Some(state) = listeners.get(&name) {
                state.listen(socket);
            }
        }
    }

    fn adopt(self: &Rc<Self>, listener: &str, tcp: std::net::TcpStream, peer: SocketAddr) {
        let state = self.listeners.borrow().get(listener).cloned();
        match (state, tokio::net::TcpStream::from_std(tcp)) {
            (Some(state), Ok(tcp)) => state.serve(tcp, peer),
            // The listener went meanwhile, or the socket is beyond use: dropping it closes it.
            (None, _) | (_, Err(_)) => self.connections.load.leave(),
        }
    }

    async fn drain(self: Rc<Self>, what: Draining, minimum: Duration, limit: Duration) {
        // Who was told before has had the time.
        let minimum = if self.draining.get() >= what { Duration::ZERO } else { minimum };
        self.draining.set(self.draining.get().max(what));
        self.connections.end(what, Ending::Announce);
        tokio::time::sleep(minimum).await;
        self.stop_listening(what);
        tokio::task::yield_now().await;
        self.connections.end(what, Ending::Finish);
        let rest = limit.saturating_sub(minimum);
        if tokio::time::timeout(rest, self.connections.emptied(what)).await.is_err() {
            self.connections.end(what, Ending::Cut);
        }
    }

    fn stop_listening(&self, what: Draining) {
        let listeners = self.listeners.borrow();
        listeners.values().filter(|one| what.takes(one.direction())).for_each(|one| one.close());
    }

    fn count_panics(&self) {
        for state in self.snapshot().clusters.values() {
            let panics = state.take_panics();
            if panics > 0 {
                self.shard.add(state.view().config.stats.lb_healthy_panic, panics);
            }
        }
    }
}
