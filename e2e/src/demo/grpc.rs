//! The gRPC face: echo, health and reflection.

use std::pin::Pin;

use futures::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::{Faults, Instance, peer_of};

/// The generated protocol.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unused_qualifications,
    clippy::all,
    clippy::too_many_lines
)]
pub mod echo {
    tonic::include_proto!("weft.demo.v1");

    /// Descriptors, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/echo.bin"));
}

use echo::echo_service_server::EchoService;
use echo::{EchoRequest, EchoResponse};

/// Answers with what it was asked.
#[derive(Clone, Debug)]
pub struct EchoServer {
    /// Who answers.
    pub instance: Instance,
    /// What goes wrong.
    pub faults: Faults,
}

type Answers = Pin<Box<dyn Stream<Item = Result<EchoResponse, Status>> + Send>>;

impl EchoServer {
    fn answer(&self, message: String, peer: String) -> EchoResponse {
        EchoResponse {
            message,
            peer,
            service: self.instance.service.to_string(),
            version: self.instance.version.to_string(),
            workload: self.instance.workload.to_string(),
        }
    }

    async fn strike(&self) -> Result<(), Status> {
        match self.faults.strike().await {
            Some(status) => Err(Status::unavailable(format!("planted fault: {status}"))),
            None => Ok(()),
        }
    }
}

fn peer<T>(request: &Request<T>) -> String {
    peer_of(request.metadata().get("x-forwarded-client-cert").and_then(|value| value.to_str().ok()))
}

#[tonic::async_trait]
impl EchoService for EchoServer {
    type RepeatStream = Answers;
    type ChatStream = Answers;

    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        self.strike().await?;
        let peer = peer(&request);
        Ok(Response::new(self.answer(request.into_inner().message, peer)))
    }

    async fn repeat(&self, request: Request<EchoRequest>) -> Result<Response<Answers>, Status> {
        self.strike().await?;
        let (server, peer) = (self.clone(), peer(&request));
        let EchoRequest { message, count } = request.into_inner();
        let answers = (0..count).map(move |_| Ok(server.answer(message.clone(), peer.clone())));
        Ok(Response::new(Box::pin(futures::stream::iter(answers))))
    }

    async fn chat(&self, request: Request<Streaming<EchoRequest>>) -> Result<Response<Answers>, Status> {
        self.strike().await?;
        let (server, peer) = (self.clone(), peer(&request));
        let answers =
            request.into_inner().map(move |message| Ok(server.answer(message?.message, peer.clone())));
        Ok(Response::new(Box::pin(answers)))
    }
}
