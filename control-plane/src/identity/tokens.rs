//! Join tokens: who may enter the mesh as what, how often, and until when.
//!
//! A record holds a hash of the secret, never the secret. A use is one guarded write in the same transaction as what
//! the use is for, so a token for one use makes one member, however many replicas are asked at once.

mod known;
mod labels;

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::Duration;
use weft_api::{ControlPlanes, JoinToken, ServiceId};
use weft_policies::value::Cidr;
use weft_store::{Leadership, ReadError, Revision, Store, StoreExt, Txn};

pub use known::KnownTokens;
pub use labels::{InvalidPattern, LabelPattern, is_label_key, is_label_value};

use super::removal::remove;
use crate::StoreError;
use crate::clock::Clock;

/// Life of a token unless asked otherwise.
pub const DEFAULT_TTL: Duration = Duration::minutes(10);
/// The longest life of a token.
pub const MAX_TTL: Duration = Duration::days(30);
/// The most uses of a token.
pub const MAX_USES: u32 = 10_000;

const PREFIX: &str = "tokens/";
const PRUNE_BATCH: usize = 100;
// Kept a while after it ended, so that the list still says why a join is refused.
const KEPT_AFTER_END: Duration = Duration::hours(24);

/// What a new token shall permit.
#[derive(Debug, Clone)]
pub struct TokenGrant {
    /// Namespace and service of whoever joins with it.
    pub service: ServiceId,
    /// How long it holds.
    pub ttl: Duration,
    /// How often it may be used.
    pub uses: u32,
    /// Labels that joiners may declare; all others are refused.
    pub allow_labels: Vec<LabelPattern>,
    /// Where joiners may say that they are; anywhere when empty.
    pub allow_addresses: Vec<Cidr>,
    /// Whether joiners may say that nothing stands beside them, so that peers reach them in plain text.
    pub allow_no_proxy: bool,
}

impl TokenGrant {
    /// One use within [`DEFAULT_TTL`], and nothing beyond a member of the service.
    #[must_use]
    pub fn of(service: ServiceId) -> Self {
        Self {
            service,
            ttl: DEFAULT_TTL,
            uses: 1,
            allow_labels: Vec::new(),
            allow_addresses: Vec::new(),
            allow_no_proxy: false,
        }
    }
}

/// A token as stored and listed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRecord {
    pub id: String,
    /// Namespace and service of whoever joins with it.
    pub service: ServiceId,
    /// Hash of the secret.
    secret_sha256: [u8; 32],
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds.
    pub expires_at: i64,
    /// Uses that are left.
    pub uses_left: u32,
    /// Labels that joiners may declare.
    pub allow_labels: Vec<LabelPattern>,
    /// Where joiners may say that they are; anywhere when empty.
    #[serde(default)]
    pub allow_addresses: Vec<Cidr>,
    /// Whether joiners may say that nothing stands beside them.
    #[serde(default)]
    pub allow_no_proxy: bool,
}

/// Why a token cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A life that is not allowed.
    #[error("a token life of {0} is not allowed; use 1s to 30d")]
    Ttl(Duration),
    /// A number of uses that is not allowed.
    #[error("{0} uses are not allowed; use 1 to {MAX_USES}")]
    Uses(u32),
    /// No such id, or not its secret: strangers learn no more.
    #[error("the join token is not valid; make a new one with `weft token create`")]
    Invalid,
    #[error("the join token has expired; make a new one with `weft token create`")]
    Expired,
    /// Used as often as it may be.
    #[error("the join token is used up; make a new one with `weft token create`")]
    UsedUp,
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, Clone)]
pub struct Tokens {
    store: Arc<dyn Store>,
    clock: Clock,
}

/// A token whose secret was shown. It is not used yet.
#[derive(Debug, Clone)]
pub struct PresentedToken {
    record: TokenRecord,
    revision: Revision,
}

