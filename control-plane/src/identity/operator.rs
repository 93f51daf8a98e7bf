//! The operator's token: whoever has it rules the mesh.
//!
//! It lies in a file beside the control plane, mode 0600, where `weft` finds it. The store holds its hash, so that
//! every replica accepts the token of every other. Each data directory has one, which may be replaced at any time: another is
//! made, and the one before opens nothing any more, on no replica. When the file is removed, the next start makes another.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, watch};
use weft_store::{CommitError, ReadError, Store, StoreExt, Txn};
use zeroize::Zeroizing;

use crate::StoreError;
use crate::clock::Clock;
use crate::private_file::{self, PrivateFileError};

/// Name of the file in the data directory.
pub const FILE: &str = "operator.token";

/// Says which records are of this data directory.
const ID_FILE: &str = "replica.id";

const PREFIX: &str = "operators/";
const TOKEN_PREFIX: &str = "weftop.";
const TOKEN_LENGTH: usize = TOKEN_PREFIX.len() + 43;

/// Why there is no operator token.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file holds something else.
    #[error("{0} does not hold an operator token; remove it to have a new one made")]
    Malformed(PathBuf),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which token it was that somebody showed: its hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OperatorId([u8; 32]);

impl OperatorId {
    /// Of a token, whether it is one or not.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }
}

/// The beginning of the hash: enough to tell tokens apart in a log, and of no use to sign in.
impl fmt::Display for OperatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Tells operators from others.
#[derive(Debug)]
pub struct Operators {
    store: Arc<dyn Store>,
    clock: Clock,
    file: PathBuf,
    /// Which records are of this data directory.
    replica: String,
    /// The hash of this replica's token.
    own: watch::Sender<[u8; 32]>,
    /// One replacement after the other.
    replacing: Mutex<()>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OperatorRecord {
    sha256: [u8; 32],
    created_at: i64,
    /// Which data directory has the token; earlier versions did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replica: Option<String>,
}

impl Operators {
    /// Reads `DIR/operator.token`, or makes it, and registers its hash in place of the one that this directory had before.
    ///
    /// # Errors
    /// When the file or the store cannot be used.
    pub async fn open(store: Arc<dyn Store>, dir: &Path, clock: &Clock) -> Result<Self, OperatorError> {
        let path = dir.join(FILE);
        let own = match read(&path)? {
            Some(own) => own,
            None => {
                private_file::create(&path, line(&new_token()).as_bytes())?;
                read(&path)?.ok_or_else(|| OperatorError::Malformed(path.clone()))?
            }
        };
        let (replica, clock) = (replica(dir)?, clock.clone());
        let operators = Self {
            store,
            clock,
            file: path,
            replica,
            own: watch::channel(own).0,
            replacing: Mutex::default(),
        };
        operators.register(&own).await?;
        Ok(operators)
    }

    /// Makes the token of this hash the one of this replica, in place of the one that it had before.
    async fn register(&self, own: &[u8; 32]) -> Result<(), StoreError> {
        loop {
            let Some(txn) = register(own, &self.replica, self.store.as_ref(), &self.clock).await? else {
                return Ok(());
            };
            match self.store.commit(txn).await {
                // Looked at again: whoever came in between may have been another replica of this directory's mesh.
                Ok(_) | Err(CommitError::Conflict { .. } | CommitError::Uncertain { .. }) => {}
                Err(error) => return Err(StoreError::from(error)),
            }
        }
    }

    /// Makes another token for this replica. The one before opens nothing any more, on no replica, and the browsers that signed
    /// in with it are signed out.
    ///
    /// # Errors
    /// When the store or the file cannot be written. Where only the file could not, this replica goes on with the token before,
    /// and so does its next start.
    pub async fn rotate(&self) -> Result<Zeroizing<String>, OperatorError> {
        let _turn = self.replacing.lock().await;
        let token = new_token();
        let own: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        self.register(&own).await?;
        private_file::replace(&self.file, line(&token).as_bytes())?;
        self.own.send_replace(own);
        Ok(token)
    }

    /// Says when another token was made for this replica.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<[u8; 32]> {
        self.own.subscribe()
    }

    /// Whether this is an operator's token.
    ///
    /// # Errors
    /// When the token may be another replica's and the store cannot be asked.
    pub async fn verify(&self, token: &str) -> Result<bool, ReadError> {
        Ok(self.identify(token).await?.is_some())
    }

    /// Which operator's token this is, if it is one.
    ///
    /// # Errors
    /// When the token may be another replica's and the store cannot be asked.
    pub async fn identify(&self, token: &str) -> Result<Option<OperatorId>, ReadError> {
        let token = token.trim();
        if token.len() != TOKEN_LENGTH || !token.starts_with(TOKEN_PREFIX) {
            return Ok(None);
        }
        let id = OperatorId::of(token);
        Ok(self.knows(id).await?.then_some(id))
    }

