//! gRPC channels of the control thread: to the control plane that was joined, or to a cluster of the bootstrap.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use weft_api::names::CONTROL_PLANE_CLUSTER;

use super::GrpcTarget;
use crate::decode::{ClusterPlan, EndpointHost, EndpointSource, KnownSecrets};
use crate::identity::channel::{self, Credentials};
use crate::identity::replicas::Replicas;
use crate::runtime::{Transport, UpstreamTls};

/// Makes channels to whatever a bootstrap names.
#[derive(Debug, Clone)]
pub struct Links {
    /// The joined control plane: where it is and how it is recognised.
    pub control_plane: Option<(Replicas, Credentials)>,
    /// The clusters of the bootstrap.
    pub clusters: Vec<Arc<ClusterPlan>>,
    /// The secrets of the moment, for clusters with TLS.
    pub secrets: watch::Receiver<Arc<KnownSecrets>>,
}

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no such target.
    #[error("{0:?} is not known here")]
    Unknown(GrpcTarget),
}

impl Links {
    /// A channel to a cluster of the bootstrap, or to the control plane that was joined by the name that bootstraps give it.
    #[must_use]
    pub fn to_cluster_named(&self, name: &str) -> Option<Channel> {
        let cluster = GrpcTarget::Cluster(name.to_owned());
        let known = self.channel(&cluster).ok();
        let joined =
            || self.channel(&GrpcTarget::ControlPlane).ok().filter(|_| name == CONTROL_PLANE_CLUSTER);
        known.or_else(joined)
    }

    /// A channel that dials when it is used.
    ///
    /// # Errors
    /// When the target is not known.
    pub fn channel(&self, target: &GrpcTarget) -> Result<Channel, LinkError> {
        match target {
            GrpcTarget::ControlPlane => {
                let known = self.control_plane.clone();
                let (replicas, credentials) = known.ok_or_else(|| LinkError::Unknown(target.clone()))?;
                Ok(channel::channel(&replicas, credentials))
            }
            GrpcTarget::Cluster(name) => {
                let plan = self.clusters.iter().find(|plan| *plan.name == **name);
                let plan = plan.ok_or_else(|| LinkError::Unknown(target.clone()))?;
                Ok(to_cluster(Arc::clone(plan), self.secrets.clone()))
            }
        }
    }
}

fn to_cluster(plan: Arc<ClusterPlan>, secrets: watch::Receiver<Arc<KnownSecrets>>) -> Channel {
    let next = Arc::new(AtomicUsize::new(0));
    let limit = plan.connect_timeout;
    let connector = tower::service_fn(move |_: Uri| {
        let (plan, secrets, next) = (Arc::clone(&plan), secrets.clone(), Arc::clone(&next));
        async move {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            let secrets = secrets.borrow().clone();
            match tokio::time::timeout(plan.connect_timeout, dial(&plan, &secrets, turn)).await {
                Ok(connected) => connected,
                Err(_) => {
                    let message = format!("connecting to {} took too long", plan.name);
                    Err(std::io::Error::new(std::io::ErrorKind::TimedOut, message))
                }
            }
        }
    });
    Endpoint::from_static("http://cluster.invalid")
        .connect_timeout(limit + Duration::from_secs(1))
        .http2_keep_alive_interval(Duration::from_secs(15))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector)
}

async fn dial(
    plan: &ClusterPlan,
    secrets: &KnownSecrets,
    turn: usize,
) -> std::io::Result<TokioIo<Box<dyn ByteStream>>> {
    let addresses = addresses(plan).await?;
    let address = addresses.get(turn % addresses.len().max(1)).copied();
    let address = address.ok_or_else(|| std::io::Error::other(format!("{} has no endpoints", plan.name)))?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let transports = plan
        .transports(secrets)
        .ok_or_else(|| std::io::Error::other(format!("the secrets of {} are not there yet", plan.name)))?
        .map_err(std::io::Error::other)?;
    Ok(TokioIo::new(match transports.first() {
        Some(Transport::Tls(tls)) => Box::new(shake(tls, stream).await?),
        Some(Transport::Plaintext) | None => Box::new(stream),
    }))
}

async fn shake(
    tls: &UpstreamTls,
    stream: TcpStream,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    TlsConnector::from(Arc::clone(&tls.http2)).connect(tls.server_name.clone(), stream).await
}

/// A connection, encrypted or not.
trait ByteStream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> ByteStream for T {}

async fn addresses(plan: &ClusterPlan) -> std::io::Result<Vec<SocketAddr>> {
    let endpoints = match &plan.source {
        EndpointSource::Static(endpoints) => endpoints,
        EndpointSource::Dns(dns) => &dns.endpoints,
        EndpointSource::Eds(_) => {
            let message = format!("{} is found by EDS, which needs the stream that it is for", plan.name);
            return Err(std::io::Error::other(message));
        }
        EndpointSource::OnDemand(_) => {
            let message = format!("{} has no endpoints of its own", plan.name);
            return Err(std::io::Error::other(message));
        }
    };
    let mut found = Vec::new();
    for endpoint in &endpoints.list {
        match &endpoint.host {
            EndpointHost::Address(address) => found.push(*address),
            EndpointHost::Name(name, port) => found.extend(tokio::net::lookup_host((&**name, *port)).await?),
        }
    }
    Ok(found)
}
