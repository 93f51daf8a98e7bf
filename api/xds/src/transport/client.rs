//! A discovery client over gRPC: keeps a stream open, reconnects, and hands updates to whoever applies them.
//!
//! ```text
//!   Client ──subscribe, answer──► task: client::Session over one stream at a time ──Notice──► receiver
//! ```
//!
//! The caller connects, so that it controls TLS, the pinned identity of the server, keep-alive and a new certificate at
//! each reconnect. Dropping the [`XdsClient`] ends the task.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::BoxFuture;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;
use weft_api::Backoff;
use weft_api::resource::ResourceKind;

use super::server::{StreamKind, path};
use super::stream::{Delta, ProtocolVariant, Sotw};
use crate::client::{ResponseId, Session, Update, Verdict};
use crate::server::Variant;

/// A response from a foreign control plane may be larger than ours ever are.
const MAX_RESPONSE: usize = 64 << 20;

/// How long one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Before a stream that was lost is opened again; jitter spreads a crowd out (R4).
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Requests on their way to the HTTP/2 layer; more wait in the session, where they merge.
const REQUEST_BUFFER: usize = 16;

/// Updates not yet applied. Few: they hold whole responses, and the server waits for answers anyway.
const NOTICE_BUFFER: usize = 8;

/// Why connecting failed, in the caller's terms.
pub type TransportError = Box<dyn Error + Send + Sync>;

/// What the client tells its owner.
#[derive(Debug)]
pub enum Notice {
    /// A stream is open.
    Connected,
    /// A response to apply and to [`XdsClient::answer`].
    Update(Update),
    /// The stream ended or could not be opened; the next attempt comes by itself.
    Disconnected {
        /// What happened, for people.
        reason: String,
        /// Time until the next attempt.
        retry_in: Duration,
    },
}

#[derive(Debug)]
enum ClientCommand {
    Subscribe(ResourceKind, String),
    SubscribeAll(ResourceKind),
    UnsubscribeAll(ResourceKind),
    Unsubscribe(ResourceKind, String),
    Answer(ResourceKind, ResponseId, Verdict),
    Reconnect,
}

/// Steers the client's task. Commands are never lost and never wait: there are as many as there are names and
/// updates, which bounds the queue.
#[derive(Debug, Clone)]
pub struct XdsClient {
    commands: mpsc::UnboundedSender<ClientCommand>,
}

impl XdsClient {
    /// Starts the task. `connect` is called for each attempt; nothing is connected before something is subscribed to.
    /// Versions from a snapshot are brought along by [`Session::restore`] on `session`.
    pub fn spawn<C, F>(session: Session, stream: StreamKind, connect: C) -> (Self, mpsc::Receiver<Notice>)
    where
        C: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<Channel, TransportError>> + Send + 'static,
    {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (notices, outbox) = mpsc::channel(NOTICE_BUFFER);
        let task = ClientTask { session, inbox, notices };
        match stream.variant {
            Variant::Sotw => tokio::spawn(task.run::<Sotw, C, F>(stream, connect)),
            Variant::Delta => tokio::spawn(task.run::<Delta, C, F>(stream, connect)),
        };
        (Self { commands }, outbox)
    }

    /// Wants a name; of a name already held it asks for another copy.
    pub fn subscribe(&self, kind: ResourceKind, name: impl Into<String>) {
        self.command(ClientCommand::Subscribe(kind, name.into()));
    }

    /// Wants everything of a type.
    pub fn subscribe_all(&self, kind: ResourceKind) {
        self.command(ClientCommand::SubscribeAll(kind));
    }

    /// No longer wants everything of a type.
    pub fn unsubscribe_all(&self, kind: ResourceKind) {
        self.command(ClientCommand::UnsubscribeAll(kind));
    }

    /// No longer wants a name.
    pub fn unsubscribe(&self, kind: ResourceKind, name: impl Into<String>) {
        self.command(ClientCommand::Unsubscribe(kind, name.into()));
    }

    /// Says what became of an update.
    pub fn answer(&self, update: &Update, verdict: Verdict) {
        self.answer_response(update.kind, update.response_id.clone(), verdict);
    }

    /// As [`Self::answer`], for those who have taken the update apart.
    pub fn answer_response(&self, kind: ResourceKind, response_id: ResponseId, verdict: Verdict) {
        self.command(ClientCommand::Answer(kind, response_id, verdict));
    }

    /// Closes the stream and opens another at once, for example with a new certificate.
    pub fn reconnect(&self) {
        self.command(ClientCommand::Reconnect);
    }

    fn command(&self, command: ClientCommand) {
        // The task ends only when nobody listens to its notices any more.
        let _ = self.commands.send(command);
    }
}

struct ClientTask {
    session: Session,
    inbox: mpsc::UnboundedReceiver<ClientCommand>,
    notices: mpsc::Sender<Notice>,
}

/// Why a stream is over.
enum StreamEnd {
    /// Nobody is interested any more.
    Done,
    /// The owner wants a new one.
    Renew,
    /// It broke. Healthy: it had carried a response before.
    Broken { reason: String, was_healthy: bool },
}

