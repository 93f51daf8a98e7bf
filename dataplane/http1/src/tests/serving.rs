//! The server's end over a pipe.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::LIMITS;
use crate::server::{End, ReceivedBody, RequestHandler, ServerConnection, Upgrade};
use crate::{CodecOptions, Error, FieldCase, Malformed};

/// The content of an answer: known, or that of the request.
pub(super) enum Reply {
    Full(Full<Bytes>),
    Echo(ReceivedBody<DuplexStream>),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Self::Full(full) => Pin::new(full).poll_frame(cx).map_err(|never| match never {}),
            Self::Echo(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(full) => full.is_end_stream(),
            Self::Echo(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(full) => full.size_hint(),
            Self::Echo(_) => SizeHint::default(),
        }
    }
}

fn reply(status: StatusCode, bytes: impl Into<Bytes>) -> Response<Reply> {
    let mut response = Response::new(Reply::Full(Full::new(bytes.into())));
    *response.status_mut() = status;
    response
}

/// Answers by the path.
#[derive(Default)]
pub(super) struct Paths {
    upgrade: Rc<RefCell<Option<Upgrade<DuplexStream>>>>,
}

impl RequestHandler<DuplexStream> for Paths {
    type Body = Reply;
    type Answer = Pin<Box<dyn Future<Output = Response<Reply>>>>;

    fn answer(&mut self, request: Request<ReceivedBody<DuplexStream>>) -> Self::Answer {
        *self.upgrade.borrow_mut() = Some(request.body().upgrade());
        Box::pin(async move {
            match request.uri().path() {
                "/collect" => match request.into_body().collect().await {
                    Ok(body) => reply(StatusCode::OK, body.to_bytes()),
                    Err(_) => reply(StatusCode::BAD_REQUEST, "broken"),
                },
                "/echo" => Response::new(Reply::Echo(request.into_body())),
                "/never" => std::future::pending().await,
                "/close" => {
                    let mut response = reply(StatusCode::OK, "bye");
                    response.headers_mut().insert("connection", "close".parse().unwrap());
                    response
                }
                "/ws" => reply(StatusCode::SWITCHING_PROTOCOLS, ""),
                "/large" => reply(StatusCode::OK, vec![b'x'; 300_000]),
                _ => reply(StatusCode::OK, "ok"),
            }
        })
    }

    fn refuse(&mut self, malformed: Malformed) -> Response<Reply> {
        reply(malformed.status(), "")
    }
}

pub(super) fn options() -> CodecOptions {
    CodecOptions { limits: LIMITS, case: FieldCase::Lower }
}

/// What a connection writes in answer to `sent`, after which the client says no more, and how it ended.
async fn talk(sent: &[u8]) -> (String, Result<End, Error>) {
    let (mut client, server) = duplex(1024);
    let sent = sent.to_vec();
    let served = async move {
        let mut connection = ServerConnection::new(server, Paths::default(), options());
        std::future::poll_fn(|cx| connection.poll(cx)).await
    };
    let asked = async move {
        let (mut reader, mut writer) = tokio::io::split(&mut client);
        let mut answer = Vec::new();
        let write = async {
            // A connection that ends early does not take the rest.
            let _ = writer.write_all(&sent).await;
            // A turn of the event loop for each side, so that what is sent is not cut short by the end.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let _ = writer.shutdown().await;
        };
        let read = reader.read_to_end(&mut answer);
        let ((), read) = tokio::join!(write, read);
        read.unwrap();
        answer
    };
    let (ended, answer) = tokio::join!(served, asked);
    (String::from_utf8(answer).unwrap(), ended)
}

