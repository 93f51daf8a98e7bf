//! Replacing the root, stage by stage, each a record in the store, so that any replica goes on where another ended.
//!
//! ```text
//!                      bundles        leaves signed under   control planes signed under
//! (none)               old            old                   old
//! DistributingRoot     old, new       old                   old      until everybody trusts the new one
//! RenewingLeaves       old, new       new                   old      until no leaf of the old one lives
//! MovingControlPlanes  old, new       new                   new      until every replica has moved
//! (none)               new            new                   new
//! ```
//!
//! Who trusts what, and which leaves live, is not known here (`replicas/root_rotation`). Undone, in the second or third stage,
//! a rotation goes the second stage again the other way round: everybody trusts both roots still.
//!
//! Whoever knows the mesh by the old root alone (a join token, a context of `weft`, a machine that was away) finds the way to
//! the new one for as long as the old one has not ended: control planes send the new root signed by the old one. Where the old
//! one's key is not here nobody can sign so, and the way ends with the second stage, which waits for join tokens too.

use time::Duration;
use weft_api::rest::RootOrigin;
use weft_store::{Guard, Store, Txn};

use super::crl::RevocationList;
use super::records::{
    AuthorityRecord, CaRecords, LEFT_ROOTS, NEXT_ROOT, NEXT_ROOT_ISSUER, OLD_ROOT, ROOT, ROTATION, missing,
};
use super::rotation_stage::{LONGEST_SPREAD, RootRotation, RotationStage};
use super::vouching::vouched;
use super::{Authority, BACKDATE, CaError};

/// When a rotation goes on whoever holds it, before the end of a root that lives for many years.
const LATE_AT_MOST: Duration = Duration::days(30);

/// A root that is to come, with all that its rotation begins with.
pub(super) struct RotationPlan {
    pub(super) root: AuthorityRecord,
    pub(super) issuer: AuthorityRecord,
    pub(super) spread: Duration,
    pub(super) by: Option<String>,
    pub(super) guard: Option<Guard>,
}

/// What came of asking for a rotation or its end.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    #[error("a rotation of the root is under way already; `weft ca status` says how far it is")]
    UnderWay,
    #[error("no rotation of the root is under way")]
    None,
    #[error("the rotation is being undone already; `weft ca status` says how far it is")]
    Undone,
    #[error(
        "the issuer below the old root has ended, so that nothing can be signed under it any more: let the rotation go on"
    )]
    IssuerOver,
    #[error("renewals cannot be spread over {0}; use 1s to 7d")]
    Spread(Duration),
    #[error(transparent)]
    Authority(#[from] CaError),
}

impl From<weft_store::CommitError> for RotationError {
    fn from(error: weft_store::CommitError) -> Self {
        CaError::from(error).into()
    }
}

impl Authority {
    /// The rotation of the root that is under way.
    #[must_use]
    pub fn rotation(&self) -> Option<RootRotation> {
        self.state().rotation.clone()
    }

    /// Whether two thirds of the root's life are over. One that the mesh did not make is its owner's to replace.
    #[must_use]
    pub fn root_is_due(&self) -> bool {
        let state = self.state();
        let root = &state.signing.root;
        let start = root.not_before + BACKDATE;
        state.origin_of(&root.serial) == RootOrigin::Mesh
            && self.clock.now() >= start + (root.not_after - start) * 2 / 3
    }

    /// Whether so little of the root's life is left that a rotation goes on whoever holds it: a mesh whose root ends is worse
    /// than a proxy that is left behind.
    #[must_use]
    pub fn root_is_late(&self) -> bool {
        let old = self.state().elder.clone();
        let twelfth: Duration = (old.not_after - old.not_before) / 12;
        old.not_after - self.clock.now() < twelfth.min(LATE_AT_MOST)
    }

