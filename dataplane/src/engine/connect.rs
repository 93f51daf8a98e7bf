//! Opening a connection to an endpoint: TCP, options, TLS, within the cluster's connect timeout.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::clock::{Deadlines, within};
use super::stream::{Rewound, Stream};
use crate::peer::PeerCertificate;
use crate::runtime::{self, Cluster, Transport, UpstreamTls};

/// What will be spoken on the connection; decides the ALPN that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ApplicationProtocol {
    Http1,
    Http2,
    Auto,
    Tcp,
}

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("connection timeout")]
    Timeout,
    #[error("delayed connect error: {0}")]
    Refused(Arc<io::Error>),
    #[error("TLS_error: {}", words(.0))]
    Tls(Arc<io::Error>),
    #[error("endpoint's transport socket is not configured")]
    NoTransport,
    #[error("overflow")]
    Overflow,
    #[error("protocol error: {0}")]
    Protocol(Arc<str>),
}

/// The error of TLS behind one of I/O.
pub(super) fn of_tls(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Why a handshake failed.
fn words(error: &io::Error) -> String {
    of_tls(error).map_or_else(|| error.to_string(), runtime::reason)
}

pub(crate) struct Dialed {
    pub(crate) stream: Stream,
    /// The server's certificate, where there is TLS.
    pub(crate) peer: Option<Arc<PeerCertificate>>,
    /// What the connection was secured with, for its life's end and for a later check.
    pub(crate) tls: Option<Arc<UpstreamTls>>,
    /// Whether ALPN chose h2.
    pub(crate) h2_chosen: bool,
    pub(crate) local: Option<SocketAddr>,
}

impl Dialed {
    /// When the first of the two certificates expires, where there is TLS.
    pub(crate) fn certificate_end(&self) -> Option<SystemTime> {
        let own = self.tls.as_ref().and_then(|tls| tls.expires());
        let peer = self.peer.as_ref().map(|peer| peer.not_after);
        [own, peer].into_iter().flatten().min()
    }
}

/// Connects to `address` as `cluster` says.
pub(crate) async fn dial(
    deadlines: &Rc<Deadlines>,
    cluster: &Cluster,
    address: SocketAddr,
    transport: &Transport,
    protocol: ApplicationProtocol,
) -> Result<Dialed, ConnectError> {
    let work = async {
        let tcp =
            TcpStream::connect(address).await.map_err(|error| ConnectError::Refused(Arc::new(error)))?;
        prepare(&tcp, cluster.keepalive.as_ref());
        let local = tcp.local_addr().ok();
        let plain = Rewound::new(tcp, Vec::new());
        match transport {
            Transport::Plaintext => {
                Ok(Dialed { stream: Stream::Plain(plain), peer: None, tls: None, h2_chosen: false, local })
            }
            Transport::Tls(tls) => secure(plain, tls, protocol, local).await,
        }
    };
    within(deadlines, Some(cluster.connect_timeout), work).await.unwrap_or(Err(ConnectError::Timeout))
}

async fn secure(
    plain: Rewound,
    tls: &Arc<UpstreamTls>,
    protocol: ApplicationProtocol,
    local: Option<SocketAddr>,
) -> Result<Dialed, ConnectError> {
    let config = match protocol {
        ApplicationProtocol::Http1 => &tls.http1,
        ApplicationProtocol::Http2 => &tls.http2,
        ApplicationProtocol::Auto => &tls.auto,
        ApplicationProtocol::Tcp => &tls.tcp,
    };
    let stream = TlsConnector::from(config.clone())
        .connect(tls.server_name.clone(), plain)
        .await
        .map_err(|error| ConnectError::Tls(Arc::new(error)))?;
    let session = stream.get_ref().1;
    let h2_chosen = session.alpn_protocol() == Some(b"h2");
    let peer = session.peer_certificates().and_then(|chain| PeerCertificate::parse(chain).ok()).map(Arc::new);
    Ok(Dialed { stream: Stream::Connected(Box::new(stream)), peer, tls: Some(tls.clone()), h2_chosen, local })
}

/// Socket options of either side. A connection works without them, so a refusal by the kernel is no error.
fn prepare(tcp: &TcpStream, keepalive: Option<&runtime::TcpKeepalive>) {
    let _ = tcp.set_nodelay(true);
    let Some(wanted) = keepalive else { return };
    let mut options = TcpKeepalive::new();
    if let Some(time) = wanted.time {
        options = options.with_time(time);
    }
    if let Some(interval) = wanted.interval {
        options = options.with_interval(interval);
    }
    if let Some(probes) = wanted.probes {
        options = options.with_retries(probes);
    }
    let _ = SockRef::from(tcp).set_tcp_keepalive(&options);
}
