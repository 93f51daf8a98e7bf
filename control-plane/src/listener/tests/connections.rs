//! Signs of life, cuts, and the end of a connection with its certificate.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use futures::stream;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use weft_api::WorkloadId;

use super::over_tls::{Identity, RunningListener, client, connect, joined, serve};
use crate::ca::tests::Mesh;
use crate::tls::identify;

/// Long enough for anything that does not wait, on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);
/// What is known not to answer is waited for this long.
const SILENCE: Duration = Duration::from_millis(500);
const LARGE: usize = 64 << 20;
pub(crate) const WINDOW: u32 = 1 << 20;

type Calls = SendRequest<Empty<Bytes>>;

pub(super) fn routes() -> Router {
    let drip = || async {
        let drops = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok::<_, io::Error>(Bytes::from_static(b"drop")), ()))
        });
        axum::body::Body::from_stream(drops)
    };
    let large = || async { vec![7_u8; LARGE] };
    Router::new().route("/drip", get(drip)).route("/large", get(large))
}

fn web_1() -> WorkloadId {
    WorkloadId::try_new("shop", "web-1").unwrap()
}

/// A client's end that can be stopped, as SIGSTOP stops a process: it neither reads nor writes, and stays open.
struct Stoppable<S> {
    inner: S,
    stopped: watch::Receiver<bool>,
    going_on: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> Stoppable<S> {
    fn poll_running(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.going_on.is_none() && *self.stopped.borrow() {
            let mut stopped = self.stopped.clone();
            self.going_on = Some(Box::pin(async move { drop(stopped.wait_for(|stopped| !stopped).await) }));
        }
        if let Some(going_on) = &mut self.going_on {
            ready!(going_on.as_mut().poll(cx));
            self.going_on = None;
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stoppable<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_running(cx));
        Pin::new(&mut this.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stoppable<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_running(cx));
        Pin::new(&mut this.inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

pub(crate) struct Client {
    calls: Calls,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) connection: JoinHandle<()>,
}

pub(crate) async fn dial(server: &RunningListener, identity: Identity, window: u32) -> Client {
    dial_as(server, Some(identity), window).await
}

pub(crate) async fn dial_as(server: &RunningListener, identity: Option<Identity>, window: u32) -> Client {
    let inner = connect(server.address, client(identity)).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let (calls, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .initial_connection_window_size(window)
        .handshake(TokioIo::new(Stoppable { inner, stopped, going_on: None }))
        .await
        .unwrap();
    let mut client = Client { calls, stop, connection: tokio::spawn(async move { drop(connection.await) }) };
    assert_eq!(client.get("/who").await.unwrap().status(), 200);
    client
}

impl Client {
    pub(crate) async fn get(&mut self, path: &str) -> Result<Response<Incoming>, hyper::Error> {
        self.calls.ready().await?;
        let uri = format!("https://localhost{path}");
        self.calls.send_request(Request::get(uri).body(Empty::new()).unwrap()).await
    }
}

impl RunningListener {
    /// Waits until nobody answers: what a client sent before it stopped may still arrive, but that is soon over.
    async fn falls_silent(&self) {
        in_time(async { while self.connections.answers(&web_1(), SILENCE, |_| true).await {} }).await;
    }

    async fn answers(&self) -> bool {
        self.connections.answers(&web_1(), TIMEOUT, |_| true).await
    }
}

pub(crate) async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, what).await.expect("within 20 s")
}

#[tokio::test]
async fn live_client_answers_and_nobody_answers_for_one_that_is_gone() {
    let mesh = Mesh::new().await;
    let server = serve(&mesh).await;
    assert!(!server.answers().await, "nobody is connected");
    let mut client = dial(&server, joined(&mesh), WINDOW).await;
    for _ in 0..20 {
        assert!(server.answers().await);
    }
    assert_eq!(client.get("/who").await.unwrap().status(), 200, "the connection is sound");
    drop(client.calls);
    in_time(client.connection).await.unwrap();
    in_time(async { while server.answers().await {} }).await;
}

#[tokio::test]
async fn stopped_client_does_not_answer_until_it_goes_on() {
    let mesh = Mesh::new().await;
    let server = serve(&mesh).await;
    let mut client = dial(&server, joined(&mesh), WINDOW).await;
    client.stop.send(true).unwrap();
    server.falls_silent().await;
    client.stop.send(false).unwrap();
    assert!(server.answers().await);
    assert_eq!(client.get("/who").await.unwrap().status(), 200);
}

#[tokio::test]
async fn one_live_connection_answers_for_a_workload_with_a_stopped_one() {
    let mesh = Mesh::new().await;
    let server = serve(&mesh).await;
    let stopped = dial(&server, joined(&mesh), WINDOW).await;
    stopped.stop.send(true).unwrap();
    server.falls_silent().await;
    let _live = dial(&server, joined(&mesh), WINDOW).await;
    assert!(server.answers().await);
}

#[tokio::test]
async fn client_in_the_middle_of_a_large_response_answers_and_gets_it_whole() {
    let mesh = Mesh::new().await;
    let server = serve(&mesh).await;
    let mut client = dial(&server, joined(&mesh), WINDOW).await;
    let mut body = client.get("/large").await.unwrap().into_body();
    let connections = server.connections.clone();
    let asking = tokio::spawn(async move {
        for _ in 0..10 {
            assert!(connections.answers(&web_1(), TIMEOUT, |_| true).await);
        }
    });
    let mut received = 0;
    while let Some(frame) = in_time(body.frame()).await {
        let data = frame.unwrap().into_data().unwrap();
        assert!(data.iter().all(|byte| *byte == 7));
        received += data.len();
    }
    assert_eq!(received, LARGE);
    in_time(asking).await.unwrap();
}

#[tokio::test]
async fn client_that_reads_nothing_of_a_large_response_does_not_answer() {
    let mesh = Mesh::new().await;
    let server = serve(&mesh).await;
    let mut client = dial(&server, joined(&mesh), (1 << 31) - 1).await;
    let response = client.get("/large").await.unwrap();
    // The windows are open: the server writes until the kernel's buffers are full, in the middle of a frame.
    client.stop.send(true).unwrap();
    server.falls_silent().await;
    client.stop.send(false).unwrap();
    let body = in_time(response.into_body().collect()).await.unwrap().to_bytes();
    assert_eq!(body.len(), LARGE, "the PING that waited came between two frames");
    assert!(server.answers().await);
}

#[tokio::test]
async fn cut_ends_all_connections_but_those_with_a_serial_that_is_kept() {
    let mesh = Mesh::new().await;
    let server = serve(&mesh).await;
    let (old, new) = (joined(&mesh), joined(&mesh));
    let kept = identify(&new.0[0], mesh.authority.trust_domain()).unwrap().serial;
    let mut ended = dial(&server, old, WINDOW).await;
    let mut dripping = ended.get("/drip").await.unwrap().into_body();
    dripping.frame().await.unwrap().unwrap();
    let mut lives = dial(&server, new, WINDOW).await;

    let other = WorkloadId::try_new("shop", "web-2").unwrap();
    assert_eq!(server.connections.cut(&other, |_| false), 0);
    assert_eq!(server.connections.cut(&web_1(), |serial| *serial == kept), 1);
    in_time(async { while let Some(Ok(_)) = dripping.frame().await {} }).await;
    in_time(&mut ended.connection).await.unwrap();
    ended.get("/who").await.unwrap_err();
    assert_eq!(lives.get("/who").await.unwrap().status(), 200);
    assert_eq!(server.connections.cut(&web_1(), |serial| *serial == kept), 0, "the cut one has left");
}

#[tokio::test]
async fn connection_ends_with_its_certificate_and_takes_no_calls_shortly_before() {
    let mesh = Mesh::with_leaf_life(time::Duration::seconds(10)).await;
    let server = serve(&mesh).await;
    let identity = joined(&mesh);
    let not_after = identify(&identity.0[0], mesh.authority.trust_domain()).unwrap().not_after;
    let mut client = dial(&server, identity, WINDOW).await;
    let mut dripping = client.get("/drip").await.unwrap().into_body();
    let mut refused_at = None;
    while let Some(Ok(_)) = in_time(dripping.frame()).await {
        if refused_at.is_none() && client.get("/who").await.is_err() {
            refused_at = Some(time::OffsetDateTime::now_utc());
        }
    }
    let ended_at = time::OffsetDateTime::now_utc();
    let refused_at = refused_at.expect("the stream went on after the GOAWAY");
    assert!(refused_at < not_after, "{refused_at} {not_after}");
    assert!(ended_at >= not_after - time::Duration::milliseconds(50), "{ended_at} {not_after}");
}
