//! How far a rotation of the root is, as stored.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::Duration;

/// How long renewals are spread over, unless asked otherwise.
pub const DEFAULT_SPREAD: Duration = Duration::hours(1);
/// The longest time that renewals may be spread over.
pub const LONGEST_SPREAD: Duration = Duration::days(7);

/// The stages of a rotation, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RotationStage {
    /// The new root stands beside the old one in every bundle, and signs nothing.
    DistributingRoot,
    /// Leaves are signed under the new root, and renewed early.
    RenewingLeaves,
    /// The control planes show certificates under the new root.
    MovingControlPlanes,
}

/// A rotation that is under way, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootRotation {
    pub stage: RotationStage,
    /// Unix seconds.
    pub started_at: i64,
    /// When the stage began, in Unix seconds.
    pub stage_since: i64,
    /// Seconds over which early renewals are spread.
    pub spread: u32,
    /// The old root is to stay after all: it signs again, and the new one leaves.
    #[serde(default)]
    pub aborted: bool,
    /// Who asked for it; none where the root's age did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl RootRotation {
    /// When a leaf that was issued before this stage is to be renewed: a point in the time over which renewals are spread, the
    /// same whoever is asked. None while leaves are not to be renewed.
    #[must_use]
    pub fn renewal_of(&self, leaf: &str, issued_at: i64) -> Option<i64> {
        if self.stage != RotationStage::RenewingLeaves || issued_at > self.stage_since {
            return None;
        }
        let hash = Sha256::digest(leaf.as_bytes());
        let point = u32::from_be_bytes(hash[..4].try_into().expect("four bytes"));
        let after = u64::from(point) * u64::from(self.spread) / u64::from(u32::MAX);
        Some(self.stage_since + i64::try_from(after).unwrap_or_default())
    }
}
