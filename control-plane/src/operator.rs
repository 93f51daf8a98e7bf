//! The operator's token: whoever has it rules the mesh.
//!
//! It lies in a file beside the control plane, mode 0600, where `weft` finds it. The store holds its hash, so that
//! every replica accepts the token of every other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use weft_store::{CommitError, ReadError, Store, Txn};
use zeroize::Zeroizing;

use crate::StoreError;
use crate::clock::Clock;
use crate::private_file::{self, PrivateFileError};

/// Name of the file in the data directory.
pub const FILE: &str = "operator.token";

const PREFIX: &str = "operators/";
const TOKEN_PREFIX: &str = "weftop.";
const TOKEN_LENGTH: usize = TOKEN_PREFIX.len() + 43;

/// Why there is no operator token.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The file.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file holds something else.
    #[error("{0} does not hold an operator token; remove it to have a new one made")]
    Malformed(PathBuf),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Tells operators from others.
#[derive(Debug)]
pub struct Operators {
    store: Arc<dyn Store>,
    own: [u8; 32],
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OperatorRecord {
    sha256: [u8; 32],
    created_at: i64,
}

impl Operators {
    /// Reads `DIR/operator.token`, or makes it, and registers its hash.
    ///
    /// # Errors
    /// When the file or the store cannot be used.
    pub async fn open(store: Arc<dyn Store>, dir: &Path, clock: &Clock) -> Result<Self, OperatorError> {
        let path = dir.join(FILE);
        let own = match read(&path)? {
            Some(own) => own,
            None => {
                let secret: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
                let text = Zeroizing::new(format!("{TOKEN_PREFIX}{}\n", URL_SAFE_NO_PAD.encode(*secret)));
                private_file::create(&path, text.as_bytes())?;
                read(&path)?.ok_or_else(|| OperatorError::Malformed(path.clone()))?
            }
        };
        let record = OperatorRecord { sha256: own, created_at: clock.unix_seconds() };
        let value = serde_json::to_vec(&record).expect("numbers always encode");
        let txn = Txn::new().expect_absent(key(&own)).put(key(&own), value);
        match store.commit(txn).await {
            Ok(_) | Err(CommitError::Conflict { .. }) => Ok(Self { store, own }),
            Err(error) => Err(StoreError::from(error).into()),
        }
    }

    /// Whether this is an operator's token. This replica's own is known without asking the store.
    ///
    /// # Errors
    /// When the token may be another replica's and the store cannot be asked.
    pub async fn verify(&self, token: &str) -> Result<bool, ReadError> {
        let token = token.trim();
        if token.len() != TOKEN_LENGTH || !token.starts_with(TOKEN_PREFIX) {
            return Ok(false);
        }
        let given: [u8; 32] = Sha256::digest(token).into();
        if verify_slices_are_equal(&given, &self.own).is_ok() {
            return Ok(true);
        }
        let Some(entry) = self.store.get(&key(&given)).await? else { return Ok(false) };
        let Ok(record) = serde_json::from_slice::<OperatorRecord>(&entry.value) else { return Ok(false) };
        Ok(verify_slices_are_equal(&given, &record.sha256).is_ok())
    }
}

fn read(path: &Path) -> Result<Option<[u8; 32]>, OperatorError> {
    let Some(bytes) = private_file::read(path)? else { return Ok(None) };
    let token = bytes.trim_ascii();
    if token.len() != TOKEN_LENGTH || !token.starts_with(TOKEN_PREFIX.as_bytes()) {
        return Err(OperatorError::Malformed(path.to_owned()));
    }
    Ok(Some(Sha256::digest(token).into()))
}

// Part of the hash of 256 random bits: it finds the record and gives nothing away.
fn key(hash: &[u8; 32]) -> String {
    let id: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{PREFIX}{id}")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use weft_store::Location;

    use super::*;

    async fn open(store: &Arc<dyn Store>, dir: &Path) -> Operators {
        Operators::open(Arc::clone(store), dir, &Clock::system()).await.unwrap()
    }

    #[tokio::test]
    async fn token_file_is_private_and_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = weft_store::open(Location::Memory).await.unwrap();
        open(&store, dir.path()).await;
        let path = dir.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let token = fs::read_to_string(&path).unwrap();
        assert!(open(&store, dir.path()).await.verify(&token).await.unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), token);
        let stored = store.list_all("").await.unwrap().entries;
        assert!(stored.iter().all(|entry| !String::from_utf8_lossy(&entry.value).contains(token.trim())));
    }

    #[tokio::test]
    async fn replicas_accept_each_others_tokens() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let store = weft_store::open(Location::Memory).await.unwrap();
        let first = open(&store, dirs[0].path()).await;
        open(&store, dirs[1].path()).await;
        let token = fs::read_to_string(dirs[1].path().join(FILE)).unwrap();
        assert!(first.verify(&token).await.unwrap());
    }

    #[tokio::test]
    async fn anything_else_is_no_operator() {
        let dir = tempfile::tempdir().unwrap();
        let store = weft_store::open(Location::Memory).await.unwrap();
        let operators = open(&store, dir.path()).await;
        let token = fs::read_to_string(dir.path().join(FILE)).unwrap();
        let mut changed = token.trim().to_owned();
        let last = changed.pop().unwrap();
        changed.push(if last == 'A' { 'B' } else { 'A' });
        for wrong in ["", "weftop.", &changed, &token.trim()[1..], &format!("{}x", token.trim())] {
            assert!(!operators.verify(wrong).await.unwrap(), "{wrong}");
        }
    }
}
