//! A store in an etcd cluster, shared by any number of processes.
//!
//! ```text
//!   list ────────── pages at one revision, linearizable
//!   commit ──────── one etcd transaction: guards are compares of mod_revision; the other branch reads
//!                   the guarded keys, so that a conflict names the key
//!   watch ───────── one stream of its own, require-leader, asked for progress; silence is an error
//! ```
//!
//! The client library's watch neither resumes nor notices a silent server, and older servers lose
//! events around compaction: so a watch here simply ends when in doubt, and
//! [`follow`](trait.Store.html#method.follow) lists again, after every disconnection and every five minutes.
//!
//! What it deliberately does not do: repeat a commit that may have arrived, or raise the cluster's limits.

mod config;
mod fault;
mod members;
mod watching;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_client::{
    AlarmAction, AlarmResponse, AlarmType, Client, Compare, CompareOp, ConnectOptions, Error, GetOptions,
    KeyValue, LeaseGrantOptions, PutOptions, TxnOp, TxnOpResponse, TxnResponse,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout};

use crate::condition::StoreCondition;
use crate::error::{CommitError, LeaseError, OpenError, ReadError};
use crate::record::{Entry, Key, LeaseId, Listing, Page, Revision};
use crate::store::{Grant, Store, Watch};
use crate::txn::{Guard, Op, Txn, TxnLimits};

pub use config::{EtcdConfig, EtcdTls};
use fault::{EtcdError, fault_of};
use members::Members;

/// How many times a call that reached no member is tried at each of them.
const ROUNDS: u32 = 4;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(50);

/// A store in an etcd cluster.
#[derive(Clone)]
pub struct EtcdStore {
    members: Arc<Members>,
    config: EtcdConfig,
}

impl EtcdStore {
    /// Connects, and makes sure that the cluster answers this user.
    pub async fn connect(config: EtcdConfig) -> Result<Self, OpenError> {
        config.check()?;
        let unreachable =
            |reason: String| OpenError::Unreachable { endpoints: config.endpoints.join(", "), reason };
        let members = Arc::new(Members::new(&config.endpoints, options(&config)));
        let store = Self { members, config: config.clone() };
        let first = Page { limit: 1, ..Page::default() };
        store.list("", first).await.map_err(|error| unreachable(error.to_string()))?;
        Ok(store)
    }

    fn stored_key(&self, key: &str) -> Vec<u8> {
        [self.config.prefix.as_bytes(), key.as_bytes()].concat()
    }

    /// The range of all stored keys that begin with a prefix, as etcd writes ranges.
    fn stored_range(&self, prefix: &str) -> (Vec<u8>, Vec<u8>) {
        let first = self.stored_key(prefix);
        let mut end = first.clone();
        while end.pop_if(|last| *last == 0xff).is_some() {}
        match end.last_mut() {
            Some(last) => *last += 1,
            // No key is after all of those: etcd's word for an open end.
            None => end.push(0),
        }
        (if first.is_empty() { vec![0] } else { first }, end)
    }

    fn entry(&self, stored: &KeyValue) -> Result<Entry, ReadError> {
        Ok(Entry {
            key: self.shown_key(stored.key())?,
            value: Bytes::copy_from_slice(stored.value()),
            mod_revision: revision(stored.mod_revision()),
            lease: (stored.lease() != 0).then_some(LeaseId(stored.lease())),
        })
    }

    fn shown_key(&self, stored: &[u8]) -> Result<Key, ReadError> {
        let key = stored.strip_prefix(self.config.prefix.as_bytes()).unwrap_or(stored);
        let text = std::str::from_utf8(key).map_err(|_| ReadError::Unavailable {
            reason: format!("a key below {:?} is no text: something else writes there", self.config.prefix),
        })?;
        Ok(Key::from(text))
    }

