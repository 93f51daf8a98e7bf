//! Discovery clients that do exactly what a test says: delta and state of the world, by Envoy's own messages.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::rpc;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use weft_api::ResourceKind;

use super::peer::Member;
use super::plane::DEADLINE;

pub fn node(id: &str) -> Node {
    Node { id: id.to_owned(), user_agent_name: "test".to_owned(), ..Node::default() }
}

/// One delta stream.
pub struct Delta {
    node: Option<Node>,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Delta {
    pub async fn open(member: &Member, control_plane: SocketAddr) -> Self {
        Self::open_as(member, &member.id, control_plane).await.unwrap()
    }

    /// Opens a stream under a name that may be another's.
    pub async fn open_as(member: &Member, id: &str, control_plane: SocketAddr) -> Result<Self, Status> {
        Self::open_with(member, node(id), control_plane).await
    }

    /// Opens a stream with a node that claims whatever it likes.
    pub async fn open_with(member: &Member, node: Node, control_plane: SocketAddr) -> Result<Self, Status> {
        let mut client = AggregatedDiscoveryServiceClient::new(member.channel(control_plane).await);
        let (requests, outgoing) = mpsc::channel(16);
        let responses = client.delta_aggregated_resources(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Self { node: Some(node), requests, responses })
    }

    /// Subscribes; no name is everything.
    pub async fn subscribe(&mut self, kind: ResourceKind, names: &[&str]) {
        self.subscribe_with(kind, names, HashMap::new()).await;
    }

    /// Subscribes, and says what is held already.
    pub async fn subscribe_with(
        &mut self,
        kind: ResourceKind,
        names: &[&str],
        held: HashMap<String, String>,
    ) {
        self.send(DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            initial_resource_versions: held,
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }

    async fn send(&mut self, mut request: DeltaDiscoveryRequest) {
        request.node = self.node.take();
        self.requests.send(request).await.unwrap();
    }

    pub async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let next = tokio::time::timeout(DEADLINE, self.responses.message());
        next.await
            .expect("an answer in time")?
            .ok_or_else(|| Status::unknown("the stream ended without words"))
    }

    pub async fn expect(&mut self, kind: ResourceKind) -> DeltaDiscoveryResponse {
        let response = self.next().await.unwrap();
        assert_eq!(response.type_url, kind.type_url(), "{:?}", names(&response));
        response
    }

    pub async fn ack(&mut self, response: &DeltaDiscoveryResponse) {
        self.answer(response, None).await;
    }

    pub async fn refuse(&mut self, response: &DeltaDiscoveryResponse, words: &str) {
        let detail = rpc::Status { code: 3, message: words.to_owned(), details: Vec::new() };
        self.answer(response, Some(detail)).await;
    }

    async fn answer(&mut self, response: &DeltaDiscoveryResponse, error_detail: Option<rpc::Status>) {
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail,
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }
}

pub fn names(response: &DeltaDiscoveryResponse) -> Vec<String> {
    let mut names: Vec<_> = response.resources.iter().map(|resource| resource.name.clone()).collect();
    names.sort();
    names
}

/// Endpoints of an assignment: address and health.
pub fn endpoints(body: &[u8]) -> Vec<(String, i32)> {
    use envoy_types::pb::envoy::config::core::v3::address::Address;
    use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
    let assignment = ClusterLoadAssignment::decode(body).unwrap();
    let all = assignment.endpoints.into_iter().flat_map(|locality| locality.lb_endpoints);
    all.map(|endpoint| {
        let health = endpoint.health_status;
        let Some(HostIdentifier::Endpoint(endpoint)) = endpoint.host_identifier else {
            panic!("no endpoint")
        };
        let Some(Address::SocketAddress(address)) = endpoint.address.unwrap().address else {
            panic!("no address")
        };
        (address.address, health)
    })
    .collect()
}

/// What a proxy has: bodies and versions by type and name.
pub type Held = BTreeMap<(&'static str, String), (String, Vec<u8>)>;

/// A proxy as a sidecar is: takes everything that concerns it, and accepts all but what it was told to refuse.
pub struct Sidecar {
    pub stream: Delta,
    pub held: Held,
    /// Names in the order of their arrival.
    pub log: Vec<(&'static str, String)>,
    /// A name, and the words with which it is refused.
    pub refuses: Option<(String, String)>,
}

impl Sidecar {
    pub async fn start(member: &Member, control_plane: SocketAddr) -> Self {
        Self::start_with(member, control_plane, &Held::new()).await
    }

    /// Starts with what an earlier stream brought.
    pub async fn start_with(member: &Member, control_plane: SocketAddr, held: &Held) -> Self {
        let mut stream = Delta::open(member, control_plane).await;
        let versions = |kind: ResourceKind| {
            let of_kind = held.iter().filter(|((held, _), _)| *held == kind.short());
            of_kind
                .map(|((_, name), (version, _))| (name.clone(), version.clone()))
                .collect::<HashMap<_, _>>()
        };
        for kind in [ResourceKind::Cluster, ResourceKind::Listener] {
            stream.subscribe_with(kind, &[], versions(kind)).await;
        }
        for kind in [ResourceKind::Endpoint, ResourceKind::Route] {
            let versions = versions(kind);
            if !versions.is_empty() {
                let names: Vec<String> = versions.keys().cloned().collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                stream.subscribe_with(kind, &names, versions).await;
            }
        }
        stream.subscribe(ResourceKind::Secret, &["bundle"]).await;
        Self { stream, held: held.clone(), log: Vec::new(), refuses: None }
    }

    /// Takes one response and answers it; gives its type and names.
    pub async fn step(&mut self) -> (ResourceKind, Vec<String>) {
        let response = self.stream.next().await.unwrap();
        let kind = ResourceKind::ALL.into_iter().find(|kind| kind.type_url() == response.type_url).unwrap();
        let names = names(&response);
        if let Some((name, words)) = self.refuses.clone().filter(|(name, _)| names.contains(name)) {
            self.stream.refuse(&response, &format!("{name}: {words}")).await;
            return (kind, names);
        }
        let mut wanted = Vec::new();
        for resource in &response.resources {
            let key = (kind.short(), resource.name.clone());
            let is_new = !self.held.contains_key(&key);
            let body = resource.resource.as_ref().unwrap().value.clone();
            self.log.push(key.clone());
            self.held.insert(key, (resource.version.clone(), body));
            if is_new && kind == ResourceKind::Cluster && !resource.name.starts_with("inbound/") {
                wanted.push(resource.name.clone());
            }
        }
        for name in &response.removed_resources {
            self.held.remove(&(kind.short(), name.clone()));
        }
        if !wanted.is_empty() {
            let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
            self.stream.subscribe(ResourceKind::Endpoint, &wanted).await;
        }
        if kind == ResourceKind::Listener && names.iter().any(|name| name == "outbound") {
            self.stream.subscribe(ResourceKind::Route, &["outbound/shop"]).await;
        }
        self.stream.ack(&response).await;
        (kind, names)
    }

    /// Takes responses until it has what it should have.
    pub async fn until(&mut self, what: &str, has: impl Fn(&Held) -> bool) {
        let all = async {
            while !has(&self.held) {
                self.step().await;
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, all).await;
        assert!(in_time.is_ok(), "{what} in time; held: {:?}", self.held.keys());
    }

    /// Takes responses until a service's only endpoint has a health.
    pub async fn until_health(&mut self, cluster: &str, health: i32) {
        let key = (ResourceKind::Endpoint.short(), cluster.to_owned());
        let what = format!("health {health} of {cluster}");
        let has = |held: &Held| {
            held.get(&key).is_some_and(|(_, body)| endpoints(body).iter().any(|(_, is)| *is == health))
        };
        self.until(&what, has).await;
    }

    /// Answers whatever comes, for as long as the test goes on.
    pub fn go_on(mut self) -> tokio_util::task::AbortOnDropHandle<()> {
        tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let Ok(Some(response)) = self.stream.responses.message().await else { return };
                let names = names(&response);
                match self.refuses.clone().filter(|(name, _)| names.contains(name)) {
                    Some((_, words)) => self.stream.refuse(&response, &words).await,
                    None => self.stream.ack(&response).await,
                }
            }
        }))
    }