    /// Whether a token that was good still is. This replica's own is known without asking the store.
    ///
    /// # Errors
    /// When the token may be another replica's and the store cannot be asked.
    pub async fn knows(&self, OperatorId(given): OperatorId) -> Result<bool, ReadError> {
        if verify_slices_are_equal(&given, &*self.own.borrow()).is_ok() {
            return Ok(true);
        }
        let Some(entry) = self.store.get(&key(&given)).await? else { return Ok(false) };
        let Ok(record) = serde_json::from_slice::<OperatorRecord>(&entry.value) else { return Ok(false) };
        Ok(verify_slices_are_equal(&given, &record.sha256).is_ok())
    }
}

fn new_token() -> Zeroizing<String> {
    let secret: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
    Zeroizing::new(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(*secret)))
}

fn line(token: &str) -> Zeroizing<String> {
    Zeroizing::new(format!("{token}\n"))
}

/// What has to be written so that `own` is the one token of this replica; nothing when that is so already.
async fn register(
    own: &[u8; 32],
    replica: &str,
    store: &dyn Store,
    clock: &Clock,
) -> Result<Option<Txn>, StoreError> {
    let mut txn = Txn::new();
    let (mut is_new, mut is_changed) = (true, false);
    let put = |txn: Txn, created_at: i64| {
        let record = OperatorRecord { sha256: *own, created_at, replica: Some(replica.to_owned()) };
        txn.put(key(own), serde_json::to_vec(&record).expect("numbers and strings always encode"))
    };
    for entry in store.list_all(PREFIX).await?.entries {
        let Ok(record) = serde_json::from_slice::<OperatorRecord>(&entry.value) else { continue };
        let is_ours = record.replica.as_deref() == Some(replica);
        if record.sha256 == *own {
            is_new = false;
            if !is_ours {
                is_changed = true;
                txn = put(txn.expect_at(&entry.key, entry.mod_revision), record.created_at);
            }
        } else if is_ours {
            tracing::info!(
                event = "operator_token_replaced",
                "the operator token of before is not accepted any more"
            );
            is_changed = true;
            txn = txn.expect_at(&entry.key, entry.mod_revision).delete(&entry.key);
        }
    }
    if is_new {
        txn = put(txn.expect_absent(key(own)), clock.unix_seconds());
    }
    Ok((is_new || is_changed).then_some(txn))
}

/// The random id of a data directory, made at its first start.
fn replica(dir: &Path) -> Result<String, OperatorError> {
    let path = dir.join(ID_FILE);
    private_file::create(&path, format!("{:016x}\n", rand::random::<u64>()).as_bytes())?;
    let bytes = private_file::read(&path)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(bytes.trim_ascii()).into_owned())
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
    format!("{PREFIX}{}", HEXLOWER.encode(&hash[..8]))
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

    /// M6: a leaked token is removed, and the next start makes another.
    #[tokio::test]
    async fn token_that_was_replaced_is_accepted_nowhere() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let store = weft_store::open(Location::Memory).await.unwrap();
        let path = dirs[0].path().join(FILE);
        open(&store, dirs[0].path()).await;
        let leaked = fs::read_to_string(&path).unwrap();
        let other = open(&store, dirs[1].path()).await;
        fs::remove_file(&path).unwrap();
        let replica = open(&store, dirs[0].path()).await;
        let fresh = fs::read_to_string(&path).unwrap();
        let others = fs::read_to_string(dirs[1].path().join(FILE)).unwrap();
        for operators in [&replica, &other] {
            assert!(!operators.verify(&leaked).await.unwrap());
            assert!(operators.verify(&fresh).await.unwrap());
            assert!(operators.verify(&others).await.unwrap());
        }
    }

    #[tokio::test]
    async fn token_is_replaced_while_all_run() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let store = weft_store::open(Location::Memory).await.unwrap();
        let path = dirs[0].path().join(FILE);
        let (replica, other) = (open(&store, dirs[0].path()).await, open(&store, dirs[1].path()).await);
        let mut told = replica.subscribe();
        let leaked = fs::read_to_string(&path).unwrap();
        let fresh = replica.rotate().await.unwrap();
        assert!(told.has_changed().unwrap() && told.borrow_and_update().len() == 32);
        assert_eq!(fs::read_to_string(&path).unwrap().trim(), fresh.as_str());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let others = fs::read_to_string(dirs[1].path().join(FILE)).unwrap();
        for operators in [&replica, &other, &open(&store, dirs[0].path()).await] {
            assert!(!operators.verify(&leaked).await.unwrap());
            assert!(operators.verify(&fresh).await.unwrap());
            assert!(operators.verify(&others).await.unwrap());
        }
    }

    #[tokio::test]
    async fn record_of_an_earlier_version_becomes_this_directorys() {
        let dir = tempfile::tempdir().unwrap();
        let store = weft_store::open(Location::Memory).await.unwrap();
        let path = dir.path().join(FILE);
        let old = format!("{TOKEN_PREFIX}{}\n", "A".repeat(43));
        private_file::create(&path, old.as_bytes()).unwrap();
        let own = read(&path).unwrap().unwrap();
        let value = serde_json::to_vec(&serde_json::json!({"sha256": own, "createdAt": 7})).unwrap();
        store.commit(Txn::new().put(key(&own), value)).await.unwrap();
        assert!(open(&store, dir.path()).await.verify(&old).await.unwrap());
        fs::remove_file(&path).unwrap();
        assert!(!open(&store, dir.path()).await.verify(&old).await.unwrap());
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
