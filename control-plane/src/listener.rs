//! What the control plane's three ports have in common: an accept loop, and a bound on everything that others can make
//! it hold.
//!
//! ```text
//! accept ─▶ Room: a place ─▶ greeting: TLS, for two of the ports ─▶ connection: HTTP/2 or HTTP/1.1 ─▶ router
//!           who goes when     shares of sources, times              ends of connections, idle times,
//!           there is none                                           bodies that do not come
//! ```
//!
//! A stranger costs one descriptor and some memory for a while, and turns out other strangers only. The loop survives
//! what the kernel answers when the machine is short of files or memory: it waits and goes on.
//!
//! Who may do what is decided by what is served here.

mod calls;
mod connection;
mod connection_pools;
mod connections;
mod failure;
mod greeting;
mod handshakes;
mod keepalive;
mod lifetime;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weft_api::{LogThrottle, TrustDomain, WorkloadId};

use crate::clock::Clock;
use crate::metrics::{Closed, HandshakeFailure, ListenerMetrics};
use crate::source::SourceAddress;

use connection_pools::{ConnectionClass, ConnectionPermit, ConnectionPools};
use handshakes::Handshakes;

pub use connection::{API_STREAMS, BODY_TIMEOUT, HEAD_TIMEOUT, MAX_HEADERS, XDS_STREAMS};
pub use connection_pools::ConnectionLimits;
pub use connections::{CONNECTIONS_OF_A_WORKLOAD, Connections};
pub use greeting::HANDSHAKE_TIMEOUT;
pub use handshakes::{HANDSHAKES_OF_A_SOURCE, PENDING_HANDSHAKES};

/// A stranger that makes no call for so long is let go.
pub const IDLE_STRANGER: Duration = Duration::from_secs(10);
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long calls may run on once the process is told to end, and a little for what surrounds them.
const GRACE: Duration = Duration::from_secs(6);

/// How a listener is spoken to.
#[derive(Debug)]
pub enum Security {
    /// HTTP as it is.
    Plain,
    Tls {
        /// Newest configuration; each new connection takes it.
        config: watch::Receiver<Arc<ServerConfig>>,
        /// Trust domain of clients, to read their identity.
        trust_domain: TrustDomain,
    },
}

/// A listener, and how much it holds.
#[derive(Debug)]
pub struct BoundListener {
    pub socket: TcpListener,
    /// How it is spoken to.
    pub security: Security,
    /// Concurrent HTTP/2 streams of one connection.
    pub max_streams: u32,
    pub room: ConnectionLimits,
    /// A connection without a certificate that makes no call for so long is closed.
    pub idle: Duration,
    pub metrics: ListenerMetrics,
    /// Connections of workloads enter here.
    pub connections: Connections,
    /// A connection ends with its certificate, by this clock.
    pub clock: Clock,
}

/// Binds a socket with a queue that holds a burst.
///
/// # Errors
/// When the address cannot be had.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart takes its port back though old connections linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl BoundListener {
    /// Serves `app` until `shutdown`, then sends GOAWAY and waits a little for what is running.
    ///
    /// Requests carry a [`Peer`](crate::tls::Peer) and its `PeerIdentity` in their extensions when the client showed a
    /// certificate, and `ConnectInfo` always. A connection with a certificate gets its GOAWAY a little before the
    /// certificate ends, and ends with it.
    pub async fn serve(self, app: Router, shutdown: CancellationToken) {
        let connections = TaskTracker::new();
        let room = ConnectionPools::new(self.room);
        let first = match &self.security {
            Security::Plain => ConnectionClass::Stranger,
            Security::Tls { .. } => ConnectionClass::Greeting,
        };
        let shared = Arc::new(ListenerShared {
            app,
            security: self.security,
            max_streams: self.max_streams,
            idle: self.idle,
            metrics: self.metrics,
            connections: self.connections,
            clock: self.clock,
            handshakes: Handshakes::new(),
            failures: LogThrottle::default(),
            shutdown: shutdown.clone(),
        });
        let accepting = async {
            loop {
                let (stream, address) = accept(&self.socket, &shared.metrics).await;
                // A newcomer waits here for its place, and all others in the kernel.
                if let Some(permit) = room.enter(first, address.ip().into()).await {
                    connections.spawn(Arc::clone(&shared).connection(stream, address, permit));
                } else {
                    shared.metrics.closed(Closed::no_room).inc();
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            () = shutdown.cancelled() => {}
        }
        drop(self.socket);
        connections.close();
        if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
            tracing::info!(
                event = "connections_cut",
                open = connections.len(),
                "connections are still open at shutdown; they are cut"
            );
        }
    }
}

/// Accepts one connection, whatever it takes.
async fn accept(listener: &TcpListener, metrics: &ListenerMetrics) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                metrics.accepted.inc();
                return accepted;
            }
            Err(error) => {
                metrics.accept_errors.inc();
                if is_of_one_connection(&error) {
                    continue;
                }
                // EMFILE, ENFILE, ENOBUFS, ENOMEM: asking again at once would only spin.
                tracing::warn!(
                    event = "connection_not_accepted",
                    %error,
                    "cannot accept a connection; raise the limit of open files if this stays"
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// What the connections of a listener share.
struct ListenerShared {
    app: Router,
    security: Security,
    max_streams: u32,
    idle: Duration,
    metrics: ListenerMetrics,
    connections: Connections,
    clock: Clock,
    handshakes: Handshakes,
    failures: LogThrottle<(SourceAddress, HandshakeFailure, Option<WorkloadId>)>,
    shutdown: CancellationToken,
}

impl ListenerShared {
    /// One connection, from accept to end. The place is given back after the descriptor.
    async fn connection(self: Arc<Self>, stream: TcpStream, address: SocketAddr, permit: ConnectionPermit) {
        self.metrics.open.inc();
        let _ = stream.set_nodelay(true);
        let closed = tokio::select! {
            closed = self.talk(stream, address, &permit) => closed,
            () = permit.out.cancelled() => Some(Closed::made_room),
        };
        if let Some(reason) = closed {
            self.metrics.closed(reason).inc();
        }
        self.metrics.open.dec();
        drop(permit);
    }
}

#[cfg(test)]
mod tests;
