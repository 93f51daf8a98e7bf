//! `weft-proxy run`: wires identity, control, engine and admin together, and takes them apart at the end.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weft_api::TrustDomain;
use weft_api::join::ProxyType;
use weft_api::names::CONTROL_PLANE_CLUSTER;
use weft_api::supervisor::Supervisor;
use weft_xds::client::Session;
use weft_xds::server::{ServedTypes, Variant as StreamVariant};
use weft_xds::transport::client::XdsClient;
use weft_xds::transport::server::StreamKind;

use crate::args::RunArgs;
use crate::bootstrap::link::{LinkError, Links};
use crate::bootstrap::{Bootstrap, BootstrapError, DiscoveryVariant};
use crate::control::{Config, Control, ControlHandle, DrainTimes, LogControl, StartError};
use crate::engine::{Engine, EngineConfig, Pinning};
use crate::identity::channel::Credentials;
use crate::identity::join::ControlPlaneClient;
use crate::identity::replicas::Replicas;
use crate::identity::rotation::{WallClock, rotate};
use crate::identity::{Identity, IdentityDir};
use crate::joining::{self, JoinError, JoinedIdentity, PreparedJoin};
use crate::reserve::{Reservations, ReserveError, remedy};
use crate::supervision::supervise;
use crate::{access_log_service, admin, hds, metrics_push, tap};

const ADMIN_PORT: u16 = 15000;
/// A goodbye takes at most this long of the time for draining.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);
/// A discovery stream that is lost within this time was of no use.
const SHORT_STREAM: Duration = Duration::from_secs(10);

