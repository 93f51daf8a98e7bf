use weft_store::{Entry, StoreExt as _, Txn};

use super::super::records::{CaRecords, PREFIX, resealed};
use super::super::seen_version::file_beside;
use super::super::tests::Mesh;
use super::super::{Authority, CaError, SealError};
use crate::private_file;

impl Mesh {
    async fn entries(&self) -> Vec<Entry> {
        self.store.list_all(PREFIX).await.unwrap().entries
    }

    /// What somebody does who can write to the store and has no key.
    async fn put_back(&self, entries: &[Entry]) {
        let now = self.entries().await;
        let mut txn = Txn::new();
        for gone in now.iter().filter(|now| entries.iter().all(|old| old.key != now.key)) {
            txn = txn.delete(gone.key.as_str());
        }
        let txn = entries.iter().fold(txn, |txn, old| txn.put(old.key.as_str(), old.value.clone()));
        self.store.commit(txn).await.unwrap();
    }

    /// Puts a new key before those that the file has.
    fn add_key(&self, byte: u8) {
        let old = private_file::read(&self.seal_key).unwrap().unwrap();
        let line = format!("{}\n", data_encoding::HEXLOWER.encode(&[byte; 32]));
        private_file::replace(&self.seal_key, &[line.as_bytes(), &old].concat()).unwrap();
    }

    /// Leaves only the newest key in the file.
    fn drop_old_keys(&self) {
        let text = private_file::read(&self.seal_key).unwrap().unwrap();
        private_file::replace(&self.seal_key, &text[..65]).unwrap();
    }

    async fn reseal(&self) -> usize {
        self.authority.reseal(self.store.as_ref(), None).await.unwrap()
    }

