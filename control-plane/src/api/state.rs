//! What the handlers work with.

use std::sync::Arc;

use weft_api::{ControlPlanes, LogThrottle};
use weft_policies::PolicySet;
use weft_store::Store;

use super::access::{Browsers, CallPace};
use super::condition_times::ConditionTimes;
use super::error::ApiError;
use super::own::OwnReplica;
use crate::ca::{Authority, Ledger};
use crate::clock::Clock;
use crate::identity::audit::AuditLog;
use crate::identity::holders::TokenHolders;
use crate::identity::revocation::Revocations;
use crate::identity::tokens::Tokens;
use crate::metrics::Metrics;
use crate::policy::repository::Policies;
use crate::presence::clock_offsets::ClockOffsets;
use crate::presence::workloads::WorkloadStore;
use crate::reconciler::ReconcilerHandle;
use crate::replicas::acknowledgements::MeshAcknowledgements;
use crate::replicas::root_rotation::RootRotations;
use crate::replicas::taps::MeshTaps;
use crate::replicas::traffic::Traffic;

/// The state of the API, in axum's sense: what each handler is lent.
#[derive(Clone, Debug)]
pub struct Api {
    pub holders: Arc<TokenHolders>,
    /// How often principals call.
    pub pace: Arc<CallPace>,
    pub audit: AuditLog,
    /// Refusals of one kind are recorded once a minute: who, and what was missing.
    pub refusals: Arc<LogThrottle<(String, String)>>,
    /// Those that were signed in.
    pub browsers: Arc<Browsers>,
    /// Everything, for a backup.
    pub store: Arc<dyn Store>,
    /// Places for backups that are under way.
    pub backups: Arc<tokio::sync::Semaphore>,
    /// Where policies are committed.
    pub policies: Policies,
    pub reconciler: ReconcilerHandle,
    pub own: OwnReplica,
    pub workloads: WorkloadStore,
    /// Takes workloads out of the mesh.
    pub revocations: Revocations,
    pub tokens: Tokens,
    /// Where join tokens send workloads to.
    pub public: ControlPlanes,
    pub authority: Arc<Authority>,
    /// What a rotation of the root waits for.
    pub rotations: RootRotations,
    /// Leaves that were issued.
    pub ledger: Ledger,
    /// What flows between services, and what of it failed.
    pub traffic: Traffic,
    /// How proxies took policies, at all replicas.
    pub acknowledgements: MeshAcknowledgements,
    /// Since when what is told of objects is so.
    pub condition_times: ConditionTimes,
    /// Places for those who watch it.
    pub watchers: Arc<tokio::sync::Semaphore>,
    /// How far the clocks of workloads are off.
    pub clock_offsets: ClockOffsets,
    /// A place for a change that is tried.
    pub rehearsals: Arc<tokio::sync::Semaphore>,
    /// Requests as they end.
    pub taps: MeshTaps,
    /// Places for those who look on.
    pub tap_viewers: Arc<tokio::sync::Semaphore>,
    pub metrics: Metrics,
    /// The time of day.
    pub clock: Clock,
    /// Held while one change of the policies is made and committed: those of this replica wait for each other instead
    /// of overtaking each other again and again. Other replicas are met by the commit's own guard.
    pub writing: Arc<tokio::sync::Mutex<()>>,
}

impl Api {
    /// The newest policies; while the store is away, those that are served.
    pub async fn newest(&self) -> Result<(u64, Arc<PolicySet>), ApiError> {
        match self.policies.head().await {
            Ok(head) => Ok((head.revision(), head.set)),
            Err(error) => {
                let published = self.reconciler.published();
                let published = published.borrow();
                if published.ready {
                    Ok((published.policy_revision, Arc::clone(&published.set)))
                } else {
                    Err(error.into())
                }
            }
        }
    }
}
