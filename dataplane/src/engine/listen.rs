//! Listeners of one worker: accept, look, choose a chain, secure, serve.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use rustls::server::Accepted;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::StartHandshake;

use super::chain::ChainState;
use super::clock::{now, within};
use super::clusters::Clusters;
use super::command::WorkerCommand;
use super::connection::{DownstreamConnection, Facts, TlsFacts, Urgency};
use super::filter_chain_match;
use super::handshake::inbound_failed;
use super::inspect::Inspected;
use super::local::Local;
use super::serve::{Opened, serve};
use super::stream::{Rewound, Stream};
use super::tcp_log::{self, Unserved};
use super::trust::clients;
use crate::filter;
use crate::peer::PeerCertificate;
use crate::runtime::{
    DownstreamTls, Listener, OnInspectionTimeout, Runtime, TrafficDirection, TransportProtocol,
};

/// A TLS handshake takes no longer than this where the chain sets no limit.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections of a filter chain that is gone may go on for this long: Envoy's `--drain-time-s`.
const DRAIN: Duration = Duration::from_secs(600);
/// After an error of accept (no file descriptors, say), the next try waits.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One listener on one worker.
pub(crate) struct ListenerState {
    worker: Rc<Local>,
    clusters: Rc<Clusters>,
    /// The queues of all workers, in order.
    peers: Rc<[mpsc::Sender<WorkerCommand>]>,
    config: RefCell<Arc<Listener>>,
    chains: RefCell<Vec<Rc<ChainState>>>,
    accepting: RefCell<Option<tokio::task::JoinHandle<()>>>,
    removed: Cell<bool>,
}

impl std::fmt::Debug for ListenerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListenerState").field("name", &self.config.borrow().name).finish_non_exhaustive()
    }
}

impl ListenerState {
    pub(super) fn new(
        worker: &Rc<Local>,
        clusters: &Rc<Clusters>,
        peers: &Rc<[mpsc::Sender<WorkerCommand>]>,
        config: &Arc<Listener>,
        runtime: &Runtime,
    ) -> Rc<Self> {
        let state = Rc::new(Self {
            worker: worker.clone(),
            clusters: clusters.clone(),
            peers: peers.clone(),
            config: RefCell::new(config.clone()),
            chains: RefCell::default(),
            accepting: RefCell::default(),
            removed: Cell::new(false),
        });
        state.update(config, runtime);
        state
    }

    /// Takes over a changed resource. Connections of chains whose identity is gone are told to end.
    pub(super) fn update(&self, config: &Arc<Listener>, runtime: &Runtime) {
        let old = self.chains.take();
        let wanted = config.filter_chains.iter().chain(&config.default_filter_chain);
        let chains: Vec<Rc<ChainState>> = wanted
            .map(|chain| {
                let known = old.iter().find(|known| known.update(config, chain, runtime).is_some());
                known.cloned().unwrap_or_else(|| ChainState::new(config, chain, runtime))
            })
            .collect();
        let gone: Vec<_> =
            old.into_iter().filter(|chain| !chains.iter().any(|kept| Rc::ptr_eq(kept, chain))).collect();
        *self.chains.borrow_mut() = chains;
        *self.config.borrow_mut() = config.clone();
        self.end_connections_of(&gone);
    }

    /// The listener is gone: its socket closes, its connections end.
    pub(super) fn remove(&self) {
        self.removed.set(true);
        self.close();
        let chains = self.chains.take();
        self.end_connections_of(&chains);
    }

