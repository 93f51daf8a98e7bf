//! What a rotation of the root waits for, told by everybody whom a stage could harm.
//!
//! | stage | is over when |
//! | --- | --- |
//! | `DistributingRoot` | every replica gives members both roots; every member that is connected has acknowledged the bundle, and those that tell which roots they trust trust both |
//! | `RenewingLeaves` | the ledger holds no live leaf below the root that leaves; where that does not vouch for the new one, no join token of before is left |
//! | `MovingControlPlanes` | every replica shows a certificate below the root that stays, for a few seconds |
//!
//! A member holds the first stage for as long as a leaf of its lives: one that is away is then left behind, and joins again when
//! it comes. When hardly any of the root's life is left, the rotation goes on whoever holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_api::WorkloadId;
use weft_api::rest::{RotationWait, RotationWaitReason};
use weft_store::{Leadership, ReadError, Store};

use super::shown_roots::{self, LivingReplicas, ShownRoots};
use crate::ca::{Authority, DEFAULT_SPREAD, Ledger, RootRotation, RotationError, RotationStage};
use crate::clock::Clock;
use crate::identity::secrets;
use crate::identity::tokens::{TokenRecord, Tokens};
use crate::reconciler::ReconcilerHandle;

/// How long all replicas have shown the new root before the old one leaves: what they told may be a moment ahead of what
/// their listeners do.
const SETTLES: i64 = 5;

/// Looks at a rotation, and takes it further. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RootRotations {
    pub store: Arc<dyn Store>,
    pub authority: Arc<Authority>,
    pub ledger: Ledger,
    pub reconciler: ReconcilerHandle,
    pub tokens: Tokens,
    pub clock: Clock,
}

impl RootRotations {
    /// Begins a rotation when the root's age asks for it, and goes on with one that nothing holds. The leader calls this; the
    /// writes are fenced.
    ///
    /// # Errors
    /// When the store fails or leadership was lost.
    pub async fn step(&self, leader: &Leadership) -> Result<(), RotationError> {
        let store = self.store.as_ref();
        let Some(rotation) = self.authority.rotation() else {
            if self.authority.root_is_due() {
                return self.authority.rotate_root(store, DEFAULT_SPREAD, None, Some(leader.guard())).await;
            }
            return Ok(());
        };
        if rotation.stage == RotationStage::DistributingRoot {
            self.authority.renew_coming_issuer(store, leader.guard()).await?;
        }
        let waits = self.waits(&rotation).await.map_err(crate::ca::CaError::from)?;
        if !waits.is_empty() {
            if !self.authority.root_is_late() {
                return Ok(());
            }
            tracing::error!(
                event = "root_rotation_forced",
                stage = ?rotation.stage, waits = waits.len(), first = %waits[0].who,
                "hardly any of the root's life is left: the rotation goes on, and leaves those behind that hold it"
            );
        }
        self.authority.advance_rotation(store, rotation.stage, leader.guard()).await
    }

