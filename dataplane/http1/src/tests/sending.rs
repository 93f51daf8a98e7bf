//! The client's end over a pipe.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Full, StreamBody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::LIMITS;
use crate::client::ClientConnection;
use crate::{CodecOptions, Error, FieldCase};

type Client<B = Full<Bytes>> = ClientConnection<DuplexStream, B>;

fn pair<B: Body<Data = Bytes> + Unpin>() -> (Client<B>, DuplexStream) {
    let (client, server) = duplex(4096);
    (ClientConnection::new(client, CodecOptions { limits: LIMITS, case: FieldCase::Lower }), server)
}

fn request(method: Method, target: &str, body: &'static str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::from_static(body.as_bytes())));
    *request.method_mut() = method;
    *request.uri_mut() = target.parse().unwrap();
    request.headers_mut().insert("host", "a".parse().unwrap());
    request
}

/// Sends a request, answers it with `answer`, and gives what was sent, the status, and the content or what went wrong.
async fn exchange(
    client: &mut Client,
    server: &mut DuplexStream,
    request: Request<Full<Bytes>>,
    answer: &[u8],
) -> (String, Result<(StatusCode, Vec<u8>), Error>) {
    client.send(request);
    server.write_all(answer).await.unwrap();
    let response = async {
        let response = poll_fn(|cx| client.poll_head(cx)).await?;
        let mut data = Vec::new();
        while let Some(frame) = poll_fn(|cx| client.poll_frame(cx)).await {
            if let Ok(bytes) = frame?.into_data() {
                data.extend_from_slice(&bytes);
            }
        }
        Ok((response.status(), data))
    };
    let response = response.await;
    let mut sent = vec![0; 4096];
    let n = server.read(&mut sent).await.unwrap();
    (String::from_utf8(sent[..n].to_vec()).unwrap(), response)
}

#[tokio::test]
async fn sends_requests_one_after_the_other() {
    let (mut client, mut server) = pair();
    let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (sent, answer) = exchange(&mut client, &mut server, request(Method::GET, "/a?b", ""), ok).await;
    assert_eq!(sent, "GET /a?b HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(answer.unwrap(), (StatusCode::OK, b"ok".to_vec()));
    assert!(client.is_reusable());
    let (sent, _) = exchange(&mut client, &mut server, request(Method::POST, "/", "body"), ok).await;
    assert_eq!(sent, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody");
    let (sent, _) = exchange(&mut client, &mut server, request(Method::POST, "/", ""), ok).await;
    assert_eq!(sent, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    let (sent, _) = exchange(&mut client, &mut server, request(Method::OPTIONS, "/", ""), ok).await;
    assert_eq!(sent, "OPTIONS / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    let (sent, _) = exchange(&mut client, &mut server, request(Method::DELETE, "/", ""), ok).await;
    assert_eq!(sent, "DELETE / HTTP/1.1\r\nhost: a\r\n\r\n");
}

#[tokio::test]
async fn passes_over_announcements() {
    let (mut client, mut server) = pair();
    let answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    let (_, answer) = exchange(&mut client, &mut server, request(Method::GET, "/", ""), answer).await;
    assert_eq!(answer.unwrap().0, StatusCode::NO_CONTENT);
    assert!(client.is_reusable());
    let endless = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(40);
    let (_, answer) = exchange(&mut client, &mut server, request(Method::GET, "/", ""), &endless).await;
    assert!(matches!(answer, Err(Error::Malformed(_))), "{answer:?}");
    assert!(!client.is_reusable());
}

#[tokio::test]
async fn is_not_used_again_after_what_leaves_doubt() {
    let answers: [&[u8]; 5] = [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\nx",
    ];
    for answer in answers {
        let (mut client, mut server) = pair();
        let (_, result) = exchange(&mut client, &mut server, request(Method::GET, "/", ""), answer).await;
        assert!(result.is_ok(), "{result:?}");
        assert!(!client.is_reusable(), "{}", answer.escape_ascii());
    }
}

#[tokio::test]
async fn hears_what_a_server_says_unasked() {
    let (mut client, mut server) = pair::<Full<Bytes>>();
    let idle = |client: &mut Client| client.poll_idle(&mut Context::from_waker(std::task::Waker::noop()));
    assert!(idle(&mut client).is_pending());
    server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert!(idle(&mut client).is_ready());
    assert!(!client.is_reusable());
    let (mut client, server) = pair::<Full<Bytes>>();
    drop(server);
    assert!(idle(&mut client).is_ready());
}

#[tokio::test]
async fn tells_a_server_that_went_away_from_one_that_broke_off() {
    let (mut client, server) = pair();
    client.send(request(Method::GET, "/", ""));
    drop(server);
    let error = poll_fn(|cx| client.poll_head(cx)).await.unwrap_err();
    assert!(matches!(error, Error::Closed | Error::Io(_)), "{error:?}");
    let cases: [(&[u8], bool); 3] = [
        (b"HTTP/1.1 20", false),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", false),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", true),
    ];
    for (answer, whole) in cases {
        let (mut client, mut server) = pair();
        server.write_all(answer).await.unwrap();
        server.shutdown().await.unwrap();
        let (_, result) = exchange_ended(&mut client, request(Method::GET, "/", "")).await;
        assert_eq!(result.is_ok(), whole, "{}: {result:?}", answer.escape_ascii());
        if !whole {
            assert!(matches!(result, Err(Error::Incomplete)), "{result:?}");
        }
    }
}

async fn exchange_ended(client: &mut Client, request: Request<Full<Bytes>>) -> ((), Result<Vec<u8>, Error>) {
    client.send(request);
    let response = async {
        poll_fn(|cx| client.poll_head(cx)).await?;
        let mut data = Vec::new();
        while let Some(frame) = poll_fn(|cx| client.poll_frame(cx)).await {
            data.extend_from_slice(&frame?.into_data().unwrap_or_default());
        }
        Ok(data)
    };
    ((), response.await)
}

#[tokio::test]
async fn streams_a_request_in_chunks() {
    let pieces = ["hello", "", "!"]
        .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from_static(piece.as_bytes()))));
    let (mut client, mut server) = pair();
    let mut request = Request::new(StreamBody::new(futures::stream::iter(pieces)));
    *request.method_mut() = Method::POST;
    client.send(request);
    server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    poll_fn(|cx| client.poll_head(cx)).await.unwrap();
    let mut sent = vec![0; 4096];
    let n = server.read(&mut sent).await.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&sent[..n]),
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"
    );
    assert!(client.is_reusable());
}

