use futures::future::BoxFuture;
use weft_store::{
    Grant, LeaseError, LeaseId, Listing, Location, Page, ReadError, Revision, TxnLimits, Watch,
};

use super::*;

#[test]
fn partition_reads_back_as_it_was_told() {
    let ports = [(("shop/web".parse().unwrap(), "http".to_owned()), Health::Unhealthy)];
    let partition = PresenceReport::from([
        ("shop/web-1".parse().unwrap(), RemotePresence { health: Some(ports.into()), bundle: None }),
        ("shop/web-2".parse().unwrap(), RemotePresence { health: None, bundle: Some(Version::from_u64(7)) }),
        ("shop/web-3".parse().unwrap(), RemotePresence { health: Some(PortHealth::new()), bundle: None }),
    ]);
    let bytes = serde_json::to_vec(&StoredReport::of(partition.iter())).unwrap();
    assert_eq!(decode(&bytes), partition);
}

#[test]
fn what_cannot_be_read_is_nobody() {
    assert!(decode(b"{").is_empty());
}

fn reporting(workloads: usize, ports: usize) -> PresenceReport {
    let health: PortHealth = (0..ports)
        .map(|port| (("shop/web".parse().unwrap(), format!("port-{port}")), Health::Unhealthy))
        .collect();
    let said = RemotePresence { health: Some(health), bundle: None };
    (0..workloads).map(|n| (format!("shop/web-{n}").parse().unwrap(), said.clone())).collect()
}

/// One that reports more than fits anywhere.
fn big(ports: usize) -> PresenceReport {
    reporting(1, ports).into_values().map(|said| ("shop/big".parse().unwrap(), said)).collect()
}

#[test]
fn reports_that_do_not_fit_are_left_out_and_who_is_there_stays() {
    let mut here = reporting(50, 2);
    here.extend(big(40_000));
    let mut stored = StoredReport::of(here.iter());
    let mut left_out = None;
    let value = stored.fit(1 << 20, |count| left_out = Some(count));
    assert_eq!(left_out, Some(1), "the longest first");
    assert!(value.len() <= 1 << 20);
    let written = decode(&value);
    assert_eq!(written.keys().collect::<Vec<_>>(), here.keys().collect::<Vec<_>>());
    assert_eq!(written[&"shop/big".parse().unwrap()].health, None);
    assert_eq!(written[&"shop/web-1".parse().unwrap()], here[&"shop/web-1".parse().unwrap()]);
    stored.fit(1 << 20, |_| panic!("what fits is told as it is"));
}

/// A store that takes as little at once as etcd may be told to.
#[derive(Debug)]
struct Narrow(Arc<dyn Store>);

const NARROW: TxnLimits = TxnLimits { max_value: 24 << 10, max_ops: 128, max_txn_bytes: 32 << 10 };

impl Store for Narrow {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<weft_store::Entry>, ReadError>> {
        self.0.get(key)
    }
    fn list<'a>(&'a self, prefix: &'a str, page: Page) -> BoxFuture<'a, Result<Listing, ReadError>> {
        self.0.list(prefix, page)
    }
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, CommitError>> {
        if txn.bytes() > NARROW.max_txn_bytes {
            let (actual, limit) = (txn.bytes(), NARROW.max_txn_bytes);
            let error = CommitError::TooLarge { what: "transaction size", actual, limit };
            return Box::pin(std::future::ready(Err(error)));
        }
        self.0.commit(txn)
    }
    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> BoxFuture<'a, Result<Watch, ReadError>> {
        self.0.watch(prefix, from)
    }
    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Grant, LeaseError>> {
        self.0.grant(ttl)
    }
    fn renew(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), LeaseError>> {
        self.0.renew(lease)
    }
    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), LeaseError>> {
        self.0.revoke(lease)
    }
    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), ReadError>> {
        self.0.compact(before)
    }
    fn limits(&self) -> TxnLimits {
        NARROW
    }
    fn resync_interval(&self) -> Option<Duration> {
        self.0.resync_interval()
    }
}

#[tokio::test]
async fn mesh_that_is_larger_than_a_transaction_is_told_whole() {
    let store: Arc<dyn Store> = Arc::new(Narrow(weft_store::open(Location::Memory).await.unwrap()));
    let lease = store.lease(Duration::from_secs(10)).await.unwrap();
    let left_out = LogThrottle::default();
    let writer =
        Writer { store: Arc::clone(&store), replica: "r1".to_owned(), metrics: Metrics::new(), left_out };
    // About 300 KiB; and one workload that alone is more than a value may be.
    let mut here = reporting(5000, 1);
    here.extend(big(2000));
    let mut written = HashMap::new();
    writer.write(&lease, &here, &mut written).await.unwrap();

    let stored = store.list_all(PREFIX).await.unwrap().entries;
    let heard: PresenceReport = stored.iter().flat_map(|entry| decode(&entry.value)).collect();
    assert_eq!(heard.len(), here.len(), "nobody is taken for lost");
    let silent = heard.values().filter(|said| said.health.is_none()).count();
    assert_eq!(silent, 1, "all but the one are told as they are");
    assert_eq!(heard[&"shop/big".parse().unwrap()].health, None);

    let before = store.list_all(PREFIX).await.unwrap().revision;
    writer.write(&lease, &here, &mut written).await.unwrap();
    assert_eq!(store.list_all(PREFIX).await.unwrap().revision, before, "nothing is told twice");
    here.clear();
    writer.write(&lease, &here, &mut written).await.unwrap();
    assert!(store.list_all(PREFIX).await.unwrap().entries.is_empty());
}
