//! At which addresses the control planes are reached, asked again and again: a name may come to mean another machine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use weft_api::{Host, HostPort};

use crate::reconciler::{ReconcilerCommand, ReconcilerHandle};

/// How often names are looked up.
const AGAIN: Duration = Duration::from_secs(30);
/// How long an answer is waited for.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Tells the reconciler, now and whenever they differ. A name without an answer keeps the addresses that it had.
pub fn spawn_addresses(
    control_planes: Vec<HostPort>,
    reconciler: ReconcilerHandle,
    shutdown: CancellationToken,
) {
    let telling = async move {
        let mut known: BTreeMap<usize, Vec<SocketAddr>> = BTreeMap::new();
        let mut ticks = tokio::time::interval(AGAIN);
        loop {
            ticks.tick().await;
            for (index, control_plane) in control_planes.iter().enumerate() {
                if let Some(found) = addresses(control_plane).await {
                    known.insert(index, found);
                }
            }
            let all = known.values().flatten().copied().collect();
            reconciler.tell(ReconcilerCommand::ControlPlanes(all)).await;
        }
    };
    tokio::spawn(async move { shutdown.run_until_cancelled(telling).await });
}

async fn addresses(control_plane: &HostPort) -> Option<Vec<SocketAddr>> {
    let name = match &control_plane.host {
        Host::Ip(ip) => return Some(vec![SocketAddr::new(*ip, control_plane.port)]),
        Host::Name(name) => name.as_str(),
    };
    let asked = tokio::net::lookup_host((name, control_plane.port));
    let found = tokio::time::timeout(LOOKUP_TIMEOUT, asked).await.ok()?.ok()?;
    Some(found.collect())
}