/// Why the proxy does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The workload cannot join the mesh.
    #[error(transparent)]
    Enter(#[from] JoinError),
    /// The bootstrap file cannot be used.
    #[error("error: --config-path {0}")]
    Bootstrap(#[from] BootstrapError),
    /// A static resource cannot be used.
    #[error("error: --config-path: {0}")]
    Start(#[from] StartError),
    /// A stream has nowhere to go.
    #[error("error: --config-path: {0}")]
    Link(#[from] LinkError),
    /// The workers cannot be started.
    #[error("the workers cannot be started: {0}")]
    Engine(std::io::Error),
    /// The admin listener cannot be bound.
    #[error("error: --admin-listen {0}: cannot listen there: {1}; {what_to_do}", what_to_do = remedy(.1))]
    Admin(SocketAddr, std::io::Error),
    /// Another of its own listeners cannot be bound.
    #[error(transparent)]
    Reserve(#[from] ReserveError),
}

impl RunError {
    /// The status to exit with.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Enter(JoinError::Usage(_)) | Self::Bootstrap(_) | Self::Start(_) | Self::Link(_) => {
                crate::args::EX_USAGE
            }
            Self::Reserve(ReserveError::Twice { .. }) => crate::args::EX_USAGE,
            Self::Enter(_) | Self::Engine(_) | Self::Admin(..) | Self::Reserve(_) => 1,
        }
    }
}

/// A joined workload's part of the wiring.
struct JoinedWorkload {
    trust_domain: TrustDomain,
    replicas: Replicas,
    identity: watch::Sender<Arc<Identity>>,
    directory: IdentityDir,
}

impl JoinedWorkload {
    fn new(joined: JoinedIdentity) -> Self {
        Self {
            trust_domain: joined.membership.trust_domain,
            replicas: joined.replicas,
            identity: watch::channel(Arc::new(joined.identity)).0,
            directory: joined.directory,
        }
    }

    fn credentials(&self) -> Credentials {
        Credentials::Joined { identity: self.identity.subscribe(), trust_domain: self.trust_domain.clone() }
    }
}

/// Runs until `stop` is cancelled, then drains. What can fail on this machine comes first: a start that fails has told
/// nobody anything.
///
/// # Errors
/// When the proxy cannot be started; once it runs, it runs.
pub async fn run(
    args: &RunArgs,
    log: LogControl,
    stop: CancellationToken,
    supervisor: Supervisor,
) -> Result<(), RunError> {
    let origin = match &args.config_path {
        Some(path) => BootstrapSource::File(Box::new(load(path)?)),
        None => BootstrapSource::Mesh(joining::prepare(&args.workload, ProxyType::Weft)?.verified().await),
    };
    let (admin_address, admin_listener) = bind_admin(args, &origin).await?;
    let mut engine = start_engine(args)?;
    let (bootstrap, joined) = match origin {
        BootstrapSource::File(bootstrap) => (*bootstrap, None),
        BootstrapSource::Mesh(prepared) => {
            if let Some(listeners) = prepared.listeners().await {
                engine.reserve(Reservations::try_new(&listeners, admin_address)?);
            }
            let Some(joined) = Box::pin(prepared.join(&stop, &supervisor)).await? else { return Ok(()) };
            let bootstrap = Bootstrap::joined(&joined.membership, args.workload.locality.as_ref());
            (bootstrap, Some(JoinedWorkload::new(joined)))
        }
    };
    let node = bootstrap.node.id.clone();
    tracing::info!(
        event = "proxy_starts",
        %admin_address, workers = engine.workers(), node,
        "weft-proxy starts"
    );
    let config = Config {
        bootstrap: bootstrap.clone(),
        config_path: args.config_path.clone(),
        identity: joined.as_ref().map(|joined| joined.identity.subscribe()),
        snapshots: joined.as_ref().map(|joined| joined.directory.clone()),
        log,
        stop: stop.clone(),
    };
    let (log_entries, tapping) = (engine.take_log_entries(), engine.take_tapping());
    let (control, handle) = Control::try_new(config, engine)?;
    let links = Links {
        control_plane: joined.as_ref().map(|joined| (joined.replicas.clone(), joined.credentials())),
        clusters: control.static_clusters(),
        secrets: control.secrets(),
    };
    let replicas = joined.as_ref().map(|joined| joined.replicas.clone());
    let stream = open_stream(&bootstrap, &control, &links, replicas)?;
    spawn_reports(&bootstrap, &links, &handle, &stop)?;
    if let Some(tapping) = tapping
        && let Some(channel) = links.to_cluster_named(CONTROL_PLANE_CLUSTER)
    {
        tokio::spawn(tap::stream::serve(channel, tapping, stop.clone()));
    }
    if let Some(entries) = log_entries {
        tokio::spawn(access_log_service::serve(links, bootstrap.node.clone(), entries, handle.clone()));
    }
    tokio::spawn(supervise(supervisor, handle.clone()));
    // The admin endpoints answer while the proxy drains: their own token ends them last.
    let admin_stop = CancellationToken::new();
    tokio::spawn(admin::serve(admin_listener, handle, admin_stop.clone()));
    let leave_mesh = leave_mesh(joined.as_ref());
    if let Some(joined) = joined {
        tokio::spawn(keep_identity(joined, stop.clone()));
    }
    let ran = Box::pin(control.run(stream, leave_mesh, DrainTimes::default())).await;
    admin_stop.cancel();
    Ok(ran?)
}

/// Where the configuration comes from.
enum BootstrapSource {
    File(Box<Bootstrap>),
    Mesh(PreparedJoin),
}

async fn bind_admin(args: &RunArgs, origin: &BootstrapSource) -> Result<(SocketAddr, TcpListener), RunError> {
    let of_file = match origin {
        BootstrapSource::File(bootstrap) => bootstrap.admin,
        BootstrapSource::Mesh(_) => None,
    };
    let wanted = args.admin_listen.or(of_file).unwrap_or((Ipv4Addr::LOCALHOST, ADMIN_PORT).into());
    let listener = admin::bind(wanted).await.map_err(|error| RunError::Admin(wanted, error))?;
    let given = listener.local_addr().map_err(|error| RunError::Admin(wanted, error))?;
    Ok((given, listener))
}

fn start_engine(args: &RunArgs) -> Result<Engine, RunError> {
    let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = args.workers.map_or_else(processors, usize::from);
    Engine::start(&EngineConfig { workers, pinning: Pinning::Pinned }).map_err(RunError::Engine)
}

type OpenClient = (XdsClient, tokio::sync::mpsc::Receiver<weft_xds::transport::client::Notice>);

fn open_stream(
    bootstrap: &Bootstrap,
    control: &Control,
    links: &Links,
    replicas: Option<Replicas>,
) -> Result<Option<OpenClient>, LinkError> {
    let Some(ads) = &bootstrap.ads else { return Ok(None) };
    let variant = match ads.variant {
        DiscoveryVariant::Sotw => StreamVariant::Sotw,
        DiscoveryVariant::Delta => StreamVariant::Delta,
    };
    let mut session = Session::new(variant, bootstrap.node.clone());
    for (kind, name, version) in control.restored_versions() {
        session.restore(kind, [(name, version)]);
    }
    // A wrong target is an error now and not at each attempt.
    links.channel(&ads.target)?;
    let (links, target) = (links.clone(), ads.target.clone());
    let mut last: Option<Instant> = None;
    let connect = move || {
        // A replica that takes a connection and soon loses the stream is of no use now: another may be.
        if let (Some(replicas), Some(last)) = (&replicas, last.replace(Instant::now()))
            && last.elapsed() < SHORT_STREAM
        {
            replicas.skip();
        }
        let channel = links.channel(&target);
        async move { channel.map_err(Into::into) }
    };
    Ok(Some(XdsClient::spawn(session, StreamKind { variant, served: ServedTypes::Aggregated }, connect)))
}

fn spawn_reports(
    bootstrap: &Bootstrap,
    links: &Links,
    handle: &ControlHandle,
    stop: &CancellationToken,
) -> Result<(), LinkError> {
    if let Some(target) = &bootstrap.health {
        tokio::spawn(hds::serve(links.channel(target)?, bootstrap.node.clone(), stop.clone()));
    }
    if let Some(sink) = &bootstrap.metrics {
        let channel = links.channel(&sink.target)?;
        let push =
            metrics_push::push(channel, bootstrap.node.clone(), sink.clone(), handle.clone(), stop.clone());
        tokio::spawn(push);
    }
    Ok(())
}

async fn keep_identity(joined: JoinedWorkload, stop: CancellationToken) {
    let issuer = ControlPlaneClient::new(joined.replicas.clone(), joined.credentials());
    let directory = joined.directory;
    let keep = move |identity: &Identity| {
        if let Err(error) = directory.store(identity) {
            tracing::error!(event = "identity_not_written", %error, "the renewed identity is not written");
        }
    };
    tokio::spawn(issuer.clone().come_back(stop.clone()));
    rotate(joined.identity, issuer, WallClock::System, keep, stop).await;
}

/// Says goodbye to the control plane, so that callers hear of it before the listeners close.
fn leave_mesh(joined: Option<&JoinedWorkload>) -> impl Future<Output = ()> + use<> {
    let control_plane =
        joined.map(|joined| ControlPlaneClient::new(joined.replicas.clone(), joined.credentials()));
    async move {
        let Some(control_plane) = control_plane else { return };
        match tokio::time::timeout(LEAVE_TIMEOUT, control_plane.leave()).await {
            Ok(Ok(())) => tracing::info!(event = "goodbye_said", "said goodbye"),
            Ok(Err(error)) => tracing::warn!(event = "goodbye_failed", %error, "could not say goodbye"),
            Err(_) => tracing::warn!(event = "goodbye_failed", "could not say goodbye in time"),
        }
    }
}

/// Reads a bootstrap file in a thread of its own: the allocator keeps some of what a thread frees for that thread, and
/// this frees tens of megabytes that are never needed again.
fn load(path: &Path) -> Result<Bootstrap, BootstrapError> {
    let read = std::thread::scope(|scope| scope.spawn(|| Bootstrap::load(path)).join());
    read.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
