//! Tells the supervisor of this process, systemd say, where the control plane is in its life.

use weft_api::supervisor::{ServiceState, Supervisor};

use crate::reconciler::ReconcilerHandle;

/// Tells when the control plane is ready, as `/ready` does, and from then on that it is alive, as long as the reconciler
/// answers: without it no change reaches a proxy, whatever else still runs.
pub async fn supervise(supervisor: Supervisor, reconciler: ReconcilerHandle) {
    supervisor.tell(ServiceState::Waiting("reads policies and workloads from the store"));
    let mut published = reconciler.published();
    if published.wait_for(|published| published.ready).await.is_err() {
        return;
    }
    supervisor.tell(ServiceState::Ready("serves"));
    let Some(pulse) = supervisor.pulse() else { return };
    while reconciler.is_alive().await {
        supervisor.tell(ServiceState::Alive);
        tokio::time::sleep(pulse).await;
    }
}
