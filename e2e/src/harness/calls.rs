//! Calls in every protocol, as an application beside a sidecar makes them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::demo::echo::EchoRequest;
use crate::demo::echo::echo_service_client::EchoServiceClient;
use crate::demo::{CallTree, Dialer};

/// No single call may take longer.
const LIMIT: Duration = Duration::from_secs(10);

/// An HTTP answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as text.
    pub body: String,
}

impl Answer {
    /// The call tree that the demo application answers with.
    ///
    /// # Errors
    /// When the status is not 200 or the body no tree.
    pub fn tree(&self) -> anyhow::Result<CallTree> {
        anyhow::ensure!(self.status == 200, "status {}: {}", self.status, self.body.trim());
        serde_json::from_str(&self.body).with_context(|| format!("not a call tree: {}", self.body))
    }
}

/// What a gRPC conversation showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcFinding {
    /// The caller's identity as the server saw it, in every answer.
    pub peer: String,
    /// Who answered.
    pub workload: String,
}

/// A client of one sidecar, or of nobody.
#[derive(Clone, Debug)]
pub struct Calls {
    sidecar: Option<SocketAddr>,
    http1: Client<Dialer, Full<Bytes>>,
    http2: Client<Dialer, Full<Bytes>>,
}

impl Calls {
    /// Goes straight to the host that a URL names.
    #[must_use]
    pub fn direct() -> Self {
        Self::new(None)
    }

    /// Goes to a sidecar, whatever the host.
    #[must_use]
    pub fn through(sidecar: SocketAddr) -> Self {
        Self::new(Some(sidecar))
    }

    fn new(sidecar: Option<SocketAddr>) -> Self {
        let dialer = Dialer { sidecar, tunnel: false };
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_idle_timeout(Duration::from_secs(20));
        Self { sidecar, http1: builder.build(dialer), http2: builder.http2_only(true).build(dialer) }
    }

    /// GET by HTTP/1.1.
    ///
    /// # Errors
    /// When no whole answer comes in time.
    pub async fn get(&self, url: &str) -> anyhow::Result<Answer> {
        send(&self.http1, Method::GET, url, Bytes::new()).await
    }