    /// Runs a call with a time limit, again if it surely reached no member, or if it only reads. A member that
    /// did not answer is not asked again before the others.
    async fn call<T, F>(&self, effect: Effect, call: impl Fn(Client) -> F) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let members = self.members.count();
        let deadline = Instant::now() + self.config.request_timeout;
        // What may be asked again leaves time for the other members; a write is waited for.
        let share = match effect {
            Effect::Reads => u32::try_from(members).unwrap_or(u32::MAX),
            Effect::Writes => 1,
        };
        let limit = self.config.request_timeout / share;
        let mut rounds = 0;
        loop {
            rounds += 1;
            for left in (0..members).rev() {
                let fault = match self.call_once(limit, &call).await {
                    Ok(answer) => return Ok(answer),
                    Err(fault) => fault,
                };
                let again = match &fault {
                    EtcdError::Token(_) | EtcdError::NotSent(_) => true,
                    EtcdError::Unsure(_) => effect == Effect::Reads,
                    EtcdError::Compacted
                    | EtcdError::Ahead
                    | EtcdError::LeaseGone
                    | EtcdError::TooLarge(_)
                    | EtcdError::Refused(_) => false,
                };
                if !again || (rounds == ROUNDS && left == 0) || Instant::now() >= deadline {
                    return Err(fault);
                }
            }
            sleep(BETWEEN_ROUNDS * rounds).await;
        }
    }

    async fn call_once<T, F>(&self, limit: Duration, call: &impl Fn(Client) -> F) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let asked = self.members.asked();
        let called = async {
            let client = self.members.client(asked).await?;
            let answer = call(client.clone()).await;
            if let Err(error) = &answer
                && let EtcdError::Token(_) = fault_of(error)
            {
                client.refresh_token().await?;
            }
            answer
        };
        let fault = match timeout(limit, called).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => fault_of(&error),
            Err(_) => EtcdError::Unsure(format!("no answer in {limit:?}")),
        };
        if let EtcdError::NotSent(_) | EtcdError::Unsure(_) = fault {
            self.members.turn_from(asked);
        }
        Err(fault)
    }

    async fn list_page(&self, prefix: &str, page: Page) -> Result<Listing, ReadError> {
        let (mut first, end) = self.stored_range(prefix);
        if let Some(after) = &page.after {
            first = self.stored_key(after);
            first.push(0);
        }
        let limit = i64::try_from(page.limit.max(1)).unwrap_or(i64::MAX);
        let mut options = GetOptions::new().with_range(end).with_limit(limit);
        if let Some(at) = page.at {
            options = options.with_revision(signed(at));
        }
        let answer = self
            .call(Effect::Reads, |client| {
                let (first, options) = (first.clone(), options.clone());
                // A page may be larger than the 4 MiB that gRPC takes unless told: its entries are ours.
                async move {
                    client.kv_client().max_decoding_message_size(usize::MAX).get(first, Some(options)).await
                }
            })
            .await
            .map_err(|fault| fault.reading(page.at))?;
        let entries = answer.kvs().iter().map(|stored| self.entry(stored)).collect::<Result<_, _>>()?;
        let newest = answer.header().map_or(0, |header| header.revision());
        Ok(Listing { revision: page.at.unwrap_or(revision(newest)), entries, more: answer.more() })
    }

    async fn commit_txn(&self, txn: Txn) -> Result<Revision, CommitError> {
        txn.check(&self.limits())?;
        let request = self.request(&txn);
        let answer = self
            .call(Effect::Writes, |client| {
                let request = request.clone();
                async move { client.kv_client().txn(request).await }
            })
            .await
            .map_err(|fault| fault.committing(&txn))?;
        if answer.succeeded() {
            return Ok(revision(answer.header().map_or(0, |header| header.revision())));
        }
        Err(conflict(&txn.guards, &answer))
    }

    fn request(&self, txn: &Txn) -> etcd_client::Txn {
        let compares: Vec<Compare> = txn
            .guards
            .iter()
            .map(|guard| {
                let expected = guard.expected.map_or(0, signed);
                Compare::mod_revision(self.stored_key(&guard.key), CompareOp::Equal, expected)
            })
            .collect();
        let looks: Vec<TxnOp> = txn
            .guards
            .iter()
            .map(|guard| TxnOp::get(self.stored_key(&guard.key), Some(GetOptions::new().with_keys_only())))
            .collect();
        let ops: Vec<TxnOp> = txn.ops.iter().map(|op| self.operation(op)).collect();
        etcd_client::Txn::new().when(compares).and_then(ops).or_else(looks)
    }

    fn operation(&self, op: &Op) -> TxnOp {
        match op {
            Op::Put { key, value, lease } => {
                let options = lease.map(|lease| PutOptions::new().with_lease(lease.0));
                TxnOp::put(self.stored_key(key), value.to_vec(), options)
            }
            Op::Delete { key } => TxnOp::delete(self.stored_key(key), None),
        }
    }
}

/// Whether repeating a call could do something twice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Reads,
    Writes,
}

