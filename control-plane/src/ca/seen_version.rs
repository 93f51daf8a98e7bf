//! The newest version of the authority's records that a machine has seen, kept beside the seal key and not in the store: a
//! store that is put back as a whole shows an older one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::private_file::{self, PrivateFileError};

/// The version that a new mesh begins with.
pub const FIRST: u64 = 1;

/// In memory, and in a file where there is one.
#[derive(Debug, Default)]
pub struct SeenVersion {
    file: Option<PathBuf>,
    newest: AtomicU64,
}

impl SeenVersion {
    /// What the file beside this seal key says; 0 where there is none.
    ///
    /// # Errors
    /// When the file cannot be read. One that says no number is as one that is not there: it protects, and is not needed.
    pub fn read(seal_key: &Path) -> Result<Self, PrivateFileError> {
        let file = file_beside(seal_key);
        let text = private_file::read(&file)?.unwrap_or_default();
        let newest = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Ok(Self { file: Some(file), newest: AtomicU64::new(newest) })
    }

    /// The newest version of the head that this machine has seen; 0 when none.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// Where it is kept.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Takes note of a version; a lower one changes nothing. A file that cannot be written leaves it in memory.
    pub fn note(&self, version: u64) {
        if self.newest.fetch_max(version, Ordering::AcqRel) < version {
            self.write(version);
        }
    }

    /// A new mesh begins to count anew.
    pub fn begin_anew(&self) {
        self.newest.store(FIRST, Ordering::Release);
        self.write(FIRST);
    }

    fn write(&self, version: u64) {
        let Some(file) = &self.file else { return };
        if let Err(error) = private_file::replace(file, format!("{version}\n").as_bytes()) {
            tracing::warn!(
                event = "seen_version_not_written",
                %error,
                "an older state of the store that is put back before the next start will not be noticed by this machine"
            );
        }
    }
}

/// Where a machine keeps it that has this seal key.
#[must_use]
pub fn file_beside(seal_key: &Path) -> PathBuf {
    let mut name = seal_key.as_os_str().to_owned();
    name.push(".version");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_version_outlives_the_process_and_never_falls() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("seal.key");
        let seen = SeenVersion::read(&key).unwrap();
        assert_eq!(seen.newest(), 0);
        seen.note(4);
        seen.note(3);
        assert_eq!(SeenVersion::read(&key).unwrap().newest(), 4);
        seen.begin_anew();
        assert_eq!(SeenVersion::read(&key).unwrap().newest(), 1);
    }
}
