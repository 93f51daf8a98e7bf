//! The probes themselves: each makes one connection and says whether the application is well.

use std::net::SocketAddr;
use std::ops::Range;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderValue, Request, Version, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const USER_AGENT: &str = concat!("weft-proxy/", env!("CARGO_PKG_VERSION"), " health-check");
/// More than this of an answer is not read.
const ANSWER_LIMIT: usize = 64 * 1024;

#[derive(Debug)]
pub(super) enum Probe {
    Http(HttpProbe),
    Tcp(TcpProbe),
    Grpc(GrpcProbe),
}

#[derive(Debug)]
pub(super) struct HttpProbe {
    pub(super) address: SocketAddr,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) method: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) expected: Vec<Range<i64>>,
    pub(super) http2: bool,
}

#[derive(Debug)]
pub(super) struct TcpProbe {
    pub(super) address: SocketAddr,
    pub(super) send: Vec<u8>,
    pub(super) receive: Vec<Vec<u8>>,
}

#[derive(Debug)]
pub(super) struct GrpcProbe {
    pub(super) address: SocketAddr,
    pub(super) service: String,
    pub(super) authority: String,
}

/// What went wrong; the caller only needs to know that something did.
type ProbeError = Box<dyn std::error::Error + Send + Sync>;

impl Probe {
    /// Whether the application answered as it should.
    pub(super) async fn run(&self) -> bool {
        let result = match self {
            Self::Http(probe) => probe.run().await,
            Self::Tcp(probe) => probe.run().await,
            Self::Grpc(probe) => probe.run().await,
        };
        result.unwrap_or_else(|error| {
            tracing::debug!(%error, "a health check failed");
            false
        })
    }
}

impl HttpProbe {
    async fn run(&self) -> Result<bool, ProbeError> {
        let path = if self.path.starts_with('/') { &self.path } else { "/" };
        let mut request =
            Request::builder().method(self.method.as_str()).header(header::USER_AGENT, USER_AGENT);
        request = if self.http2 {
            request.version(Version::HTTP_2).uri(format!("http://{}{path}", self.host))
        } else {
            request.uri(path).header(header::HOST, &self.host)
        };
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::<Bytes>::default())?;
        let stream = TcpStream::connect(self.address).await?;
        let status = if self.http2 {
            http2(stream, request).await?.status()
        } else {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let driver = AbortOnDrop(tokio::spawn(connection).abort_handle());
            let status = sender.send_request(request).await?.status();
            drop(driver);
            status
        };
        let status = i64::from(status.as_u16());
        Ok(self.expected.iter().any(|range| range.contains(&status)))
    }
}

async fn http2(
    stream: TcpStream,
    request: Request<Full<Bytes>>,
) -> Result<http::Response<http_body_util::Collected<Bytes>>, ProbeError> {
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
    let _driver = AbortOnDrop(tokio::spawn(connection).abort_handle());
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = http_body_util::Limited::new(body, ANSWER_LIMIT).collect().await?;
    Ok(http::Response::from_parts(parts, body))
}

impl TcpProbe {
    async fn run(&self) -> Result<bool, ProbeError> {
        let mut stream = TcpStream::connect(self.address).await?;
        if !self.send.is_empty() {
            stream.write_all(&self.send).await?;
        }
        let mut received = Vec::new();
        while !contains_in_order(&received, &self.receive) {
            let mut buffer = [0; 1024];
            let length = stream.read(&mut buffer).await?;
            received.extend_from_slice(&buffer[..length]);
            if length == 0 || received.len() > ANSWER_LIMIT {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether the blocks are found one after the other, with anything between them.
fn contains_in_order(mut text: &[u8], blocks: &[Vec<u8>]) -> bool {
    for block in blocks.iter().filter(|block| !block.is_empty()) {
        match text.windows(block.len()).position(|window| window == block.as_slice()) {
            Some(at) => text = &text[at + block.len()..],
            None => return false,
        }
    }
    true
}

/// `grpc.health.v1.HealthCheckRequest`
#[derive(Clone, PartialEq, prost::Message)]
struct GrpcRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`
#[derive(Clone, PartialEq, prost::Message)]
struct GrpcResponse {
    /// 1 is SERVING.
    #[prost(int32, tag = "1")]
    status: i32,
}

impl GrpcProbe {
    async fn run(&self) -> Result<bool, ProbeError> {
        let message = GrpcRequest { service: self.service.clone() }.encode_to_vec();
        let mut body = BytesMut::with_capacity(5 + message.len());
        body.put_u8(0);
        body.put_u32(u32::try_from(message.len())?);
        body.put_slice(&message);
        let request = Request::post(format!("http://{}/grpc.health.v1.Health/Check", self.authority))
            .version(Version::HTTP_2)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, HeaderValue::from_static("trailers"))
            .header(header::USER_AGENT, USER_AGENT)
            .body(Full::new(body.freeze()))?;
        let (parts, body) = http2(TcpStream::connect(self.address).await?, request).await?.into_parts();
        let done = |headers: &http::HeaderMap| headers.get("grpc-status").is_some_and(|status| status == "0");
        if !parts.status.is_success() || !(done(&parts.headers) || body.trailers().is_some_and(done)) {
            return Ok(false);
        }
        let frame = body.to_bytes();
        let answer = frame.get(5..).ok_or("the answer is empty")?;
        Ok(GrpcResponse::decode(answer)?.status == 1)
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_must_come_in_order() {
        let blocks = [b"+PO".to_vec(), b"NG".to_vec()];
        assert!(contains_in_order(b"x+PO--NG", &blocks));
        assert!(!contains_in_order(b"NG+PO", &blocks));
        assert!(contains_in_order(b"", &[]));
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_not_well() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let probe = || Probe::Tcp(TcpProbe { address, send: Vec::new(), receive: Vec::new() });
        assert!(probe().run().await);
        drop(listener);
        assert!(!probe().run().await);
    }
}
