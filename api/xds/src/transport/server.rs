//! The discovery services over gRPC: ADS, CDS, LDS, RDS, EDS, SDS in both variants, VHDS in delta.
//!
//! ```text
//!   TLS accept ──PeerIdentity──► DiscoveryServer ──open──► Publisher (the control plane)
//!                                      │ one task a stream         │
//!                                      ▼                           ▼
//!                                server::Session ◄── StreamSetup ── StreamHandle: publish, status, close
//! ```
//!
//! The services are routed by hand: that way bodies leave as shared [`bytes::Bytes`] instead of being copied into the
//! generated messages, and one table says what is served.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, StdError};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::service::Routes;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;
use tower::Service;
use weft_api::resource::{ResourceKey, ResourceKind};

use super::admission::{Admission, Excess};
use super::stream::{self, Delta, ProtocolVariant, Sotw};
use super::{NodeClaim, PeerIdentity};
use crate::mailbox::{self, Delivery};
use crate::server::{Rejected, ResourceDelivery, ServedTypes, SessionEvent, StreamStatus, Variant};
use crate::source::ControlPlaneCluster;
use crate::view::{Changes, View};

/// M2: a message in is this long at most; longer ones are refused before they are decoded.
const MAX_REQUEST: usize = 4 << 20;

/// Responses handed to the HTTP/2 layer and not yet written. One: contents are to be as fresh as can be (U16).
const RESPONSE_BUFFER: usize = 1;

/// Questions that wait for a stream; more are refused, the asker can come back.
const COMMAND_BUFFER: usize = 8;

/// Which protocol a stream speaks, about which types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamKind {
    /// State of the world or delta.
    pub variant: Variant,
    /// All types or one.
    pub served: ServedTypes,
}

/// Decides who may open a stream and what it carries. The control plane implements it.
pub trait Publisher: Send + Sync + 'static {
    /// Admits a stream, or refuses it: `PERMISSION_DENIED` where the node claims what the certificate does not
    /// prove, `UNAVAILABLE` while the store is not loaded (S14). Must not block; the first view may come later
    /// through the handle, and nothing is answered before.
    ///
    /// # Errors
    /// What the client is told.
    fn open(&self, node: NodeClaim, peer: PeerIdentity, stream: StreamKind) -> Result<StreamSetup, Status>;

    /// Learns that a peer was refused a stream, or lost one, because it asked for more than its share: to count it.
    /// It may happen a thousand times a second.
    fn refused(&self, _peer: &PeerIdentity, _excess: Excess) {}
}

/// Learns what happens on one stream, in order, on the stream's task: it must be quick. Dropped when the stream ends.
pub trait Observer: Send + 'static {
    /// Called once for each event, in the order in which they happened.
    fn on_event(&mut self, event: SessionEvent);
}

impl<F: FnMut(SessionEvent) + Send + 'static> Observer for F {
    fn on_event(&mut self, event: SessionEvent) {
        self(event);
    }
}

/// The stream's end of what a [`Publisher`] hands out.
pub struct StreamSetup {
    pub(super) updates: mailbox::Receiver,
    pub(super) commands: mpsc::Receiver<StreamCommand>,
    pub(super) observer: Box<dyn Observer>,
    pub(super) rejections: Vec<(ResourceKind, Rejected)>,
    pub(super) source: Option<ControlPlaneCluster>,
    pub(super) without_log_services: bool,
}

impl StreamSetup {
    /// Makes a setup and the handle that feeds it.
    pub fn new(observer: impl Observer) -> (StreamHandle, Self) {
        let (sender, updates) = mailbox::mailbox();
        let (ask, commands) = mpsc::channel(COMMAND_BUFFER);
        let observer = Box::new(observer);
        let (rejections, source) = (Vec::new(), None);
        let setup = Self { updates, commands, observer, rejections, source, without_log_services: false };
        (StreamHandle { updates: sender, commands: ask }, setup)
    }

    /// Adds what the same client refused on an earlier stream, so that it is not tried again (S9).
    #[must_use]
    pub fn with_rejections(mut self, rejections: Vec<(ResourceKind, Rejected)>) -> Self {
        self.rejections = rejections;
        self
    }

    /// Says that the client takes each type on a stream of its own, from that cluster of its bootstrap: what leaves names
    /// that as the source of endpoints, routes and secrets, in place of the aggregated stream.
    #[must_use]
    pub fn with_config_source(mut self, cluster: ControlPlaneCluster) -> Self {
        self.source = Some(cluster);
        self
    }

    /// Says that the client knows no access log service: what names one is taken out of what leaves.
    #[must_use]
    pub fn without_access_log_services(mut self) -> Self {
        self.without_log_services = true;
        self
    }
}

impl fmt::Debug for StreamSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSetup").field("rejections", &self.rejections).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) enum StreamCommand {
    Status(oneshot::Sender<StreamStatus>),
    Deliveries(oneshot::Sender<Vec<ResourceDelivery>>),
    Close(Status),
}