    /// Makes the store what an earlier release left.
    async fn make_old(&self) {
        let seal = &self.authority.seal;
        seal.seal_without_version();
        let records = CaRecords::read(self.store.as_ref()).await.unwrap().unwrap();
        let mut txn = Txn::new().delete("mesh/head");
        for (entry, key) in records.sealed().unwrap() {
            let old = resealed(entry, &key, seal).unwrap();
            assert!(String::from_utf8_lossy(&old).contains(r#""format":1"#));
            txn = txn.put(entry.key.as_str(), old);
        }
        self.store.commit(txn).await.unwrap();
        std::fs::remove_file(file_beside(&self.seal_key)).unwrap();
    }

    async fn read(&self) -> Result<(), CaError> {
        self.authority.reload(self.store.as_ref()).await
    }
}

fn is_not_newest<T: std::fmt::Debug>(outcome: Result<T, CaError>, record: &str) {
    assert!(
        matches!(&outcome, Err(CaError::NotNewest { record: found, .. }) if found == record),
        "{outcome:?}"
    );
}

fn is_older(outcome: Result<impl std::fmt::Debug, CaError>) {
    assert!(matches!(outcome, Err(CaError::OlderState { .. })), "{outcome:?}");
}

#[tokio::test]
async fn record_that_is_put_back_is_refused_while_running_and_at_the_next_start() {
    let mesh = Mesh::new().await;
    let old = mesh.entries().await;
    mesh.add_key(7);
    assert_eq!(mesh.reseal().await, 3, "root, issuer and head");
    let new = mesh.entries().await;
    for key in ["mesh/root", "mesh/issuer"] {
        let mix: Vec<_> = new
            .iter()
            .map(|now| {
                if now.key.as_str() == key { &old } else { &new }
                    .iter()
                    .find(|e| e.key == now.key)
                    .unwrap()
                    .clone()
            })
            .collect();
        mesh.put_back(&mix).await;
        is_not_newest(mesh.read().await, key);
        is_not_newest(mesh.reopen().await, key);
        let refused = mesh.authority.rotate_root(mesh.store.as_ref(), time::Duration::HOUR, None, None).await;
        assert!(refused.unwrap_err().to_string().contains(key), "and nothing is built on it");
    }
    mesh.put_back(&new).await;
    mesh.read().await.unwrap();
    assert!(mesh.leaf("shop/web", "shop/web-1").0.not_after > mesh.hand.clock().now());
}

#[tokio::test]
async fn root_that_a_stranger_adds_is_trusted_by_nobody() {
    let mesh = Mesh::new().await;
    let mut forged = mesh.entries().await;
    let root = forged.iter().find(|entry| entry.key.as_str() == "mesh/root").unwrap().clone();
    forged.push(Entry { key: "mesh/old-root".into(), ..root });
    mesh.put_back(&forged).await;
    is_not_newest(mesh.read().await, "mesh/old-root");
    is_not_newest(mesh.reopen().await, "mesh/old-root");
    assert_eq!(mesh.authority.bundle().len(), 1);
}

#[tokio::test]
async fn revocation_list_that_is_put_back_is_refused() {
    let mesh = Mesh::new().await;
    let (leaf, _) = mesh.leaf("shop/web", "shop/web-1");
    let old = mesh.entries().await;
    let listed = [(leaf.issuer.clone(), leaf.serial.clone())];
    let (txn, _) = mesh.authority.listing(mesh.store.as_ref(), Txn::new(), &listed).await.unwrap();
    mesh.store.commit(txn).await.unwrap();
    mesh.read().await.unwrap();
    let new = mesh.entries().await;
    let list = format!("mesh/crls/{}", leaf.issuer);
    let without: Vec<_> = new
        .iter()
        .map(|now| {
            if now.key.as_str() == list {
                old.iter().find(|e| e.key == now.key).unwrap().clone()
            } else {
                now.clone()
            }
        })
        .collect();
    mesh.put_back(&without).await;
    is_not_newest(mesh.read().await, &list);
    assert!(mesh.authority.lists()[0].revoked.contains(&leaf.serial), "the newest one stays in force");
}

#[tokio::test]
async fn whole_store_that_is_put_back_is_refused_where_a_newer_one_was_seen() {
    let mesh = Mesh::new().await;
    let old = mesh.entries().await;
    mesh.authority.rotate_root(mesh.store.as_ref(), time::Duration::HOUR, None, None).await.unwrap();
    mesh.put_back(&old).await;
    is_older(mesh.read().await);
    is_older(mesh.reopen().await);
    let headless: Vec<_> = old.into_iter().filter(|entry| entry.key.as_str() != "mesh/head").collect();
    mesh.put_back(&headless).await;
    is_older(mesh.read().await);
    // A machine that has the key and has seen nothing believes what it finds.
    std::fs::remove_file(file_beside(&mesh.seal_key)).unwrap();
    assert!(mesh.reopen().await.is_ok());
}

#[tokio::test]
async fn old_key_can_go_once_records_are_sealed_with_the_new_one() {
    let mesh = Mesh::new().await;
    mesh.authority.rotate_root(mesh.store.as_ref(), time::Duration::HOUR, None, None).await.unwrap();
    let old = mesh.entries().await;
    let store = mesh.store.as_ref();
    let before = mesh.authority.seal_use(store).await.unwrap();
    mesh.add_key(7);
    let due = mesh.authority.seal_use(store).await.unwrap();
    assert_eq!(
        (due.keys[&before.sealing], due.keys[&due.sealing]),
        (5, 0),
        "two roots, two issuers, the head"
    );
    assert_eq!(mesh.reseal().await, 5);
    let done = mesh.authority.seal_use(store).await.unwrap();
    assert_eq!((done.keys[&before.sealing], done.keys[&done.sealing]), (0, 5));
    assert_eq!(mesh.reseal().await, 0, "again, it finds nothing to do");
    mesh.drop_old_keys();
    assert_eq!(mesh.authority.seal_use(store).await.unwrap().keys.len(), 1);
    let again = mesh.reopen().await.unwrap();
    assert_eq!(again.root_spki_sha256(), mesh.authority.root_spki_sha256());
    again.abort_rotation(store, None).await.unwrap();
    // Who has no key of that time finds nothing that opens, whatever was seen.
    std::fs::remove_file(file_beside(&mesh.seal_key)).unwrap();
    mesh.put_back(&old).await;
    assert!(matches!(mesh.reopen().await, Err(CaError::Seal(SealError::NotHeld { .. }))));
}

#[tokio::test]
async fn replica_with_both_keys_goes_on_while_another_one_reseals() {
    let mesh = Mesh::new().await;
    let other = mesh.reopen().await.unwrap();
    mesh.add_key(7);
    mesh.reseal().await;
    other.reload(mesh.store.as_ref()).await.unwrap();
    let both = tokio::join!(
        other.reseal(mesh.store.as_ref(), None),
        mesh.authority.reseal(mesh.store.as_ref(), None)
    );
    assert!(matches!(both, (Ok(0), Ok(0))), "{both:?}");
    mesh.add_key(8);
    let both = tokio::join!(
        other.reseal(mesh.store.as_ref(), None),
        mesh.authority.reseal(mesh.store.as_ref(), None)
    );
    let (Ok(one), Ok(two)) = both else { panic!("{both:?}") };
    assert!(one.max(two) == 3, "at least one did it: {one} {two}");
}

#[tokio::test]
async fn store_of_an_earlier_release_is_read_goes_on_and_gets_its_versions() {
    let mesh = Mesh::new().await;
    mesh.make_old().await;
    let old = mesh.entries().await;
    let upgraded: Authority = mesh.reopen().await.unwrap();
    let store = mesh.store.as_ref();
    assert_eq!(upgraded.seal_use(store).await.unwrap().version, None);
    upgraded.rotate_root(store, time::Duration::HOUR, None, None).await.unwrap();
    let records = mesh.entries().await;
    let next = records.iter().find(|entry| entry.key.as_str() == "mesh/next-root").unwrap();
    assert!(
        String::from_utf8_lossy(&next.value).contains(r#""format":1"#),
        "as a replica of that release reads it"
    );
    upgraded.abort_rotation(store, None).await.unwrap();
    assert_eq!(upgraded.reseal(store, None).await.unwrap(), 2);
    assert_eq!(upgraded.seal_use(store).await.unwrap().version, Some(1));
    assert!(mesh.entries().await.iter().all(|entry| entry.key.as_str() == "mesh/head"
        || !String::from_utf8_lossy(&entry.value).contains(r#""format":1"#)));
    mesh.put_back(&old).await;
    is_older(mesh.reopen().await);
}

#[tokio::test]
async fn new_mesh_in_an_emptied_store_counts_anew() {
    let mesh = Mesh::new().await;
    mesh.authority.rotate_root(mesh.store.as_ref(), time::Duration::HOUR, None, None).await.unwrap();
    mesh.put_back(&[]).await;
    let new = mesh.reopen().await.unwrap();
    assert_ne!(new.root_spki_sha256(), mesh.authority.root_spki_sha256());
    assert!(mesh.reopen().await.is_ok(), "and is found again");
    is_older(mesh.read().await);
}