    /// Accepts from `socket`, and no longer from the one before.
    pub(super) fn listen(self: &Rc<Self>, socket: std::net::TcpListener) {
        let listener = match TcpListener::from_std(socket) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(
                    event = "listener_failed",
                    listener = %self.config.borrow().name, %error,
                    "socket cannot be watched"
                );
                return;
            }
        };
        let state = self.clone();
        let task = tokio::task::spawn_local(async move { state.accept(listener).await });
        if let Some(before) = self.accepting.replace(Some(task)) {
            before.abort();
        }
    }

    /// Stops accepting; connections go on.
    pub(super) fn close(&self) {
        if let Some(task) = self.accepting.take() {
            task.abort();
        }
    }

    /// Whose traffic it takes.
    pub(super) fn direction(&self) -> TrafficDirection {
        self.config.borrow().direction
    }

    pub(super) fn chains(&self) -> Vec<Rc<ChainState>> {
        self.chains.borrow().clone()
    }

    /// Serves a connection of this listener; its place in the worker's load is already taken.
    pub(super) fn serve(self: &Rc<Self>, tcp: TcpStream, peer: SocketAddr) {
        let state = self.clone();
        tokio::task::spawn_local(async move { state.begin(tcp, peer).await });
    }

    fn end_connections_of(&self, chains: &[Rc<ChainState>]) {
        if chains.is_empty() {
            return;
        }
        let of_chains = |connection: &DownstreamConnection| {
            chains.iter().any(|chain| Rc::ptr_eq(chain, &connection.chain))
        };
        let ending = self.worker.connections.find_all(of_chains);
        ending.iter().filter_map(Weak::upgrade).for_each(|connection| connection.end(Urgency::Finish));
        tokio::task::spawn_local(async move {
            tokio::time::sleep(DRAIN).await;
            ending.iter().filter_map(Weak::upgrade).for_each(|connection| connection.end(Urgency::Cut));
        });
    }

    async fn accept(self: Rc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((tcp, peer)) => self.place(tcp, peer),
                Err(error) => {
                    let listener = self.config.borrow().name.clone();
                    self.worker.throttle.note(&listener, &error.to_string(), |unsaid| {
                        tracing::warn!(
                            event = "connection_not_accepted",
                            %listener, %error, unsaid,
                            "accept failed; tried again all the time"
                        );
                    });
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Keeps a connection or gives it to a worker that has fewer.
    fn place(self: &Rc<Self>, tcp: TcpStream, peer: SocketAddr) {
        let load = &self.worker.connections.load;
        if let Some(other) = load.better() {
            let listener = self.config.borrow().name.clone();
            if let Some(permit) = self.peers.get(other).and_then(|queue| queue.try_reserve().ok()) {
                if let Ok(tcp) = tcp.into_std() {
                    load.enter_for(other);
                    permit.send(WorkerCommand::Serve { listener, tcp, peer });
                }
                return;
            }
        }
        load.enter();
        self.serve(tcp, peer);
    }

    async fn begin(self: Rc<Self>, tcp: TcpStream, peer: SocketAddr) {
        let worker = self.worker.clone();
        let _place = worker.connections.load.counted();
        let config = self.config.borrow().clone();
        let (shard, stats) = (&worker.shard, &config.stats);
        shard.inc(stats.downstream_cx_total);
        shard.up(stats.downstream_cx_active);
        let start = now();
        // The handshake's state is large and short-lived: it does not stay with the connection.
        let opening = Box::pin(self.open(&worker, &config, tcp, peer));
        if let Some(opened) = opening.await {
            serve(worker.clone(), self.clusters.clone(), opened).await;
        }
        shard.down(stats.downstream_cx_active);
        shard.inc(stats.downstream_cx_destroy);
        shard.record(stats.downstream_cx_length_ms, start.elapsed());
    }

    async fn open(
        &self,
        worker: &Rc<Local>,
        config: &Arc<Listener>,
        tcp: TcpStream,
        peer: SocketAddr,
    ) -> Option<Opened> {
        // Without it small answers wait for the peer's delayed ACK; a refusal by the kernel changes only that.
        let _ = tcp.set_nodelay(true);
        let local = tcp.local_addr().ok()?;
        let mut inspected = Inspected::untouched(tcp);
        if config.inspection.tls || config.inspection.http {
            worker.shard.up(config.stats.downstream_pre_cx_active);
            let looked =
                within(&worker.deadlines, config.inspection.timeout, inspected.run(&config.inspection)).await;
            worker.shard.down(config.stats.downstream_pre_cx_active);
            match looked {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::debug!(%peer, %error, "connection refused at inspection");
                    worker.shard.inc(config.stats.downstream_listener_filter_error);
                    return None;
                }
                None => {
                    worker.shard.inc(config.stats.downstream_pre_cx_timeout);
                    if config.inspection.on_timeout == OnInspectionTimeout::Close {
                        return None;
                    }
                }
            }
        }
        let facts = filter_chain_match::MatchInput {
            destination: local,
            source: peer,
            server_name: inspected.server_name.as_deref(),
            transport: inspected.transport,
            protocols: &inspected.protocols,
        };
        // The listener may have changed while the peer was slow: the chain comes from the newest resource.
        let newest = self.config.borrow().clone();
        let Some(chain) = filter_chain_match::find_chain(&newest, &facts) else {
            worker.shard.inc(config.stats.no_filter_chain_match);
            let plaintext = config.inspection.tls && inspected.transport == TransportProtocol::RawBuffer;
            let facts = Facts { local, peer, tls: None, id: worker.next_id() };
            tcp_log::write_unserved(worker, &newest, &facts, now(), Unserved::NoChain { plaintext });
            return None;
        };
        let chain = self.chains.borrow().iter().find(|state| state.identity() == chain.identity).cloned()?;
        Box::pin(self.secure(worker, chain, inspected, local, peer)).await
    }

    async fn secure(
        &self,
        worker: &Rc<Local>,
        chain: Rc<ChainState>,
        inspected: Inspected,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Option<Opened> {
        let view = chain.view();
        let id = worker.next_id();
        let offers_h2 = inspected.protocols.iter().any(|protocol| protocol == "h2c");
        let Some(tls) = &view.chain.tls else {
            let facts = Facts { local, peer, tls: None, id };
            let stream = Stream::Plain(Rewound::new(inspected.tcp, inspected.ahead));
            let connection = worker.connections.hold(chain, facts);
            return admitted(worker, Opened { stream, connection, h2: offers_h2.then_some(true) });
        };
        let start = now();
        let limit = view.chain.handshake_timeout.unwrap_or(HANDSHAKE);
        let stats = &view.listener.stats;
        let handshake = handshake(tls, inspected);
        let stream = match within(&worker.deadlines, Some(limit), handshake).await {
            Some(Ok(stream)) => stream,
            Some(Err(error)) => {
                let reason = inbound_failed(worker, &view.listener, tls, peer, &error);
                let facts = Facts { local, peer, tls: None, id };
                let why = Unserved::Handshake(&reason);
                tcp_log::write_unserved(worker, &view.listener, &facts, start, why);
                return None;
            }
            None => {
                worker.shard.inc(stats.downstream_cx_transport_socket_connect_timeout);
                let facts = Facts { local, peer, tls: None, id };
                let why = Unserved::Handshake("TLS_error: the handshake timed out");
                tcp_log::write_unserved(worker, &view.listener, &facts, start, why);
                return None;
            }
        };
        worker.shard.inc(stats.tls.handshake);
        let session = stream.get_ref().1;
        let h2 = session.alpn_protocol().map(|protocol| protocol == b"h2");
        let facts = Facts { local, peer, tls: Some(tls_facts(session, tls)), id };
        if facts.peer_certificate().is_none() {
            worker.shard.inc(stats.tls.no_certificate);
        }
        let is_there = self.chains.borrow().iter().any(|state| Rc::ptr_eq(state, &chain));
        if !is_there {
            // The chain went while the peer took its time: whoever ends its connections has come and gone.
            return None;
        }
        let connection = worker.connections.hold(chain, facts);
        if changed_meanwhile(worker, &connection, tls) {
            return None;
        }
        let stream = Stream::Accepted(Box::new(stream));
        admitted(worker, Opened { stream, connection, h2 })
    }
}

/// The connection, where the chain's filters let it in.
fn admitted(worker: &Local, opened: Opened) -> Option<Opened> {
    let view = opened.connection.chain.view();
    let facts = &opened.connection.facts;
    let Err(details) = filter::connection::admit(&view.chain.network_filters, worker, facts) else {
        return Some(opened);
    };
    tcp_log::write_unserved(worker, &view.listener, facts, now(), Unserved::Refused(&details));
    None
}

/// Whether trust changed while the handshake ran, and the client would not be let in now.
fn changed_meanwhile(worker: &Local, connection: &DownstreamConnection, used: &Arc<DownstreamTls>) -> bool {
    let view = connection.chain.view();
    let (Some(newest), Some(peer)) = (&view.chain.tls, connection.facts.peer_certificate()) else {
        return false;
    };
    let refusal = newest.refusal(peer, newest.change_since(used));
    let refused = refusal.is_some();
    if let Some(reason) = refusal {
        clients::note(&worker.throttle, connection, peer, &reason);
    }
    refused
}

async fn handshake(
    tls: &Arc<DownstreamTls>,
    inspected: Inspected,
) -> std::io::Result<tokio_rustls::server::TlsStream<Rewound>> {
    let Inspected { tcp, ahead, hello, .. } = inspected;
    match hello {
        Some(hello) => resume(hello, tcp, tls).await,
        None => {
            let stream = Rewound::new(tcp, ahead);
            tokio_rustls::TlsAcceptor::from(tls.config.clone()).accept(stream).await
        }
    }
}

/// Goes on with a handshake whose ClientHello the inspector has read.
async fn resume(
    hello: Accepted,
    tcp: TcpStream,
    tls: &Arc<DownstreamTls>,
) -> std::io::Result<tokio_rustls::server::TlsStream<Rewound>> {
    let stream = Rewound::new(tcp, Vec::new());
    StartHandshake::from_parts(hello, stream).into_stream(tls.config.clone()).await
}

fn tls_facts(session: &rustls::ServerConnection, tls: &DownstreamTls) -> TlsFacts {
    let peer = session.peer_certificates().and_then(|chain| PeerCertificate::parse(chain).ok());
    TlsFacts {
        server_name: session.server_name().map(Arc::from),
        peer: peer.map(Arc::new),
        own: tls.certificate.clone(),
        version: match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(_) | None => "TLSv1.3",
        },
        cipher: session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("-"),
    }
}