/// The publisher's end of a stream. Dropping it ends the stream with `UNAVAILABLE`: clients come back.
#[derive(Debug)]
pub struct StreamHandle {
    updates: mailbox::Sender,
    commands: mpsc::Sender<StreamCommand>,
}

impl StreamHandle {
    /// Gives the stream a new view; never waits. What the stream has not taken yet is merged. Says whether the stream
    /// was woken for it: it is not where the client asked for nothing of what changed.
    pub fn publish(&self, view: View, changes: Changes) -> Delivery {
        self.updates.send(view, changes)
    }

    /// Whether the client has asked for this resource by now, so that a change of it goes out.
    #[must_use]
    pub fn is_asked_for(&self, key: &ResourceKey) -> bool {
        self.updates.is_asked_for(key)
    }

    /// What the stream looks like now; none if it has ended or is too busy to say.
    pub async fn status(&self) -> Option<StreamStatus> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(StreamCommand::Status(reply)).ok()?;
        answer.await.ok()
    }

    /// What the client was sent and took, resource by resource; none if the stream has ended or is too busy to say.
    pub async fn deliveries(&self) -> Option<Vec<ResourceDelivery>> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(StreamCommand::Deliveries(reply)).ok()?;
        answer.await.ok()
    }

    /// Ends the stream with these words, for example because the workload was revoked.
    pub fn close(self, status: Status) {
        // Where the queue is full the words are lost, but dropping the mailbox ends the stream all the same.
        let _ = self.commands.try_send(StreamCommand::Close(status));
    }

    /// Whether the stream has ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.commands.is_closed()
    }
}

const SERVICES: [&str; 8] = [
    "envoy.service.discovery.v3.AggregatedDiscoveryService",
    "envoy.service.cluster.v3.ClusterDiscoveryService",
    "envoy.service.endpoint.v3.EndpointDiscoveryService",
    "envoy.service.listener.v3.ListenerDiscoveryService",
    "envoy.service.route.v3.RouteDiscoveryService",
    "envoy.service.route.v3.VirtualHostDiscoveryService",
    "envoy.service.secret.v3.SecretDiscoveryService",
    "envoy.service.runtime.v3.RuntimeDiscoveryService",
];

/// The service of a stream that serves these types, and its methods in state of the world and delta. `Fetch*` is not served.
fn methods(served: ServedTypes) -> (&'static str, Option<&'static str>, &'static str) {
    match served {
        ServedTypes::Aggregated => {
            (SERVICES[0], Some("StreamAggregatedResources"), "DeltaAggregatedResources")
        }
        ServedTypes::Only(ResourceKind::Cluster) => (SERVICES[1], Some("StreamClusters"), "DeltaClusters"),
        ServedTypes::Only(ResourceKind::Endpoint) => (SERVICES[2], Some("StreamEndpoints"), "DeltaEndpoints"),
        ServedTypes::Only(ResourceKind::Listener) => (SERVICES[3], Some("StreamListeners"), "DeltaListeners"),
        ServedTypes::Only(ResourceKind::Route) => (SERVICES[4], Some("StreamRoutes"), "DeltaRoutes"),
        ServedTypes::Only(ResourceKind::VirtualHost) => (SERVICES[5], None, "DeltaVirtualHosts"),
        ServedTypes::Only(ResourceKind::Secret) => (SERVICES[6], Some("StreamSecrets"), "DeltaSecrets"),
        ServedTypes::Only(ResourceKind::Runtime) => (SERVICES[7], Some("StreamRuntime"), "DeltaRuntime"),
    }
}

/// The request path of a stream; virtual hosts have none in state of the world.
pub(super) fn path(stream: StreamKind) -> Option<String> {
    let (service, sotw, delta) = methods(stream.served);
    let method = match stream.variant {
        Variant::Sotw => sotw?,
        Variant::Delta => delta,
    };
    Some(format!("/{service}/{method}"))
}

/// What a request path asks for. `Fetch*` and unknown methods ask for nothing that is served.
fn route(path: &str) -> Option<StreamKind> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let all = std::iter::once(ServedTypes::Aggregated).chain(ResourceKind::ALL.map(ServedTypes::Only));
    all.into_iter().find_map(|served| {
        let (name, sotw, delta) = methods(served);
        let variant = match method {
            _ if name != service => return None,
            method if method == delta => Variant::Delta,
            method if Some(method) == sotw => Variant::Sotw,
            _ => return None,
        };
        Some(StreamKind { variant, served })
    })
}

/// All discovery services, as one tower service. Give it to tonic by [`Self::into_routes`].
#[derive(Debug)]
pub struct DiscoveryServer<P> {
    publisher: Arc<P>,
    admission: Arc<Admission>,
}

impl<P> Clone for DiscoveryServer<P> {
    fn clone(&self) -> Self {
        Self { publisher: self.publisher.clone(), admission: self.admission.clone() }
    }
}

