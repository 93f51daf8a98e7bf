//! Running one instance.

use std::net::SocketAddr;

use anyhow::Context as _;
use clap::Args;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

use super::grpc::echo::DESCRIPTORS;
use super::grpc::echo::echo_service_server::EchoServiceServer;
use super::{DemoCaller, Dialer, EchoServer, Faults, Instance, router, tcp};

/// One instance of a service.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// Name of the service
    #[arg(long, env = "WEFT_DEMO_SERVICE", default_value = "demo")]
    pub service: String,
    /// Its version
    #[arg(long, env = "WEFT_DEMO_VERSION", default_value = "v1")]
    pub version: String,
    /// Name of the workload; the service and its version by default
    #[arg(long, env = "WEFT_DEMO_WORKLOAD")]
    pub workload: Option<String>,
    /// HTTP/1.1 and h2 with prior knowledge
    #[arg(long, env = "WEFT_DEMO_HTTP", value_name = "IP:PORT")]
    pub http: Option<SocketAddr>,
    /// gRPC: echo, health, reflection
    #[arg(long, env = "WEFT_DEMO_GRPC", value_name = "IP:PORT")]
    pub grpc: Option<SocketAddr>,
    /// TCP echo
    #[arg(long, env = "WEFT_DEMO_TCP", value_name = "IP:PORT")]
    pub tcp: Option<SocketAddr>,
    /// Call this URL on each request; `h2://` asks for HTTP/2
    #[arg(long = "call", env = "WEFT_DEMO_CALL", value_name = "URL", value_delimiter = ',')]
    pub calls: Vec<String>,
    /// The sidecar's outbound listener, through which calls go
    #[arg(long, env = "WEFT_DEMO_SIDECAR", value_name = "IP:PORT")]
    pub sidecar: Option<SocketAddr>,
}

/// Serves every face that has an address, until the process is told to end.
///
/// # Errors
/// When an address cannot be bound.
pub async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let workload = args.workload.unwrap_or_else(|| format!("{}-{}", args.service, args.version));
    let instance =
        Instance { service: args.service.into(), version: args.version.into(), workload: workload.into() };
    let faults = Faults::default();
    let caller = DemoCaller::new(Dialer { sidecar: args.sidecar, tunnel: false });
    let mut faces = tokio::task::JoinSet::new();
    if let Some(address) = args.http {
        let listener = bind(address).await?;
        let app = router(instance.clone(), faults.clone(), caller, args.calls);
        faces.spawn(serve_http(listener, app));
    }
    if let Some(address) = args.grpc {
        let listener = bind(address).await?;
        let echo = EchoServer { instance: instance.clone(), faults };
        faces.spawn(serve_grpc(listener, echo));
    }
    if let Some(address) = args.tcp {
        faces.spawn(tcp::serve(bind(address).await?, instance));
    }
    anyhow::ensure!(!faces.is_empty(), "nothing to serve: give --http, --grpc or --tcp an address");
    tokio::select! {
        _ = faces.join_next() => anyhow::bail!("a listener ended"),
        () = told_to_end() => Ok(()),
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

pub(super) async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

async fn serve_http(listener: TcpListener, app: axum::Router) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        drop(stream.set_nodelay(true));
        let service = TowerToHyperService::new(app.clone());
        tokio::spawn(async move {
            let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            builder.http2().enable_connect_protocol();
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
            drop(connection.await);
        });
    }
}

async fn serve_grpc(listener: TcpListener, echo: EchoServer) {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<EchoServiceServer<EchoServer>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors were made by our own build");
    let server = tonic::transport::Server::builder()
        .add_service(health_service)
        .add_service(reflection)
        .add_service(EchoServiceServer::new(echo));
    drop(server.serve_with_incoming(TcpListenerStream::new(listener)).await);
}