    /// Any request by HTTP/1.1.
    ///
    /// # Errors
    /// When no whole answer comes in time.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        send_request(&self.http1, request).await
    }

    /// GET by HTTP/2 with prior knowledge.
    ///
    /// # Errors
    /// When no whole answer comes in time.
    pub async fn get_h2(&self, url: &str) -> anyhow::Result<Answer> {
        send(&self.http2, Method::GET, url, Bytes::new()).await
    }

    /// POST by HTTP/1.1.
    ///
    /// # Errors
    /// When no whole answer comes in time.
    pub async fn post(&self, url: &str, body: impl Into<Bytes>) -> anyhow::Result<Answer> {
        send(&self.http1, Method::POST, url, body.into()).await
    }

    /// POST by HTTP/2 with prior knowledge.
    ///
    /// # Errors
    /// When no whole answer comes in time.
    pub async fn post_h2(&self, url: &str, body: impl Into<Bytes>) -> anyhow::Result<Answer> {
        send(&self.http2, Method::POST, url, body.into()).await
    }

    /// One gRPC call, one answer.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn grpc_unary(&self, authority: &str) -> anyhow::Result<GrpcFinding> {
        let request = EchoRequest { message: "one".to_owned(), count: 0 };
        let answer = within("gRPC unary", self.echo(authority)?.echo(request)).await??.into_inner();
        anyhow::ensure!(answer.message == "one", "{answer:?}");
        Ok(GrpcFinding { peer: answer.peer, workload: answer.workload })
    }

    /// Asks for the server's health by gRPC.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn grpc_health(&self, authority: &str) -> anyhow::Result<()> {
        let mut client = HealthClient::new(self.channel(authority)?);
        let request = HealthCheckRequest { service: String::new() };
        within("gRPC health", client.check(request)).await??;
        Ok(())
    }

    /// One gRPC call, many answers.
    ///
    /// # Errors
    /// When the call fails or an answer is missing.
    pub async fn grpc_server_stream(&self, authority: &str) -> anyhow::Result<GrpcFinding> {
        let request = EchoRequest { message: "many".to_owned(), count: 100 };
        let call = async {
            let mut answers = self.echo(authority)?.repeat(request).await?.into_inner();
            let mut found = Vec::new();
            while let Some(answer) = answers.message().await? {
                found.push(GrpcFinding { peer: answer.peer, workload: answer.workload });
            }
            anyhow::ensure!(found.len() == 100, "{} answers of 100", found.len());
            found.dedup();
            anyhow::ensure!(found.len() == 1, "one call was answered by several: {found:?}");
            Ok(found.remove(0))
        };
        within("gRPC server streaming", call).await?
    }

    /// A conversation over one gRPC stream: each question is asked only when the one before is answered.
    ///
    /// # Errors
    /// When the stream fails or an answer is not the question's.
    pub async fn grpc_conversation(&self, authority: &str) -> anyhow::Result<GrpcFinding> {
        let call = async {
            let (ask, questions) = tokio::sync::mpsc::channel(1);
            let questions = tokio_stream::wrappers::ReceiverStream::new(questions);
            ask.send(EchoRequest { message: "0".to_owned(), count: 0 }).await?;
            let mut answers = self.echo(authority)?.chat(questions).await?.into_inner();
            let mut last = None;
            for turn in 0..20 {
                let answer = answers.message().await?.context("the stream ended early")?;
                anyhow::ensure!(answer.message == turn.to_string(), "turn {turn}: {answer:?}");
                ask.send(EchoRequest { message: (turn + 1).to_string(), count: 0 }).await?;
                last = Some(GrpcFinding { peer: answer.peer, workload: answer.workload });
            }
            drop(ask);
            while answers.message().await?.is_some() {}
            last.context("there was no turn")
        };
        within("gRPC conversation", call).await?
    }

    /// Upgrades to a WebSocket, exchanges text and bytes; returns the greeting.
    ///
    /// # Errors
    /// When the upgrade or an echo fails.
    pub async fn web_socket(&self, host: &str) -> anyhow::Result<String> {
        let sidecar = self.sidecar.context("a WebSocket goes through a sidecar")?;
        let call = async {
            let stream = TcpStream::connect(sidecar).await?;
            let (mut socket, _) = tokio_tungstenite::client_async(format!("ws://{host}/ws"), stream).await?;
            let greeting = socket.next().await.context("no greeting")??.into_text()?.to_string();
            for message in [Message::text("hello"), Message::binary(vec![7; 70_000])] {
                socket.send(message.clone()).await?;
                let answer = socket.next().await.context("no answer")??;
                anyhow::ensure!(answer == message, "the echo differs");
            }
            socket.close(None).await?;
            Ok(greeting)
        };
        within("WebSocket", call).await?
    }

    async fn tcp_call(address: SocketAddr) -> anyhow::Result<String> {
        let stream = TcpStream::connect(address).await?;
        let mut stream = BufReader::new(stream);
        let mut greeting = String::new();
        stream.read_line(&mut greeting).await?;
        anyhow::ensure!(!greeting.is_empty(), "the connection was closed");
        let sent: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let (mut read, mut write) = tokio::io::split(stream);
        let (written, back) = tokio::join!(
            async {
                write.write_all(&sent).await?;
                write.shutdown().await
            },
            async {
                let mut back = Vec::new();
                read.read_to_end(&mut back).await.map(|_| back)
            }
        );
        written?;
        anyhow::ensure!(back? == sent, "what came back is not what was sent");
        Ok(greeting.trim().to_owned())
    }

    pub(super) fn echo(&self, authority: &str) -> anyhow::Result<EchoServiceClient<Channel>> {
        Ok(EchoServiceClient::new(self.channel(authority)?))
    }

    fn channel(&self, authority: &str) -> anyhow::Result<Channel> {
        let uri: Uri = format!("http://{authority}").parse()?;
        let sidecar = self.sidecar.context("gRPC goes through a sidecar")?;
        let connector =
            tower::service_fn(
                move |_: Uri| async move { TcpStream::connect(sidecar).await.map(TokioIo::new) },
            );
        Ok(Endpoint::from(uri).connect_with_connector_lazy(connector))
    }

    /// Connects to a local port of a TCP service, sends 200 kB both ways, closes half; returns the greeting line.
    ///
    /// # Errors
    /// When the connection is closed or bytes are missing.
    pub async fn tcp(address: SocketAddr) -> anyhow::Result<String> {
        within("TCP", Self::tcp_call(address)).await?
    }
}

async fn within<T>(what: &str, call: impl Future<Output = T>) -> anyhow::Result<T> {
    // A boxed future keeps the callers' small.
    let call = Box::pin(call);
    tokio::time::timeout(LIMIT, call).await.with_context(|| format!("{what}: no end within {LIMIT:?}"))
}

async fn send(
    client: &Client<Dialer, Full<Bytes>>,
    method: Method,
    url: &str,
    body: Bytes,
) -> anyhow::Result<Answer> {
    send_request(client, Request::builder().method(method).uri(url).body(Full::new(body))?).await
}

async fn send_request(
    client: &Client<Dialer, Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Answer> {
    let url = request.uri().to_string();
    let call = async {
        let (head, body) = client.request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok::<_, anyhow::Error>(Answer { status: head.status.as_u16(), headers: head.headers, body })
    };
    within(&url, call).await?.with_context(|| url.clone())
}
