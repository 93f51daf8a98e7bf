//! The head of the authority's records: sealed, it names the newest of all the others, so that none of them is put back,
//! changed, added or taken away by somebody who can write to the store and has no seal key.
//!
//! ```text
//! mesh/head    version n, sealed:  mesh/root → SHA-256, mesh/issuer → SHA-256, mesh/crls/… → SHA-256, …
//! ```
//!
//! Each transaction of the authority writes it anew, one version higher, and goes through only if nobody else did meanwhile.
//! All records put back together with their head are an older version than what each replica has seen (`seen_version`). A store
//! of an earlier release has no head until the leader makes it, once no replica of such a release lives (`reseal`).

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use weft_store::{Entry, Op, Txn};

use super::super::CaError;
use super::super::seal::{SealKey, SealKeyId, Sealed};
use super::CaRecords;
use super::entry::{PREFIX, REQUEST, corrupt, read_json};

const FORMAT: u32 = 1;
/// Where the records that have a key under seal have it.
const SEALED_KEY: &str = "sealedKey";

pub(in super::super) const HEAD: &str = "mesh/head";

/// Keys of records, and the SHA-256 of what stands there.
pub(super) type Digests = BTreeMap<String, String>;

/// Any record, as far as its key is concerned.
#[derive(Deserialize)]
struct HasSealedKey {
    #[serde(default, rename = "sealedKey")]
    sealed_key: Option<Sealed>,
}

#[derive(Serialize, Deserialize)]
struct SealedHead {
    format: u32,
    /// [`Digests`] as JSON.
    sealed: Sealed,
}

impl CaRecords {
    /// Whether these records are those that belong together, and none older than `least`, which was seen before they were read.
    /// From then on, records are sealed for the version after this one.
    ///
    /// # Errors
    /// When they are not, or the head does not open.
    pub(in super::super) fn verify(&self, seal: &SealKey, least: u64) -> Result<(), CaError> {
        let older = |found| CaError::OlderState {
            found,
            seen: least,
            file: seal.seen().file().map(ToOwned::to_owned).unwrap_or_default(),
        };
        let Some(entry) = &self.head else { return if least == 0 { Ok(()) } else { Err(older(0)) } };
        let head: SealedHead = read_json(entry)?;
        if head.format != FORMAT {
            return Err(corrupt(HEAD, format!("format {} is not known, only {FORMAT}", head.format)));
        }
        let version = head.sealed.version().ok_or_else(|| corrupt(HEAD, "it has no version".to_owned()))?;
        let told: Digests = serde_json::from_slice(&seal.open(HEAD, &head.sealed)?)
            .map_err(|error| corrupt(HEAD, error.to_string()))?;
        if version < least {
            return Err(older(version));
        }
        let mut keys = told.keys().chain(self.digests.keys());
        if let Some(record) = keys.find(|key| told.get(*key) != self.digests.get(*key)) {
            return Err(CaError::NotNewest { record: record.clone(), version });
        }
        seal.seen().note(version);
        seal.seal_at(version + 1);
        Ok(())
    }

    /// The version of these records; none in a store of an earlier release.
    pub(in super::super) fn version(&self) -> Option<u64> {
        let head: SealedHead = read_json(self.head.as_ref()?).ok()?;
        head.sealed.version()
    }

    /// Makes what a transaction does to the authority's records the newest version of them, if nobody else makes one meanwhile.
    pub(in super::super) fn headed(&self, txn: Txn, seal: &SealKey) -> Txn {
        match &self.head {
            Some(head) => with_head(self.digests.clone(), txn.expect_at(HEAD, head.mod_revision), seal),
            None => txn,
        }
    }

    /// Begins to count versions, in a store of an earlier release.
    pub(in super::super) fn first_headed(&self, txn: Txn, seal: &SealKey) -> Txn {
        with_head(self.digests.clone(), txn.expect_absent(HEAD), seal)
    }

    /// Which key each sealed record needs, the head among them.
    pub(in super::super) fn needed_keys(&self, seal: &SealKey) -> Result<Vec<(&Entry, SealKeyId)>, CaError> {
        let mut needed = Vec::new();
        for (entry, sealed) in self.sealed()? {
            needed.push((entry, seal.needed(&entry.key, &sealed)?));
        }
        if let Some(entry) = &self.head {
            let head: SealedHead = read_json(entry)?;
            needed.push((entry, seal.needed(HEAD, &head.sealed)?));
        }
        Ok(needed)
    }

    /// The records that have a key under seal, and the key.
    pub(in super::super) fn sealed(&self) -> Result<Vec<(&Entry, Sealed)>, CaError> {
        let others = [&self.next, &self.next_root, &self.next_root_issuer, &self.old_root, &self.request];
        let all = [&self.root, &self.issuer].into_iter().chain(others.into_iter().flatten());
        let mut sealed = Vec::new();
        for entry in all.chain(&self.retired) {
            if let Some(key) = read_json::<HasSealedKey>(entry)?.sealed_key {
                sealed.push((entry, key));
            }
        }
        Ok(sealed)
    }
}

/// What stands in a record, with its key under the one that seals now.
pub(in super::super) fn resealed(entry: &Entry, key: &Sealed, seal: &SealKey) -> Result<Vec<u8>, CaError> {
    if entry.key.as_str() == REQUEST {
        let mut record: serde_json::Value = read_json(entry)?;
        let key = seal.seal(&entry.key, &seal.open(&entry.key, key)?);
        record[SEALED_KEY] = serde_json::to_value(key).expect("strings always encode");
        return Ok(serde_json::to_vec(&record).expect("a value always encodes"));
    }
    Ok(super::decode(entry)?.moved(&entry.key, &entry.key, seal)?.encode())
}

/// The first head, of records that come into being with it.
pub(in super::super) fn created(txn: Txn, seal: &SealKey) -> Txn {
    with_head(Digests::new(), txn.expect_absent(HEAD), seal)
}

pub(super) fn digests(entries: &[Entry]) -> Digests {
    let records = entries.iter().filter(|entry| entry.key.as_str() != HEAD);
    records.map(|entry| (entry.key.to_string(), digest(&entry.value))).collect()
}

fn with_head(mut digests: Digests, txn: Txn, seal: &SealKey) -> Txn {
    for op in txn.ops.iter().filter(|op| op.key().starts_with(PREFIX)) {
        match op {
            Op::Put { key, value, .. } => digests.insert(key.to_string(), digest(value)),
            Op::Delete { key } => digests.remove(key.as_str()),
        };
    }
    let plain = serde_json::to_vec(&digests).expect("strings always encode");
    let head = SealedHead { format: FORMAT, sealed: seal.seal(HEAD, &plain) };
    txn.put(HEAD, serde_json::to_vec(&head).expect("strings always encode"))
}

fn digest(value: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(value))
}
