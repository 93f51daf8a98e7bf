//! An etcd that is nearly full.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2 as client;
use hyper::server::conn::http2 as server;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;
use weft_api::rest::CheckSeverity;
use weft_store::{EtcdConfig, Location, Txn};

use crate::etcd_server::EtcdServer;
use crate::plane::Plane;

/// What the quota is told to be.
const QUOTA: u64 = 4 << 20;
/// `db_size_quota` of etcd's StatusResponse, field 12, as a varint.
const QUOTA_FIELD: u8 = 12 << 3;
const STATUS: &str = "/etcdserverpb.Maintenance/Status";

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// Stands in front of an etcd and tells what its quota is, as etcd does from 3.6 on: Debian's is older, and tells of none.
async fn telling_of_a_quota(etcd: &EtcdServer) -> (String, AbortOnDropHandle<()>) {
    let behind = etcd.endpoint().trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let serving = async move {
        while let Ok((stream, _)) = listener.accept().await {
            let behind = TcpStream::connect(&behind).await.unwrap();
            let (sender, connection) =
                client::handshake(TokioExecutor::new(), TokioIo::new(behind)).await.unwrap();
            tokio::spawn(connection);
            let passing = service_fn(move |request| pass(sender.clone(), request));
            let serving = server::Builder::new(TokioExecutor::new());
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), passing));
        }
    };
    (endpoint, AbortOnDropHandle::new(tokio::spawn(serving)))
}

async fn pass(
    mut etcd: client::SendRequest<Incoming>,
    request: Request<Incoming>,
) -> Result<Answer, hyper::Error> {
    let is_status = request.uri().path() == STATUS;
    let answer = etcd.send_request(request).await?;
    if !is_status {
        return Ok(answer.map(BodyExt::boxed));
    }
    let (head, body) = answer.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned();
    let frames = [Some(Frame::data(with_quota(&collected.to_bytes()))), trailers.map(Frame::trailers)];
    let frames = frames.into_iter().flatten().map(Ok);
    Ok(Response::from_parts(head, StreamBody::new(futures::stream::iter(frames)).boxed()))
}

/// The message with one field more: fields may come in any order.
fn with_quota(framed: &[u8]) -> Bytes {
    let mut message = framed[5..].to_vec();
    message.push(QUOTA_FIELD);
    let mut left = QUOTA;
    while left >= 0x80 {
        message.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
        left >>= 7;
    }
    message.push(u8::try_from(left).unwrap());
    let mut answer = BytesMut::from(&framed[..1]);
    answer.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    answer.extend_from_slice(&message);
    answer.freeze()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_is_over_80_percent_of_its_quota_is_found_with_its_remedy() {
    let etcd = EtcdServer::start().await;
    let (endpoint, _telling) = telling_of_a_quota(&etcd).await;
    let plane = Plane::start_with(&["--etcd", &endpoint]).await;
    let found = async || {
        let check = plane.client.check().await.unwrap();
        check.findings.into_iter().find(|finding| finding.code == "store_room")
    };
    assert_eq!(found().await, None);
    let config = EtcdConfig { prefix: "/other/".to_owned(), ..etcd.config() };
    let store = weft_store::open(Location::Etcd(Box::new(config))).await.unwrap();
    for number in 0..8 {
        let value = vec![b'x'; 512 << 10];
        store.commit(Txn::new().put(format!("large/{number}"), value)).await.unwrap();
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let finding = loop {
        match found().await {
            Some(finding) => break finding,
            None => assert!(tokio::time::Instant::now() < deadline, "it is not found"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(finding.severity, CheckSeverity::Warning);
    assert!(finding.what.contains("over 80 % of its quota of 4 MiB"), "{finding:?}");
    assert!(
        finding.remedy.as_ref().is_some_and(|remedy| remedy.contains("--quota-backend-bytes")),
        "{finding:?}"
    );
}
