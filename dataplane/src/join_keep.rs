//! `weft-proxy join`: the identity of a workload whose data plane is a stock Envoy. Writes the files that Envoy
//! reads, and with `--keep` renews them in time and says goodbye at the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_api::join::ProxyType;
use weft_api::supervisor::{ServiceState, Supervisor};

use crate::args::JoinArgs;
use crate::identity::channel::Credentials;
use crate::identity::join::ControlPlaneClient;
use crate::identity::rotation::{WallClock, rotate};
use crate::identity::{Identity, IdentityDir};
use crate::joining::{self, JoinError};
use crate::supervision::pulse_of_the_loop;

/// A goodbye takes at most this long.
const FAREWELL: Duration = Duration::from_secs(5);

/// Joins, writes the files, and stays with `--keep` until `stop` is cancelled.
///
/// # Errors
/// When the join is refused or the files cannot be written.
pub async fn run(args: &JoinArgs, stop: CancellationToken, supervisor: Supervisor) -> Result<(), JoinError> {
    let prepared = joining::prepare(&args.workload, ProxyType::Envoy)?.verified().await;
    let Some(joined) = Box::pin(prepared.join(&stop, &supervisor)).await? else { return Ok(()) };
    let directory = joined.directory;
    directory.store_sds(&joined.identity)?;
    let membership = joined.membership;
    tracing::info!(
        event = "identity_joined",
        workload = %membership.workload,
        identity = %joined.identity.spiffe(),
        files = %directory.path("identity.sds.json").display(),
        "joined"
    );
    if !args.keep {
        return Ok(());
    }
    supervisor.tell(ServiceState::Ready(&format!("keeps the identity of {}", membership.workload)));
    tokio::spawn(pulse_of_the_loop(supervisor));
    let (sender, receiver) = watch::channel(Arc::new(joined.identity));
    let credentials =
        Credentials::Joined { identity: receiver, trust_domain: membership.trust_domain.clone() };
    let control_plane = ControlPlaneClient::new(joined.replicas, credentials);
    let keep = move |identity: &Identity| keep_files(&directory, identity);
    tokio::spawn(control_plane.clone().come_back(stop.clone()));
    rotate(sender, control_plane.clone(), WallClock::System, keep, stop).await;
    match tokio::time::timeout(FAREWELL, control_plane.leave()).await {
        Ok(Ok(())) => tracing::info!(event = "goodbye_said", "said goodbye"),
        Ok(Err(error)) => tracing::warn!(event = "goodbye_failed", %error, "could not say goodbye"),
        Err(_) => tracing::warn!(event = "goodbye_failed", "could not say goodbye in time"),
    }
    Ok(())
}

fn keep_files(directory: &IdentityDir, identity: &Identity) {
    let stored = directory.store(identity).and_then(|()| directory.store_sds(identity));
    if let Err(error) = stored {
        tracing::error!(event = "identity_not_written", %error, "the renewed identity is not written");
    }
}
