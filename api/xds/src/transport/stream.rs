//! The task of one discovery stream: requests and views in, responses and events out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::OptionFuture;
use prost::Message;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::admission::{AdmittedStream, Excess};
use super::server::{Publisher, StreamCommand, StreamKind, StreamSetup};
use super::{NodeClaim, PeerIdentity};
use crate::server::{ClientMessage, RequestError, ServerMessage, Session, Variant};
use crate::wire;

/// How long a client may take for its first message.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);

/// Sessions with more names than this are taken apart beside the threads that serve streams: it takes milliseconds.
const LARGE: usize = 2_000;

/// One of the two protocols, for the compiler.
pub(super) trait ProtocolVariant: Send + Sync + 'static {
    const VARIANT: Variant;
    type Request: Message + Default + 'static;
    type Response: Message + Default + 'static;
    fn node(request: &mut Self::Request) -> Option<wire::Node>;
    fn read(request: Self::Request) -> ClientMessage;
    fn write(response: ServerMessage) -> Option<Self::Response>;
    /// The client's side: the message of this variant, if it is one.
    fn request(request: ClientMessage) -> Option<Self::Request>;
    fn deliver(response: Self::Response) -> ServerMessage;
}

#[derive(Debug)]
pub(super) struct Sotw;

impl ProtocolVariant for Sotw {
    const VARIANT: Variant = Variant::Sotw;
    type Request = wire::DiscoveryRequest;
    type Response = wire::DiscoveryResponse;

    fn node(request: &mut Self::Request) -> Option<wire::Node> {
        request.node.take()
    }

    fn read(request: Self::Request) -> ClientMessage {
        ClientMessage::Sotw(request)
    }

    fn write(response: ServerMessage) -> Option<Self::Response> {
        match response {
            ServerMessage::Sotw(response) => Some(response),
            ServerMessage::Delta(_) => None,
        }
    }

    fn request(request: ClientMessage) -> Option<Self::Request> {
        match request {
            ClientMessage::Sotw(request) => Some(request),
            ClientMessage::Delta(_) => None,
        }
    }

    fn deliver(response: Self::Response) -> ServerMessage {
        ServerMessage::Sotw(response)
    }
}

#[derive(Debug)]
pub(super) struct Delta;

impl ProtocolVariant for Delta {
    const VARIANT: Variant = Variant::Delta;
    type Request = wire::DeltaDiscoveryRequest;
    type Response = wire::DeltaDiscoveryResponse;

    fn node(request: &mut Self::Request) -> Option<wire::Node> {
        request.node.take()
    }

    fn read(request: Self::Request) -> ClientMessage {
        ClientMessage::Delta(request)
    }

    fn write(response: ServerMessage) -> Option<Self::Response> {
        match response {
            ServerMessage::Delta(response) => Some(response),
            ServerMessage::Sotw(_) => None,
        }
    }

    fn request(request: ClientMessage) -> Option<Self::Request> {
        match request {
            ClientMessage::Delta(request) => Some(request),
            ClientMessage::Sotw(_) => None,
        }
    }

    fn deliver(response: Self::Response) -> ServerMessage {
        ServerMessage::Delta(response)
    }
}

/// Whom a stream is of, and who decides about it.
pub(super) struct StreamContext<P> {
    pub publisher: Arc<P>,
    pub peer: PeerIdentity,
    pub stream: StreamKind,
}

/// Serves one stream until either side ends it; a refusal becomes the stream's status.
pub(super) async fn serve<D: ProtocolVariant, P: Publisher>(
    mut requests: Streaming<D::Request>,
    responses: mpsc::Sender<Result<D::Response, Status>>,
    context: StreamContext<P>,
    permit: AdmittedStream,
) {
    let mut served = ServedSession { session: Session::new(D::VARIANT, context.stream.served), permit };
    let ended = run::<D, P>(&mut requests, &responses, &context, &mut served).await;
    served.discard();
    if let Err(status) = ended {
        tracing::debug!(code = ?status.code(), message = status.message(), "discovery stream ends");
        // Nobody may be left to tell.
        let _ = responses.send(Err(status)).await;
    }
}

/// A session, and its place among those of its identity.
struct ServedSession {
    session: Session,
    permit: AdmittedStream,
}

impl ServedSession {
    fn take<D: ProtocolVariant, P: Publisher>(
        &mut self,
        request: D::Request,
        context: &StreamContext<P>,
    ) -> Result<(), Status> {
        let taken = self.session.on_request(D::read(request));
        taken.map_err(|error| {
            if matches!(error, RequestError::TooManyNames(_)) {
                context.publisher.refused(&context.peer, Excess::Names);
            }
            refuse(&error)
        })?;
        self.permit.holds(self.session.names()).map_err(|excess| {
            context.publisher.refused(&context.peer, excess);
            Status::resource_exhausted(excess.to_string())
        })
    }

