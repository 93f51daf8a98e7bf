//! The identity directory: what is kept between runs.
//!
//! | file | holds |
//! | --- | --- |
//! | `identity.pem` | private key and certificate chain together, so that one rename replaces both |
//! | `bundle.pem` | the roots |
//! | `workload.json` | who this is and where the control plane is |
//! | `known-roots` | SHA-256 of the public key of each root that was ever trusted, so that a token which names one that has left is known to be of this mesh |
//! | `identity.sds.json`, `bundle.sds.json` | the same as file-SDS documents, for a stock Envoy |
//! | `snapshot.bin` | the last good configuration (written by [`crate::snapshot`]) |
//!
//! Every file has mode 0600 and is renamed into place after an fsync.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use weft_api::names::{BUNDLE_SECRET, IDENTITY_SECRET};
use weft_api::{ControlPlanes, ServiceId, TrustDomain, WorkloadId};

use super::verify::spki_sha256;
use super::{Identity, IdentityError};
use crate::reserve::OwnListeners;

const KNOWN_ROOTS: &str = "known-roots";
/// How many roots are kept in mind.
const MOST_KNOWN: usize = 16;

/// What the join decided: needed to run again without a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    /// Where xDS and join are.
    pub control_plane: ControlPlanes,
    pub trust_domain: TrustDomain,
    /// The service that the token named.
    pub service: ServiceId,
    pub workload: WorkloadId,
    /// Where it said that its sidecar listens. Not known of joins by earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listeners: Option<OwnListeners>,
}

/// Why the identity's files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    /// A file does not hold what it should.
    #[error("{path}: {reason}; remove the directory and join again with a token")]
    Content { path: PathBuf, reason: String },
    /// The files do not make an identity.
    #[error("{path}: {source}; remove the directory and join again with a token")]
    Identity { path: PathBuf, source: IdentityError },
}

/// The directory of `--identity-dir`.
#[derive(Debug, Clone)]
pub struct IdentityDir(PathBuf);

impl IdentityDir {
    /// Uses a directory, made with mode 0700 when it is missing.
    ///
    /// # Errors
    /// When it cannot be made, or nothing can be written there: what a join gives could not be kept.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, FilesError> {
        let path = path.into();
        let opened =
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).and_then(|()| try_writing(&path));
        match opened {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(FilesError::Io { path, source }),
        }
    }

    /// Path of a file in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whether somebody joined here; [`Self::load`] says whether it can be used.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.path("workload.json").exists()
    }

    /// The identity of an earlier join, `None` when there was none.
    ///
    /// # Errors
    /// When the files are there but cannot be used.
    pub fn load(&self) -> Result<Option<(Membership, Identity)>, FilesError> {
        let path = self.path("workload.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(FilesError::Io { path, source }),
        };
        let membership = serde_json::from_str(&text)
            .map_err(|error| FilesError::Content { path, reason: error.to_string() })?;
        let path = self.path("identity.pem");
        let pem = fs::read(&path).map_err(|source| FilesError::Io { path: path.clone(), source })?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(&pem)
            .map_err(|error| FilesError::Content { path: path.clone(), reason: error.to_string() })?;
        let chain = certificates(&path, &pem)?;
        let path = self.path("bundle.pem");
        let pem = fs::read(&path).map_err(|source| FilesError::Io { path: path.clone(), source })?;
        let bundle = certificates(&path, &pem)?;
        let identity = Identity::try_new(chain, key.secret_pkcs8_der().to_vec(), bundle)
            .map_err(|source| FilesError::Identity { path: self.0.clone(), source })?;
        Ok(Some((membership, identity)))
    }

    /// Keeps what the join decided. Written after the identity, so that its presence says that all is there.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn store_membership(&self, membership: &Membership) -> Result<(), FilesError> {
        let text = serde_json::to_vec_pretty(membership).expect("names serialize as text");
        self.write("workload.json", &text)
    }

    /// Replaces key, certificate and bundle.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn store(&self, identity: &Identity) -> Result<(), FilesError> {
        self.note_roots(identity.bundle().iter().filter_map(spki_sha256))?;
        self.write("bundle.pem", identity.bundle_pem().as_bytes())?;
        self.write("identity.pem", (identity.key_pem() + &identity.chain_pem()).as_bytes())
    }

    /// Keeps in mind that this mesh is, or was, known by roots with these fingerprints.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn note_roots(&self, fingerprints: impl IntoIterator<Item = [u8; 32]>) -> Result<(), FilesError> {
        let before = self.known_roots()?;
        let mut known = before.clone();
        for fingerprint in fingerprints {
            let text = HEXLOWER.encode(&fingerprint);
            if !known.contains(&text) {
                known.push(text);
            }
        }
        // A token lives 30 days and a root for months: those before the newest are on no token any more.
        let oldest = known.len().saturating_sub(MOST_KNOWN);
        let known = known.split_off(oldest);
        if known == before { Ok(()) } else { self.write(KNOWN_ROOTS, (known.join("\n") + "\n").as_bytes()) }
    }

    /// Forgets by which roots a mesh was known: another may be joined.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn forget_roots(&self) -> Result<(), FilesError> {
        let path = self.path(KNOWN_ROOTS);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(FilesError::Io { path, source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Whether this mesh is, or was, known by the root with this fingerprint.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn is_known_by(&self, fingerprint: &[u8; 32]) -> Result<bool, FilesError> {
        Ok(self.known_roots()?.contains(&HEXLOWER.encode(fingerprint)))
    }

    /// The oldest first; none in a directory of an earlier version.
    fn known_roots(&self) -> Result<Vec<String>, FilesError> {
        let path = self.path(KNOWN_ROOTS);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(FilesError::Io { path, source }),
        }
    }

    /// Replaces the documents that a stock Envoy reads by file SDS.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn store_sds(&self, identity: &Identity) -> Result<(), FilesError> {
        const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
        let bundle = serde_json::json!({"resources": [{
            "@type": SECRET, "name": BUNDLE_SECRET,
            "validation_context": {"trusted_ca": {"inline_string": identity.bundle_pem()}},
        }]});
        let own = serde_json::json!({"resources": [{
            "@type": SECRET, "name": IDENTITY_SECRET,
            "tls_certificate": {
                "certificate_chain": {"inline_string": identity.chain_pem()},
                "private_key": {"inline_string": identity.key_pem()},
            },
        }]});
        self.write("bundle.sds.json", bundle.to_string().as_bytes())?;
        self.write("identity.sds.json", own.to_string().as_bytes())
    }

    /// Writes a file completely, then renames it into place.
    ///
    /// # Errors
    /// When the disk refuses; the old file is whole then.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FilesError> {
        let path = self.path(name);
        write_atomically(&path, bytes).map_err(|source| FilesError::Io { path, source })
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, FilesError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| FilesError::Content { path: path.to_owned(), reason: error.to_string() })
}

