//! The transport over real connections: our server against generated clients and against our own.

#![allow(clippy::unwrap_used, reason = "a test ends where an expectation fails")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint as Address, Server};
use tonic::{Code, Status};
use tower::util::MapRequestLayer;
use weft_api::names::SpiffeId;
use weft_api::resource::{Resource, ResourceKind};
use weft_xds::client::{self, Update, Verdict};
use weft_xds::mailbox::Delivery;
use weft_xds::server::{ServedTypes, SessionEvent, Variant};
use weft_xds::transport::client::{Notice, XdsClient};
use weft_xds::transport::server::{DiscoveryServer, Publisher, StreamHandle, StreamKind, StreamSetup};
use weft_xds::transport::{Excess, MAX_STREAMS, NodeClaim, PeerIdentity};
use weft_xds::{Changes, Layer, View};

const DEADLINE: Duration = Duration::from_secs(10);
const DELTA: StreamKind = StreamKind { variant: Variant::Delta, served: ServedTypes::Aggregated };

/// Hands every stream to the test.
struct Door {
    opened: mpsc::UnboundedSender<(NodeClaim, StreamHandle)>,
    events: Arc<Mutex<Vec<SessionEvent>>>,
    refused: Arc<AtomicUsize>,
}

impl Publisher for Door {
    fn open(&self, node: NodeClaim, _: PeerIdentity, _: StreamKind) -> Result<StreamSetup, Status> {
        if node.id() == "shop/stranger" {
            return Err(Status::permission_denied("this certificate is not shop/stranger's"));
        }
        let events = self.events.clone();
        let (handle, setup) = StreamSetup::new(move |event| events.lock().unwrap().push(event));
        self.opened.send((node, handle)).unwrap();
        Ok(setup)
    }

    fn refused(&self, _: &PeerIdentity, _: Excess) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

struct Mesh {
    channel: Channel,
    opened: mpsc::UnboundedReceiver<(NodeClaim, StreamHandle)>,
    events: Arc<Mutex<Vec<SessionEvent>>>,
    refused: Arc<AtomicUsize>,
}

impl Mesh {
    async fn start(peer: Option<PeerIdentity>) -> Self {
        let (opened, streams) = mpsc::unbounded_channel();
        let events = Arc::<Mutex<Vec<SessionEvent>>>::default();
        let refused = Arc::<AtomicUsize>::default();
        let door = Door { opened, events: events.clone(), refused: refused.clone() };
        let server = DiscoveryServer::new(Arc::new(door));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let identify = MapRequestLayer::new(move |mut request: http::Request<tonic::body::Body>| {
            if let Some(peer) = &peer {
                request.extensions_mut().insert(peer.clone());
            }
            request
        });
        let serve = Server::builder().layer(identify).add_routes(server.into_routes());
        tokio::spawn(serve.serve_with_incoming(TcpListenerStream::new(listener)));
        let channel = Address::from_shared(address).unwrap().connect().await.unwrap();
        Self { channel, opened: streams, events, refused }
    }

    async fn with_peer() -> Self {
        Self::start(Some(peer())).await
    }

    async fn stream(&mut self) -> StreamHandle {
        soon(self.opened.recv()).await.expect("the server runs").1
    }