    /// Says what the client asks for by now, and takes the view that was kept for it meanwhile: before each answer, so
    /// that who asks for more is answered from the newest view.
    fn sync_view(&mut self, setup: &mut StreamSetup) {
        if let Some((view, changes)) = setup.updates.set_interest(self.session.interest()) {
            self.session.on_update(view, changes);
        }
    }

    /// The memory first, then the place: whoever comes next finds room.
    fn discard(self) {
        let Self { session, permit } = self;
        if session.names() <= LARGE {
            return;
        }
        // Not waited for: nobody needs the result.
        tokio::task::spawn_blocking(move || {
            drop(session);
            drop(permit);
        });
    }
}

async fn run<D: ProtocolVariant, P: Publisher>(
    requests: &mut Streaming<D::Request>,
    responses: &mpsc::Sender<Result<D::Response, Status>>,
    context: &StreamContext<P>,
    served: &mut ServedSession,
) -> Result<(), Status> {
    let first = tokio::time::timeout(FIRST_MESSAGE, requests.message());
    let first = first
        .await
        .map_err(|_| Status::deadline_exceeded("no discovery request came within 10 seconds"))??;
    let Some(mut first) = first else { return Ok(()) };
    // S1: the node of the first message counts, whatever its type, and no later one.
    let claim = NodeClaim::try_new(D::node(&mut first))
        .ok_or_else(|| Status::invalid_argument("the first request of a stream needs a node with an id"))?;
    let session = Session::new(D::VARIANT, context.stream.served).with_empty_first(claim.empty_first());
    let mut setup = context.publisher.open(claim, context.peer.clone(), context.stream)?;
    let session = match setup.source.take() {
        Some(cluster) => session.with_config_source(cluster),
        None => session,
    };
    served.session = if setup.without_log_services { session.without_access_log_services() } else { session };
    for (kind, rejected) in setup.rejections.drain(..) {
        served.session.remember_rejection(kind, rejected);
    }
    served.take::<D, P>(first, context)?;
    loop {
        served.sync_view(&mut setup);
        flush::<D>(&mut served.session, responses, &mut setup);
        let full = responses.capacity() == 0;
        let timer: OptionFuture<_> =
            served.session.next_deadline().map(|at| tokio::time::sleep_until(at.into())).into();
        tokio::select! {
            request = requests.message() => {
                let Some(request) = request? else { return Ok(()) };
                served.take::<D, P>(request, context)?;
            }
            update = setup.updates.recv() => {
                let Some((view, changes)) = update else {
                    // A reason may have been left on the way out.
                    return Err(closing_status(&mut setup));
                };
                served.session.on_update(view, changes);
            }
            command = setup.commands.recv() => match command {
                Some(StreamCommand::Status(reply)) => {
                    served.sync_view(&mut setup);
                    let _ = reply.send(served.session.status());
                }
                Some(StreamCommand::Deliveries(reply)) => {
                    served.sync_view(&mut setup);
                    let _ = reply.send(served.session.deliveries());
                }
                Some(StreamCommand::Close(status)) => return Err(status),
                None => return Err(unavailable()),
            },
            permit = responses.reserve(), if full => if permit.is_err() { return Ok(()) },
            () = responses.closed() => return Ok(()),
            Some(()) = timer => {}
        }
    }
}

/// Sends as long as the connection takes it, then tells the observer.
fn flush<D: ProtocolVariant>(
    session: &mut Session,
    responses: &mpsc::Sender<Result<D::Response, Status>>,
    setup: &mut StreamSetup,
) {
    while let Ok(permit) = responses.try_reserve() {
        match session.poll(Instant::now()).and_then(D::write) {
            Some(response) => permit.send(Ok(response)),
            None => break,
        }
    }
    while let Some(event) = session.next_event() {
        setup.observer.on_event(event);
    }
}

fn closing_status(setup: &mut StreamSetup) -> Status {
    while let Ok(command) = setup.commands.try_recv() {
        if let StreamCommand::Close(status) = command {
            return status;
        }
    }
    unavailable()
}

fn unavailable() -> Status {
    Status::unavailable("this control plane ends the stream; reconnect, to another replica if there is one")
}

fn refuse(error: &RequestError) -> Status {
    match error {
        RequestError::NoTypeUrl | RequestError::WrongType { .. } | RequestError::WrongVariant => {
            Status::invalid_argument(error.to_string())
        }
        RequestError::WildcardSecrets => Status::permission_denied(error.to_string()),
        RequestError::TooManyNames(_) => Status::resource_exhausted(error.to_string()),
    }
}
