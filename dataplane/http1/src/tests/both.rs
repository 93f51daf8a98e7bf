//! Both ends with each other: what goes in at one comes out at the other, through pipes of any size.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use http::{Method, Request};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::io::{DuplexStream, duplex};

use super::LIMITS;
use super::serving::{Paths, options};
use crate::{CodecOptions, FieldCase, client, server};

type Content = UnsyncBoxBody<Bytes, Infallible>;
type Client = client::ClientConnection<DuplexStream, Content>;

/// Bytes in which no part is like another.
fn bytes(length: usize) -> Bytes {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn known(bytes: Bytes) -> Content {
    Full::new(bytes).boxed_unsync()
}

/// The same in pieces, with a length that nobody knows before.
fn streamed(bytes: &Bytes) -> Content {
    let pieces: Vec<_> =
        bytes.chunks(999).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
    StreamBody::new(futures::stream::iter(pieces)).boxed_unsync()
}

async fn ask(client: &mut Client, path: &'static str, content: Content) -> Bytes {
    let mut request = Request::new(content);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().unwrap();
    request.headers_mut().insert("host", "a".parse().unwrap());
    client.send(request);
    let response = poll_fn(|cx| client.poll_head(cx)).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut answer = Vec::new();
    while let Some(frame) = poll_fn(|cx| client.poll_frame(cx)).await {
        answer.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    assert!(client.is_reusable(), "{client:?}");
    answer.into()
}

async fn echo_through(pipe: usize) {
    let (client, server) = duplex(pipe);
    let mut server = server::ServerConnection::new(server, Paths::default(), options());
    let mut client = Client::new(client, CodecOptions { limits: LIMITS, case: FieldCase::Lower });
    let asked = async {
        for path in ["/collect", "/echo"] {
            // A pipe of some bytes is only interesting where there is little to go through it.
            let most = if pipe < 100 { 1025 } else { 70_000 };
            for length in [0, 1, 1000, 1025, most] {
                let sent = bytes(length);
                assert!(ask(&mut client, path, known(sent.clone())).await == sent, "{path} {length}");
                assert!(ask(&mut client, path, streamed(&sent)).await == sent, "{path} {length}, streamed");
            }
        }
    };
    let mut asked = pin!(asked);
    poll_fn(|cx| {
        if let Poll::Ready(ended) = server.poll(cx) {
            panic!("the connection ended early: {ended:?}");
        }
        asked.as_mut().poll(cx)
    })
    .await;
}

#[tokio::test]
async fn what_is_echoed_is_what_was_sent() {
    for pipe in [1, 7, 100, 5000, 1_000_000] {
        echo_through(pipe).await;
    }
}
