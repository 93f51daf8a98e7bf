//! Bytes of any length as immutable chunks below the store's limits.
//!
//! ```text
//! policies/pending/ID       before the first chunk; gone in the transaction that refers to the blob, and back before
//!                           its chunks are deleted: what is named here and old is garbage
//! policies/blobs/ID/NNNNNN  the chunks
//! ```
//!
//! A crash at any point leaves a pending record at most, never a reference to missing chunks: the transaction that
//! refers to a blob is guarded by its pending record.

use bytes::{Bytes, BytesMut};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use weft_store::{CommitError, Leadership, Page, Revision, Store, Txn, TxnLimits};

use super::error::LogError;

const BLOBS: &str = "policies/blobs/";
const PENDING: &str = "policies/pending/";
const MAX_CHUNK: usize = 1 << 20;
// Keys, guards and framing of a transaction that carries one chunk.
const TXN_OVERHEAD: usize = 4096;
const ATTEMPTS: usize = 3;
const DELETE_BATCH: usize = 100;

/// Where a body is, as records refer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BlobRef {
    pub(super) id: String,
    chunks: u32,
    bytes: u64,
}

/// A blob that is written and that nothing refers to yet.
#[derive(Debug)]
pub(super) struct PendingBlob {
    pub(super) blob: BlobRef,
    revision: Revision,
}

#[derive(Debug, Serialize, Deserialize)]
struct PendingRecord {
    blob: BlobRef,
    at_millis: u64,
}

impl PendingBlob {
    /// Makes a transaction take the blob over: it goes through only while the blob is whole.
    pub(super) fn adopt(&self, txn: Txn) -> Txn {
        let key = pending_key(&self.blob.id);
        txn.expect_at(key.as_str(), self.revision).delete(key)
    }
}

impl BlobRef {
    pub(super) fn len(&self) -> u64 {
        self.bytes
    }

    /// Gives a blob up in the transaction that drops the last reference to it.
    pub(super) fn disown(&self, txn: Txn) -> Txn {
        let record = PendingRecord { blob: self.clone(), at_millis: 0 };
        txn.put(pending_key(&self.id), encode(&record))
    }

    fn chunk_key(&self, number: u32) -> String {
        format!("{BLOBS}{}/{number:06}", self.id)
    }
}

/// Writes a body and says where it is.
pub(super) async fn write(store: &dyn Store, body: &Bytes, now_millis: u64) -> Result<PendingBlob, LogError> {
    let size = chunk_size(store.limits());
    let chunks = u32::try_from(body.len().div_ceil(size)).map_err(|_| LogError::TooLarge(body.len()))?;
    let id = format!("{now_millis:012x}-{:016x}", rand::random::<u64>());
    let blob = BlobRef { id, chunks, bytes: body.len() as u64 };
    let record = encode(&PendingRecord { blob: blob.clone(), at_millis: now_millis });
    let revision = repeat(store, &Txn::new().put(pending_key(&blob.id), record)).await?;
    for number in 0..chunks {
        let start = number as usize * size;
        let chunk = body.slice(start..body.len().min(start + size));
        repeat(store, &Txn::new().put(blob.chunk_key(number), chunk)).await?;
    }
    Ok(PendingBlob { blob, revision })
}

/// Reads a body; `None` when a part of it is gone.
pub(super) async fn read(store: &dyn Store, blob: &BlobRef) -> Result<Option<Bytes>, LogError> {
    let mut body = BytesMut::with_capacity(usize::try_from(blob.bytes).unwrap_or(0).min(64 << 20));
    for number in 0..blob.chunks {
        let Some(chunk) = store.get(&blob.chunk_key(number)).await? else { return Ok(None) };
        if blob.chunks == 1 {
            return Ok(Some(chunk.value));
        }
        body.extend_from_slice(&chunk.value);
    }
    Ok(Some(body.freeze()))
}

/// Deletes blobs that were given up, or begun before `cutoff_millis` and never referred to. Says how many.
pub(super) async fn sweep(
    store: &dyn Store,
    cutoff_millis: u64,
    leader: &Leadership,
) -> Result<usize, LogError> {
    let mut swept = 0;
    let mut page = Page::default();
    loop {
        let listing = store.list(PENDING, page.clone()).await?;
        for entry in &listing.entries {
            let record: PendingRecord = match serde_json::from_slice(&entry.value) {
                Ok(record) => record,
                Err(error) => {
                    tracing::warn!(
                        event = "pending_change_unreadable",
                        key = %entry.key, %error,
                        "cannot read a pending record; leaving it"
                    );
                    continue;
                }
            };
            if record.at_millis >= cutoff_millis {
                continue;
            }
            // Claimed first: a writer that still hopes to refer to it fails on its guard from here on.
            let claim = record
                .blob
                .disown(Txn::new().guard(leader.guard()).expect_at(&entry.key, entry.mod_revision));
            match store.commit(claim).await {
                Ok(_) => {}
                Err(CommitError::Conflict { key, .. }) if key == entry.key => continue,
                Err(error) => return Err(error.into()),
            }
            delete(store, &record.blob, leader).await?;
            swept += 1;
        }
        page.after = listing.entries.last().map(|entry| entry.key.clone());
        if !listing.more {
            return Ok(swept);
        }
    }
}

async fn delete(store: &dyn Store, blob: &BlobRef, leader: &Leadership) -> Result<(), LogError> {
    let numbers: Vec<u32> = (0..blob.chunks).collect();
    for batch in numbers.chunks(DELETE_BATCH) {
        let txn = Txn::new().guard(leader.guard());
        store.commit(batch.iter().fold(txn, |txn, number| txn.delete(blob.chunk_key(*number)))).await?;
    }
    store.commit(Txn::new().guard(leader.guard()).delete(pending_key(&blob.id))).await?;
    Ok(())
}

/// SHA-256 of a body, as records keep it.
pub(super) fn digest(body: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(body))
}

// These writes have fresh keys and no guards, so that doing one twice is doing it once.
async fn repeat(store: &dyn Store, txn: &Txn) -> Result<Revision, LogError> {
    let mut attempt = 1;
    loop {
        match store.commit(txn.clone()).await {
            Ok(revision) => return Ok(revision),
            Err(CommitError::Uncertain { .. }) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

fn chunk_size(limits: TxnLimits) -> usize {
    let most = limits.max_value.min(limits.max_txn_bytes.saturating_sub(TXN_OVERHEAD));
    most.clamp(1, MAX_CHUNK)
}

fn pending_key(id: &str) -> String {
    format!("{PENDING}{id}")
}

fn encode(record: &PendingRecord) -> Vec<u8> {
    serde_json::to_vec(record).expect("strings and numbers always encode")
}
