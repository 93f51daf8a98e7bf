//! Somebody who looks on a proxy for requests that do not come: a control plane of nothing but taps.
//!
//! Each request is looked at to the last condition and not told. One that is wanted and too many costs an atomic number more;
//! those that are told are 200 a second at most, which on a machine of valgrind's speed would be most of them.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weft_api::tapping::tap_service_server::{TapService, TapServiceServer};
use weft_api::tapping::{Tap, TapOrder, TapReport};

const FOR_LONG: u32 = 60_000;

struct TapOnNothing;

#[tonic::async_trait]
impl TapService for TapOnNothing {
    type TapStream = ReceiverStream<Result<TapOrder, Status>>;

    async fn tap(&self, request: Request<Streaming<TapReport>>) -> Result<Response<Self::TapStream>, Status> {
        let (orders, outgoing) = mpsc::channel(1);
        let mut reports = request.into_inner();
        tokio::spawn(async move {
            loop {
                let path_prefix = "/none-of-these".to_owned();
                let tap =
                    Tap { id: "1".to_owned(), outbound: true, inbound: true, path_prefix, ..Tap::default() };
                if orders.send(Ok(TapOrder { taps: vec![tap], lease_ms: FOR_LONG })).await.is_err() {
                    return;
                }
                let more = async { while let Ok(Some(_)) = reports.message().await {} };
                // What comes is taken and forgotten; the order is renewed in time.
                let _ = tokio::time::timeout(std::time::Duration::from_secs(10), more).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

/// Serves on this port until the process ends.
pub fn look_on(port: u16) {
    std::thread::spawn(move || {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let service = tonic::transport::Server::builder().add_service(TapServiceServer::new(TapOnNothing));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("an event loop").block_on(service.serve(address)).expect("a free port");
    });
}
