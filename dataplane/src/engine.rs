//! The engine: worker threads that serve by a [`Runtime`].
//!
//! ```text
//!   control thread                    worker 0        worker 1 …
//!   Engine --- WorkerCommand (channel) ---> event loop      event loop
//!      | binds sockets                listeners, pools, balancers, timers, counters: its own
//!      + Runtime (Arc)                snapshot of the Runtime, swapped whole
//! ```
//!
//! Inside a worker each floor knows itself and the ones below it (the tidy test `floors` holds that):
//!
//! ```text
//!   worker                                    listeners, clusters, commands: on top, alone
//!   listen, serve, tcp                        connections, from accept to their end
//!   connection_manager, prepare               a request: its head, route, filters (crate::filter), router
//!   router, response_head, local_reply, request_context
//!   active_stream, response_body, stream_end, stream_info, span, record, forwarded, tcp_log
//!                                             what one request or connection holds, counts and logs
//!   http_connection                           what all requests of one connection share
//!   otlp_exporter, unary, async_client        calls of the proxy's own to a cluster, for filters and for telemetry
//!   clusters, cluster, pool, dynamic, ejection, reach, round_trip    endpoints and connections to them
//!   local, trust, handshake                   what every task may use: counters, deadlines, logs, draining, connections
//!   all else                                  the ground: knows none of the floors
//! ```
//!
//! A request never leaves its worker, takes no lock, and reads the configuration once. What workers share is
//! process-wide on purpose: circuit breakers, outlier state, and the numbers of connections by which new ones are
//! spread. What this module deliberately does not do: decode resources, resolve names, talk to a control plane.

mod access;
pub(crate) mod active_stream;
pub(crate) mod async_client;
pub(crate) mod body;
pub(crate) mod chain;
pub(crate) mod clock;
pub(crate) mod cluster;
pub(crate) mod cluster_info;
pub(crate) mod clusters;
mod command;
mod connect;
pub(crate) mod connection;
mod connection_balance;
mod connection_manager;
mod copy;
mod date;
pub(crate) mod dynamic;
mod ejection;
mod exec;
mod failure_log;
mod filter_chain_match;
mod forwarded;
mod grpc;
mod handshake;
mod http_connection;
mod inspect;
pub(crate) mod limits;
mod listen;
pub(crate) mod local;
mod local_reply;
mod observed_stream;
mod otlp_buffers;
mod otlp_exporter;
mod pool;
mod prepare;
mod reach;
mod record;
pub(crate) mod reply;
mod request_context;
pub(crate) mod request_head;
mod response_body;
mod response_head;
mod round_trip;
mod router;
mod serve;
mod span;
mod stream;
mod stream_end;
pub(crate) mod stream_info;
pub(crate) mod tap_point;
pub mod tapping;
mod tcp;
mod tcp_log;
mod trust;
pub(crate) mod unary;
mod upgraded;
mod worker;
mod xfcc;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, oneshot};

use crate::access_log_service::queue::{EntryReceiver, queue};
use crate::reserve::Reservations;
use crate::runtime::{Listener, Runtime};
use crate::stats::{ShardSnapshot, StatsSnapshot};
use access::{LogQueue, LogWriter};
use command::{Draining, WorkerCommand};
use connection_balance::ConnectionCounts;
use failure_log::FailureLog;
use local::WorkerReports;
use tap_point::TapPoint;
use tapping::Tapping;
use worker::Worker;

/// Commands that wait for a worker. A worker answers within microseconds; more than this many waiting means that
/// it hands connections over faster than they are taken, and then keeps them itself.
const COMMANDS: usize = 64;
/// Connections that wait for accept, where a listener says nothing.
const BACKLOG: i32 = 4096;

/// How the engine runs.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Worker threads; at least one.
    pub workers: usize,
    /// Whether each worker is bound to a processor of its own.
    pub pinning: Pinning,
}

/// Whether workers are bound to processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinning {
    /// The n-th worker runs on the n-th processor that this process may use.
    Pinned,
    Free,
}

/// Running workers. Dropping it stops them at once.
#[derive(Debug)]
pub struct Engine {
    workers: Vec<WorkerHandle>,
    bound: BTreeMap<Arc<str>, Bound>,
    reserved: Reservations,
    entries: Option<EntryReceiver>,
    tapping: Option<Tapping>,
}

#[derive(Debug)]
struct WorkerHandle {
    commands: mpsc::Sender<WorkerCommand>,
    thread: Option<JoinHandle<()>>,
}