    /// Whether a cluster has so many endpoints.
    pub fn serves(held: &Held, cluster: &str, count: usize) -> bool {
        let assignment = held.get(&(ResourceKind::Endpoint.short(), cluster.to_owned()));
        assignment.is_some_and(|(_, body)| endpoints(body).len() == count)
    }

    pub fn has(held: &Held, kind: ResourceKind, name: &str) -> bool {
        held.contains_key(&(kind.short(), name.to_owned()))
    }
}

/// One aggregated stream of the state of the world.
pub struct Sotw {
    node: Option<Node>,
    requests: mpsc::Sender<DiscoveryRequest>,
    pub responses: Streaming<DiscoveryResponse>,
}

impl Sotw {
    pub async fn open(member: &Member, control_plane: SocketAddr) -> Self {
        let mut client = AggregatedDiscoveryServiceClient::new(member.channel(control_plane).await);
        let (requests, outgoing) = mpsc::channel(16);
        let responses =
            client.stream_aggregated_resources(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        Self { node: Some(node(&member.id)), requests, responses }
    }

    pub async fn ask(&mut self, kind: ResourceKind, names: &[&str], answered: Option<&DiscoveryResponse>) {
        let request = DiscoveryRequest {
            node: self.node.take(),
            type_url: kind.type_url().to_owned(),
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            version_info: answered.map(|response| response.version_info.clone()).unwrap_or_default(),
            response_nonce: answered.map(|response| response.nonce.clone()).unwrap_or_default(),
            ..DiscoveryRequest::default()
        };
        self.requests.send(request).await.unwrap();
    }

    /// Asks for everything, and says which version an earlier stream brought.
    pub async fn bring(&mut self, kind: ResourceKind, version: &str) {
        let request = DiscoveryRequest {
            node: self.node.take(),
            type_url: kind.type_url().to_owned(),
            version_info: version.to_owned(),
            ..DiscoveryRequest::default()
        };
        self.requests.send(request).await.unwrap();
    }

    pub async fn expect(&mut self, kind: ResourceKind) -> DiscoveryResponse {
        let next = tokio::time::timeout(DEADLINE, self.responses.message());
        let response = next.await.expect("an answer in time").unwrap().unwrap();
        assert_eq!(response.type_url, kind.type_url());
        response
    }
}
