//! Records of joined workloads: written at join, kept until someone removes them.
//!
//! ```text
//! workloads/NAMESPACE/WORKLOAD     what the joiner declared, within what its token permits
//! ```
//!
//! Each write is guarded by the record's revision. Health and streams are never stored here: the registry knows them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_api::rest::DrainMark;
use weft_api::{ServiceId, WorkloadId};
use weft_store::{CommitError, Entry, Leadership, ReadError, Revision, Store, StoreExt, Txn};

use crate::StoreError;
use crate::ca::KeyOrigin;
use crate::clock::Clock;

/// What all keys of records begin with; the reconciler follows it.
pub const PREFIX: &str = "workloads/";

/// What stands beside the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeclaredProxy {
    Weft,
    Envoy,
    /// Nothing: the application speaks xDS itself.
    Grpc,
    None,
}

impl DeclaredProxy {
    /// Whether it is a sidecar, which takes its configuration from us.
    #[must_use]
    pub fn is_sidecar(self) -> bool {
        match self {
            Self::Weft | Self::Envoy => true,
            Self::Grpc | Self::None => false,
        }
    }
}

/// A service port offered to the application on a port of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredUpstream {
    pub service: ServiceId,
    /// Its port, by name or number.
    pub port: String,
    /// Where the sidecar listens for it.
    pub bind: SocketAddr,
}

/// What a joiner says about itself, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Declared {
    /// Where others reach it.
    pub address: IpAddr,
    /// The application's port for each named service port.
    pub app_ports: BTreeMap<String, u16>,
    /// Labels that its token permits.
    pub labels: BTreeMap<String, String>,
    /// Where it runs; may be empty.
    pub region: String,
    /// Where it runs, within the region; may be empty.
    pub zone: String,
    /// Ports opened for its application.
    pub upstreams: Vec<DeclaredUpstream>,
    /// What stands beside it.
    pub proxy: DeclaredProxy,
    /// Where its sidecar takes mTLS.
    pub inbound: Option<SocketAddr>,
    /// Where its sidecar takes the application's requests.
    pub outbound: Option<SocketAddr>,
    /// It only calls others, and is published nowhere.
    #[serde(default, skip_serializing_if = "is_false")]
    pub client: bool,
    /// Directory that its sidecar may write access logs into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_log_dir: Option<String>,
}

impl Declared {
    /// Whether others reach it through a listener that a sidecar takes from us.
    #[must_use]
    pub fn is_served_by_sidecar(&self) -> bool {
        self.proxy.is_sidecar() && !self.client
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// A joined workload, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRecord {
    pub id: WorkloadId,
    /// Its identity: what its token said.
    pub service: ServiceId,
    /// What it said of itself.
    pub declared: Declared,
    /// A new random id at each join: tells an instance from its predecessor of the same name.
    pub instance: String,
    /// Id of the token that it joined with.
    pub token: String,
    /// Hash of the public key that it joined with.
    pub spki_sha256: [u8; 32],
    /// Where its key is made.
    pub key_origin: KeyOrigin,
    /// Unix seconds.
    pub joined_at: i64,
    /// Where the join came from; none in records of versions that did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined_from: Option<IpAddr>,
    /// Unix seconds of its goodbye. It gets no new requests; joining again clears this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_at: Option<i64>,
    /// Its sidecar has not taken its listener for other workloads yet: nobody listens, and peers are not told of it.
    /// Records of versions that did not note it are of workloads that were published.
    #[serde(default, skip_serializing_if = "is_false")]
    pub awaited: bool,
    /// Somebody took it out of balancing. It stays so through reconnects and further joinings of its name, until that is
    /// undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<DrainMark>,
    /// SHA-256 of the public keys of the roots that it verifies others by, in hexadecimal, as it told last. None of one that
    /// tells nothing: its version may not know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusts: Option<BTreeSet<String>>,
}

/// A record and the revision that a guarded write needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub record: WorkloadRecord,
    pub revision: Revision,
}

impl WorkloadRecord {
    /// Reads a followed entry; `None` when it is not readable, which the caller logs and skips.
    #[must_use]
    pub fn decode(entry: &Entry) -> Option<Self> {
        serde_json::from_slice(&entry.value).ok()
    }

    /// Adds a guarded write of this record to a transaction: `previous` is what was read, if anything.
    #[must_use]
    pub fn put(&self, txn: Txn, previous: Option<Revision>) -> Txn {
        let key = key(&self.id);
        let txn = match previous {
            Some(revision) => txn.expect_at(key.as_str(), revision),
            None => txn.expect_absent(key.as_str()),
        };
        txn.put(key, serde_json::to_vec(self).expect("strings and numbers always encode"))
    }
}