impl ClientTask {
    async fn run<D: ProtocolVariant, C, F>(mut self, stream: StreamKind, mut connect: C)
    where
        C: FnMut() -> F,
        F: Future<Output = Result<Channel, TransportError>> + Send,
    {
        let mut backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        while !self.session.wants_anything() {
            match self.inbox.recv().await {
                Some(command) => drop(self.execute(command)),
                None => return,
            }
        }
        loop {
            match self.stream::<D>(stream, connect()).await {
                StreamEnd::Done => return,
                StreamEnd::Renew => backoff.reset(),
                StreamEnd::Broken { reason, was_healthy } => {
                    if was_healthy {
                        backoff.reset();
                    }
                    let retry_in = backoff.next_wait();
                    tracing::info!(
                        event = "control_plane_lost",
                        %reason, ?retry_in,
                        "discovery stream lost; serving what is held"
                    );
                    if self.notices.send(Notice::Disconnected { reason, retry_in }).await.is_err()
                        || !self.pause(retry_in).await
                    {
                        return;
                    }
                }
            }
        }
    }

    /// Waits, and executes commands meanwhile; false when nobody is interested any more.
    async fn pause(&mut self, time: Duration) -> bool {
        let sleep = tokio::time::sleep(time);
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                () = &mut sleep => return true,
                command = self.inbox.recv() => match command {
                    Some(command) => if self.execute(command).is_some() { return true },
                    None => return false,
                }
            }
        }
    }

    /// Carries a command out; those that end the stream are returned.
    fn execute(&mut self, command: ClientCommand) -> Option<StreamEnd> {
        match command {
            ClientCommand::Subscribe(kind, name) => self.session.subscribe(kind, &name),
            ClientCommand::SubscribeAll(kind) => self.session.subscribe_all(kind),
            ClientCommand::UnsubscribeAll(kind) => self.session.unsubscribe_all(kind),
            ClientCommand::Unsubscribe(kind, name) => self.session.unsubscribe(kind, &name),
            ClientCommand::Answer(kind, response_id, verdict) => {
                self.session.answer(kind, &response_id, verdict);
            }
            ClientCommand::Reconnect => return Some(StreamEnd::Renew),
        }
        None
    }

    async fn stream<D: ProtocolVariant>(
        &mut self,
        stream: StreamKind,
        connect: impl Future<Output = Result<Channel, TransportError>> + Send,
    ) -> StreamEnd {
        let broken = |reason: String| StreamEnd::Broken { reason, was_healthy: false };
        let channel = match tokio::time::timeout(CONNECT, connect).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return broken(format!("can not connect to the control plane: {error}")),
            Err(_) => return broken(format!("connecting to the control plane took more than {CONNECT:?}")),
        };
        self.session.on_connect();
        let (requests, outgoing) = mpsc::channel(REQUEST_BUFFER);
        // Some servers send headers only with their first response, so requests have to flow meanwhile.
        let mut opening = open::<D>(channel, stream, outgoing);
        let mut responses: Option<Streaming<D::Response>> = None;
        let mut was_healthy = false;
        loop {
            self.pump::<D>(&requests);
            let full = requests.capacity() == 0;
            tokio::select! {
                opened = &mut opening, if responses.is_none() => match opened {
                    Ok(opened) => {
                        responses = Some(opened);
                        if self.notices.send(Notice::Connected).await.is_err() { return StreamEnd::Done }
                    }
                    Err(status) => return StreamEnd::Broken { reason: words(&status), was_healthy },
                },
                message = receive(&mut responses) => match message {
                    Ok(Some(response)) => {
                        was_healthy = true;
                        if let Some(update) = self.session.on_response(D::deliver(response))
                            && self.notices.send(Notice::Update(update)).await.is_err()
                        {
                            return StreamEnd::Done;
                        }
                    }
                    Ok(None) => return StreamEnd::Broken { reason: "the control plane closed the stream".into(), was_healthy },
                    Err(status) => return StreamEnd::Broken { reason: words(&status), was_healthy },
                },
                command = self.inbox.recv() => match command {
                    Some(command) => if let Some(end) = self.execute(command) { return end },
                    None => return StreamEnd::Done,
                },
                // An error here shows on the response side, with its reason.
                _ = requests.reserve(), if full && !requests.is_closed() => {}
            }
        }
    }

    fn pump<D: ProtocolVariant>(&mut self, requests: &mpsc::Sender<D::Request>) {
        while let Ok(permit) = requests.try_reserve() {
            match self.session.next_request().and_then(D::request) {
                Some(request) => permit.send(request),
                None => break,
            }
        }
    }
}

async fn receive<R>(responses: &mut Option<Streaming<R>>) -> Result<Option<R>, Status> {
    match responses {
        Some(responses) => responses.message().await,
        None => std::future::pending().await,
    }
}

fn open<D: ProtocolVariant>(
    channel: Channel,
    stream: StreamKind,
    outgoing: mpsc::Receiver<D::Request>,
) -> BoxFuture<Streaming<D::Response>, Status>
where
    D::Request: Message,
    D::Response: Message + Default,
{
    Box::pin(async move {
        let path =
            path(stream).ok_or_else(|| Status::unimplemented("virtual hosts are served by delta only"))?;
        let path = PathAndQuery::try_from(path).map_err(|error| Status::internal(error.to_string()))?;
        let mut grpc = Grpc::new(channel).max_decoding_message_size(MAX_RESPONSE);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = ProstCodec::<D::Request, D::Response>::default();
        let request = tonic::Request::new(ReceiverStream::new(outgoing));
        Ok(grpc.streaming(request, path, codec).await?.into_inner())
    })
}

/// A status in words, with what lies beneath it: "transport error" alone helps nobody.
fn words(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut source = status.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