    fn client(&self, variant: Variant) -> (XdsClient, mpsc::Receiver<Notice>) {
        let session = client::Session::new(variant, node());
        let channel = self.channel.clone();
        XdsClient::spawn(session, StreamKind { variant, served: ServedTypes::Aggregated }, move || {
            let channel = channel.clone();
            async move { Ok(channel) }
        })
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it happens within ten seconds")
}

fn peer() -> PeerIdentity {
    let spiffe: SpiffeId = "spiffe://mesh.test/ns/shop/svc/web".parse().unwrap();
    PeerIdentity { spiffe, workload: None, service: None, instance: None }
}

fn node() -> Node {
    Node { id: "shop/web-1".into(), ..Default::default() }
}

fn cluster(name: &str) -> Arc<Resource> {
    Resource::new(ResourceKind::Cluster, name, [&[10, 1][..], name.as_bytes()].concat(), vec![])
}

fn view(revision: u64, resources: &[Arc<Resource>]) -> View {
    View::new(revision, vec![Arc::new(resources.iter().cloned().collect::<Layer>())])
}

async fn next_update(notices: &mut mpsc::Receiver<Notice>) -> Update {
    loop {
        match soon(notices.recv()).await.expect("the client runs") {
            Notice::Update(update) => return update,
            Notice::Connected => {}
            Notice::Disconnected { reason, .. } => panic!("{reason}"),
        }
    }
}

async fn next_end(notices: &mut mpsc::Receiver<Notice>) -> String {
    loop {
        if let Notice::Disconnected { reason, retry_in } =
            soon(notices.recv()).await.expect("the client runs")
        {
            assert!(retry_in >= Duration::from_millis(500));
            return reason;
        }
    }
}

async fn until_synced(handle: &StreamHandle, revision: u64) {
    soon(async {
        loop {
            let status = handle.status().await.expect("the stream lives");
            if status.synced && status.revision == Some(revision) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn names(update: &Update) -> Vec<&str> {
    update.added.iter().map(|added| &*added.name).collect()
}

#[tokio::test]
async fn an_update_travels_to_the_client_and_its_ack_back() {
    for variant in [Variant::Delta, Variant::Sotw] {
        let mut mesh = Mesh::with_peer().await;
        let (client, mut notices) = mesh.client(variant);
        client.subscribe_all(ResourceKind::Cluster);
        let stream = mesh.stream().await;
        stream.publish(view(7, &[cluster("a"), cluster("b")]), Changes::All);
        let update = next_update(&mut notices).await;
        assert_eq!(names(&update), ["a", "b"]);
        assert!(!stream.status().await.unwrap().synced);
        client.answer(&update, Verdict::Ack);
        until_synced(&stream, 7).await;
        stream.publish(view(8, &[cluster("a")]), Changes::Keys(vec![cluster("b").key()]));
        let update = next_update(&mut notices).await;
        assert_eq!((names(&update).len(), &update.removed[..]), (0, &["b".into()][..]));
        client.answer(&update, Verdict::Ack);
        until_synced(&stream, 8).await;
        let events = mesh.events.lock().unwrap();
        assert!(events.contains(&SessionEvent::Synced { revision: 8, rejected: 0 }));
    }
}

/// A change that the client did not ask for waits for it, and is there when it asks.
#[tokio::test]
async fn a_view_that_concerns_nothing_asked_for_is_kept_until_it_is_asked_for() {
    let mut mesh = Mesh::with_peer().await;
    let (client, mut notices) = mesh.client(Variant::Delta);
    client.subscribe(ResourceKind::Cluster, "a");
    let stream = mesh.stream().await;
    assert_eq!(stream.publish(view(1, &[cluster("a")]), Changes::All), Delivery::Woken);
    client.answer(&next_update(&mut notices).await, Verdict::Ack);
    until_synced(&stream, 1).await;
    let (both, b) = ([cluster("a"), cluster("b")], Changes::Keys(vec![cluster("b").key()]));
    assert_eq!(stream.publish(view(2, &both), b.clone()), Delivery::Kept);
    until_synced(&stream, 2).await;
    assert_eq!(stream.publish(view(3, &both), b.clone()), Delivery::Kept);
    client.subscribe(ResourceKind::Cluster, "b");
    let update = next_update(&mut notices).await;
    assert_eq!(names(&update), ["b"]);
    client.answer(&update, Verdict::Ack);
    until_synced(&stream, 3).await;
    assert_eq!(stream.publish(view(4, &both), b), Delivery::Woken);
}

#[tokio::test]
async fn a_client_comes_back_and_is_sent_only_the_difference() {
    let mut mesh = Mesh::with_peer().await;
    let (client, mut notices) = mesh.client(Variant::Delta);
    client.subscribe_all(ResourceKind::Cluster);
    let stream = mesh.stream().await;
    stream.publish(view(1, &[cluster("a"), cluster("b")]), Changes::All);
    let update = next_update(&mut notices).await;
    client.answer(&update, Verdict::Ack);
    until_synced(&stream, 1).await;
    drop(stream);
    assert!(next_end(&mut notices).await.contains("Unavailable"));
    let stream = mesh.stream().await;
    stream.publish(view(2, &[cluster("b"), cluster("c")]), Changes::All);
    let update = next_update(&mut notices).await;
    assert_eq!((names(&update), &update.removed[..]), (vec!["c"], &["a".into()][..]));
    client.reconnect();
    let stream = mesh.stream().await;
    client.answer(&update, Verdict::Ack);
    stream.publish(view(2, &[cluster("b"), cluster("c")]), Changes::All);
    // It was being applied when the stream ended, so the server says it again.
    client.answer(&next_update(&mut notices).await, Verdict::Ack);
    until_synced(&stream, 2).await;
}

#[tokio::test]
async fn a_refusal_reaches_the_status_with_its_words() {
    let mut mesh = Mesh::with_peer().await;
    let (client, mut notices) = mesh.client(Variant::Delta);
    client.subscribe(ResourceKind::Cluster, "a");
    let stream = mesh.stream().await;
    stream.publish(view(1, &[cluster("a")]), Changes::All);
    let update = next_update(&mut notices).await;
    client.answer(&update, Verdict::Nack("cluster a: connect_timeout: too long".into()));
    until_synced(&stream, 1).await;
    let status = stream.status().await.unwrap();
    assert_eq!(&*status.types[0].rejected[0].message, "cluster a: connect_timeout: too long");
}

#[tokio::test]
async fn closing_a_stream_tells_the_client_why() {
    let mut mesh = Mesh::with_peer().await;
    let (client, mut notices) = mesh.client(Variant::Delta);
    client.subscribe_all(ResourceKind::Cluster);
    let stream = mesh.stream().await;
    stream.close(Status::permission_denied("shop/web-1 was revoked"));
    let reason = next_end(&mut notices).await;
    assert!(reason.contains("shop/web-1 was revoked"), "{reason}");
}

/// Every path asks for the identity, also those that are not served.
#[tokio::test]
async fn without_a_certificate_nothing_is_answered() {
    let mesh = Mesh::start(None).await;
    let mut ads = AggregatedDiscoveryServiceClient::new(mesh.channel.clone());
    let refused = ads.delta_aggregated_resources(tokio_stream::pending()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut cds = ClusterDiscoveryServiceClient::new(mesh.channel);
    assert_eq!(
        cds.fetch_clusters(DiscoveryRequest::default()).await.unwrap_err().code(),
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn fetch_is_not_served() {
    let mesh = Mesh::with_peer().await;
    let mut cds = ClusterDiscoveryServiceClient::new(mesh.channel);
    assert_eq!(
        cds.fetch_clusters(DiscoveryRequest::default()).await.unwrap_err().code(),
        Code::Unimplemented
    );
}

async fn first_answer(mesh: &Mesh, request: DeltaDiscoveryRequest) -> Status {
    let mut ads = AggregatedDiscoveryServiceClient::new(mesh.channel.clone());
    let mut responses =
        ads.delta_aggregated_resources(tokio_stream::once(request)).await.unwrap().into_inner();
    soon(responses.message()).await.unwrap_err()
}

/// S1, S3, M2, and the publisher's word, as the client sees them.
#[tokio::test]
async fn s1_s3_m2_refusals_have_the_right_code() {
    let mesh = Mesh::with_peer().await;
    let request = |node| DeltaDiscoveryRequest { node, ..Default::default() };
    let type_url = ResourceKind::Cluster.type_url().to_owned();
    let nobody = DeltaDiscoveryRequest { type_url: type_url.clone(), ..request(None) };
    assert_eq!(first_answer(&mesh, nobody).await.code(), Code::InvalidArgument);
    assert_eq!(first_answer(&mesh, request(Some(node()))).await.code(), Code::InvalidArgument);
    let stranger = Node { id: "shop/stranger".into(), ..Default::default() };
    let stranger = DeltaDiscoveryRequest { type_url: type_url.clone(), ..request(Some(stranger)) };
    assert_eq!(first_answer(&mesh, stranger).await.code(), Code::PermissionDenied);
    let secrets = DeltaDiscoveryRequest {
        type_url: ResourceKind::Secret.type_url().into(),
        resource_names_subscribe: vec!["*".into()],
        ..request(Some(node()))
    };
    assert_eq!(first_answer(&mesh, secrets).await.code(), Code::PermissionDenied);
    let giant = DeltaDiscoveryRequest {
        type_url,
        resource_names_subscribe: vec!["x".repeat(5 << 20)],
        ..request(Some(node()))
    };
    assert_eq!(first_answer(&mesh, giant).await.code(), Code::OutOfRange);
}

/// D8, M4: a stream that asks for too many names ends and says why; its memory is given back, so that the next may ask.
#[tokio::test]
async fn d8_m4_too_many_names_end_the_stream_with_a_sentence() {
    let mesh = Mesh::with_peer().await;
    let ask = |count: usize| DeltaDiscoveryRequest {
        node: Some(node()),
        type_url: ResourceKind::Endpoint.type_url().into(),
        resource_names_subscribe: (0..count).map(|n| format!("shop/s{n}/http")).collect(),
        ..Default::default()
    };
    for _ in 0..3 {
        let refused = first_answer(&mesh, ask(10_001)).await;
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("more than 10000 names"), "{refused}");
    }
    assert_eq!(mesh.refused.load(Ordering::Relaxed), 3);
}

/// D8: an identity has so many streams at most; one that ends makes room for the next.
#[tokio::test]
async fn d8_streams_of_one_identity_are_bounded_and_counted() {
    let mut mesh = Mesh::with_peer().await;
    let mut open = Vec::new();
    for _ in 0..MAX_STREAMS {
        let (send, requests) = mpsc::channel(1);
        let first = DeltaDiscoveryRequest {
            node: Some(node()),
            type_url: ResourceKind::Cluster.type_url().into(),
            ..Default::default()
        };
        send.send(first).await.unwrap();
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let mut ads = AggregatedDiscoveryServiceClient::new(mesh.channel.clone());
        open.push((send, ads.delta_aggregated_resources(requests).await.unwrap(), mesh.stream().await));
    }
    let mut ads = AggregatedDiscoveryServiceClient::new(mesh.channel.clone());
    let refused = ads.delta_aggregated_resources(tokio_stream::pending()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("16 discovery streams"), "{refused}");
    assert_eq!(mesh.refused.load(Ordering::Relaxed), 1);
    let (_, _, first) = open.remove(0);
    first.close(Status::unavailable("make room"));
    soon(async {
        while ads.delta_aggregated_resources(tokio_stream::pending()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The separate services, by the generated clients: the type is implied.
#[tokio::test]
async fn separate_streams_serve_their_type() {
    let mut mesh = Mesh::with_peer().await;
    let mut cds = ClusterDiscoveryServiceClient::new(mesh.channel.clone());
    let (send, requests) = mpsc::channel(4);
    send.send(DiscoveryRequest { node: Some(node()), ..Default::default() }).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut responses = cds.stream_clusters(requests).await.unwrap().into_inner();
    let stream = mesh.stream().await;
    stream.publish(view(1, &[cluster("a")]), Changes::All);
    let response = soon(responses.message()).await.unwrap().unwrap();
    assert_eq!(response.resources[0].value, cluster("a").body);

    let mut sds = SecretDiscoveryServiceClient::new(mesh.channel.clone());
    let (send, requests) = mpsc::channel(4);
    let names = vec!["identity".to_owned()];
    let ask =
        DeltaDiscoveryRequest { node: Some(node()), resource_names_subscribe: names, ..Default::default() };
    send.send(ask).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut responses = sds.delta_secrets(requests).await.unwrap().into_inner();
    let stream = mesh.stream().await;
    let secret = Resource::new(ResourceKind::Secret, "identity", "key", vec![]);
    stream.publish(view(1, std::slice::from_ref(&secret)), Changes::All);
    let response = soon(responses.message()).await.unwrap().unwrap();
    assert_eq!(response.resources[0].name, "identity");
    assert_eq!(response.resources[0].version, secret.version.to_string());
}

#[tokio::test]
async fn a_control_plane_that_is_away_is_tried_again() {
    let session = client::Session::new(Variant::Delta, node());
    let (client, mut notices) =
        XdsClient::spawn(session, DELTA, || async { Err("connection refused".into()) });
    client.subscribe_all(ResourceKind::Cluster);
    for _ in 0..2 {
        assert!(next_end(&mut notices).await.contains("connection refused"));
    }
    drop(client);
    while soon(notices.recv()).await.is_some() {}
}