#[tokio::test]
async fn hears_an_answer_to_a_request_that_is_not_sent_whole() {
    let (mut client, mut server) = pair();
    client.send(Request::new(Endless));
    server.write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let response = poll_fn(|cx| client.poll_head(cx)).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(client.is_end_stream() && !client.is_reusable());
}

/// Content that never ends.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 8000])))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[tokio::test]
async fn holds_content_to_what_its_head_says() {
    for (length, content) in [("3", "four"), ("5", "four")] {
        let (mut client, _server) = pair();
        let mut request = request(Method::POST, "/", content);
        request.headers_mut().insert("content-length", length.parse().unwrap());
        client.send(request);
        let error = poll_fn(|cx| client.poll_head(cx)).await.unwrap_err();
        assert!(matches!(error, Error::Body), "{error:?}");
    }
}

#[tokio::test]
async fn hands_over_a_tunnel_with_what_was_read_ahead() {
    let (mut client, mut server) = pair();
    let mut upgrade = request(Method::GET, "/", "");
    upgrade.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    client.send(upgrade);
    server.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\nearly").await.unwrap();
    let response = poll_fn(|cx| client.poll_head(cx)).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert!(!client.is_reusable());
    let (_, ahead) = client.into_parts();
    assert_eq!(ahead, "early");
}

#[tokio::test]
async fn writes_names_in_title_case_where_that_is_asked_for() {
    let (client, mut server) = duplex(4096);
    let mut client = ClientConnection::new(client, CodecOptions { limits: LIMITS, case: FieldCase::Title });
    let mut headers = HeaderMap::new();
    headers.insert("x-one-two", "a".parse().unwrap());
    client.send_parts(&Method::POST, &"/".parse().unwrap(), &headers, Full::new(Bytes::from_static(b"x")));
    server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    poll_fn(|cx| client.poll_head(cx)).await.unwrap();
    let mut sent = vec![0; 4096];
    let n = server.read(&mut sent).await.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&sent[..n]),
        "POST / HTTP/1.1\r\nX-One-Two: a\r\nContent-Length: 1\r\n\r\nx"
    );
}

/// Says with its last piece that it was the last, and that piece is empty.
struct EndsEmpty(Vec<&'static str>);

impl Body for EndsEmpty {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

#[tokio::test]
async fn says_the_end_of_content_whose_last_piece_is_empty() {
    let (mut client, mut server) = pair::<EndsEmpty>();
    client.send(Request::post("/").body(EndsEmpty(vec!["", "", "abc"])).unwrap());
    let waiting = poll_fn(|cx| Poll::Ready(client.poll_head(cx).is_pending())).await;
    assert!(waiting);
    let mut sent = vec![0; 4096];
    let n = server.read(&mut sent).await.unwrap();
    let sent = String::from_utf8_lossy(&sent[..n]);
    assert!(sent.ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), "{sent}");
}

#[tokio::test]
async fn half_of_a_request_is_never_ended() {
    let broken = StreamBody::new(futures::stream::iter([
        Ok(Frame::data(Bytes::from_static(b"abc"))),
        Err(std::io::Error::other("gone")),
    ]));
    let (mut client, mut server) = pair();
    client.send(Request::post("/").body(broken).unwrap());
    let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    server.write_all(answer).await.unwrap();
    let failed = poll_fn(|cx| client.poll_head(cx)).await;
    assert!(matches!(failed, Err(Error::Body)), "{failed:?}");
    assert!(!client.is_reusable());
    drop(client);
    let mut sent = String::new();
    server.read_to_string(&mut sent).await.unwrap();
    assert!(!sent.contains("0\r\n\r\n"), "{sent}");
}

#[tokio::test]
async fn a_connection_is_used_again_when_the_rest_of_its_request_has_gone_out() {
    let (client, mut server) = duplex(64);
    let mut client = Client::new(client, CodecOptions { limits: LIMITS, case: FieldCase::Lower });
    client.send(Request::post("/").body(Full::new(Bytes::from_static(&[b'x'; 500]))).unwrap());
    server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert_eq!(poll_fn(|cx| client.poll_head(cx)).await.unwrap().status(), 200);
    assert!(client.is_idle() && !client.is_reusable());
    let mut sent = Vec::new();
    while !client.is_reusable() {
        server.read_buf(&mut sent).await.unwrap();
        let over = poll_fn(|cx| Poll::Ready(client.poll_idle(cx).is_ready())).await;
        assert!(!over);
    }
    while !sent.ends_with(&[b'x'; 500]) {
        server.read_buf(&mut sent).await.unwrap();
    }
}
