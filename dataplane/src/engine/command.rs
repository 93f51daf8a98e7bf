//! What the engine, and another worker, ask of a worker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::runtime::{Runtime, TrafficDirection};
use crate::stats::ShardSnapshot;
use crate::tap::set::TapSet;

/// What the control thread asks of one worker, in the order in which it is sent.
pub(super) enum WorkerCommand {
    /// Serve by this configuration from now on.
    Swap {
        runtime: Arc<Runtime>,
        sockets: Vec<(Arc<str>, std::net::TcpListener)>,
        done: oneshot::Sender<()>,
    },
    /// A copy of all numbers.
    Stats(oneshot::Sender<ShardSnapshot>),
    /// How many connections are open.
    Connections(oneshot::Sender<usize>),
    /// Tell of the requests that these want.
    Tap(Arc<TapSet>),
    /// A connection that another worker accepted.
    Serve {
        listener: Arc<str>,
        tcp: std::net::TcpStream,
        peer: SocketAddr,
    },
    /// Announce the end, stop listening after `minimum`, and wait for what is in flight until `limit`.
    Drain {
        what: Draining,
        minimum: Duration,
        limit: Duration,
        done: oneshot::Sender<()>,
    },
    Stop,
}

impl std::fmt::Debug for WorkerCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Swap { .. } => "Swap",
            Self::Stats(_) => "Stats",
            Self::Connections(_) => "Connections",
            Self::Tap(_) => "Tap",
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
    pub(crate) fn takes(self, direction: TrafficDirection) -> bool {
        match self {
            Self::Nothing => false,
            Self::Inbound => direction != TrafficDirection::Outbound,
            Self::Everything => true,
        }
    }
}
