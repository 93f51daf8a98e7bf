//! What only one replica may do: the elected leader keeps the store tidy and the issuer fresh. Every write of a leader
//! carries its fencing token, so that one that was succeeded without noticing does nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use weft_api::WorkloadId;
use weft_store::{Leadership, Revision, Store, StoreExt};

use super::root_rotation::RootRotations;
use super::seal_keys;
use crate::ca::{Authority, Ledger};
use crate::clock::Clock;
use crate::identity::audit::AuditLog;
use crate::identity::revocation::Revocations;
use crate::identity::secrets;
use crate::identity::tokens::Tokens;
use crate::policy::log::{LogRetention, PolicyLog};
use crate::presence::workloads::WorkloadStore;
use crate::reconciler::ReconcilerHandle;

const KEY: &str = "leader";
const LEASE: Duration = Duration::from_secs(15);
const ROUND: Duration = Duration::from_secs(30);
/// How often a rotation of the root is looked at while one is under way.
const ROTATION_ROUND: Duration = Duration::from_secs(1);
/// How long a store that an earlier release wrote stays as that one reads it, so that an upgrade can be undone.
const WAY_BACK: Duration = Duration::from_secs(3600);
/// Rounds between compactions: about an hour.
const COMPACT_EVERY: u32 = 120;

/// What a leader works on.
#[derive(Clone, Debug)]
pub struct Duties {
    pub store: Arc<dyn Store>,
    pub authority: Arc<Authority>,
    pub ledger: Ledger,
    pub tokens: Tokens,
    /// Who did what with the API.
    pub audit: AuditLog,
    pub workloads: WorkloadStore,
    /// Instances whose leaves are not to be believed.
    pub revocations: Revocations,
    pub log: PolicyLog,
    pub rotations: RootRotations,
    pub reconciler: ReconcilerHandle,
    /// The time of day.
    pub clock: Clock,
}

/// Campaigns, leads, and campaigns again when leadership is lost; ends with the token.
pub fn spawn_leader(duties: Duties, candidate: String, shutdown: CancellationToken) {
    tokio::spawn(async move {
        shutdown.run_until_cancelled(duties.lead_for_ever(&candidate)).await;
    });
}

impl Duties {
    async fn lead_for_ever(&self, candidate: &str) {
        loop {
            let leader = self.store.elect(KEY, candidate, LEASE).await;
            tracing::info!(event = "leadership_won", candidate, "this replica leads");
            self.lead(&leader).await;
            tracing::warn!(event = "leadership_lost", candidate, "leadership is lost");
        }
    }

    async fn lead(&self, leader: &Leadership) {
        let mut rounds = 0;
        let mut last_seen = None;
        let since = tokio::time::Instant::now();
        loop {
            self.round(leader).await;
            if since.elapsed() >= WAY_BACK {
                let store = self.store.as_ref();
                note("sealing records", seal_keys::upgrade(&self.authority, store, leader).await);
            }
            if rounds % COMPACT_EVERY == 0 {
                last_seen = self.compact(last_seen).await;
            }
            rounds += 1;
            tokio::select! {
                () = leader.lost() => return,
                () = tokio::time::sleep(self.pace()) => {}
                () = self.rotate_root(leader) => {}
            }
        }
    }

    /// Begins rotations of the root in their time, and takes them further. Ends with none.
    async fn rotate_root(&self, leader: &Leadership) {
        let mut changes = self.authority.subscribe();
        loop {
            note("rotating the root", self.rotations.step(leader).await);
            let pause = if self.authority.rotation().is_some() { ROTATION_ROUND } else { ROUND };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = changes.changed() => {}
            }
        }
    }

    /// Often enough to renew an issuer in its time.
    fn pace(&self) -> Duration {
        let issuer = &self.authority.chain().issuer;
        let life = (issuer.not_after - issuer.not_before).unsigned_abs();
        ROUND.min(life / 100)
    }

    /// Each duty is tried, whatever became of the others.
    async fn round(&self, leader: &Leadership) {
        let store = self.store.as_ref();
        let is_acknowledged = self.bundle_is_acknowledged().await;
        note("renewing the issuer", self.authority.renew_issuer(store, leader, is_acknowledged).await);
        note("pruning issuers", self.authority.prune_issuers(store, leader).await);
        note("pruning roots", self.authority.prune_roots(store, leader.guard()).await);
        note("listing revoked leaves", self.revocations.catch_up(Some(leader)).await);
        note("pruning revocations", self.revocations.prune(leader).await);
        note("pruning the ledger", self.ledger.prune(&self.clock, leader).await);
        note("pruning tokens", self.tokens.prune(leader).await);
        note("pruning the audit records", self.audit.prune(leader).await);
        note("tidying the policies", self.log.upkeep(&LogRetention::default(), leader).await);
        for record in self.reconciler.expired().await {
            let removed = self.workloads.expire(&record, leader).await;
            if matches!(removed, Ok(true)) {
                tracing::info!(
                    event = "workload_removed",
                    workload = %record.id,
                    "removed: its stream is lost for hours"
                );
            }
            note("removing a lost workload", removed);
        }
    }

    /// Whether every proxy has the bundle as it is now. One that is away counts for as long as a leaf of its lives.
    async fn bundle_is_acknowledged(&self) -> bool {
        let now = self.clock.unix_seconds();
        let bundle = secrets::bundle(&self.authority.bundle(), &self.authority.lists(), now);
        let lacking = self.reconciler.without_bundle(bundle.version).await;
        let lives = |id: &WorkloadId| self.ledger.issued().of(id).iter().any(|leaf| leaf.expires_at > now);
        lacking.behind.is_empty() && !lacking.away.iter().any(lives)
    }

    /// Forgets the history up to what was newest an hour ago.
    async fn compact(&self, last_seen: Option<Revision>) -> Option<Revision> {
        if let Some(revision) = last_seen
            && let Err(error) = self.store.compact(revision).await
        {
            tracing::warn!(event = "store_not_compacted", %error, "cannot compact the store");
        }
        let newest = self.store.list(KEY, weft_store::Page::default()).await;
        newest.ok().map(|listing| listing.revision).or(last_seen)
    }
}

fn note<T, E: std::fmt::Display>(duty: &str, done: Result<T, E>) {
    if let Err(error) = done {
        tracing::warn!(
            event = "duty_failed",
            duty, %error,
            "one of the leader's duties failed; it is tried again"
        );
    }
}