/// A listener's sockets: what was asked for, and what the kernel gave.
#[derive(Debug)]
struct Bound {
    wanted: SocketAddr,
    given: SocketAddr,
}

/// A listener that could not be bound; all others serve.
#[derive(Debug, thiserror::Error)]
#[error("listener {name}: cannot listen on {address}: {error}; is another process using the address?")]
pub struct BindError {
    pub name: Arc<str>,
    pub address: SocketAddr,
    pub error: io::Error,
}

impl Engine {
    /// Starts the workers, which serve nothing yet.
    ///
    /// # Errors
    /// A thread or its event loop cannot be started.
    pub fn start(config: &EngineConfig) -> io::Result<Self> {
        let count = config.workers.max(1);
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(COMMANDS)).unzip();
        let (logs, failure_log) = (LogQueue::start()?, Arc::<FailureLog>::default());
        let (queue, entries) = queue();
        let (ended, ended_requests) = mpsc::channel(tapping::WAITING);
        let processors = match config.pinning {
            Pinning::Pinned => processors(),
            Pinning::Free => Vec::new(),
        };
        let mut workers = Vec::with_capacity(count);
        for (index, (load, commands)) in
            ConnectionCounts::for_workers(count).into_iter().zip(receivers).enumerate()
        {
            let event_loop = tokio::runtime::Builder::new_current_thread();
            let processor = processors.get(index % processors.len().max(1)).copied();
            let (logs, queue) = (logs.clone(), queue.clone());
            let (failure_log, peers, ended) = (failure_log.clone(), senders.clone(), ended.clone());
            let worker = move || {
                let reports = WorkerReports { logs: LogWriter::new(logs, queue), taps: TapPoint::new(ended) };
                Worker::new(index, load, reports, failure_log, peers)
            };
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || run(event_loop, index, processor, worker, commands))?;
            workers.push(WorkerHandle { commands: senders[index].clone(), thread: Some(thread) });
        }
        let (bound, reserved) = (BTreeMap::new(), Reservations::default());
        let commands = senders.iter().map(mpsc::Sender::downgrade).collect();
        let tapping = Some(Tapping { workers: commands, ended: ended_requests });
        Ok(Self { workers, bound, reserved, entries: Some(entries), tapping })
    }

    /// What workers log for access log services; once. Where nobody takes it, it is dropped and counted.
    pub fn take_log_entries(&mut self) -> Option<EntryReceiver> {
        self.entries.take()
    }

    /// What workers tell of requests that somebody looks on; once.
    pub fn take_tapping(&mut self) -> Option<Tapping> {
        self.tapping.take()
    }

    /// Keeps addresses until the listeners that are for them come.
    pub fn reserve(&mut self, reserved: Reservations) {
        self.reserved = reserved;
    }

    /// Lets go of addresses that no listener came for.
    pub fn release_reserved(&mut self) {
        self.reserved.release_all();
    }

    /// Serves by `runtime` from now on: when this returns, every worker does. Only listeners whose address is new
    /// or changed are bound. A listener that cannot be bound is answered, and what it served before goes on.
    pub async fn swap(&mut self, runtime: Arc<Runtime>) -> Vec<BindError> {
        let mut failures = Vec::new();
        let mut sockets: Vec<Vec<(Arc<str>, std::net::TcpListener)>> =
            self.workers.iter().map(|_| Vec::new()).collect();
        self.bound.retain(|name, _| runtime.listeners.get(name).is_some_and(|listener| listener.binds));
        for listener in runtime.listeners.values().filter(|listener| listener.binds) {
            if self.bound.get(&listener.name).is_some_and(|bound| bound.wanted == listener.address) {
                continue;
            }
            self.reserved.release(listener.address);
            match bind(listener, self.workers.len()) {
                Ok((given, fresh)) => {
                    let bound = Bound { wanted: listener.address, given };
                    self.bound.insert(listener.name.clone(), bound);
                    for (of_worker, socket) in sockets.iter_mut().zip(fresh) {
                        of_worker.push((listener.name.clone(), socket));
                    }
                }
                Err(error) => {
                    let (name, address) = (listener.name.clone(), listener.address);
                    failures.push(BindError { name, address, error });
                }
            }
        }
        let mut waiting = Vec::with_capacity(self.workers.len());
        for (worker, sockets) in self.workers.iter().zip(sockets) {
            let (done, swapped) = oneshot::channel();
            let runtime = runtime.clone();
            if worker.commands.send(WorkerCommand::Swap { runtime, sockets, done }).await.is_ok() {
                waiting.push(swapped);
            }
        }
        for swapped in waiting {
            // A worker that ended cannot confirm; its thread's panic is reported when the engine stops.
            let _ = swapped.await;
        }
        failures
    }

    /// The address that a listener is bound to; differs from the resource's where that has port 0.
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        self.bound.get(listener).map(|bound| bound.given)
    }

    /// The numbers of each worker.
    pub async fn shards(&self) -> Vec<ShardSnapshot> {
        self.ask(WorkerCommand::Stats).await
    }

    /// The sum of all workers' numbers.
    pub async fn stats(&self) -> StatsSnapshot {
        StatsSnapshot::sum(&self.shards().await)
    }

    /// How many downstream connections are open.
    pub async fn connections(&self) -> usize {
        self.ask(WorkerCommand::Connections).await.into_iter().sum()
    }

    /// Ends gracefully: peers are told (GOAWAY, `connection: close`), listeners close after `minimum`, and what is
    /// in flight may finish until `limit`, when it is cut. The application's own calls go on as long as others wait for
    /// it. Returns when nothing is left.
    pub fn drain(&self, minimum: Duration, limit: Duration) -> impl Future<Output = ()> + Send + use<> {
        let workers = self.commands();
        let inbound = self.drain_inbound(minimum, limit);
        async move {
            let started = Instant::now();
            inbound.await;
            let (what, limit) = (Draining::Everything, limit.saturating_sub(started.elapsed()));
            let minimum = Duration::ZERO;
            ask(workers.iter(), |done| WorkerCommand::Drain { what, minimum, limit, done }).await;
        }
    }

    /// The same for what others reach, and for that only.
    pub fn drain_inbound(
        &self,
        minimum: Duration,
        limit: Duration,
    ) -> impl Future<Output = ()> + Send + use<> {
        let workers = self.commands();
        let what = Draining::Inbound;
        async move {
            ask(workers.iter(), |done| WorkerCommand::Drain { what, minimum, limit, done }).await;
        }
    }

    fn commands(&self) -> Vec<mpsc::Sender<WorkerCommand>> {
        self.workers.iter().map(|worker| worker.commands.clone()).collect()
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    async fn ask<T>(&self, command: impl Fn(oneshot::Sender<T>) -> WorkerCommand) -> Vec<T> {
        ask(self.workers.iter().map(|worker| &worker.commands), command).await
    }
}

