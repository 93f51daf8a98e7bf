//! Calling other services through the sidecar: plain HTTP to its outbound listener, the service's name as host.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::CallTree;

/// Connects every request to one address, whatever its host: that of the sidecar. Without one, to the host itself.
#[derive(Clone, Copy, Debug)]
pub struct Dialer {
    /// The sidecar's outbound listener.
    pub sidecar: Option<SocketAddr>,
    /// Asks the sidecar for a tunnel to the host (CONNECT), as clients do for what they encrypt themselves.
    pub tunnel: bool,
}

/// A plain TCP connection.
#[derive(Debug)]
pub struct Plain(TokioIo<TcpStream>);

impl tower::Service<Uri> for Dialer {
    type Response = Plain;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Plain>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { sidecar, tunnel } = *self;
        Box::pin(async move {
            let stream = match sidecar {
                Some(address) if tunnel => through_tunnel(TcpStream::connect(address).await?, &uri).await?,
                Some(address) => TcpStream::connect(address).await?,
                None => {
                    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
                    TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?
                }
            };
            stream.set_nodelay(true)?;
            Ok(Plain(TokioIo::new(stream)))
        })
    }
}

/// The same connection when it has become a tunnel to the URL's host.
async fn through_tunnel(mut stream: TcpStream, uri: &Uri) -> io::Result<TcpStream> {
    let host = uri.host().unwrap_or_default();
    let authority = format!("{host}:{}", uri.port_u16().unwrap_or(80));
    let request = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    // Byte by byte: what follows the head is the tunnel's.
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    if head.split(' ').nth(1) == Some("200") {
        return Ok(stream);
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.and_then(|length| length.parse().ok()).unwrap_or(0).min(MAX_HEAD)];
    stream.read_exact(&mut body).await?;
    let (status, body) = (head.lines().next().unwrap_or_default(), String::from_utf8_lossy(&body));
    Err(io::Error::other(format!("no tunnel: {status}: {body}")))
}

impl Connection for Plain {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Plain {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Plain {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

/// Calls other services and reads their trees.
#[derive(Clone, Debug)]
pub struct DemoCaller {
    http1: Client<Dialer, Full<Bytes>>,
    http2: Client<Dialer, Full<Bytes>>,
    timeout: Duration,
}

const MAX_TREE: usize = 1 << 20;
/// What W3C Trace Context passes on.
const OF_THE_TRACE: [HeaderName; 2] =
    [HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];
/// Of an answer to CONNECT.
const MAX_HEAD: usize = 4096;

impl DemoCaller {
    /// Calls through a sidecar, or directly without one.
    #[must_use]
    pub fn new(dialer: Dialer) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_idle_timeout(Duration::from_secs(30));
        Self {
            http1: builder.build(dialer),
            http2: builder.http2_only(true).build(dialer),
            timeout: Duration::from_secs(10),
        }
    }

    /// Gets a URL; `h2://` asks for HTTP/2 with prior knowledge. The answer is a tree, or what went wrong. Of what is being
    /// answered, `headers` say which trace the call belongs to: no sidecar can know that.
    pub async fn tree(&self, url: &str, headers: &HeaderMap) -> CallTree {
        match tokio::time::timeout(self.timeout, self.get(url, headers)).await {
            Ok(Ok(tree)) => tree,
            Ok(Err(error)) => CallTree::failed(url, &format!("{error:#}")),
            Err(_) => CallTree::failed(url, "no answer in 10 s"),
        }
    }

    async fn get(&self, url: &str, headers: &HeaderMap) -> anyhow::Result<CallTree> {
        let body = self.body(&Method::GET, url, headers).await?;
        serde_json::from_slice(&body).context("the answer is not a call tree")
    }

    async fn body(&self, method: &Method, url: &str, headers: &HeaderMap) -> anyhow::Result<Bytes> {
        let (client, uri) = match url.strip_prefix("h2://") {
            Some(rest) => (&self.http2, format!("http://{rest}")),
            None => (&self.http1, url.to_owned()),
        };
        let uri: Uri = uri.parse().context("not a URL")?;
        let mut request = Request::builder().method(method).uri(uri).body(Full::default())?;
        for name in &OF_THE_TRACE {
            request.headers_mut().extend(headers.get(name).map(|value| (name.clone(), value.clone())));
        }
        let answer = client.request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_TREE);
        let body = body.collect().await.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
        if !status.is_success() {
            bail!("{status}: {}", String::from_utf8_lossy(&body[..body.len().min(300)]).trim());
        }
        Ok(body)
    }
}

/// `weft-demo call`.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// What to get; `h2://` asks for HTTP/2 with prior knowledge
    pub url: String,
    /// With which method
    #[arg(long, default_value = "GET")]
    pub method: Method,
    /// The sidecar's outbound listener; without one, the host of the URL is called
    #[arg(long, value_name = "IP:PORT")]
    pub sidecar: Option<SocketAddr>,
    /// Ask the sidecar for a tunnel to the URL's host
    #[arg(long, requires = "sidecar")]
    pub tunnel: bool,
}

/// Prints the answer's body.
///
/// # Errors
/// When there is no answer in time, or its status is no success.
pub async fn run(args: CallArgs) -> anyhow::Result<()> {
    let caller = DemoCaller::new(Dialer { sidecar: args.sidecar, tunnel: args.tunnel });
    let body = tokio::time::timeout(caller.timeout, caller.body(&args.method, &args.url, &HeaderMap::new()))
        .await
        .context("no answer in 10 s")??;
    println!("{}", String::from_utf8_lossy(&body).trim_end());
    Ok(())
}