#[tokio::test]
async fn answers_requests_one_after_the_other() {
    let (answer, ended) = talk(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\nPOST /collect HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabcGET /close HTTP/1.1\r\nhost: a\r\n\r\nGET /unread HTTP/1.1\r\n").await;
    assert_eq!(
        answer,
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok\
         HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc\
         HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbye"
    );
    assert!(matches!(ended, Ok(End::Closed)), "{ended:?}");
}

#[tokio::test]
async fn streams_content_both_ways_with_its_trailers() {
    let (answer, _) = talk(b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nx-sum: 1\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(head, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked");
    assert_eq!(body, "5\r\nhello\r\n1\r\n!\r\n0\r\nx-sum: 1\r\n\r\n");
}

#[tokio::test]
async fn writes_large_content_through_a_small_pipe() {
    let (answer, _) = talk(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n"));
    assert_eq!(answer.len(), 300_000 + "HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n".len());
}

#[tokio::test]
async fn answers_head_without_content() {
    let (answer, _) = talk(b"HEAD /a HTTP/1.1\r\nhost: a\r\n\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
}

#[tokio::test]
async fn speaks_as_old_as_its_client() {
    let (answer, _) = talk(b"GET /a HTTP/1.0\r\nconnection: keep-alive\r\n\r\nPOST /echo HTTP/1.0\r\ncontent-length: 2\r\n\r\nhi").await;
    assert_eq!(
        answer,
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nokHTTP/1.0 200 OK\r\n\r\nhi"
    );
}

#[tokio::test]
async fn asks_for_content_that_waits_to_be_asked_for() {
    let waiting = b"POST /collect HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    let (mut client, server) = duplex(1024);
    let served = async move {
        let mut connection = ServerConnection::new(server, Paths::default(), options());
        std::future::poll_fn(|cx| connection.poll(cx)).await
    };
    let asked = async move {
        client.write_all(waiting).await.unwrap();
        let mut told = [0; 25];
        client.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"hi").await.unwrap();
        let mut answer = [0; b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi".len()];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
    };
    let (ended, ()) = tokio::join!(served, asked);
    assert!(ended.is_ok());
}

#[tokio::test]
async fn refuses_once_and_closes() {
    let (answer, ended) = talk(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(answer, "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    assert!(matches!(ended, Ok(End::Refused(Malformed::LengthAndCoding))), "{ended:?}");
}

#[tokio::test]
async fn nothing_is_found_behind_content_that_is_refused() {
    let (answer, ended) = talk(b"POST /collect HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(answer, "HTTP/1.1 400 Bad Request\r\ncontent-length: 6\r\nconnection: close\r\n\r\nbroken");
    assert!(matches!(ended, Ok(End::Refused(Malformed::Chunk))), "{ended:?}");
    let (answer, ended) = talk(b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    assert!(matches!(ended, Ok(End::Refused(Malformed::Chunk))), "{ended:?}");
}

#[tokio::test]
async fn a_client_that_goes_away_ends_an_answer_that_waits() {
    let (mut client, server) = duplex(1024);
    client.write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nab").await.unwrap();
    let mut connection = ServerConnection::new(server, Paths::default(), options());
    let served = std::future::poll_fn(|cx| connection.poll(cx));
    let gone = async {
        let mut head = [0; 15];
        client.read_exact(&mut head).await.unwrap();
        drop(client);
    };
    let (ended, ()) = tokio::join!(served, gone);
    assert!(ended.is_err(), "{ended:?}");
}

#[tokio::test]
async fn bytes_that_begin_no_method_are_refused_without_a_line() {
    let (answer, ended) = talk(b"\r\n\x16\x03\x01\x02\x00").await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(matches!(ended, Ok(End::Refused(Malformed::Syntax))), "{ended:?}");
}

#[tokio::test]
async fn a_request_that_is_not_read_whole_is_the_last() {
    let (answer, _) =
        talk(b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n")
            .await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_answer_with_it() {
    let (answer, ended) = talk(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(answer, "");
    assert!(matches!(ended, Ok(End::Closed)), "{ended:?}");
}

#[tokio::test]
async fn a_body_whose_connection_is_gone_ends_with_an_error() {
    let (mut client, server) = duplex(1024);
    client.write_all(b"POST /never HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc").await.unwrap();
    let kept = Rc::new(RefCell::new(None));
    let mut connection = ServerConnection::new(server, Keeps(kept.clone()), options());
    std::future::poll_fn(|cx| {
        assert!(connection.poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    drop(connection);
    let mut body = kept.take().unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
    assert!(matches!(body.frame().await, Some(Err(Error::Gone))));
    assert!(body.frame().await.is_none());
}

/// Keeps a request's content beyond its connection.
struct Keeps(Rc<RefCell<Option<ReceivedBody<DuplexStream>>>>);

impl RequestHandler<DuplexStream> for Keeps {
    type Body = Reply;
    type Answer = std::future::Pending<Response<Reply>>;

    fn answer(&mut self, request: Request<ReceivedBody<DuplexStream>>) -> Self::Answer {
        *self.0.borrow_mut() = Some(request.into_body());
        std::future::pending()
    }

    fn refuse(&mut self, malformed: Malformed) -> Response<Reply> {
        reply(malformed.status(), "")
    }
}

#[tokio::test]
async fn becomes_a_tunnel_only_after_it_has_said_so() {
    let (mut client, server) = duplex(1024);
    client
        .write_all(b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nearly")
        .await
        .unwrap();
    let paths = Paths::default();
    let upgrade = paths.upgrade.clone();
    let mut connection = ServerConnection::new(server, paths, options());
    let ended = std::future::poll_fn(|cx| connection.poll(cx)).await;
    assert!(matches!(ended, Ok(End::Upgraded)), "{ended:?}");
    drop(connection);
    let (mut stream, ahead) = upgrade.take().unwrap().await.unwrap();
    assert_eq!(ahead, "early");
    stream.write_all(b"raw").await.unwrap();
    drop(stream);
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "HTTP/1.1 101 Switching Protocols\r\n\r\nraw");
}

#[tokio::test]
async fn a_refused_upgrade_leaves_what_follows_to_be_judged() {
    let (answer, _) = talk(b"GET /a HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(answer.matches("200 OK").count(), 2, "{answer}");
}

#[tokio::test]
async fn finishes_when_idle_or_after_its_answer() {
    let (mut client, server) = duplex(1024);
    let mut connection = ServerConnection::new(server, Paths::default(), options());
    connection.finish();
    client.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    // It is idle, and nothing was read yet: it ends without a look.
    let ended = std::future::poll_fn(|cx| connection.poll(cx)).await;
    assert!(matches!(ended, Ok(End::Closed)), "{ended:?}");
}