impl WorkloadRecord {
    /// Adds its removal to a transaction, guarded by what was read.
    #[must_use]
    pub fn remove(&self, txn: Txn, revision: Revision) -> Txn {
        let key = key(&self.id);
        txn.expect_at(key.as_str(), revision).delete(key)
    }
}

/// Which record a key names, for deletions in a followed stream.
#[must_use]
pub fn id_of(key: &str) -> Option<WorkloadId> {
    key.strip_prefix(PREFIX)?.parse().ok()
}

/// What became of a drain, or of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainOutcome {
    Changed,
    /// It was so before.
    Unchanged,
    /// There is no such workload any more.
    Gone,
    /// Nothing was written: of this group nobody would stay.
    LastOf(usize),
}

/// Reads and writes records.
#[derive(Debug, Clone)]
pub struct WorkloadStore {
    store: Arc<dyn Store>,
    clock: Clock,
}

impl WorkloadStore {
    /// The records in a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// One record.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find(&self, id: &WorkloadId) -> Result<Option<Stored>, ReadError> {
        let entry = self.store.get(&key(id)).await?;
        Ok(entry.and_then(|entry| {
            let revision = entry.mod_revision;
            WorkloadRecord::decode(&entry).map(|record| Stored { record, revision })
        }))
    }

    /// All records.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<WorkloadRecord>, ReadError> {
        let entries = self.store.list_all(PREFIX).await?.entries;
        Ok(entries.iter().filter_map(WorkloadRecord::decode).collect())
    }

    /// Marks a workload as leaving: it gets no new requests. With an `instance`, only that one: the goodbye of an
    /// instance that was replaced says nothing about its successor. `false` when there is nothing to mark.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn drain(&self, id: &WorkloadId, instance: Option<&str>) -> Result<bool, StoreError> {
        let left_at = self.clock.unix_seconds();
        let marked = self.change(id, instance, |record| {
            record.left_at.is_none() && record.left_at.replace(left_at).is_none()
        });
        Ok(marked.await?.is_some())
    }

    /// Takes the mark of a goodbye away from an instance that is back, whose listener is awaited again. Whether there was
    /// one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn take_back(&self, id: &WorkloadId, instance: &str) -> Result<bool, StoreError> {
        let returned = self.change(id, Some(instance), |record| {
            record.awaited |= record.left_at.is_some() && record.declared.is_served_by_sidecar();
            record.left_at.take().is_some()
        });
        Ok(returned.await? == Some(true))
    }

    /// Takes a workload out of balancing, or back without a mark. Of each group in `staying`, one that is in balancing
    /// has to stay in: that is a part of the write's guard, so that of two drains which each count on the other's workload,
    /// at whatever replicas, one goes through.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn mark_drained(
        &self,
        id: &WorkloadId,
        mark: Option<DrainMark>,
        staying: &[Vec<WorkloadId>],
    ) -> Result<DrainOutcome, StoreError> {
        loop {
            let Some(Stored { mut record, revision }) = self.find(id).await? else {
                return Ok(DrainOutcome::Gone);
            };
            if record.drained.is_some() == mark.is_some() {
                return Ok(DrainOutcome::Unchanged);
            }
            record.drained.clone_from(&mark);
            let mut txn = record.put(Txn::new(), Some(revision));
            for (group, candidates) in staying.iter().enumerate() {
                let Some(stays) = self.first_in_balancing(candidates).await? else {
                    return Ok(DrainOutcome::LastOf(group));
                };
                txn = txn.expect_at(key(&stays.record.id), stays.revision);
            }
            match self.store.commit(txn).await {
                Ok(_) => return Ok(DrainOutcome::Changed),
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn first_in_balancing(&self, candidates: &[WorkloadId]) -> Result<Option<Stored>, ReadError> {
        for id in candidates {
            let found = self.find(id).await?;
            if let Some(stored) =
                found.filter(|one| one.record.drained.is_none() && one.record.left_at.is_none())
            {
                return Ok(Some(stored));
            }
        }
        Ok(None)
    }

    /// Notes that the sidecar of an instance has taken its listener. Whether that was awaited.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn arrived(&self, id: &WorkloadId, instance: &str) -> Result<bool, StoreError> {
        let arrived = self.change(id, Some(instance), |record| std::mem::take(&mut record.awaited));
        Ok(arrived.await? == Some(true))
    }

    /// Notes which roots an instance trusts. Whether that is new.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_trust(
        &self,
        id: &WorkloadId,
        instance: &str,
        roots: &BTreeSet<String>,
    ) -> Result<bool, StoreError> {
        let noted = self.change(id, Some(instance), |record| {
            let is_new = record.trusts.as_ref() != Some(roots);
            if is_new {
                record.trusts = Some(roots.clone());
            }
            is_new
        });
        Ok(noted.await? == Some(true))
    }

    /// Changes a record, of this `instance` where one is given; `change` says whether it did. `None` when there is no
    /// such record.
    async fn change(
        &self,
        id: &WorkloadId,
        instance: Option<&str>,
        change: impl Fn(&mut WorkloadRecord) -> bool,
    ) -> Result<Option<bool>, StoreError> {
        loop {
            let Some(Stored { mut record, revision }) = self.find(id).await? else { return Ok(None) };
            if instance.is_some_and(|instance| instance != record.instance) {
                return Ok(None);
            }
            if !change(&mut record) {
                return Ok(Some(false));
            }
            match self.store.commit(record.put(Txn::new(), Some(revision))).await {
                Ok(_) => return Ok(Some(true)),
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Removes the record of an instance that is gone for hours, if it is still that instance and has not come back. The leader calls this;
    /// the write is fenced.
    ///
    /// # Errors
    /// When the store fails or leadership was lost.
    pub async fn expire(&self, record: &WorkloadRecord, leader: &Leadership) -> Result<bool, StoreError> {
        let Some(stored) = self.find(&record.id).await? else { return Ok(false) };
        if (&stored.record.instance, stored.record.left_at) != (&record.instance, record.left_at) {
            return Ok(false);
        }
        let key = key(&record.id);
        let txn = Txn::new().guard(leader.guard()).expect_at(key.as_str(), stored.revision).delete(key);
        self.store.commit(txn).await?;
        Ok(true)
    }
}

fn key(id: &WorkloadId) -> String {
    format!("{PREFIX}{id}")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use weft_store::Location;

    use super::*;

    pub(crate) fn record(id: &str, instance: &str) -> WorkloadRecord {
        WorkloadRecord {
            id: id.parse().unwrap(),
            service: "shop/web".parse().unwrap(),
            declared: Declared {
                address: "127.0.0.2".parse().unwrap(),
                app_ports: BTreeMap::from([("http".to_owned(), 8080)]),
                labels: BTreeMap::new(),
                region: String::new(),
                zone: String::new(),
                upstreams: Vec::new(),
                proxy: DeclaredProxy::Weft,
                inbound: None,
                outbound: None,
                client: false,
                access_log_dir: None,
            },
            instance: instance.to_owned(),
            token: "t-1".to_owned(),
            spki_sha256: [0; 32],
            key_origin: KeyOrigin::Workload,
            joined_at: 0,
            joined_from: None,
            left_at: None,
            awaited: false,
            drained: None,
            trusts: None,
        }
    }

    async fn workloads() -> WorkloadStore {
        WorkloadStore::new(weft_store::open(Location::Memory).await.unwrap(), Clock::system())
    }

    async fn put(workloads: &WorkloadStore, record: &WorkloadRecord) {
        let previous = workloads.find(&record.id).await.unwrap().map(|stored| stored.revision);
        workloads.store.commit(record.put(Txn::new(), previous)).await.unwrap();
    }

    #[tokio::test]
    async fn record_reads_back_and_names_its_key() {
        let workloads = workloads().await;
        let record = record("shop/web-1", "i-1");
        put(&workloads, &record).await;
        assert_eq!(workloads.find(&record.id).await.unwrap().unwrap().record, record);
        assert_eq!(workloads.list().await.unwrap(), vec![record.clone()]);
        assert_eq!(id_of(&key(&record.id)), Some(record.id));
        assert_eq!(id_of("tokens/t-1"), None);
    }

    #[tokio::test]
    async fn write_on_stale_reading_is_refused() {
        let workloads = workloads().await;
        put(&workloads, &record("shop/web-1", "i-1")).await;
        let read = workloads.find(&record("shop/web-1", "").id).await.unwrap().unwrap();
        put(&workloads, &record("shop/web-1", "i-2")).await;
        let stale = workloads.store.commit(read.record.put(Txn::new(), Some(read.revision))).await;
        assert!(matches!(stale, Err(CommitError::Conflict { .. })));
        let first = workloads.store.commit(read.record.put(Txn::new(), None)).await;
        assert!(matches!(first, Err(CommitError::Conflict { .. })));
    }

    #[tokio::test]
    async fn goodbye_of_a_replaced_instance_does_not_drain_its_successor() {
        let workloads = workloads().await;
        let new = record("shop/web-1", "i-2");
        put(&workloads, &new).await;
        assert!(!workloads.drain(&new.id, Some("i-1")).await.unwrap());
        assert_eq!(workloads.find(&new.id).await.unwrap().unwrap().record.left_at, None);
        assert!(workloads.drain(&new.id, Some("i-2")).await.unwrap());
        assert!(workloads.find(&new.id).await.unwrap().unwrap().record.left_at.is_some());
        assert!(workloads.drain(&new.id, None).await.unwrap(), "twice is no error");
    }

    #[test]
    fn only_a_sidecar_that_others_call_has_a_listener_to_wait_for() {
        let declared = |proxy, client| Declared { proxy, client, ..record("shop/web-1", "i-1").declared };
        assert!(declared(DeclaredProxy::Weft, false).is_served_by_sidecar());
        assert!(declared(DeclaredProxy::Envoy, false).is_served_by_sidecar());
        assert!(!declared(DeclaredProxy::Envoy, true).is_served_by_sidecar());
        assert!(!declared(DeclaredProxy::None, false).is_served_by_sidecar());
    }

    /// A record that an earlier version wrote is of a workload that was published, and stays so.
    #[test]
    fn record_without_the_mark_is_awaited_by_nobody() {
        let written = serde_json::to_value(record("shop/web-1", "i-1")).unwrap();
        assert!(written.get("awaited").is_none() && written["declared"].get("client").is_none());
        assert!(!serde_json::from_value::<WorkloadRecord>(written).unwrap().awaited);
    }

    #[tokio::test]
    async fn listener_is_awaited_until_it_is_taken_and_again_after_a_goodbye() {
        let workloads = workloads().await;
        let new = WorkloadRecord { awaited: true, ..record("shop/web-1", "i-1") };
        put(&workloads, &new).await;
        assert!(!workloads.arrived(&new.id, "i-0").await.unwrap(), "another instance says nothing about it");
        assert!(workloads.arrived(&new.id, "i-1").await.unwrap());
        assert!(!workloads.arrived(&new.id, "i-1").await.unwrap(), "it arrives once");
        assert!(!workloads.take_back(&new.id, "i-1").await.unwrap());
        let awaited = async || workloads.find(&new.id).await.unwrap().unwrap().record.awaited;
        assert!(!awaited().await, "it never left");
        workloads.drain(&new.id, Some("i-1")).await.unwrap();
        assert!(workloads.take_back(&new.id, "i-1").await.unwrap());
        assert!(awaited().await);
    }

    #[tokio::test]
    async fn drain_goes_through_only_while_one_of_each_group_stays() {
        let workloads = workloads().await;
        let ids: Vec<WorkloadId> =
            ["shop/web-1", "shop/web-2", "shop/web-3"].iter().map(|id| id.parse().unwrap()).collect();
        for id in &ids {
            put(&workloads, &record(&id.to_string(), "i-1")).await;
        }
        let mark = || Some(DrainMark { at: 1, by: "operator".to_owned() });
        let drain = async |id: &WorkloadId, staying: &[Vec<WorkloadId>]| {
            workloads.mark_drained(id, mark(), staying).await.unwrap()
        };
        let others = |id: &WorkloadId| ids.iter().filter(|other| *other != id).cloned().collect::<Vec<_>>();
        assert_eq!(drain(&ids[0], &[others(&ids[0])]).await, DrainOutcome::Changed);
        assert_eq!(drain(&ids[0], &[others(&ids[0])]).await, DrainOutcome::Unchanged);
        workloads.drain(&ids[1], None).await.unwrap();
        assert_eq!(drain(&ids[2], &[vec![], others(&ids[2])]).await, DrainOutcome::LastOf(0));
        assert_eq!(drain(&ids[2], &[others(&ids[2])]).await, DrainOutcome::LastOf(0), "one said goodbye");
        assert_eq!(drain(&ids[2], &[]).await, DrainOutcome::Changed, "nobody asked for more");
        assert_eq!(workloads.mark_drained(&ids[0], None, &[]).await.unwrap(), DrainOutcome::Changed);
        assert_eq!(drain(&"shop/nobody".parse().unwrap(), &[]).await, DrainOutcome::Gone);
    }

    #[tokio::test]
    async fn expiry_spares_an_instance_that_came_back() {
        let workloads = workloads().await;
        let leader = workloads.store.elect("leader", "test", Duration::from_secs(60)).await;
        let old = record("shop/web-1", "i-1");
        put(&workloads, &record("shop/web-1", "i-2")).await;
        assert!(!workloads.expire(&old, &leader).await.unwrap());
        assert!(workloads.expire(&record("shop/web-1", "i-2"), &leader).await.unwrap());
        assert!(workloads.list().await.unwrap().is_empty());
    }
}
