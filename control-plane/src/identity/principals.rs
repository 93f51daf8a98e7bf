//! Principals: people and programs with a token of their own. What one may do, roles say (`weft_policies::kinds::role`); by
//! itself a token opens nothing.
//!
//! The store holds a hash of each secret. A token names its principal, so that it is found by one look.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use weft_api::Name;
use weft_store::{CommitError, ReadError, Store, StoreExt, Txn};
use zeroize::Zeroizing;

use super::removal::remove;
use crate::StoreError;
use crate::clock::Clock;

/// The most principals of a mesh.
pub const MOST: usize = 1000;

const PREFIX: &str = "principals/";
const TOKEN_PREFIX: &str = "weftpr.";
const LONGEST_TOKEN: usize = 200;

/// Who showed a token: a name, and which of its tokens it was.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    /// As roles are bound to it.
    pub name: Name,
    secret_sha256: [u8; 32],
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({})", self.name)
    }
}

/// A principal as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrincipalRecord {
    pub name: Name,
    secret_sha256: [u8; 32],
    /// Unix seconds.
    pub created_at: i64,
    /// Since when its token is the one that counts, in Unix seconds.
    pub token_at: i64,
}

/// Why there is no such principal, or no new one.
#[derive(Debug, thiserror::Error)]
pub enum PrincipalError {
    /// The name is taken.
    #[error("there is a principal {0} already; `weft operator rotate {0}` gives it another token")]
    Exists(Name),
    #[error("there are {MOST} principals already; revoke those that are not used")]
    TooMany,
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Clone, Debug)]
pub struct Principals {
    store: Arc<dyn Store>,
    clock: Clock,
}

impl Principals {
    /// Those in a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Makes one and gives its token, the only time that it is known.
    ///
    /// # Errors
    /// When the name is taken, or the store does not take it.
    pub async fn create(&self, name: &Name) -> Result<Zeroizing<String>, PrincipalError> {
        if self.list().await.map_err(StoreError::from)?.len() >= MOST {
            return Err(PrincipalError::TooMany);
        }
        let (token, secret_sha256) = make_token(name);
        let now = self.clock.unix_seconds();
        let record = PrincipalRecord { name: name.clone(), secret_sha256, created_at: now, token_at: now };
        let txn = Txn::new().expect_absent(key(name)).put(key(name), encode(&record));
        match self.store.commit(txn).await {
            Ok(_) => Ok(token),
            Err(CommitError::Conflict { .. }) => Err(PrincipalError::Exists(name.clone())),
            Err(error) => Err(StoreError::from(error).into()),
        }
    }

    /// Gives another token, and makes the one before worthless; nothing where there is no such principal.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rotate(&self, name: &Name) -> Result<Option<Zeroizing<String>>, StoreError> {
        loop {
            let Some(entry) = self.store.get(&key(name)).await? else { return Ok(None) };
            let (token, secret_sha256) = make_token(name);
            let now = self.clock.unix_seconds();
            let created_at = decode(&entry.value).map_or(now, |record| record.created_at);
            let record = PrincipalRecord { name: name.clone(), secret_sha256, created_at, token_at: now };
            let txn = Txn::new().expect_at(&entry.key, entry.mod_revision).put(&entry.key, encode(&record));
            match self.store.commit(txn).await {
                Ok(_) => return Ok(Some(token)),
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Removes one; its token opens nothing from then on. `false` when there is none of that name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn revoke(&self, name: &Name) -> Result<bool, StoreError> {
        remove(self.store.as_ref(), &key(name)).await
    }

    /// All, ordered by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<PrincipalRecord>, ReadError> {
        let entries = self.store.list_all(PREFIX).await?.entries;
        Ok(entries.iter().filter_map(|entry| decode(&entry.value)).collect())
    }

    /// Whose token this is, if it is one. The store is not asked of what cannot be a token.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn identify(&self, token: &str) -> Result<Option<Principal>, ReadError> {
        let Some(rest) = token.trim().strip_prefix(TOKEN_PREFIX).filter(|_| token.len() <= LONGEST_TOKEN)
        else {
            return Ok(None);
        };
        let Some(name) = rest.split_once('.').and_then(|(name, _)| Name::try_new(name).ok()) else {
            return Ok(None);
        };
        let shown = Principal { name, secret_sha256: Sha256::digest(token.trim()).into() };
        Ok(self.knows(&shown).await?.then_some(shown))
    }

    /// Whether a token that was good still is.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn knows(&self, shown: &Principal) -> Result<bool, ReadError> {
        let entry = self.store.get(&key(&shown.name)).await?;
        let record = entry.and_then(|entry| decode(&entry.value));
        let kept = record.as_ref().map_or([0; 32], |record| record.secret_sha256);
        Ok(verify_slices_are_equal(&shown.secret_sha256, &kept).is_ok() && record.is_some())
    }
}

fn make_token(name: &Name) -> (Zeroizing<String>, [u8; 32]) {
    let secret: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
    let token = Zeroizing::new(format!("{TOKEN_PREFIX}{name}.{}", URL_SAFE_NO_PAD.encode(*secret)));
    let hash = Sha256::digest(token.as_bytes()).into();
    (token, hash)
}

fn key(name: &Name) -> String {
    format!("{PREFIX}{name}")
}

fn encode(record: &PrincipalRecord) -> Vec<u8> {
    serde_json::to_vec(record).expect("names and numbers always encode")
}

fn decode(value: &[u8]) -> Option<PrincipalRecord> {
    serde_json::from_slice(value).ok()
}

#[cfg(test)]
mod tests {
    use weft_store::Location;

    use super::*;

    async fn principals() -> Principals {
        Principals::new(weft_store::open(Location::Memory).await.unwrap(), Clock::system())
    }

    fn name(text: &str) -> Name {
        Name::try_new(text).unwrap()
    }

    #[tokio::test]
    async fn token_is_its_principals_until_it_is_replaced_or_revoked() {
        let principals = principals().await;
        let ann = name("ann");
        let first = principals.create(&ann).await.unwrap();
        let shown = principals.identify(&first).await.unwrap().unwrap();
        assert_eq!(shown.name, ann);
        assert!(matches!(principals.create(&ann).await, Err(PrincipalError::Exists(_))));
        let second = principals.rotate(&ann).await.unwrap().unwrap();
        assert!(!principals.knows(&shown).await.unwrap(), "a session that began with it ends");
        assert_eq!(principals.identify(&first).await.unwrap(), None);
        assert!(principals.identify(&second).await.unwrap().is_some());
        assert!(principals.revoke(&ann).await.unwrap());
        assert_eq!(principals.identify(&second).await.unwrap(), None);
        assert!(!principals.revoke(&ann).await.unwrap() && principals.rotate(&ann).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn anything_else_is_nobodys_token_and_no_secret_is_stored() {
        let principals = principals().await;
        let token = principals.create(&name("ann")).await.unwrap();
        principals.create(&name("bob")).await.unwrap();
        let as_bob = token.replace("ann", "bob");
        for wrong in
            ["", "weftpr.", "weftpr.ann", "weftpr.ann.", &as_bob, &token[1..], &format!("{}x", *token)]
        {
            assert_eq!(principals.identify(wrong).await.unwrap(), None, "{wrong}");
        }
        let stored = principals.store.list_all("").await.unwrap().entries;
        let secret = token.rsplit('.').next().unwrap();
        assert!(stored.iter().all(|entry| !String::from_utf8_lossy(&entry.value).contains(secret)));
    }
}
