//! The file: what redb tables it has, how it is created, checked and appended to.
//!
//! ```text
//!   meta     "format"   -> 1          which layout this is
//!            "revision" -> n          of the newest commit
//!   entries  key        -> mod_revision, lease (0: none), value      integers little-endian, 8 bytes
//! ```

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
    TableError,
};

use crate::error::OpenError;
use crate::record::{Batch, Entry, Event, Key, LeaseId, Revision};
use crate::state::{Entries, StoreState};

/// The layout that this version writes, and the newest that it reads.
const FORMAT: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");

/// redb's page cache: reads come from memory, so writes need only the upper levels of the tree.
const CACHE_BYTES: usize = 8 << 20;

/// Bytes before the value in a record.
const HEADER: usize = 16;

/// An open, locked, checked file.
#[derive(Debug)]
pub(super) struct StoreFile {
    database: Database,
}

impl StoreFile {
    /// Opens or creates the file and reads everything in it.
    pub(super) fn open(path: &Path) -> Result<(Self, StoreState), OpenError> {
        if !path.exists() {
            create(path, None)?;
        }
        Self::open_existing(path)
    }

    /// As [`open`](Self::open), but makes no file.
    pub(super) fn open_existing(path: &Path) -> Result<(Self, StoreState), OpenError> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| io(path, &error))?;
        // redb would make a new database of an empty file, and a lost state must not look like a new one.
        if file.metadata().map_err(|error| io(path, &error))?.len() == 0 {
            return Err(corrupt(path, "it is empty"));
        }
        let database = open_database(path, file)?;
        let state = load(path, &database)?;
        Ok((Self { database }, state))
    }

    /// Writes the batches in one redb transaction and syncs it.
    pub(super) fn append<'a>(
        &mut self,
        batches: impl IntoIterator<Item = &'a Batch>,
    ) -> Result<(), Box<redb::Error>> {
        append(&self.database, batches).map_err(Box::new)
    }
}

/// A new file appears complete or not at all: it is made under another name, synced, then linked. `false` if someone
/// else created it meanwhile: theirs is left as it is, and its lock decides who may use it.
pub(super) fn create(path: &Path, content: Option<&Batch>) -> Result<bool, OpenError> {
    let draft = draft_path(path);
    let drafted = draft_database(&draft, content)
        .and_then(|()| match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            linked => linked.map(|()| true).map_err(|error| error.to_string()),
        })
        .and_then(|is_new| sync_directory(path).map(|()| is_new).map_err(|error| error.to_string()));
    // Also after an error: a draft left behind is only clutter.
    let _ = fs::remove_file(&draft);
    drafted.map_err(|reason| OpenError::Io { path: path.into(), reason })
}

fn draft_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".new-{}-{:08x}", std::process::id(), rand::random::<u32>()));
    path.with_file_name(name)
}

fn draft_database(draft: &Path, content: Option<&Batch>) -> Result<(), String> {
    // Keys of the mesh are in it, sealed or not: for the owner's eyes only.
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(draft);
    let file = file.map_err(|error| error.to_string())?;
    let database = FileBackend::new(file)
        .and_then(|backend| builder().create_with_backend(backend))
        .map_err(|error| error.to_string())?;
    append(&database, content).map_err(|error| error.to_string())
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn open_database(path: &Path, file: File) -> Result<Database, OpenError> {
    // Everything is read at the start anyway, so checking every page costs little.
    let opened = FileBackend::new(file)
        .and_then(|backend| builder().set_check_integrity_on_open(true).create_with_backend(backend));
    opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::InUse { path: path.into() }
        }
        DatabaseError::Storage(StorageError::Io(error))
            if error.kind() != std::io::ErrorKind::InvalidData
                && error.kind() != std::io::ErrorKind::UnexpectedEof =>
        {
            io(path, &error)
        }
        other => corrupt(path, other),
    })
}