    /// Begins a rotation: a new root and its issuer, which sign nothing yet. Any replica may do this, and one does.
    ///
    /// # Errors
    /// When one is under way, or the store fails.
    pub async fn rotate_root(
        &self,
        store: &dyn Store,
        spread: Duration,
        by: Option<String>,
        guard: Option<Guard>,
    ) -> Result<(), RotationError> {
        let records = self.records(store).await?;
        let generation = records.root()?.generation + 1;
        let root = AuthorityRecord::new_root(NEXT_ROOT, &self.settings, generation, &self.seal, &self.clock)?;
        let issuer = self.coming_issuer(&root)?;
        let plan = RotationPlan { root, issuer, spread, by, guard };
        self.begin_rotation(store, &records, plan, |txn| txn).await
    }

    /// Begins a rotation to a root and the issuer below it, whoever made them. `beside` adds to the transaction.
    pub(super) async fn begin_rotation(
        &self,
        store: &dyn Store,
        records: &CaRecords,
        plan: RotationPlan,
        beside: impl FnOnce(Txn) -> Txn,
    ) -> Result<(), RotationError> {
        let RotationPlan { mut root, issuer, spread, by, guard } = plan;
        let seconds = u32::try_from(spread.whole_seconds()).unwrap_or_default();
        if seconds == 0 || spread > LONGEST_SPREAD {
            return Err(RotationError::Spread(spread));
        }
        if records.rotation()?.is_some() {
            return Err(RotationError::UnderWay);
        }
        let (key, list) = issuer.first_list(NEXT_ROOT_ISSUER, &self.seal, &self.clock)?;
        let between = (&records.root()?, &root, &issuer);
        root.vouched = vouched(between, &self.settings, &self.seal, self.clock.now())?;
        let now = self.clock.unix_seconds();
        let rotation = RootRotation {
            stage: RotationStage::DistributingRoot,
            started_at: now,
            stage_since: now,
            spread: seconds,
            aborted: false,
            by,
        };
        let txn = records.guarded().put(ROTATION, encode(&rotation));
        let txn = txn.put(NEXT_ROOT, root.encode()).put(NEXT_ROOT_ISSUER, issuer.encode());
        self.commit_rotation(store, records, beside(txn.put(key, list.encode())), guard).await?;
        tracing::info!(
            event = "root_rotation_started",
            root = %root.valid(NEXT_ROOT)?.serial, vouched = root.vouched.is_some(),
            by = rotation.by.as_deref().unwrap_or("the root's age"), spread = %spread,
            "a new root stands beside the old one"
        );
        Ok(())
    }

    /// Makes the issuer below the root that is to come anew when half of its life is over, so that a stage that is held for
    /// weeks does not end with one that cannot sign. The leader calls this in the first stage; the write is fenced.
    ///
    /// # Errors
    /// When leadership was lost, or the store fails.
    pub async fn renew_coming_issuer(&self, store: &dyn Store, guard: Guard) -> Result<(), RotationError> {
        let records = self.records(store).await?;
        let (Some(root), Some(issuer)) = (records.next_root()?, records.next_root_issuer()?) else {
            return Ok(());
        };
        let old = issuer.valid(NEXT_ROOT_ISSUER)?;
        let start = old.not_before + BACKDATE;
        // One that the owner of an offline root signed lives for as long as it was signed.
        if !root.signs() || self.clock.now() < start + (old.not_after - start) / 2 {
            return Ok(());
        }
        let issuer = self.coming_issuer(&root)?;
        let (_, list) = issuer.first_list(NEXT_ROOT_ISSUER, &self.seal, &self.clock)?;
        let txn = records.guarded().put(NEXT_ROOT_ISSUER, issuer.encode());
        let txn = txn.delete(RevocationList::key(&old.serial));
        let txn = txn.put(RevocationList::key(&list.issuer), list.encode());
        self.commit_rotation(store, &records, txn, Some(guard)).await
    }