fn try_writing(directory: &Path) -> std::io::Result<()> {
    let path = directory.join(format!(".weft-{:016x}.tmp", rand::random::<u64>()));
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)
}

fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::File::open(directory)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Authority;
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    fn joined() -> (Membership, Identity) {
        let identity =
            Authority::new().identity("spiffe://mesh.local/ns/shop/svc/web", Duration::from_secs(600));
        let membership = Membership {
            control_plane: "127.0.0.1:7401".parse().unwrap(),
            trust_domain: "mesh.local".parse().unwrap(),
            service: "shop/web".parse().unwrap(),
            workload: "shop/web-1".parse().unwrap(),
            listeners: Some(OwnListeners {
                address: [10, 0, 0, 7].into(),
                inbound: Some("0.0.0.0:15006".parse().unwrap()),
                outbound: "127.0.0.1:15001".parse().unwrap(),
                upstreams: vec!["127.0.0.1:5432".parse().unwrap()],
            }),
        };
        (membership, identity)
    }

    #[test]
    fn loads_what_it_stored() {
        let directory = tempfile::tempdir().unwrap();
        let files = IdentityDir::open(directory.path().join("new")).unwrap();
        assert!(files.load().unwrap().is_none());
        let (membership, identity) = joined();
        files.store(&identity).unwrap();
        files.store_membership(&membership).unwrap();
        let (loaded, again) = files.load().unwrap().unwrap();
        assert_eq!(loaded, membership);
        assert_eq!(again.chain(), identity.chain());
        assert_eq!(again.key_pem(), identity.key_pem());
    }

    #[test]
    fn membership_of_a_join_by_an_earlier_version_reads() {
        let text = r#"{"controlPlane": "10.0.0.1:7401", "trustDomain": "mesh.local", "service": "shop/web",
            "workload": "shop/web-1"}"#;
        let membership: Membership = serde_json::from_str(text).unwrap();
        assert_eq!(membership.control_plane.to_string(), "10.0.0.1:7401");
        assert_eq!(membership.listeners, None);
    }

    #[test]
    fn mesh_is_known_by_every_root_that_was_trusted_until_another_is_joined() {
        let directory = tempfile::tempdir().unwrap();
        let files = IdentityDir::open(directory.path()).unwrap();
        assert!(!files.is_known_by(&[0; 32]).unwrap());
        let (old, new) = (joined().1, joined().1);
        files.store(&old).unwrap();
        files.store(&new).unwrap();
        files.note_roots([[7; 32]]).unwrap();
        for root in [old.bundle(), new.bundle()] {
            assert!(files.is_known_by(&spki_sha256(&root[0]).unwrap()).unwrap());
        }
        assert!(files.is_known_by(&[7; 32]).unwrap());
        files.note_roots((0..20).map(|number| [100 + number; 32])).unwrap();
        assert!(!files.is_known_by(&[7; 32]).unwrap(), "the oldest are forgotten");
        files.forget_roots().unwrap();
        files.forget_roots().unwrap();
        assert!(!files.is_known_by(&[119; 32]).unwrap());
    }

    #[test]
    fn every_file_is_for_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let files = IdentityDir::open(directory.path()).unwrap();
        let (membership, identity) = joined();
        files.store(&identity).unwrap();
        files.store_sds(&identity).unwrap();
        files.store_membership(&membership).unwrap();
        let modes: Vec<u32> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().permissions().mode() & 0o777)
            .collect();
        assert_eq!(modes, [0o600; 6]);
    }

    #[test]
    fn a_torn_file_is_an_error_that_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let files = IdentityDir::open(directory.path()).unwrap();
        let (membership, identity) = joined();
        files.store(&identity).unwrap();
        files.store_membership(&membership).unwrap();
        fs::write(files.path("identity.pem"), identity.chain_pem()).unwrap();
        let error = files.load().unwrap_err().to_string();
        assert!(error.contains("identity.pem") && error.contains("join again"), "{error}");
    }

    #[test]
    fn envoy_reads_certificate_and_key_from_one_document() {
        let directory = tempfile::tempdir().unwrap();
        let files = IdentityDir::open(directory.path()).unwrap();
        let (_, identity) = joined();
        files.store_sds(&identity).unwrap();
        let text = fs::read_to_string(files.path("identity.sds.json")).unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let secret = &document["resources"][0]["tls_certificate"];
        assert_eq!(secret["private_key"]["inline_string"], identity.key_pem());
        assert_eq!(secret["certificate_chain"]["inline_string"], identity.chain_pem());
    }
}