impl<P: Publisher> DiscoveryServer<P> {
    /// Serves what the publisher hands out.
    #[must_use]
    pub fn new(publisher: Arc<P>) -> Self {
        Self { publisher, admission: Arc::new(Admission::new(Instant::now())) }
    }

    /// The services as routes of a tonic server; add others to it with [`Routes::add_service`].
    #[must_use]
    pub fn into_routes(self) -> Routes {
        Routes::new(ServiceRoute::<P, 0>(self.clone()))
            .add_service(ServiceRoute::<P, 1>(self.clone()))
            .add_service(ServiceRoute::<P, 2>(self.clone()))
            .add_service(ServiceRoute::<P, 3>(self.clone()))
            .add_service(ServiceRoute::<P, 4>(self.clone()))
            .add_service(ServiceRoute::<P, 5>(self.clone()))
            .add_service(ServiceRoute::<P, 6>(self.clone()))
            .add_service(ServiceRoute::<P, 7>(self))
    }

    async fn serve(self, request: http::Request<Body>) -> http::Response<Body> {
        let Some(peer) = request.extensions().get::<PeerIdentity>().cloned() else {
            return Status::unauthenticated("discovery needs mutual TLS with a certificate of this mesh")
                .into_http();
        };
        match route(request.uri().path()) {
            None => Status::unimplemented(
                "served are the discovery streams, state of the world and delta; no Fetch calls",
            )
            .into_http(),
            Some(stream) => match stream.variant {
                Variant::Sotw => self.serve_as::<Sotw>(request, peer, stream).await,
                Variant::Delta => self.serve_as::<Delta>(request, peer, stream).await,
            },
        }
    }

    async fn serve_as<D: ProtocolVariant>(
        self,
        request: http::Request<Body>,
        peer: PeerIdentity,
        stream: StreamKind,
    ) -> http::Response<Body> {
        let codec = ProstCodec::<D::Response, D::Request>::default();
        Grpc::new(codec)
            .apply_max_message_size_config(Some(MAX_REQUEST), None)
            .streaming(
                StreamingCall { server: self, peer, stream, dialect: std::marker::PhantomData::<D> },
                request,
            )
            .await
    }
}

struct StreamingCall<P, D> {
    server: DiscoveryServer<P>,
    peer: PeerIdentity,
    stream: StreamKind,
    dialect: std::marker::PhantomData<D>,
}

impl<P: Publisher, D: ProtocolVariant> StreamingService<D::Request> for StreamingCall<P, D>
where
    D::Request: Message + Default,
    D::Response: Message,
{
    type Response = D::Response;
    type ResponseStream = ReceiverStream<Result<D::Response, Status>>;
    type Future = std::future::Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<D::Request>>) -> Self::Future {
        let (publisher, peer, stream) = (self.server.publisher.clone(), self.peer.clone(), self.stream);
        let permit = match self.server.admission.admit(&peer, self.stream.served, Instant::now()) {
            Ok(permit) => permit,
            Err(excess) => {
                publisher.refused(&peer, excess);
                return std::future::ready(Err(Status::resource_exhausted(excess.to_string())));
            }
        };
        let (responses, outgoing) = mpsc::channel(RESPONSE_BUFFER);
        let context = stream::StreamContext { publisher, peer, stream };
        tokio::spawn(stream::serve::<D, P>(request.into_inner(), responses, context, permit));
        std::future::ready(Ok(tonic::Response::new(ReceiverStream::new(outgoing))))
    }
}

impl<P: Publisher, B> Service<http::Request<B>> for DiscoveryServer<P>
where
    B: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move { Ok(server.serve(request.map(Body::new)).await) })
    }
}

/// The same service under one of the names that tonic routes by.
#[derive(Debug)]
struct ServiceRoute<P, const SERVICE: usize>(DiscoveryServer<P>);

impl<P, const SERVICE: usize> Clone for ServiceRoute<P, SERVICE> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P, const SERVICE: usize> NamedService for ServiceRoute<P, SERVICE> {
    const NAME: &'static str = SERVICES[SERVICE];
}

impl<P: Publisher, const SERVICE: usize> Service<http::Request<Body>> for ServiceRoute<P, SERVICE> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.0.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_has_a_path_that_leads_back_to_it_and_fetch_leads_nowhere() {
        let all = std::iter::once(ServedTypes::Aggregated).chain(ResourceKind::ALL.map(ServedTypes::Only));
        for served in all {
            for variant in [Variant::Sotw, Variant::Delta] {
                let stream = StreamKind { variant, served };
                match path(stream) {
                    Some(path) => assert_eq!(route(&path), Some(stream)),
                    None => assert_eq!(stream.served, ServedTypes::Only(ResourceKind::VirtualHost)),
                }
            }
        }
        assert_eq!(route("/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters"), None);
        assert_eq!(
            route("/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"),
            Some(StreamKind { variant: Variant::Delta, served: ServedTypes::Aggregated })
        );
    }
}
