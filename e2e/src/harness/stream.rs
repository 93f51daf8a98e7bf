//! A discovery stream that says what the test says, and nothing else: Envoy's own messages, state of the world.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::google::rpc;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use weft_api::ResourceKind;

/// The most that an answer of the control plane may weigh here.
const MAX_ANSWER: usize = 64 << 20;

/// One aggregated stream.
#[derive(Debug)]
pub struct XdsStream {
    node: Node,
    requests: mpsc::Sender<DiscoveryRequest>,
    answers: Streaming<DiscoveryResponse>,
}

impl XdsStream {
    /// Opens one for a node of this name. Whether the name is believed shows with the first question.
    ///
    /// # Errors
    /// When the stream is refused at once.
    pub async fn open(channel: Channel, node: &str) -> Result<Self, Status> {
        let node = Node { id: node.to_owned(), user_agent_name: "test".to_owned(), ..Node::default() };
        Self::open_with(channel, node).await
    }

    /// Opens one with a whole node message.
    ///
    /// # Errors
    /// When the stream is refused at once.
    pub async fn open_with(channel: Channel, node: Node) -> Result<Self, Status> {
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
        let (requests, outgoing) = mpsc::channel(16);
        let answers = client.stream_aggregated_resources(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Self { node, requests, answers })
    }

    /// Calls itself something else from now on.
    pub fn rename(&mut self, node: &str) {
        node.clone_into(&mut self.node.id);
    }

    /// Subscribes to names of a type; none is everything.
    pub async fn ask(&self, kind: ResourceKind, names: &[&str]) {
        self.say(self.request(kind, names)).await;
    }

    /// Subscribes, and says which version of the type an earlier stream brought.
    pub async fn ask_with(&self, kind: ResourceKind, names: &[&str], version: &str) {
        let version_info = version.to_owned();
        self.say(DiscoveryRequest { version_info, ..self.request(kind, names) }).await;
    }

    /// Acknowledges an answer, still subscribed to these names.
    pub async fn ack(&self, kind: ResourceKind, names: &[&str], answer: &DiscoveryResponse) {
        self.say(DiscoveryRequest {
            version_info: answer.version_info.clone(),
            response_nonce: answer.nonce.clone(),
            ..self.request(kind, names)
        })
        .await;
    }

    /// Refuses an answer; `held` is the version that stays in use.
    pub async fn nack(
        &self,
        kind: ResourceKind,
        names: &[&str],
        answer: &DiscoveryResponse,
        held: &str,
        words: &str,
    ) {
        self.say(DiscoveryRequest {
            version_info: held.to_owned(),
            response_nonce: answer.nonce.clone(),
            error_detail: Some(rpc::Status { code: 3, message: words.to_owned(), details: Vec::new() }),
            ..self.request(kind, names)
        })
        .await;
    }

    /// Sends any request.
    pub async fn say(&self, request: DiscoveryRequest) {
        // A stream that was ended takes nothing more; its words come with the next answer.
        drop(self.requests.send(request).await);
    }

    /// A request with this stream's node.
    #[must_use]
    pub fn request(&self, kind: ResourceKind, names: &[&str]) -> DiscoveryRequest {
        DiscoveryRequest {
            node: Some(self.node.clone()),
            type_url: kind.type_url().to_owned(),
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..DiscoveryRequest::default()
        }
    }

    /// The next answer.
    ///
    /// # Errors
    /// When the stream ends; `DEADLINE_EXCEEDED` when nothing comes in time.
    pub async fn next(&mut self, limit: Duration) -> Result<DiscoveryResponse, Status> {
        match tokio::time::timeout(limit, self.answers.message()).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => Err(Status::aborted("the stream ended without words")),
            Ok(Err(status)) => Err(status),
            Err(_) => Err(Status::deadline_exceeded(format!("nothing came within {limit:?}"))),
        }
    }

    /// The next answer of a type; what else comes is passed over.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn expect(&mut self, kind: ResourceKind, limit: Duration) -> Result<DiscoveryResponse, Status> {
        let end = Instant::now() + limit;
        loop {
            let answer = self.next(end.saturating_duration_since(Instant::now())).await?;
            if answer.type_url == kind.type_url() {
                return Ok(answer);
            }
        }
    }

    /// How the stream ends, which must be soon. Answers that still come are acknowledged.
    ///
    /// # Errors
    /// When it is still open after `limit`.
    pub async fn end(&mut self, limit: Duration) -> anyhow::Result<Status> {
        let end = Instant::now() + limit;
        loop {
            match self.next(end.saturating_duration_since(Instant::now())).await {
                Ok(answer) => {
                    if let Some(kind) = ResourceKind::from_type_url(&answer.type_url) {
                        self.ack(kind, &[], &answer).await;
                    }
                }
                Err(status) if status.code() == Code::DeadlineExceeded && Instant::now() >= end => {
                    anyhow::bail!("the stream is still open after {limit:?}")
                }
                Err(status) => return Ok(status),
            }
        }
    }
}
