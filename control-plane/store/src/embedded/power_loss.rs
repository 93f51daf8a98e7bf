//! What a power cut leaves: everything synced, and any part of what was not.
//!
//! A kill of the process proves less, since the system still writes its page cache.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redb::{Database, StorageBackend};

use super::{append, builder, load};
use crate::state::{Entries, StoreState};
use crate::txn::Txn;

/// What a disk writes at once or not at all.
const SECTOR: usize = 512;

/// A disk whose power is cut at one of its operations.
#[derive(Clone, Debug)]
struct Disk(Arc<Mutex<DiskState>>);

#[derive(Debug)]
struct DiskState {
    cached: Vec<u8>,
    synced: Vec<u8>,
    /// Parts written since the last sync, each within one sector.
    loose: Vec<(usize, Vec<u8>)>,
    random: StdRng,
    operations_left: u64,
    acknowledged: Arc<AtomicU64>,
    /// The disk after the cut, and how many commits had been acknowledged by then.
    cut: Option<(Vec<u8>, u64)>,
}

impl Disk {
    fn new(content: Vec<u8>, seed: u64, operations_left: u64, acknowledged: Arc<AtomicU64>) -> Self {
        Self(Arc::new(Mutex::new(DiskState {
            cached: content.clone(),
            synced: content,
            loose: Vec::new(),
            random: StdRng::seed_from_u64(seed),
            operations_left,
            acknowledged,
            cut: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().unwrap()
    }
}

impl DiskState {
    fn operate(&mut self) {
        self.operations_left = self.operations_left.saturating_sub(1);
        if self.operations_left > 0 || self.cut.is_some() {
            return;
        }
        let mut left = self.synced.clone();
        // From nothing of what was not synced to all of it.
        let surviving = [0.0, 0.5, 0.9, 1.0][self.random.random_range(0..4)];
        // The file's length may have reached the disk or not.
        if self.random.random() {
            left.resize(self.cached.len(), 0);
        }
        for (at, part) in &self.loose {
            let end = at + part.len();
            if end <= left.len() && self.random.random_bool(surviving) {
                left[*at..end].copy_from_slice(part);
            }
        }
        self.cut = Some((left, self.acknowledged.load(Ordering::SeqCst)));
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = offset as usize;
        let state = self.state();
        let found = state.cached.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.cached.resize(len as usize, 0);
        state.operate();
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.operate();
        state.synced = state.cached.clone();
        state.loose.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let mut at = offset as usize;
        state.cached[at..at + data.len()].copy_from_slice(data);
        let mut rest = data;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
            state.loose.push((at, part.to_vec()));
            at += part.len();
            rest = after;
        }
        state.operate();
        Ok(())
    }
}

fn open(disk: Disk) -> Database {
    builder().set_check_integrity_on_open(true).create_with_backend(disk).unwrap()
}

/// What the store held after each revision.
fn commits(count: u64) -> Vec<(Option<crate::record::Batch>, Entries)> {
    let mut state = StoreState::default();
    let mut all = vec![(None, Entries::new())];
    for n in 0..count {
        let txn = Txn::new()
            .put(format!("a/{}", n % 7), format!("{n}").repeat(1 + (n as usize * 53) % 3_000))
            .put(format!("b/{}", n % 7), format!("{n}"))
            .delete(format!("a/{}", (n + 3) % 7));
        let batch = state.apply(&txn, |_| true).unwrap();
        all.push((batch, state.entries.clone()));
    }
    all
}

#[test]
fn a_power_cut_loses_nothing_acknowledged_and_leaves_nothing_half_written() {
    let commits = commits(30);
    let none = Arc::new(AtomicU64::new(0));
    let created = Disk::new(Vec::new(), 0, u64::MAX, Arc::clone(&none));
    append(&open(created.clone()), []).unwrap();
    let created = created.state().cached.clone();

    // How many operations a run has, so that cuts fall on all of it.
    let whole = Disk::new(created.clone(), 0, u64::MAX, none);
    run(&open(whole.clone()), &commits, &AtomicU64::new(0));
    let operations = u64::MAX - whole.state().operations_left;

    let mut in_flight = 0;
    let rounds = if std::env::var_os("WEFT_SOAK").is_some() { 5_000 } else { 200 };
    for round in 0..rounds {
        let seed = rand::random::<u64>();
        let at = 1 + round * operations / rounds;
        let acknowledged = Arc::new(AtomicU64::new(0));
        let disk = Disk::new(created.clone(), seed, at, Arc::clone(&acknowledged));
        run(&open(disk.clone()), &commits, &acknowledged);
        let (left, acknowledged) = disk.state().cut.clone().expect("every run reaches its cut");

        let database = open(Disk::new(left, seed, u64::MAX, Arc::default()));
        let found = load(Path::new("disk"), &database).unwrap();
        let revision = found.revision.0;
        assert!(
            revision == acknowledged || revision == acknowledged + 1,
            "cut {at}, seed {seed}: {acknowledged} acknowledged, {revision} found"
        );
        assert_eq!(found.entries, commits[revision as usize].1, "cut {at}, seed {seed}");
        in_flight += revision - acknowledged;
    }
    assert!(in_flight > 0, "some cuts fall after the sync and before the answer");
}

fn run(database: &Database, commits: &[(Option<crate::record::Batch>, Entries)], acknowledged: &AtomicU64) {
    for batch in commits.iter().filter_map(|(batch, _)| batch.as_ref()) {
        append(database, [batch]).unwrap();
        acknowledged.store(batch.revision.0, Ordering::SeqCst);
    }
}