impl Tokens {
    /// The tokens in a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Makes a token. Its secret is in the result and nowhere else.
    ///
    /// # Errors
    /// When the grant is out of bounds or the store does not take it.
    pub async fn create(
        &self,
        grant: TokenGrant,
        control_planes: &ControlPlanes,
        root_spki_sha256: [u8; 32],
    ) -> Result<(JoinToken, TokenRecord), TokenError> {
        if grant.ttl < Duration::SECOND || grant.ttl > MAX_TTL {
            return Err(TokenError::Ttl(grant.ttl));
        }
        if grant.uses == 0 || grant.uses > MAX_USES {
            return Err(TokenError::Uses(grant.uses));
        }
        let token = JoinToken {
            control_planes: control_planes.clone(),
            service: Some(grant.service.clone()),
            id: format!("t-{:016x}", rand::random::<u64>()),
            secret: rand::random(),
            root_spki_sha256,
        };
        let now = self.clock.unix_seconds();
        let record = TokenRecord {
            id: token.id.clone(),
            service: grant.service,
            secret_sha256: token.secret_hash(),
            created_at: now,
            expires_at: now + grant.ttl.whole_seconds(),
            uses_left: grant.uses,
            allow_labels: grant.allow_labels,
            allow_addresses: grant.allow_addresses,
            allow_no_proxy: grant.allow_no_proxy,
        };
        let txn = Txn::new().expect_absent(key(&token.id)).put(key(&token.id), encode(&record));
        self.store.commit(txn).await.map_err(StoreError::from)?;
        Ok((token, record))
    }

    /// All tokens, ordered by id; those that ended stay for a day.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<TokenRecord>, ReadError> {
        let entries = self.store.list_all(PREFIX).await?.entries;
        Ok(entries.iter().filter_map(|entry| serde_json::from_slice(&entry.value).ok()).collect())
    }

    /// Removes a token; `false` when there is none of that id. Members that joined with it stay.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn revoke(&self, id: &str) -> Result<bool, StoreError> {
        remove(self.store.as_ref(), &key(id)).await
    }

    /// Checks id and secret. The comparison takes as long for a wrong secret as for the right one.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] for an unknown id as for a wrong secret.
    pub async fn present(&self, id: &str, secret: &[u8]) -> Result<PresentedToken, TokenError> {
        let well_formed =
            id.len() <= 32 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let entry =
            if well_formed { self.store.get(&key(id)).await.map_err(StoreError::from)? } else { None };
        let found = entry.and_then(|entry| {
            let record: TokenRecord = serde_json::from_slice(&entry.value).ok()?;
            Some(PresentedToken { record, revision: entry.mod_revision })
        });
        let given: [u8; 32] = Sha256::digest(secret).into();
        let kept = found.as_ref().map_or([0; 32], |found| found.record.secret_sha256);
        let equal = verify_slices_are_equal(&given, &kept).is_ok();
        match found {
            Some(found) if equal => Ok(found),
            _ => Err(TokenError::Invalid),
        }
    }

    /// Removes tokens that ended a day ago and says how many. The leader calls this; the writes are fenced.
    ///
    /// # Errors
    /// When the store fails or leadership was lost.
    pub async fn prune(&self, leader: &Leadership) -> Result<usize, StoreError> {
        let before = self.clock.unix_seconds() - KEPT_AFTER_END.whole_seconds();
        let ended: Vec<_> =
            self.list().await?.into_iter().filter(|token| token.expires_at < before).collect();
        for batch in ended.chunks(PRUNE_BATCH) {
            let txn = Txn::new().guard(leader.guard());
            self.store.commit(batch.iter().fold(txn, |txn, token| txn.delete(key(&token.id)))).await?;
        }
        Ok(ended.len())
    }
}

impl PresentedToken {
    #[must_use]
    pub fn record(&self) -> &TokenRecord {
        &self.record
    }

    /// Whether it has not expired.
    ///
    /// # Errors
    /// [`TokenError::Expired`].
    pub fn check_life(&self, clock: &Clock) -> Result<(), TokenError> {
        if clock.unix_seconds() < self.record.expires_at { Ok(()) } else { Err(TokenError::Expired) }
    }

    /// Adds one use to a transaction, guarded: it happens with the transaction or not at all.
    ///
    /// # Errors
    /// [`TokenError::UsedUp`] when none is left.
    pub fn spend(&self, txn: Txn) -> Result<Txn, TokenError> {
        let uses_left = self.record.uses_left.checked_sub(1).ok_or(TokenError::UsedUp)?;
        let record = TokenRecord { uses_left, ..self.record.clone() };
        let key = key(&record.id);
        Ok(txn.expect_at(key.as_str(), self.revision).put(key, encode(&record)))
    }
}

fn key(id: &str) -> String {
    format!("{PREFIX}{id}")
}

fn encode(record: &TokenRecord) -> Vec<u8> {
    serde_json::to_vec(record).expect("strings and numbers always encode")
}

#[cfg(test)]
mod tests;