fn append<'a>(database: &Database, batches: impl IntoIterator<Item = &'a Batch>) -> Result<(), redb::Error> {
    // The default durability is to sync before commit returns.
    let transaction = database.begin_write()?;
    {
        let mut entries = transaction.open_table(ENTRIES)?;
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", FORMAT)?;
        for batch in batches {
            for event in &batch.events {
                match event {
                    Event::Put(entry) => entries.insert(entry.key.as_str(), encode(entry).as_slice())?,
                    Event::Delete(key) => entries.remove(key.as_str())?,
                };
            }
            meta.insert("revision", batch.revision.0)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn load(path: &Path, database: &Database) -> Result<StoreState, OpenError> {
    let damaged = |error: redb::Error| corrupt(path, error);
    let transaction = database.begin_read().map_err(|error| damaged(error.into()))?;
    let meta = transaction.open_table(META).map_err(|error| match error {
        TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. } => {
            corrupt(path, "it is a redb file, but not one of Weft's")
        }
        other => damaged(other.into()),
    })?;
    let number = |name: &str| -> Result<Option<u64>, OpenError> {
        let found = meta.get(name).map_err(|error| damaged(error.into()))?;
        Ok(found.map(|number| number.value()))
    };
    match number("format")? {
        Some(FORMAT) => {}
        Some(found) if found > FORMAT => {
            return Err(OpenError::NewerFormat { path: path.into(), found, known: FORMAT });
        }
        Some(found) => return Err(corrupt(path, format!("format {found} never existed"))),
        None => return Err(corrupt(path, "it has no format record")),
    }
    let revision = Revision(number("revision")?.unwrap_or(0));
    let table = transaction.open_table(ENTRIES).map_err(|error| damaged(error.into()))?;
    let mut entries = Entries::new();
    for row in table.iter().map_err(|error| damaged(error.into()))? {
        let (key, record) = row.map_err(|error| damaged(error.into()))?;
        let key = Key::from(key.value());
        let entry = decode(key.clone(), record.value())
            .filter(|entry| entry.mod_revision <= revision)
            .ok_or_else(|| corrupt(path, format!("the record of {key} makes no sense")))?;
        entries.insert(key, entry);
    }
    Ok(StoreState::restored(revision, entries))
}

fn encode(entry: &Entry) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER + entry.value.len());
    record.extend_from_slice(&entry.mod_revision.0.to_le_bytes());
    record.extend_from_slice(&entry.lease.map_or(0, |lease| lease.0).to_le_bytes());
    record.extend_from_slice(&entry.value);
    record
}

fn decode(key: Key, record: &[u8]) -> Option<Entry> {
    let (mod_revision, rest) = record.split_first_chunk()?;
    let (lease, value) = rest.split_first_chunk()?;
    let lease = i64::from_le_bytes(*lease);
    Some(Entry {
        key,
        value: Bytes::copy_from_slice(value),
        mod_revision: Revision(u64::from_le_bytes(*mod_revision)),
        lease: (lease != 0).then_some(LeaseId(lease)),
    })
}

fn corrupt(path: &Path, reason: impl std::fmt::Display) -> OpenError {
    OpenError::Corrupt { path: path.into(), reason: reason.to_string() }
}

fn io(path: &Path, error: &std::io::Error) -> OpenError {
    OpenError::Io { path: path.into(), reason: error.to_string() }
}

#[cfg(test)]
#[path = "power_loss.rs"]
mod power_loss;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_file_of_a_newer_format() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let (file, _) = StoreFile::open(&path).unwrap();
        let transaction = file.database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert("format", FORMAT + 1).unwrap();
        transaction.commit().unwrap();
        drop(file);
        let error = StoreFile::open(&path).unwrap_err();
        assert!(matches!(error, OpenError::NewerFormat { found: 2, known: 1, .. }), "{error}");
        assert!(error.to_string().contains("start the newer version"), "{error}");
    }

    #[test]
    fn refuses_another_programs_redb_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let other = Database::create(&path).unwrap();
        let transaction = other.begin_write().unwrap();
        transaction.open_table(TableDefinition::<u64, u64>::new("other")).unwrap();
        transaction.commit().unwrap();
        drop(other);
        let error = StoreFile::open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
    }

    #[test]
    fn leaves_nothing_but_the_file_behind() {
        let directory = tempfile::tempdir().unwrap();
        drop(StoreFile::open(&directory.path().join("store")).unwrap());
        let names: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["store"]);
    }
}