    /// The issuer below the root that is to come.
    pub(super) fn coming_issuer(&self, root: &AuthorityRecord) -> Result<AuthorityRecord, CaError> {
        let (above, life) = ((NEXT_ROOT, root), self.settings.issuer_life);
        // The number is set when it begins to sign: others may be made below the old root until then.
        AuthorityRecord::new_issuer(NEXT_ROOT_ISSUER, above, 0, life, &self.seal, &self.clock)
    }

    /// Goes from `stage` to the next one. The leader calls this once nothing holds the stage; the write is fenced.
    ///
    /// # Errors
    /// When the rotation is in another stage, leadership was lost, or the store fails.
    pub async fn advance_rotation(
        &self,
        store: &dyn Store,
        stage: RotationStage,
        guard: Guard,
    ) -> Result<(), RotationError> {
        let records = self.records(store).await?;
        let rotation = records.rotation()?.filter(|rotation| rotation.stage == stage);
        let rotation = rotation.ok_or(RotationError::None)?;
        let next = |stage| RootRotation { stage, stage_since: self.clock.unix_seconds(), ..rotation.clone() };
        let (txn, reached) = match stage {
            RotationStage::DistributingRoot => {
                let next = next(RotationStage::RenewingLeaves);
                (self.signing_under_the_next(&records)?.put(ROTATION, encode(&next)), "leaves are renewed")
            }
            RotationStage::RenewingLeaves => {
                let next = next(RotationStage::MovingControlPlanes);
                (records.guarded().put(ROTATION, encode(&next)), "the control planes move")
            }
            RotationStage::MovingControlPlanes => (Self::dropping_the_old(&records, &rotation)?, "done"),
        };
        self.commit_rotation(store, &records, txn, Some(guard)).await?;
        tracing::info!(
            event = "root_rotation_advanced",
            ?stage,
            reached,
            aborted = rotation.aborted,
            "a stage of the root's rotation is over"
        );
        Ok(())
    }

    /// Undoes a rotation: at once while nothing was signed under the new root, else by renewing leaves under the old one.
    ///
    /// # Errors
    /// When none is under way, it is being undone already, the old root has no issuer left, or the store fails.
    pub async fn abort_rotation(&self, store: &dyn Store, by: Option<&str>) -> Result<(), RotationError> {
        let records = self.records(store).await?;
        let rotation = records.rotation()?.ok_or(RotationError::None)?;
        if rotation.aborted {
            return Err(RotationError::Undone);
        }
        let txn = match rotation.stage {
            RotationStage::DistributingRoot => {
                let issuer = records.next_root_issuer()?.ok_or_else(|| missing(NEXT_ROOT_ISSUER))?;
                let list = RevocationList::key(&issuer.valid(NEXT_ROOT_ISSUER)?.serial);
                records.guarded().delete(NEXT_ROOT).delete(NEXT_ROOT_ISSUER).delete(list).delete(ROTATION)
            }
            RotationStage::RenewingLeaves | RotationStage::MovingControlPlanes => {
                let back = RootRotation {
                    stage: RotationStage::RenewingLeaves,
                    stage_since: self.clock.unix_seconds(),
                    aborted: true,
                    ..rotation.clone()
                };
                self.signing_under_the_old(&records)?.put(ROTATION, encode(&back))
            }
        };
        self.commit_rotation(store, &records, txn, None).await?;
        tracing::info!(
            event = "root_rotation_aborted",
            stage = ?rotation.stage, by = by.unwrap_or("nobody"),
            "the rotation of the root is undone: the old one stays"
        );
        Ok(())
    }

    /// Forgets roots that left and have ended. The leader calls this; the write is fenced.
    ///
    /// # Errors
    /// When the store fails or leadership was lost.
    pub async fn prune_roots(&self, store: &dyn Store, guard: Guard) -> Result<usize, CaError> {
        let records = self.records(store).await?;
        let ended = records.ended_roots(self.clock.now());
        if !ended.is_empty() {
            let txn = ended.iter().fold(Txn::new().guard(guard), |txn, key| txn.delete(key.as_str()));
            store.commit(records.headed(txn, &self.seal)).await?;
        }
        Ok(ended.len())
    }

