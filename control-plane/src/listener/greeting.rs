//! What comes before HTTP: ClientHello, handshake, first byte, each in its time.
//!
//! ```text
//! accept ── ClientHello (5 s) ── share of its source ── handshake (5 s) ── first byte (5 s)
//!           silent: holds a place, no share             256 at once
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::ListenerShared;
use super::connection_pools::ConnectionPermit;
use super::failure::FailedHandshake;
use crate::metrics::HandshakeFailure;
use crate::tls::watching;

/// Time for a ClientHello, for the rest of a handshake, and for the first byte after it.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

// Handshakes wait for others when many come at once, as they would in the kernel's queue.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) type TlsConnection = BufReader<TlsStream<TcpStream>>;

impl ListenerShared {
    /// Does the handshake; none, logged and counted, when it fails.
    pub(super) async fn greet(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        config: Arc<ServerConfig>,
        permit: &ConnectionPermit,
    ) -> Option<TlsConnection> {
        match self.try_greet(stream, config, permit).await {
            Ok(greeted) => Some(greeted),
            Err(failed) => {
                self.note_failure(&failed, address, permit.activity.is_heard());
                None
            }
        }
    }

    async fn try_greet(
        &self,
        stream: TcpStream,
        config: Arc<ServerConfig>,
        permit: &ConnectionPermit,
    ) -> Result<TlsConnection, FailedHandshake> {
        let failed = |error: io::Error| FailedHandshake::of(&error, None, self.clock.now());
        let hello = async {
            // Readiness alone may be a false alarm.
            stream.peek(&mut [0]).await?;
            permit.activity.note_activity();
            LazyConfigAcceptor::new(Acceptor::default(), stream).await
        };
        let hello = in_time(HANDSHAKE_TIMEOUT, "its ClientHello", hello).await?.map_err(failed)?;
        let permit = in_time(QUEUE_TIMEOUT, "its turn", self.handshakes.admit(permit.source)).await?;
        let handshake = in_time(HANDSHAKE_TIMEOUT, "its handshake", hello.into_stream(config));
        let (handshake, shown) = tokio::select! {
            done = watching(handshake) => done,
            () = permit.stop.cancelled() => {
                let text = "its handshake was slow while others waited";
                return Err(FailedHandshake::new(HandshakeFailure::made_room, text));
            }
        };
        drop(permit);
        let stream = handshake?.map_err(|error| FailedHandshake::of(&error, shown, self.clock.now()))?;
        let mut stream = BufReader::with_capacity(16 * 1024, stream);
        // In TLS 1.3 a client is done before its certificate was judged; and hyper sets no limit on the preface.
        in_time(HANDSHAKE_TIMEOUT, "its first byte", stream.fill_buf()).await?.map_err(failed)?;
        Ok(stream)
    }

    fn note_failure(&self, failed: &FailedHandshake, address: SocketAddr, is_heard: bool) {
        self.metrics.handshakes_failed(failed.reason).inc();
        // Whoever connects and says nothing looks whether the port is open.
        if !is_heard || (failed.reason == HandshakeFailure::closed && failed.shown.is_none()) {
            tracing::debug!(%address, reason = %failed, "no handshake");
            return;
        }
        let workload = failed.shown.as_ref().and_then(|shown| shown.workload.as_ref());
        let Some(more) = self.failures.speaks((address.ip().into(), failed.reason, workload.cloned())) else {
            return;
        };
        let peer = match workload {
            Some(workload) => format!("{workload} ({})", address.ip().to_canonical()),
            None => address.ip().to_canonical().to_string(),
        };
        let listener = self.metrics.listener;
        tracing::warn!(
            event = "handshake_failed",
            listener, peer, reason = %failed, more,
            "a TLS handshake failed"
        );
    }
}

async fn in_time<T>(
    limit: Duration,
    what: &str,
    future: impl Future<Output = T>,
) -> Result<T, FailedHandshake> {
    tokio::time::timeout(limit, future).await.map_err(|_| {
        let text = format!("{what} did not come within {} s", limit.as_secs());
        FailedHandshake::new(HandshakeFailure::timed_out, &text)
    })
}
