//! Streams that go both ways at once.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use weft_dataplane::runtime::UpstreamProtocol;

use crate::harness::{Client, Origin, Setup, protocol, to_cluster};

/// Messages go one by one, each after the answer to the one before; then trailers both ways.
async fn converses(mut client: Client) {
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
    let body = StreamBody::new(ReceiverStream::new(receiver)).boxed();
    let mut request = client.request(Method::POST, "/echo", body);
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    sender.send(Ok(Frame::data("0".into()))).await.unwrap();
    let response = client.send(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut answer = response.into_body();
    for number in 0..20 {
        let frame = answer.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), number.to_string());
        sender.send(Ok(Frame::data((number + 1).to_string().into()))).await.unwrap();
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
    drop(sender);
    let rest = answer.collect().await.unwrap();
    assert_eq!(rest.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(rest.to_bytes(), "20");
}

#[tokio::test]
async fn a_grpc_stream_goes_both_ways_at_once() {
    let origin = Origin::start().await;
    for retries in [false, true] {
        let mut setup = Setup::new();
        setup.cluster("app", &[origin.address], protocol(UpstreamProtocol::Http2));
        let route = to_cluster("app", |action| {
            if retries {
                action.retry_policy = Some(envoy_types::pb::envoy::config::route::v3::RetryPolicy {
                    retry_on: "connect-failure,refused-stream,reset-before-request".into(),
                    ..Default::default()
                });
            }
        });
        setup.routes("routes", vec![route]).http_listener(|_| {});
        let proxy = setup.start().await;
        let conversation = converses(proxy.h2().await);
        tokio::time::timeout(std::time::Duration::from_secs(20), conversation).await.unwrap();
    }
}
