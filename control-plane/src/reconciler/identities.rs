//! Orders to the keeper of secrets: whose identity is to be held ready for SDS.

use tokio::sync::mpsc;
use weft_api::WorkloadId;

use crate::ca::KeyOrigin;
use crate::identity::secrets::Secrets;
use crate::presence::workloads::{DeclaredProxy, WorkloadRecord};

/// An order to the keeper of secrets.
#[derive(Debug)]
pub(super) enum IdentityOrder {
    /// Make one and keep it fresh.
    Hold(Box<WorkloadRecord>),
    /// Make no other while its stream is lost.
    LetLapse(WorkloadId),
    Release(WorkloadId),
}

/// Passes orders on in order. The reconciler does not wait for the keeper, which answers through the reconciler's own
/// queue; at most one order waits for each record that changed and each stream that opened or closed.
pub(super) fn spawn_identities(secrets: Secrets) -> mpsc::UnboundedSender<IdentityOrder> {
    let (sender, mut orders) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(order) = orders.recv().await {
            match order {
                IdentityOrder::Hold(record) => secrets.hold(&record).await,
                IdentityOrder::LetLapse(id) => secrets.let_lapse(&id).await,
                IdentityOrder::Release(id) => secrets.release(&id).await,
            }
        }
    });
    sender
}

/// Whether a workload is given its key: stock Envoy takes it by SDS.
pub fn is_given_its_key(record: &WorkloadRecord) -> bool {
    record.key_origin == KeyOrigin::ControlPlane || record.declared.proxy == DeclaredProxy::Envoy
}
