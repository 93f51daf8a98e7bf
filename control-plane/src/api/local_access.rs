//! What `weft` finds on the control plane's own machine, beside the operator's token.
//!
//! | file | holds |
//! | --- | --- |
//! | `ca.pem` | the mesh's roots, kept current; the file for `weft --ca` anywhere else |
//! | `api.url` | where the API is |
//! | `operator.context` | both, as other machines need them, and the operator's token: the file for `weft login` there |
//!
//! The last one is a secret, mode 0600; the others are none, mode 0644. All are renamed into place whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_api::{CONTEXT_FILE, Context};
use zeroize::Zeroizing;

use crate::ca::Authority;
use crate::identity::operator;
use crate::identity::secrets::pem;

/// Name of the roots' file.
pub const ROOTS: &str = "ca.pem";
/// Name of the file with the API's address.
pub const API: &str = "api.url";

const MODE: u32 = 0o644;
const SECRET: u32 = 0o600;
const RETRY: Duration = Duration::from_secs(10);

/// The files, before they are written.
#[derive(Debug, Clone)]
pub struct LocalAccess {
    pub dir: PathBuf,
    /// `http://…` or `https://…`.
    pub api: String,
    /// The same as operators find it, on other machines if it is open to those; none where its certificate is not of the
    /// mesh's own, so that the roots say nothing about it.
    pub for_operators: Option<String>,
}

/// A file that cannot be written, or the token that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {path}: {source}")]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

impl LocalAccess {
    /// Writes the files, and again whenever the roots or the operator's token change, until `shutdown`.
    ///
    /// # Errors
    /// When they cannot be written now.
    pub fn spawn(
        self,
        authority: Arc<Authority>,
        mut token: watch::Receiver<[u8; 32]>,
        shutdown: CancellationToken,
    ) -> Result<(), WriteError> {
        let mut chain = authority.subscribe();
        chain.mark_unchanged();
        write(&self.dir.join(API), format!("{}\n", self.api).as_bytes(), MODE)?;
        let mut written = authority.bundle();
        self.write_roots(&written)?;
        tokio::spawn(shutdown.run_until_cancelled_owned(async move {
            loop {
                let is_other_token = tokio::select! {
                    Ok(()) = chain.changed() => false,
                    Ok(()) = token.changed() => true,
                    else => return,
                };
                let roots = authority.bundle();
                if roots == written && !is_other_token {
                    continue;
                }
                while let Err(error) = self.write_roots(&roots) {
                    tracing::error!(
                        event = "roots_file_not_written",
                        %error,
                        "the file of the mesh's roots is out of date"
                    );
                    tokio::time::sleep(RETRY).await;
                }
                written = roots;
            }
        }));
        Ok(())
    }

    fn write_roots(&self, roots: &[CertificateDer<'static>]) -> Result<(), WriteError> {
        let text: String = roots.iter().map(|root| pem("CERTIFICATE", root).to_string()).collect();
        write(&self.dir.join(ROOTS), text.as_bytes(), MODE)?;
        self.write_context(text)
    }

    fn write_context(&self, roots: String) -> Result<(), WriteError> {
        let Some(api) = self.for_operators.clone() else { return Ok(()) };
        let token = self.dir.join(operator::FILE);
        let token = fs::read_to_string(&token).map_err(|source| WriteError { path: token, source })?;
        let context = Context { api, roots, token: token.trim().to_owned() };
        let text =
            Zeroizing::new(serde_json::to_string_pretty(&context).expect("strings always encode") + "\n");
        write(&self.dir.join(CONTEXT_FILE), text.as_bytes(), SECRET)
    }
}

fn write(path: &Path, contents: &[u8], mode: u32) -> Result<(), WriteError> {
    let unfinished = path.with_extension(format!("{:016x}.tmp", rand::random::<u64>()));
    let written = write_and_rename(&unfinished, path, contents, mode);
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written.map_err(|source| WriteError { path: path.to_owned(), source })
}

fn write_and_rename(unfinished: &Path, path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(unfinished)?;
    // Whatever the umask says: some of it is for everybody who may enter the directory.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(unfinished, path)?;
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::{self, tests::Mesh};
    use rustls_pki_types::pem::PemObject as _;

    #[test]
    fn file_is_replaced_whole_and_open_to_readers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ROOTS);
        write(&path, b"one, and longer", MODE).unwrap();
        write(&path, b"two", MODE).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no unfinished file stays");
    }

    #[tokio::test]
    async fn roots_are_written_again_when_they_change() {
        let mesh = Mesh::new().await;
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(operator::FILE), "weftop.x\n").unwrap();
        let access = LocalAccess {
            dir: dir.path().to_owned(),
            api: "https://127.0.0.1:7400".to_owned(),
            for_operators: Some("https://10.0.0.1:7400".to_owned()),
        };
        let (token, told) = watch::channel([0; 32]);
        access.spawn(Arc::clone(&mesh.authority), told, CancellationToken::new()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(API)).unwrap(), "https://127.0.0.1:7400\n");
        let before = roots(dir.path());
        assert_eq!(before, mesh.authority.bundle());
        let context = dir.path().join(CONTEXT_FILE);
        assert_eq!(fs::metadata(&context).unwrap().permissions().mode() & 0o777, SECRET);
        let read = || serde_json::from_slice::<Context>(&fs::read(&context).unwrap()).unwrap();
        assert_eq!((read().api.as_str(), read().token.as_str()), ("https://10.0.0.1:7400", "weftop.x"));
        fs::write(dir.path().join(operator::FILE), "weftop.y\n").unwrap();
        token.send_replace([1; 32]);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while read().token != "weftop.y" {
            assert!(tokio::time::Instant::now() < deadline, "operator.context still has the old token");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let spread = ca::DEFAULT_SPREAD;
        mesh.authority.rotate_root(mesh.store.as_ref(), spread, None, None).await.unwrap();
        assert_ne!(mesh.authority.bundle(), before);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while roots(dir.path()) != mesh.authority.bundle() {
            assert!(tokio::time::Instant::now() < deadline, "the file still has the old roots");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        while read().roots != fs::read_to_string(dir.path().join(ROOTS)).unwrap() {
            assert!(tokio::time::Instant::now() < deadline, "operator.context still has the old roots");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn roots(dir: &Path) -> Vec<CertificateDer<'static>> {
        let pem = CertificateDer::pem_file_iter(dir.join(ROOTS)).unwrap();
        pem.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn directory_that_is_missing_is_named() {
        let error = write(Path::new("/nowhere/ca.pem"), b"", MODE).unwrap_err().to_string();
        assert!(error.contains("/nowhere/ca.pem"), "{error}");
    }
}
