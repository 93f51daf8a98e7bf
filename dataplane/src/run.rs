//! `weft-proxy run`: wires identity, control, engine and admin together, and takes them apart at the end.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_api::join::ProxyType;
use weft_xds::client::Session;
use weft_xds::server::{Scope, Variant as StreamVariant};
use weft_xds::transport::client::Client;
use weft_xds::transport::server::StreamKind;

use crate::args::RunArgs;
use crate::bootstrap::link::{LinkError, Links};
use crate::bootstrap::{Bootstrap, BootstrapError, Variant};
use crate::control::{Config, Control, DrainTimes, Handle, LogControl, StartError};
use crate::engine::{Engine, EngineConfig, Pinning};
use crate::enter::{self, EnterError};
use crate::identity::channel::Credentials;
use crate::identity::join::ControlPlane;
use crate::identity::rotation::{Clock, rotate};
use crate::identity::{Identity, IdentityDir, Membership};
use crate::{admin, hds, metrics_push};

const ADMIN_PORT: u16 = 15000;
/// A goodbye takes at most this long of the time for draining.
const FAREWELL: Duration = Duration::from_secs(3);

/// Why the proxy does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The workload cannot enter the mesh.
    #[error(transparent)]
    Enter(#[from] EnterError),
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
    #[error("error: --admin-listen {0}: {1}")]
    Admin(SocketAddr, std::io::Error),
}

impl RunError {
    /// The status to exit with.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Enter(EnterError::Usage(_)) | Self::Bootstrap(_) | Self::Start(_) | Self::Link(_) => {
                crate::args::EX_USAGE
            }
            Self::Enter(_) | Self::Engine(_) | Self::Admin(..) => 1,
        }
    }
}

/// A joined workload's part of the wiring.
struct Joined {
    membership: Membership,
    identity: watch::Sender<Arc<Identity>>,
    directory: IdentityDir,
}

impl Joined {
    fn credentials(&self) -> Credentials {
        Credentials::Joined {
            identity: self.identity.subscribe(),
            trust_domain: self.membership.trust_domain.clone(),
        }
    }
}

/// Runs until `stop` is cancelled, then drains.
///
/// # Errors
/// When the proxy cannot be started; once it runs, it runs.
pub async fn run(args: &RunArgs, log: LogControl, stop: CancellationToken) -> Result<(), RunError> {
    let (bootstrap, joined) = match &args.config_path {
        Some(path) => (load(path)?, None),
        None => {
            let Some(entered) = Box::pin(enter::enter(&args.workload, ProxyType::Weft, &stop)).await? else {
                return Ok(());
            };
            let bootstrap = Bootstrap::joined(&entered.membership, args.workload.locality.as_ref());
            let identity = watch::channel(Arc::new(entered.identity)).0;
            let joined = Joined { membership: entered.membership, identity, directory: entered.directory };
            (bootstrap, Some(joined))
        }
    };
    let workers = args
        .workers
        .map_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get), usize::from);
    let admin_address =
        args.admin_listen.or(bootstrap.admin).unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT)));
    let admin_listener =
        admin::bind(admin_address).await.map_err(|error| RunError::Admin(admin_address, error))?;
    let engine =
        Engine::start(&EngineConfig { workers, pinning: Pinning::Pinned }).map_err(RunError::Engine)?;
    let config = Config {
        bootstrap: bootstrap.clone(),
        config_path: args.config_path.clone(),
        identity: joined.as_ref().map(|joined| joined.identity.subscribe()),
        snapshots: joined.as_ref().map(|joined| joined.directory.clone()),
        log,
        stop: stop.clone(),
    };
    let (control, handle) = Control::try_new(config, engine)?;
    let links = Links {
        control_plane: joined
            .as_ref()
            .map(|joined| (joined.membership.control_plane.clone(), joined.credentials())),
        clusters: control.static_clusters(),
        secrets: control.secrets(),
    };
    let stream = open_stream(&bootstrap, &control, &links)?;
    spawn_reports(&bootstrap, &links, &handle, &stop)?;
    // The admin endpoints answer while the proxy drains: their own token ends them last.
    let admin_stop = CancellationToken::new();
    tokio::spawn(admin::serve(admin_listener, handle, admin_stop.clone()));
    tracing::info!(%admin_address, workers, node = bootstrap.node.id, "weft-proxy starts");
    let farewell = farewell(joined.as_ref());
    if let Some(joined) = joined {
        tokio::spawn(keep_identity(joined, stop.clone()));
    }
    let ran = Box::pin(control.run(stream, farewell, DrainTimes::default())).await;
    admin_stop.cancel();
    Ok(ran?)
}

type Stream = (Client, tokio::sync::mpsc::Receiver<weft_xds::transport::client::Notice>);

fn open_stream(bootstrap: &Bootstrap, control: &Control, links: &Links) -> Result<Option<Stream>, LinkError> {
    let Some(ads) = &bootstrap.ads else { return Ok(None) };
    let variant = match ads.variant {
        Variant::Sotw => StreamVariant::Sotw,
        Variant::Delta => StreamVariant::Delta,
    };
    let mut session = Session::new(variant, bootstrap.node.clone());
    for (kind, name, version) in control.restored_versions() {
        session.restore(kind, [(name, version)]);
    }
    // A wrong target is an error now and not at each attempt.
    links.channel(&ads.target)?;
    let (links, target) = (links.clone(), ads.target.clone());
    let connect = move || {
        let channel = links.channel(&target);
        async move { channel.map_err(Into::into) }
    };
    Ok(Some(Client::spawn(session, StreamKind { variant, scope: Scope::Aggregated }, connect)))
}

fn spawn_reports(
    bootstrap: &Bootstrap,
    links: &Links,
    handle: &Handle,
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

async fn keep_identity(joined: Joined, stop: CancellationToken) {
    let issuer = ControlPlane::new(joined.membership.control_plane.clone(), joined.credentials());
    let directory = joined.directory;
    let keep = move |identity: &Identity| {
        if let Err(error) = directory.store(identity) {
            tracing::error!(%error, "the renewed identity is not written");
        }
    };
    tokio::spawn(issuer.clone().come_back(stop.clone()));
    rotate(joined.identity, issuer, Clock::System, keep, stop).await;
}

/// Says goodbye to the control plane, so that callers hear of it before the listeners close.
fn farewell(joined: Option<&Joined>) -> impl Future<Output = ()> + use<> {
    let control_plane =
        joined.map(|joined| ControlPlane::new(joined.membership.control_plane.clone(), joined.credentials()));
    async move {
        let Some(control_plane) = control_plane else { return };
        match tokio::time::timeout(FAREWELL, control_plane.leave()).await {
            Ok(Ok(())) => tracing::info!("said goodbye"),
            Ok(Err(error)) => tracing::warn!(%error, "could not say goodbye"),
            Err(_) => tracing::warn!("could not say goodbye in time"),
        }
    }
}

/// Reads a bootstrap file in a thread of its own: the allocator keeps some of what a thread frees for that thread, and
/// this frees tens of megabytes that are never needed again.
fn load(path: &Path) -> Result<Bootstrap, BootstrapError> {
    let read = std::thread::scope(|scope| scope.spawn(|| Bootstrap::load(path)).join());
    read.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