async fn ask<'a, T>(
    workers: impl Iterator<Item = &'a mpsc::Sender<WorkerCommand>>,
    command: impl Fn(oneshot::Sender<T>) -> WorkerCommand,
) -> Vec<T> {
    let mut waiting = Vec::new();
    for worker in workers {
        let (reply, answer) = oneshot::channel();
        if worker.send(command(reply)).await.is_ok() {
            waiting.push(answer);
        }
    }
    let mut answers = Vec::with_capacity(waiting.len());
    for answer in waiting {
        answers.extend(answer.await.ok());
    }
    answers
}

impl Drop for Engine {
    fn drop(&mut self) {
        for worker in &self.workers {
            // A full queue belongs to a worker that is stuck; it ends when its senders are gone.
            let _ = worker.commands.try_send(WorkerCommand::Stop);
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take()
                && thread.join().is_err()
            {
                tracing::error!(event = "worker_failed", "a worker thread had panicked");
            }
        }
    }
}

fn run(
    mut event_loop: tokio::runtime::Builder,
    index: usize,
    processor: Option<usize>,
    worker: impl FnOnce() -> Rc<Worker>,
    commands: mpsc::Receiver<WorkerCommand>,
) {
    if let Some(processor) = processor {
        pin(processor);
    }
    let event_loop = match event_loop.enable_all().build_local(tokio::runtime::LocalOptions::default()) {
        Ok(event_loop) => event_loop,
        Err(error) => {
            tracing::error!(event = "worker_failed", worker = index, %error, "event loop cannot be started");
            return;
        }
    };
    event_loop.block_on(async move { worker().run(commands).await });
}

/// One socket for each worker on the same address; the kernel spreads connections over them.
fn bind(listener: &Listener, workers: usize) -> io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    let mut address = listener.address;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        let backlog = listener.backlog.and_then(|n| i32::try_from(n).ok()).unwrap_or(BACKLOG);
        socket.listen(backlog)?;
        let socket = std::net::TcpListener::from(socket);
        // The first socket settles the port where any will do.
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok((address, sockets))
}

fn processors() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect(),
        Err(_) => Vec::new(),
    }
}

fn pin(processor: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(processor);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(event = "worker_unpinned", processor, %error, "worker runs unpinned");
    }
}