    /// What holds this stage.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn waits(&self, rotation: &RootRotation) -> Result<Vec<RotationWait>, ReadError> {
        match rotation.stage {
            RotationStage::DistributingRoot => {
                let mut waits = self.replicas_without_both().await?;
                waits.extend(self.members_without_both().await);
                Ok(waits)
            }
            RotationStage::RenewingLeaves => {
                let mut waits = self.leaves_that_live();
                waits.extend(self.tokens_that_live(rotation).await?);
                Ok(waits)
            }
            RotationStage::MovingControlPlanes => self.replicas_that_stay(rotation).await,
        }
    }

    /// Members that do not have the new root and whose leaves are all over: they join again when they come.
    pub async fn left_behind(&self, rotation: &RootRotation) -> Vec<WorkloadId> {
        if rotation.aborted {
            return Vec::new();
        }
        let living = self.ends_of_leaves(|_| true);
        let lacking = self.members_lacking().await.into_keys();
        lacking.filter(|id| !living.contains_key(id)).collect()
    }

    async fn replicas_without_both(&self) -> Result<Vec<RotationWait>, ReadError> {
        let wanted: BTreeSet<_> =
            self.authority.state().bundle.iter().map(|root| root.serial.clone()).collect();
        let living = shown_roots::living(self.store.as_ref()).await?;
        Ok(replicas_behind(&living, |replica| replica.bundle != wanted))
    }

    async fn replicas_that_stay(&self, rotation: &RootRotation) -> Result<Vec<RotationWait>, ReadError> {
        let wanted = self.authority.chain().root.serial.clone();
        let living = shown_roots::living(self.store.as_ref()).await?;
        let mut waits = replicas_behind(&living, |replica| replica.shows != wanted);
        if waits.is_empty() && self.clock.unix_seconds() < rotation.stage_since + SETTLES {
            let settling = |replica: &ShownRoots| of_replica(&replica.address, RotationWaitReason::Settling);
            waits.extend(living.shown.iter().map(settling));
        }
        Ok(waits)
    }

    async fn members_without_both(&self) -> Vec<RotationWait> {
        let ends = self.ends_of_leaves(|_| true);
        let lacking = self.members_lacking().await.into_iter();
        let wait = |(id, reason): (WorkloadId, RotationWaitReason)| {
            let until = *ends.get(&id)?;
            Some(RotationWait { who: id.to_string(), reason, until: Some(until) })
        };
        lacking.filter_map(wait).collect()
    }

    /// Members that are not known to trust all roots of the bundle, whether or not a leaf of theirs lives.
    async fn members_lacking(&self) -> BTreeMap<WorkloadId, RotationWaitReason> {
        let now = self.clock.unix_seconds();
        let bundle = secrets::bundle(&self.authority.bundle(), &self.authority.lists(), now);
        let wanted = self.authority.state().fingerprints();
        let lacking = self.reconciler.without_bundle(bundle.version).await;
        let behind = lacking.behind.into_iter().map(|id| (id, RotationWaitReason::BundleNotAcknowledged));
        let told = lacking.told.into_iter().filter(|(_, roots)| !wanted.is_subset(roots));
        let told = told.map(|(id, _)| (id, RotationWaitReason::RootNotTrusted));
        let silent = lacking.silent.into_iter().map(|id| (id, RotationWaitReason::Away));
        // The first reason that there is for somebody is told.
        let mut reasons = BTreeMap::new();
        for (id, reason) in behind.chain(told).chain(silent) {
            reasons.entry(id).or_insert(reason);
        }
        reasons
    }

    fn leaves_that_live(&self) -> Vec<RotationWait> {
        let state = self.authority.state();
        let Some(leaving) = state.other_root() else { return Vec::new() };
        let below: BTreeSet<_> = state.issuers_below(&leaving.serial).into_iter().collect();
        let ends = self.ends_of_leaves(|leaf| below.contains(&leaf.issuer));
        ends.into_iter()
            .map(|(id, until)| RotationWait {
                who: id.to_string(),
                reason: RotationWaitReason::LeafLives,
                until: Some(until),
            })
            .collect()
    }

    /// Join tokens of before this stage, where nobody vouches for the new root: they open nothing once the control planes have
    /// moved. Who makes one meanwhile is told what it names (`weft ca status`), so that the stage has an end.
    async fn tokens_that_live(&self, rotation: &RootRotation) -> Result<Vec<RotationWait>, ReadError> {
        if rotation.aborted || self.authority.state().vouched {
            return Ok(Vec::new());
        }
        let now = self.clock.unix_seconds();
        let mut tokens = self.tokens.list().await?;
        tokens.retain(|token| {
            token.created_at <= rotation.stage_since && token.expires_at > now && token.uses_left > 0
        });
        let wait = |token: TokenRecord| RotationWait {
            who: format!("token {}", token.id),
            reason: RotationWaitReason::TokenLives,
            until: Some(token.expires_at),
        };
        Ok(tokens.into_iter().map(wait).collect())
    }

    /// When the last of each workload's live leaves ends, of those that count.
    fn ends_of_leaves(&self, counts: impl Fn(&crate::ca::LedgerEntry) -> bool) -> BTreeMap<WorkloadId, i64> {
        let now = self.clock.unix_seconds();
        let mut ends: BTreeMap<WorkloadId, i64> = BTreeMap::new();
        for leaf in self.ledger.issued().all().iter().filter(|leaf| leaf.expires_at >= now && counts(leaf)) {
            let end = ends.entry(leaf.workload.clone()).or_default();
            *end = leaf.expires_at.max(*end);
        }
        ends
    }
}

/// Replicas that are behind, and those that tell nothing.
fn replicas_behind(living: &LivingReplicas, is_behind: impl Fn(&ShownRoots) -> bool) -> Vec<RotationWait> {
    let behind = living.shown.iter().filter(|replica| is_behind(replica));
    let behind = behind.map(|replica| of_replica(&replica.address, RotationWaitReason::ReplicaBehind));
    let silent = living.silent.iter().map(|at| of_replica(at, RotationWaitReason::ReplicaTooOld));
    behind.chain(silent).collect()
}

fn of_replica(at: &impl std::fmt::Display, reason: RotationWaitReason) -> RotationWait {
    RotationWait { who: format!("control plane {at}"), reason, until: None }
}
