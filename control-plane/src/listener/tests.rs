//! What strangers try: silence, half of something, and too much of it.

use std::io::Write;
use std::sync::Mutex;

use axum::routing::{get, post};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::ca::tests::Mesh;
use crate::metrics::Metrics;

mod connections;
mod over_tls;

use connections::{Client, WINDOW, dial, dial_as, in_time};
use over_tls::{ROOM, client, connect, joined, serve, serve_with, who};

/// Plain HTTP, as on the admin port.
struct Plain {
    address: SocketAddr,
    metrics: ListenerMetrics,
    shutdown: CancellationToken,
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn plain(strangers: usize, idle: Duration) -> Plain {
    let app =
        Router::new().route("/", get(|| async { "here\n" })).route("/", post(|body: String| async { body }));
    let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let (metrics, shutdown) = (Metrics::new().listener("admin"), CancellationToken::new());
    let listener = BoundListener {
        socket,
        security: Security::Plain,
        max_streams: API_STREAMS,
        room: ConnectionLimits { greeting: 0, strangers, members: 0 },
        idle,
        metrics: metrics.clone(),
        connections: Connections::default(),
        clock: Clock::system(),
    };
    tokio::spawn(listener.serve(app, shutdown.clone()));
    Plain { address, metrics, shutdown }
}

impl Plain {
    async fn say(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    async fn answers(&self) -> bool {
        let mut stream = self.say(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        let mut answer = String::new();
        drop(in_time(stream.read_to_string(&mut answer)).await);
        answer.starts_with("HTTP/1.1 200")
    }
}

/// All that comes until the end.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    drop(stream.read_to_end(&mut text).await);
    String::from_utf8_lossy(&text).into_owned()
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut [0; 1024])).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

async fn until(condition: impl Fn() -> bool) {
    in_time(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn silent_client_is_cut_off_and_counted() {
    let mesh = Mesh::new().await;
    let server = serve(&mesh).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert!(is_closed(&mut silent).await);
    assert_eq!(server.metrics.handshakes_failed(HandshakeFailure::timed_out).get(), 1);
}

#[tokio::test]
async fn silent_connections_hold_up_nobodys_handshake() {
    let mesh = Mesh::new().await;
    let server = serve(&mesh).await;
    let mut silent = Vec::new();
    for _ in 0..2 * PENDING_HANDSHAKES {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let answer = tokio::time::timeout(HANDSHAKE_TIMEOUT / 2, who(server.address, Some(joined(&mesh)))).await;
    assert!(answer.expect("without waiting for those to be cut off").unwrap().ends_with("shop/web-1"));
}

/// A client that sends its ClientHello and no more.
async fn stalled(server: SocketAddr, from: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(server).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut hello = Vec::new();
    rustls::ClientConnection::new(Arc::new(client(None)), name).unwrap().write_tls(&mut hello).unwrap();
    stream.write_all(&hello).await.unwrap();
    stream
}

#[tokio::test]
async fn handshakes_that_stall_take_the_share_of_their_source_only() {
    let mesh = Mesh::new().await;
    let server = serve(&mesh).await;
    let mut stalls = Vec::new();
    for _ in 0..2 * HANDSHAKES_OF_A_SOURCE {
        stalls.push(stalled(server.address, "127.0.0.2").await);
    }
    let answer = tokio::time::timeout(HANDSHAKE_TIMEOUT / 2, who(server.address, Some(joined(&mesh)))).await;
    assert!(answer.expect("another source does not wait").unwrap().ends_with("shop/web-1"));
    until(|| server.metrics.handshakes_failed(HandshakeFailure::made_room).get() > 0).await;
}

#[tokio::test]
async fn strangers_turn_out_strangers_and_no_member() {
    let mesh = Mesh::new().await;
    let server = serve_with(
        &mesh,
        ConnectionLimits { greeting: 8, strangers: 8, members: 8 },
        IDLE_STRANGER,
        Clock::system(),
    )
    .await;
    let mut member = dial(&server, joined(&mesh), WINDOW).await;
    let mut strangers: Vec<Client> = Vec::new();
    for _ in 0..40 {
        strangers.push(dial_as(&server, None, WINDOW).await);
    }
    assert!(server.metrics.open.get() <= 8 + 8 + 1, "{}", server.metrics.open.get());
    assert_eq!(server.metrics.closed(Closed::made_room).get(), 32);
    strangers[0].get("/who").await.expect_err("the oldest were turned out");
    assert_eq!(strangers[39].get("/who").await.unwrap().status(), 200);
    assert_eq!(member.get("/who").await.unwrap().status(), 200);
}

#[tokio::test]
async fn silent_connections_beyond_the_bound_make_room_for_who_speaks() {
    let mesh = Mesh::new().await;
    let server = serve_with(
        &mesh,
        ConnectionLimits { greeting: 16, strangers: 8, members: 8 },
        IDLE_STRANGER,
        Clock::system(),
    )
    .await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let answer = tokio::time::timeout(HANDSHAKE_TIMEOUT / 2, who(server.address, Some(joined(&mesh)))).await;
    assert!(answer.expect("without waiting for those to be cut off").unwrap().ends_with("shop/web-1"));
    assert!(server.metrics.closed(Closed::made_room).get() >= 84);
    assert!(server.metrics.open.get() <= 17);
}

#[tokio::test]
async fn workload_with_too_many_connections_loses_an_idle_one_or_gets_no_more() {
    let mesh = Mesh::new().await;
    let server = serve(&mesh).await;
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS_OF_A_WORKLOAD {
        open.push(dial(&server, joined(&mesh), WINDOW).await);
    }
    let mut streams = Vec::new();
    for client in &mut open[1..] {
        streams.push(client.get("/drip").await.unwrap());
    }
    let mut newest = dial(&server, joined(&mesh), WINDOW).await;
    in_time(&mut open[0].connection).await.unwrap();
    streams.push(newest.get("/drip").await.unwrap());

    who(server.address, Some(joined(&mesh))).await.expect_err("calls run on all of them");
    assert_eq!(server.metrics.closed(Closed::too_many_of_a_workload).get(), 1);
    let (other, key) = mesh.leaf("shop/web", "shop/web-2");
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    who(server.address, Some((other.chain, key))).await.expect("another workload has its own");
}

#[tokio::test]
async fn stranger_without_a_call_is_let_go_and_a_member_is_not() {
    let mesh = Mesh::new().await;
    let idle = Duration::from_millis(300);
    let server = serve_with(&mesh, ROOM, idle, Clock::system()).await;
    let mut member = dial(&server, joined(&mesh), WINDOW).await;
    let stranger = dial_as(&server, None, WINDOW).await;
    in_time(stranger.connection).await.unwrap();
    until(|| server.metrics.closed(Closed::idle).get() == 1).await;
    let mut busy = dial_as(&server, None, WINDOW).await;
    let mut dripping = busy.get("/drip").await.unwrap().into_body();
    for _ in 0..30 {
        in_time(http_body_util::BodyExt::frame(&mut dripping)).await.unwrap().unwrap();
    }
    assert_eq!(server.metrics.closed(Closed::idle).get(), 1, "one with a call that runs is not idle");
    assert_eq!(member.get("/who").await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn half_a_head_is_not_waited_for() {
    let server = plain(10, Duration::from_secs(60));
    let start = tokio::time::Instant::now();
    let mut stream = server.say(b"GET / HTTP/1.1\r\nhost: x\r\n").await;
    rest(&mut stream).await;
    assert!((HEAD_TIMEOUT..HEAD_TIMEOUT * 2).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn half_a_body_is_not_waited_for() {
    let server = plain(10, Duration::from_secs(60));
    let start = tokio::time::Instant::now();
    let mut stream = server.say(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc").await;
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!((BODY_TIMEOUT..BODY_TIMEOUT * 2).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn idle_connection_is_closed_before_and_after_a_call() {
    let idle = Duration::from_secs(5);
    let server = plain(10, idle);
    for bytes in [&b""[..], b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let start = tokio::time::Instant::now();
        let mut stream = server.say(bytes).await;
        rest(&mut stream).await;
        assert!((idle..HEAD_TIMEOUT).contains(&start.elapsed()), "{bytes:?}: {:?}", start.elapsed());
    }
    assert_eq!(server.metrics.closed(Closed::idle).get(), 2);
}

#[tokio::test]
async fn plain_port_makes_room_too() {
    let server = plain(8, Duration::from_secs(60));
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(server.say(b"").await);
        assert!(server.answers().await);
    }
    assert!(server.metrics.open.get() <= 8);
}

/// What is logged while a test runs on one thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let guard = tracing::subscriber::set_default(subscriber);
        (log, guard)
    }

    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains("handshake failed")).map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn failed_handshake_is_logged_with_peer_and_reason_once_a_minute() {
    let mesh = Mesh::with_leaf_life(time::Duration::hours(1)).await;
    let server = serve_with(&mesh, ROOM, IDLE_STRANGER, mesh.hand.clock()).await;
    let (log, _logging) = Log::start();
    let late = joined(&mesh);
    mesh.hand.forward(time::Duration::hours(3));
    let failures = |reason| server.metrics.handshakes_failed(reason).get();
    for _ in 0..5 {
        who(server.address, Some((late.0.clone(), late.1.clone_key()))).await.unwrap_err();
    }
    until(|| failures(HandshakeFailure::expired) == 5).await;
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    for part in ["WARN", "shop/web-1 (127.0.0.1)", "its certificate expired 2h ago", "join --keep"] {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
}

#[tokio::test]
async fn failed_handshakes_are_counted_by_reason() {
    let mesh = Mesh::new().await;
    let server = serve(&mesh).await;
    let (log, _logging) = Log::start();
    let failures = |reason| server.metrics.handshakes_failed(reason).get();

    who(server.address, Some(joined(&Mesh::new().await))).await.unwrap_err();
    until(|| failures(HandshakeFailure::unknown_issuer) == 1).await;

    let mut http = TcpStream::connect(server.address).await.unwrap();
    http.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    until(|| failures(HandshakeFailure::not_tls) == 1).await;

    let mut other = client(None);
    other.alpn_protocols = vec![b"http/1.1".to_vec()];
    connect(server.address, other).await.unwrap_err();
    until(|| failures(HandshakeFailure::nothing_in_common) == 1).await;

    let mut strict = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    strict.alpn_protocols = vec![b"h2".to_vec()];
    connect(server.address, strict).await.unwrap_err();
    until(|| failures(HandshakeFailure::refused_by_client) == 1).await;

    drop(TcpStream::connect(server.address).await.unwrap());
    until(|| failures(HandshakeFailure::closed) == 1).await;

    let lines = log.lines();
    assert_eq!(lines.len(), 4, "a look at the port is no news: {lines:#?}");
    for (line, part) in
        lines.iter().zip(["not of this mesh", "https", "TLS 1.3", "does it trust this mesh's roots"])
    {
        assert!(line.contains(part) && line.contains("peer=\"127.0.0.1\""), "{part}: {line}");
    }
}
