//! The form of a backup: what was written is read, and nothing else is.

use bytes::Bytes;
use weft_store::{Backup, BackupError, Entry, LeaseId, Revision, Snapshot};

fn entry(key: &str, value: impl Into<Bytes>, at: u64) -> Entry {
    Entry { key: key.into(), value: value.into(), mod_revision: Revision(at), lease: None }
}

fn backup() -> Backup {
    let entries = vec![entry("a", "1", 3), entry("b/ü", "", 7), entry("c", vec![9; 200], 1)];
    Backup::new("mesh.test", 1_700_000_000, Snapshot { revision: Revision(8), entries })
}

fn bytes(backup: Backup) -> Vec<u8> {
    backup.encode().flatten().collect()
}

#[test]
fn what_was_written_is_read_back() {
    assert_eq!(Backup::decode(&*bytes(backup())).unwrap(), backup());
    let empty = Backup::new("", 0, Snapshot::default());
    assert_eq!(Backup::decode(&*bytes(empty.clone())).unwrap(), empty);
}

#[test]
fn large_states_come_in_pieces() {
    let value = vec![7; 10_000];
    let entries: Vec<_> = (0..100).map(|n| entry(&format!("k/{n:03}"), value.clone(), n)).collect();
    let whole = Backup::new("mesh.test", 0, Snapshot { revision: Revision(100), entries });
    let pieces: Vec<Bytes> = whole.clone().encode().collect();
    assert!(pieces.len() > 10 && pieces.iter().all(|piece| piece.len() < 128 << 10));
    assert_eq!(Backup::decode(&*pieces.concat()).unwrap(), whole);
}

#[test]
fn what_is_under_a_lease_is_left_out() {
    let mut snapshot = backup().snapshot;
    snapshot.entries[1].lease = Some(LeaseId(5));
    let kept = Backup::new("mesh.test", 0, snapshot).snapshot.entries;
    assert_eq!(kept.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["a", "c"]);
}

#[test]
fn one_that_was_cut_anywhere_is_incomplete() {
    let whole = bytes(backup());
    for length in 0..whole.len() {
        assert_eq!(Backup::decode(&whole[..length]), Err(BackupError::Incomplete), "{length}");
    }
}

#[test]
fn one_changed_bit_anywhere_is_noticed() {
    let whole = bytes(backup());
    for bit in 0..whole.len() * 8 {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(Backup::decode(&*changed).is_err(), "bit {bit}");
    }
    let longer = [whole.as_slice(), b"x"].concat();
    assert!(matches!(Backup::decode(&*longer), Err(BackupError::Damaged { .. })));
}

#[test]
fn entries_that_were_swapped_are_refused_though_the_digest_fits() {
    let mut swapped = backup();
    swapped.snapshot.entries.swap(0, 1);
    assert!(matches!(Backup::decode(&*bytes(swapped)), Err(BackupError::Damaged { .. })));
}

#[test]
fn newer_formats_and_other_files_are_told_apart() {
    let mut newer = bytes(backup());
    newer[8] = 2;
    assert_eq!(Backup::decode(&*newer), Err(BackupError::NewerFormat { found: 2, known: 1 }));
    assert_eq!(Backup::decode(&b"redb and other bytes"[..]), Err(BackupError::Foreign));
}

#[test]
fn length_that_was_made_up_takes_no_memory() {
    let mut made_up = bytes(backup());
    let at = 8 + 4 + 8 + 8;
    made_up[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(Backup::decode(&*made_up), Err(BackupError::Damaged { .. })));
}
