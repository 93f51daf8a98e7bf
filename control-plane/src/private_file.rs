//! Files that hold a secret: made whole or not at all, readable by their owner only, overwritten only where that is asked for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rand::Rng as _;
use zeroize::Zeroizing;

/// A secret file that cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// The file system refused.
    #[error("cannot use {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    /// Others may read it.
    #[error("{path} is open to others (mode {mode:04o}); run `chmod 600 {path}`")]
    Exposed { path: PathBuf, mode: u32 },
}

impl PrivateFileError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// Reads a secret file; `None` when there is none.
///
/// # Errors
/// When it cannot be read, or its mode lets anyone but the owner read it.
pub fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, PrivateFileError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PrivateFileError::io(path)(error)),
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(PrivateFileError::Exposed { path: path.to_owned(), mode });
    }
    fs::read(path).map(|bytes| Some(Zeroizing::new(bytes))).map_err(PrivateFileError::io(path))
}

/// Writes a new secret file with mode 0600, on disk when this returns. `false` when another was there first: it is
/// left as it is, and the caller reads it.
///
/// # Errors
/// When the directory or the file cannot be written.
pub fn create(path: &Path, contents: &[u8]) -> Result<bool, PrivateFileError> {
    let directory = directory_of(path);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(PrivateFileError::io(directory))?;
    let mut draft = Draft::create(path)?;
    draft.write_all(contents).map_err(PrivateFileError::io(path))?;
    draft.sync()?;
    draft.finish()
}

/// Writes a secret file with mode 0600 in the place of one that is there, whole or not at all.
///
/// # Errors
/// When the file cannot be written; the one before is as it was.
pub fn replace(path: &Path, contents: &[u8]) -> Result<(), PrivateFileError> {
    let mut draft = Draft::create(path)?;
    draft.write_all(contents).map_err(PrivateFileError::io(path))?;
    draft.sync()?;
    fs::rename(draft.path(), path).map_err(PrivateFileError::io(path))?;
    let directory = directory_of(path);
    File::open(directory).and_then(|dir| dir.sync_all()).map_err(PrivateFileError::io(directory))
}

/// A new secret file on its way: mode 0600, under another name until it is finished. Dropped before, it is gone.
#[derive(Debug)]
pub struct Draft {
    file: File,
    unfinished: PathBuf,
    wanted: PathBuf,
}

impl Draft {
    /// Begins a file, in a directory that must exist.
    ///
    /// # Errors
    /// When it cannot be made there.
    pub fn create(wanted: &Path) -> Result<Self, PrivateFileError> {
        let name = format!(".weft-{:016x}.tmp", rand::rng().random::<u64>());
        let unfinished = directory_of(wanted).join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished);
        let file = file.map_err(PrivateFileError::io(wanted))?;
        Ok(Self { file, unfinished, wanted: wanted.to_owned() })
    }

    /// Where it is until it is finished.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.unfinished
    }

    /// Brings to the disk what was written so far.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn sync(&self) -> Result<(), PrivateFileError> {
        self.file.sync_all().map_err(PrivateFileError::io(&self.wanted))
    }

    /// Gives it its name. `false` when another file has it: that is left as it is.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn finish(self) -> Result<bool, PrivateFileError> {
        // A hard link, unlike a rename, fails when the name is taken, so of two that start at once one wins.
        let is_new = match fs::hard_link(&self.unfinished, &self.wanted) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(PrivateFileError::io(&self.wanted)(error)),
        };
        let directory = directory_of(&self.wanted).to_owned();
        drop(self);
        File::open(&directory).and_then(|dir| dir.sync_all()).map_err(PrivateFileError::io(&directory))?;
        Ok(is_new)
    }
}

impl io::Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Also after an error: what is left behind is only clutter.
        let _ = fs::remove_file(&self.unfinished);
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_file_is_replaced_whole_and_stays_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, b"secret, and longer").unwrap();
        replace(&path, b"another").unwrap();
        assert_eq!(read(&path).unwrap().unwrap().as_slice(), b"another");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no unfinished file stays");
    }

    #[test]
    fn secret_file_is_readable_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/key");
        assert!(create(&path, b"secret").unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(dir.path().join("new")).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(read(&path).unwrap().unwrap().as_slice(), b"secret");
        assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 1, "no unfinished file stays");
    }

    #[test]
    fn existing_secret_file_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(create(&path, b"first").unwrap());
        assert!(!create(&path, b"second").unwrap());
        assert_eq!(read(&path).unwrap().unwrap().as_slice(), b"first");
    }

    #[test]
    fn exposed_secret_file_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, b"secret").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600") && error.contains("0640"), "{error}");
    }

    #[test]
    fn missing_secret_file_is_not_an_error() {
        assert!(read(Path::new("/nowhere/key")).unwrap().is_none());
    }
}
