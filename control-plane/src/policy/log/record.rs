//! The records of the log: head, changesets, checkpoints.
//!
//! A record is one line of JSON; a small body follows the line, a large one is a blob.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weft_store::{Entry, Store, Txn};

use super::blob::{self, BlobRef, PendingBlob};
use super::error::LogError;

pub(super) const HEAD: &str = "policies/head";
pub(super) const HISTORY: &str = "policies/history/";
pub(super) const CHECKPOINTS: &str = "policies/checkpoints/";
const FORMAT: u32 = 1;
// Most changesets are a few documents: they cost one transaction. 128 of these fit no etcd request, one does.
const INLINE: usize = 64 * 1024;

/// What `policies/head` holds: the one mutable record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HeadRecord {
    format: u32,
    pub(super) sequence: u64,
    pub(super) id: String,
}

/// Who commits, by what, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authorship {
    /// Whose right to change was used.
    pub author: String,
    /// What the author used, in that program's own words. Older versions did not write it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
    /// Why, in the author's words; may be empty.
    pub message: String,
}

/// Who changed what, when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangesetInfo {
    /// Counts from 1 without gaps.
    pub sequence: u64,
    /// Names the changeset; random, so that two with one sequence cannot be confused.
    pub id: String,
    /// The changeset before it; none for the first.
    pub parent: Option<String>,
    #[serde(flatten)]
    pub by: Authorship,
    /// Unix milliseconds.
    pub at_millis: u64,
    /// How many documents it puts and deletes.
    pub changes: usize,
}

/// Where a record's body is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum RecordBody {
    Inline,
    Blob(BlobRef),
}

/// The line of a changeset's or a checkpoint's record.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<T> {
    format: u32,
    body: RecordBody,
    sha256: String,
    #[serde(flatten)]
    info: T,
}

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CheckpointInfo {
    pub(super) sequence: u64,
    /// Id of the changeset whose outcome it holds.
    pub(super) id: String,
}

/// A body ready to be referred to.
#[derive(Debug)]
pub(super) struct WrittenBody {
    sha256: String,
    place: BodyLocation,
}

#[derive(Debug)]
enum BodyLocation {
    Inline(Bytes),
    Blob(PendingBlob),
}

/// A record as read, its body perhaps elsewhere.
#[derive(Debug, Clone)]
pub(super) struct StoredRecord<T> {
    pub(super) info: T,
    pub(super) body: RecordBody,
    sha256: String,
    inline: Bytes,
}

impl HeadRecord {
    pub(super) fn new(sequence: u64, id: &str) -> Self {
        Self { format: FORMAT, sequence, id: id.to_owned() }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always encode")
    }

    pub(super) fn decode(entry: &Entry) -> Result<Self, LogError> {
        let head: Self = serde_json::from_slice(&entry.value)
            .map_err(|error| LogError::corrupt(&entry.key, error.to_string()))?;
        check_format(&entry.key, head.format)?;
        Ok(head)
    }
}

/// Writes a body down, in the record itself when it is small.
pub(super) async fn write_body(
    store: &dyn Store,
    body: Bytes,
    now_millis: u64,
) -> Result<WrittenBody, LogError> {
    let sha256 = blob::digest(&body);
    let place = if body.len() <= INLINE.min(store.limits().max_value / 4) {
        BodyLocation::Inline(body)
    } else {
        BodyLocation::Blob(blob::write(store, &body, now_millis).await?)
    };
    Ok(WrittenBody { sha256, place })
}

impl WrittenBody {
    /// Adds the record with this body to a transaction.
    pub(super) fn put<T: Serialize>(&self, txn: Txn, key: String, info: &T) -> Txn {
        let (txn, body, inline) = match &self.place {
            BodyLocation::Inline(bytes) => (txn, RecordBody::Inline, &bytes[..]),
            BodyLocation::Blob(pending) => {
                (pending.adopt(txn), RecordBody::Blob(pending.blob.clone()), &[][..])
            }
        };
        let line = Line { format: FORMAT, body, sha256: self.sha256.clone(), info };
        let mut value = serde_json::to_vec(&line).expect("strings and numbers always encode");
        value.push(b'\n');
        value.extend_from_slice(inline);
        txn.put(key, value)
    }
}

impl<T: for<'de> Deserialize<'de>> StoredRecord<T> {
    pub(super) fn decode(entry: &Entry) -> Result<Self, LogError> {
        let corrupt = |reason: String| LogError::corrupt(&entry.key, reason);
        let end = entry.value.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| corrupt("it has no line".to_owned()))?;
        let line: Line<T> =
            serde_json::from_slice(&entry.value[..end]).map_err(|error| corrupt(error.to_string()))?;
        check_format(&entry.key, line.format)?;
        let inline = entry.value.slice(end + 1..);
        Ok(Self { info: line.info, body: line.body, sha256: line.sha256, inline })
    }

    /// The body, whole and unchanged; `None` when a part of it is gone, as after pruning.
    pub(super) async fn read_body(&self, store: &dyn Store) -> Result<Option<Bytes>, LogError> {
        let body = match &self.body {
            RecordBody::Inline => self.inline.clone(),
            RecordBody::Blob(blob) => match blob::read(store, blob).await? {
                Some(body) => body,
                None => return Ok(None),
            },
        };
        if blob::digest(&body) == self.sha256 {
            return Ok(Some(body));
        }
        Err(LogError::corrupt("a body in policies/", "its checksum does not fit".to_owned()))
    }

    pub(super) fn body_len(&self) -> u64 {
        match &self.body {
            RecordBody::Inline => self.inline.len() as u64,
            RecordBody::Blob(blob) => blob.len(),
        }
    }
}

pub(super) fn history_key(sequence: u64) -> String {
    format!("{HISTORY}{sequence:020}")
}

pub(super) fn checkpoint_key(sequence: u64) -> String {
    format!("{CHECKPOINTS}{sequence:020}")
}

fn check_format(key: &str, format: u32) -> Result<(), LogError> {
    if format == FORMAT {
        return Ok(());
    }
    Err(LogError::corrupt(key, format!("format {format} is not known, only {FORMAT}; use a newer version")))
}
