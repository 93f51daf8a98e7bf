//! What a restore does not bring back: which certificates were issued after the backup was taken.
//!
//! ```text
//!   backup ─────── leaves are issued, and written into a ledger that is lost ─────── restore
//! ```
//!
//! Their holders are members as before, by certificates that this mesh's authority signed. Were they refused as unknown, a
//! backup that is older than half of a leaf's life would cut off the whole mesh, though it has lost nothing but a list. So
//! a leaf of that time belongs to the instance on record of its name, if it names one of the issuers that are kept and
//! stands on no list; it is written into the ledger when it is first shown. Everything else about it is asked as ever.
//!
//! Workloads that joined after the backup have no record, and join again. Revocations after the backup are lost, as all
//! that operators did after it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use weft_store::{Entry, ReadError, Snapshot, Store};

use crate::ca::BACKDATE;
use crate::tls::Peer;

const KEY: &str = "restored";

/// How far the clocks of the machines involved may be apart, in seconds, and how late an entry may be written.
const MARGIN: i64 = 300;

/// The time whose ledger is lost, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LostTime {
    taken_at: i64,
    restored_at: i64,
}

impl LostTime {
    /// From the backup to the restore.
    #[must_use]
    pub fn new(taken_at: i64, restored_at: i64) -> Self {
        Self { taken_at, restored_at }
    }

    /// How long it is.
    #[must_use]
    pub fn length(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.restored_at - self.taken_at).unwrap_or(0))
    }

    /// Writes it down in a state that is about to be restored, in a revision of its own. An earlier one gives way.
    pub fn note(&self, state: &mut Snapshot) {
        let value = serde_json::to_vec(self).expect("numbers always encode");
        state.revision = state.revision.next();
        let entry = Entry { key: KEY.into(), value: value.into(), mod_revision: state.revision, lease: None };
        state.entries.retain(|entry| entry.key.as_str() != KEY);
        let at = state.entries.partition_point(|before| before.key < entry.key);
        state.entries.insert(at, entry);
    }

    /// What stands in the store; none where nothing was restored.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn read(store: &dyn Store) -> Result<Option<Self>, ReadError> {
        let entry = store.get(KEY).await?;
        Ok(entry.and_then(|entry| serde_json::from_slice(&entry.value).ok()))
    }

    /// Whether a certificate was issued in it.
    #[must_use]
    pub fn covers(&self, peer: &Peer) -> bool {
        let issued = issued_at(peer).unix_timestamp();
        (self.taken_at - MARGIN..=self.restored_at + MARGIN).contains(&issued)
    }

    /// Whether a workload had joined before it was over: one that joined later has its leaves in the ledger.
    #[must_use]
    pub fn knows_of(&self, joined_at: i64) -> bool {
        joined_at <= self.restored_at
    }
}

/// When a certificate was made.
#[must_use]
pub fn issued_at(peer: &Peer) -> OffsetDateTime {
    peer.not_before + BACKDATE
}

#[cfg(test)]
mod tests {
    use weft_store::Revision;

    use super::*;
    use crate::ca::Serial;

    fn issued(at: i64) -> Peer {
        let not_before = OffsetDateTime::from_unix_timestamp(at).unwrap() - BACKDATE;
        Peer {
            spiffe: "spiffe://mesh.test/ns/shop/svc/web".parse().unwrap(),
            workload: None,
            serial: Serial::from_bytes(&[1]),
            issuer: Vec::new(),
            not_before,
            not_after: not_before + time::Duration::hours(24),
        }
    }

    #[test]
    fn certificates_of_other_times_are_not_covered() {
        let lost = LostTime::new(1_000_000, 1_010_000);
        for (at, covered) in [(1_000_000, true), (1_005_000, true), (1_010_000, true), (999_000, false)] {
            assert_eq!(lost.covers(&issued(at)), covered, "{at}");
        }
        assert!(!lost.covers(&issued(1_010_000 + MARGIN + 1)), "that one is in the ledger");
    }

    #[test]
    fn the_newest_restore_is_noted_in_its_place_among_the_keys() {
        let entry =
            |key: &str| Entry { key: key.into(), value: "1".into(), mod_revision: Revision(3), lease: None };
        let mut state =
            Snapshot { revision: Revision(7), entries: vec![entry("mesh/root"), entry("tokens/t")] };
        LostTime::new(1, 2).note(&mut state);
        LostTime::new(3, 4).note(&mut state);
        let keys: Vec<_> = state.entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["mesh/root", KEY, "tokens/t"]);
        assert_eq!((state.revision, state.entries[1].mod_revision), (Revision(9), Revision(9)));
        assert_eq!(serde_json::from_slice::<LostTime>(&state.entries[1].value).unwrap(), LostTime::new(3, 4));
    }
}