    fn signing_under_the_next(&self, records: &CaRecords) -> Result<Txn, CaError> {
        let root = records.next_root()?.ok_or_else(|| missing(NEXT_ROOT))?;
        let issuer = records.next_root_issuer()?.ok_or_else(|| missing(NEXT_ROOT_ISSUER))?;
        let txn = records.guarded().delete(NEXT_ROOT).delete(NEXT_ROOT_ISSUER);
        let old = records.root()?.moved(ROOT, OLD_ROOT, &self.seal)?;
        let txn = txn.put(OLD_ROOT, old.encode());
        let txn = txn.put(ROOT, root.moved(NEXT_ROOT, ROOT, &self.seal)?.encode());
        self.replacing_signer(records, txn, &issuer, NEXT_ROOT_ISSUER)
    }

    fn signing_under_the_old(&self, records: &CaRecords) -> Result<Txn, RotationError> {
        let old = records.old_root()?.ok_or_else(|| missing(OLD_ROOT))?;
        let below = records.retired_below(&old.valid(OLD_ROOT)?)?;
        let now = self.clock.now();
        let issuer = below.filter(|issuer| issuer.certificate.not_after - now > self.settings.least_left());
        let issuer = issuer.ok_or(RotationError::IssuerOver)?;
        let root = records.root()?.moved(ROOT, OLD_ROOT, &self.seal)?;
        let txn = records.guarded().put(OLD_ROOT, root.encode());
        let txn = txn.put(ROOT, old.moved(OLD_ROOT, ROOT, &self.seal)?.encode()).delete(issuer.name());
        Ok(self.replacing_signer(records, txn, &issuer.record, issuer.name())?)
    }

    /// Lets an issuer sign whose list stands in every bundle, and keeps the one before for its own.
    fn replacing_signer(
        &self,
        records: &CaRecords,
        txn: Txn,
        issuer: &AuthorityRecord,
        name: &str,
    ) -> Result<Txn, CaError> {
        let mut signer = issuer.moved(name, super::records::ISSUER, &self.seal)?;
        signer.generation = records.issuer()?.generation + 1;
        let txn = txn.put(super::records::ISSUER, signer.encode());
        records.dropping_next(records.retiring_issuer(txn, &self.seal)?)
    }

    fn dropping_the_old(records: &CaRecords, rotation: &RootRotation) -> Result<Txn, CaError> {
        let old = records.old_root()?.ok_or_else(|| missing(OLD_ROOT))?;
        let certificate = old.valid(OLD_ROOT)?;
        let txn = records.guarded().delete(OLD_ROOT).delete(ROTATION);
        // Nobody came to know the mesh by a root whose rotation was undone.
        let txn = if rotation.aborted {
            txn
        } else {
            txn.put(format!("{LEFT_ROOTS}{}", certificate.serial), old.left())
        };
        records.dropping_issuers_below(txn, &certificate)
    }

    pub(super) async fn commit_rotation(
        &self,
        store: &dyn Store,
        records: &CaRecords,
        txn: Txn,
        guard: Option<Guard>,
    ) -> Result<(), RotationError> {
        let txn = guard.into_iter().fold(records.headed(txn, &self.seal), Txn::guard);
        match store.commit(txn).await {
            Ok(_) => {}
            // Somebody else began or ended one at the same moment: what there is now says which.
            Err(weft_store::CommitError::Conflict { .. }) => {
                self.reload(store).await?;
                return Err(RotationError::UnderWay);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(self.reload(store).await?)
    }
}

fn encode(rotation: &RootRotation) -> Vec<u8> {
    serde_json::to_vec(rotation).expect("strings and numbers always encode")
}

#[cfg(test)]
mod tests;