impl Store for EtcdStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, ReadError>> {
        async move {
            let answer = self
                .call(Effect::Reads, |mut client| {
                    let stored = self.stored_key(key);
                    async move { client.get(stored, None).await }
                })
                .await
                .map_err(|fault| fault.reading(None))?;
            answer.kvs().first().map(|stored| self.entry(stored)).transpose()
        }
        .boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str, page: Page) -> BoxFuture<'a, Result<Listing, ReadError>> {
        self.list_page(prefix, page).boxed()
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, CommitError>> {
        self.commit_txn(txn).boxed()
    }

    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> BoxFuture<'a, Result<Watch, ReadError>> {
        watching::watch(self, prefix, from).boxed()
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Grant, LeaseError>> {
        async move {
            let seconds = i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX).max(1);
            let answer = self
                .call(Effect::Writes, |mut client| async move {
                    client.lease_grant(seconds, None::<LeaseGrantOptions>).await
                })
                .await
                .map_err(|fault| LeaseError::Unavailable { reason: fault.to_string() })?;
            let ttl = Duration::from_secs(u64::try_from(answer.ttl()).unwrap_or(0));
            Ok(Grant { lease: LeaseId(answer.id()), ttl })
        }
        .boxed()
    }

    fn renew(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), LeaseError>> {
        async move {
            // Renewing twice is renewing once, so it may be repeated like a read.
            let renewed = self
                .call(Effect::Reads, |mut client| async move {
                    client.lease_keep_alive(lease.0).await.map(|_| ())
                })
                .await;
            renewed.map_err(|fault| match fault {
                EtcdError::LeaseGone => LeaseError::Gone { lease },
                other => LeaseError::Unavailable { reason: other.to_string() },
            })
        }
        .boxed()
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), LeaseError>> {
        async move {
            let revoked =
                self.call(Effect::Reads, |mut client| async move {
                    client.lease_revoke(lease.0).await.map(|_| ())
                })
                .await;
            match revoked {
                Ok(()) | Err(EtcdError::LeaseGone) => Ok(()),
                Err(other) => Err(LeaseError::Unavailable { reason: other.to_string() }),
            }
        }
        .boxed()
    }

    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), ReadError>> {
        async move {
            if before == Revision(0) {
                return Ok(());
            }
            let compacted = self
                .call(Effect::Reads, |mut client| async move {
                    client.compact(signed(before), None).await.map(|_| ())
                })
                .await;
            match compacted.map_err(|fault| fault.reading(Some(before))) {
                Ok(()) | Err(ReadError::Compacted { .. }) => Ok(()),
                Err(other) => Err(other),
            }
        }
        .boxed()
    }

    fn limits(&self) -> TxnLimits {
        self.config.limits()
    }

    fn resync_interval(&self) -> Option<Duration> {
        Some(self.config.resync)
    }

    fn condition(&self) -> BoxFuture<'_, Result<Option<StoreCondition>, ReadError>> {
        async move {
            let status = self.call(Effect::Reads, |mut client| async move { client.status().await });
            let status = status.await.map_err(|fault| fault.reading(None))?;
            let alarms = self.call(Effect::Reads, |mut client| async move {
                client.alarm(AlarmAction::Get, AlarmType::None, None).await
            });
            // Where users are told apart, only some may ask.
            let raised = |answer: AlarmResponse| {
                answer.alarms().iter().map(|one| format!("{:?}", one.alarm()).to_uppercase()).collect()
            };
            Ok(Some(StoreCondition {
                version: status.version().to_owned(),
                bytes: u64::try_from(status.db_size()).unwrap_or_default(),
                quota: u64::try_from(status.db_size_quota()).ok().filter(|quota| *quota > 0),
                alarms: alarms.await.ok().map(raised),
            }))
        }
        .boxed()
    }
}

impl std::fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdStore").field("config", &self.config).finish_non_exhaustive()
    }
}

fn options(config: &EtcdConfig) -> ConnectOptions {
    let mut options = ConnectOptions::new()
        .with_require_leader(true)
        .with_auto_token_refresh(true)
        .with_connect_timeout(config.request_timeout.min(Duration::from_secs(3)))
        .with_keep_alive(Duration::from_secs(10), Duration::from_secs(5))
        .with_keep_alive_while_idle(true);
    if let Some(tls) = &config.tls {
        options = options.with_tls(tls.options());
    }
    if let Some((name, password)) = &config.user {
        options = options.with_user(name, password);
    }
    options
}

/// The first guard that does not hold, as the transaction's other branch saw it.
fn conflict(guards: &[Guard], answer: &TxnResponse) -> CommitError {
    let found = answer.op_responses().into_iter().map(|look| match look {
        TxnOpResponse::Get(found) => found.kvs().first().map(|stored| revision(stored.mod_revision())),
        _ => None,
    });
    let failed = guards.iter().zip(found).find(|(guard, actual)| guard.expected != *actual);
    match failed {
        Some((guard, actual)) => {
            CommitError::Conflict { key: guard.key.clone(), expected: guard.expected, actual }
        }
        None => CommitError::Invalid { reason: "etcd refused guards that hold".into() },
    }
}

fn revision(signed: i64) -> Revision {
    Revision(u64::try_from(signed).unwrap_or(0))
}

fn signed(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}
