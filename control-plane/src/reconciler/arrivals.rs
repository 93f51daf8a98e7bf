//! Writes down which sidecars have taken their listeners.

use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use weft_api::WorkloadId;

use crate::presence::workloads::WorkloadStore;

/// Arrivals that wait to be written; each is noted again, every second, until its record says so.
const QUEUE: usize = 1024;
/// Writes under way: a mesh that starts all at once is not written one after the other.
const AT_ONCE: usize = 16;

#[derive(Debug)]
pub(super) struct Arrivals(mpsc::Sender<(WorkloadId, String)>);

impl Arrivals {
    /// Notes one, unless too many wait.
    pub fn note(&self, id: &WorkloadId, instance: &str) {
        drop(self.0.try_send((id.clone(), instance.to_owned())));
    }
}

/// Starts the task; it ends with the reconciler.
pub(super) fn spawn_arrivals(workloads: WorkloadStore) -> Arrivals {
    let (sender, arrivals) = mpsc::channel::<(WorkloadId, String)>(QUEUE);
    tokio::spawn(ReceiverStream::new(arrivals).for_each_concurrent(AT_ONCE, move |(id, instance)| {
        let workloads = workloads.clone();
        async move { write(&workloads, &id, &instance).await }
    }));
    Arrivals(sender)
}

async fn write(workloads: &WorkloadStore, id: &WorkloadId, instance: &str) {
    match workloads.arrived(id, instance).await {
        Ok(true) => tracing::info!(
            event = "workload_listens",
            workload = %id,
            "its sidecar listens: peers are told of it"
        ),
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(
                event = "workload_listens_not_written",
                workload = %id, %error,
                "peers cannot be told yet that its sidecar listens"
            );
        }
    }
}
